"""What the registry takes, and what it gives up: uploads whole or in parts, mounts, manifests, deletions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lading.errors import DownloadError, StoreError
from lading.oci import media
from lading.service.contract.http import Response
from lading.service.registry.answers import RefusedError, blob_unknown, digest_invalid, empty
from lading.service.registry.content import Upload
from lading.service.registry.manifest import read_manifest
from lading.service.registry.names import Place, is_repository, read_reference
from lading.service.registry.request import Ask

LARGEST_BLOB = 10 << 30
"""Bytes: Lambda's limit for an image, which is more than ECR's for most layers."""
WAIT = 10.0
"""Seconds that a request waits for another that writes the same upload (its client may have gone, unnoticed)."""
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:/(?:\d+|\*))?")


async def begin_upload(ask: Ask) -> Response:
    """Also the whole blob at once (`digest`), and a mount from another repository of the same registry (`mount`, `from`)."""
    content, catalog = ask.registry.content, ask.registry.catalog
    mount = ask.query("mount")
    mounted = await ask.run(lambda: _mount(ask, ask.digest(mount), ask.query("from"))) if mount else False
    if mounted:
        return _created(ask, mount)
    whole = ask.query("digest")
    if whole:
        ask.digest(whole)
    await ask.run(lambda: catalog.repository(ask.place))
    upload = await ask.run(lambda: content.begin(ask.place))
    if not whole:
        return _progress(ask, upload, 202)
    async with _writing(ask, upload):
        await _receive(ask, upload)
        return await _finish(ask, upload, whole)


def _mount(ask: Ask, digest: str, source: str) -> bool:
    """Whether the repository has the blob now. What the client may not see it does not get."""
    catalog = ask.registry.catalog
    catalog.repository(ask.place)
    stored = catalog.stored_blob(Place(ask.place.scope, source), digest) if is_repository(source) else None
    if stored is None:
        return False
    with ask.registry.content.arriving(stored):
        if not ask.registry.content.blobs.has(stored):
            return False
        catalog.use_blob(ask.place, digest, stored)
    return True


async def write_part(ask: Ask) -> Response:
    upload = ask.registry.content.upload(ask.place, ask.label)
    async with _writing(ask, upload):
        _check_range(ask, upload)
        await _receive(ask, upload)
        return _progress(ask, upload, 202)


async def finish_upload(ask: Ask) -> Response:
    """With the last part, or the whole of it, or nothing more, in the body."""
    digest = ask.digest(ask.query("digest"))
    upload = ask.registry.content.upload(ask.place, ask.label)
    async with _writing(ask, upload):
        _check_range(ask, upload)
        await _receive(ask, upload)
        return await _finish(ask, upload, digest)


async def upload_status(ask: Ask) -> Response:
    return _progress(ask, ask.registry.content.upload(ask.place, ask.label), 204)


async def cancel_upload(ask: Ask) -> Response:
    upload = ask.registry.content.upload(ask.place, ask.label)
    async with _writing(ask, upload):
        await ask.run(lambda: ask.registry.content.end(upload))
    return empty(204, {})


@asynccontextmanager
async def _writing(ask: Ask, upload: Upload) -> AsyncIterator[None]:
    """Alone with an upload; one that fails in a way that can't be gone on from is given up."""
    if not upload.busy.acquire(blocking=False) and not await ask.run(lambda: upload.busy.acquire(timeout=WAIT)):
        raise RefusedError(409, "BLOB_UPLOAD_INVALID", "another request is writing this upload")
    try:
        yield
    except StoreError as error:
        await ask.run(lambda: ask.registry.content.end(upload))
        raise RefusedError(507, "UNKNOWN", f"the registry can't keep it: {error.message}") from None
    finally:
        upload.busy.release()


async def _receive(ask: Ask, upload: Upload) -> None:
    """The body into the upload. A client that leaves can go on from what has arrived."""
    async for piece in ask.pieces():
        if upload.size + len(piece) > LARGEST_BLOB:
            await ask.run(lambda: ask.registry.content.end(upload))
            raise RefusedError(413, "SIZE_INVALID", f"a blob has at most {LARGEST_BLOB} bytes")
        await ask.run(lambda: upload.write(piece))  # noqa: B023


async def _finish(ask: Ask, upload: Upload, digest: str) -> Response:
    content, catalog = ask.registry.content, ask.registry.catalog
    link = lambda stored: catalog.use_blob(ask.place, digest, stored)  # noqa: E731
    try:
        await ask.run(lambda: content.finish(upload, digest, link))
    except DownloadError as error:
        raise RefusedError(400, "DIGEST_INVALID", f"{error.message}: {'; '.join(error.details)}") from None
    return _created(ask, digest)


def _check_range(ask: Ask, upload: Upload) -> None:
    """Parts come in order. Raises RefusedError (416) that says where to go on."""
    stated = ask.head.header("content-range")
    if stated is None:
        return
    match = _CONTENT_RANGE.fullmatch(stated.strip())
    length = ask.head.header("content-length")
    if match is None or int(match[2]) < int(match[1]) - 1:
        raise RefusedError(
            416, "BLOB_UPLOAD_INVALID", f"{stated[:100]!r} is no Content-Range", headers=_where(ask, upload)
        )
    if length is not None and length.isdigit() and int(length) != int(match[2]) - int(match[1]) + 1:
        raise RefusedError(400, "SIZE_INVALID", f"the Content-Range {stated[:100]!r} is not of {length[:20]} bytes")
    if int(match[1]) != upload.size:
        message = f"the part begins at byte {match[1]}, and {upload.size} have arrived"
        raise RefusedError(416, "BLOB_UPLOAD_INVALID", message, headers=_where(ask, upload))


def _where(ask: Ask, upload: Upload) -> dict[str, str]:
    return {
        "Location": f"{ask.path}/blobs/uploads/{upload.identity}",
        "Range": f"0-{max(upload.size - 1, 0)}",
        "Docker-Upload-UUID": upload.identity,
    }


def _progress(ask: Ask, upload: Upload, status: int) -> Response:
    return empty(status, _where(ask, upload))


def _created(ask: Ask, digest: str) -> Response:
    return empty(201, {"Location": f"{ask.path}/blobs/{digest}", "Docker-Content-Digest": digest})


async def put_manifest(ask: Ask) -> Response:
    tag, digest = read_reference(ask.label)
    if not tag and not digest:
        raise RefusedError(400, "TAG_INVALID", f"{ask.label[:200]!r} is neither a tag nor a digest")
    data = await ask.whole_body(media.LARGEST_MANIFEST)
    facts = read_manifest(data, ask.head.header("content-type") or "", digest.partition(":")[0] or "sha256")
    if digest and digest != facts.digest:
        raise RefusedError(400, "DIGEST_INVALID", f"the manifest is {facts.digest}, not {digest}")
    content, catalog = ask.registry.content, ask.registry.catalog
    await ask.run(lambda: content.keep(data, lambda: catalog.put_image(ask.place, facts, tag)))
    headers = {"Location": f"{ask.path}/manifests/{facts.digest}", "Docker-Content-Digest": facts.digest}
    if facts.subject:
        headers["OCI-Subject"] = facts.subject.digest
    return empty(201, headers)


async def delete_manifest(ask: Ask) -> Response:
    """By digest with all its tags, or one tag alone."""
    tag, digest = read_reference(ask.label)
    if not tag and not digest:
        raise digest_invalid(ask.label)
    await ask.run(lambda: _delete_manifest(ask, tag, digest))
    ask.registry.something_deleted()
    return empty(202, {})


def _delete_manifest(ask: Ask, tag: str, digest: str) -> None:
    catalog = ask.registry.catalog
    with catalog.state.transaction():
        catalog.find(ask.place, tag=tag, digest=digest)
        if tag:
            catalog.delete_tag(ask.place, tag)
            return
        if parents := catalog.parents(ask.place, digest):
            raise RefusedError(405, "UNSUPPORTED", f"the manifest is part of the index {parents[0]}: delete that first")
        catalog.delete_image(ask.place, digest)


async def delete_blob(ask: Ask) -> Response:
    digest = ask.digest(ask.label)
    await ask.run(lambda: _delete_blob(ask, digest))
    ask.registry.something_deleted()
    return empty(202, {})


def _delete_blob(ask: Ask, digest: str) -> None:
    catalog = ask.registry.catalog
    with catalog.state.transaction():
        catalog.repository(ask.place)
        if not catalog.has_blob(ask.place, digest):
            raise blob_unknown(digest)
        if users := catalog.users_of_blob(ask.place, digest):
            raise RefusedError(405, "UNSUPPORTED", f"the blob is part of the image {users[0]}: delete that first")
        catalog.drop_blob(ask.place, digest)
