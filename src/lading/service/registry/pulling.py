"""What the registry gives away: blobs (whole or a range), manifests, lists of tags, referrers and repositories."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import AsyncIterator
from typing import BinaryIO
from urllib.parse import urlencode

from lading.errors import StoreError
from lading.oci import media
from lading.service.contract.http import CutStreamError, HttpResponse, Response, StreamedResponse
from lading.service.registry.answers import VERSION, RefusedError, blob_unknown, document, empty
from lading.service.registry.catalog import Document, stored_as
from lading.service.registry.names import read_reference
from lading.service.registry.registry import LocalRegistry
from lading.service.registry.request import PIECE, Ask
from lading.service.state import State

MOST = 1000
"""Entries of a page."""
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


LAYERS = "/_lading/registry/layers/"
LINK_LIFETIME = 3600
"""Seconds that a link to a layer works."""


async def get_blob(ask: Ask) -> Response:
    digest = ask.digest(ask.label)

    def find() -> str:
        stored = ask.registry.catalog.asked_for_blob(ask.place, digest)
        if stored is None:
            ask.registry.catalog.repository(ask.place)
            raise blob_unknown(digest)
        return stored

    return await _answer_blob(ask, digest, await ask.run(find))


def layer_link(state: State, digest: str, now: float) -> str:
    """The path and query under which anybody gets a layer for an hour."""
    expires = int(now) + LINK_LIFETIME
    return f"{LAYERS}{digest}?{urlencode({'expires': expires, 'signature': _sign(state, digest, expires)})}"


def _sign(state: State, digest: str, expires: int) -> str:
    return hmac.new(state.secret("registry-layers"), f"{digest}:{expires}".encode(), hashlib.sha256).hexdigest()


async def get_linked_layer(ask: Ask) -> Response:
    """What a link of `layer_link` leads to."""
    digest, expires = ask.digest(ask.label), ask.query("expires")
    state, now = ask.registry.catalog.state, ask.registry.catalog.now()
    right = _sign(state, digest, int(expires)) if re.fullmatch(r"[0-9]{1,15}", expires) else ""
    if not right or not hmac.compare_digest(right.encode(), ask.query("signature").encode()):
        raise RefusedError(403, "DENIED", "the link's signature is wrong: ask for a new one")
    if int(expires) < now:
        raise RefusedError(403, "DENIED", "the link has expired: ask for a new one")
    return await _answer_blob(ask, digest, digest.removeprefix("sha256:"))


async def _answer_blob(ask: Ask, digest: str, stored: str) -> Response:
    """All of it, or the part that a Range header asks for. Raises RefusedError."""
    file, size = await ask.run(lambda: _open(ask.registry, digest, stored))
    headers = {
        **VERSION,
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
    }
    asked = _read_range(ask.head.header("range") or "", size)
    if asked == (0, 0):
        file.close()
        raise RefusedError(
            416, "UNSUPPORTED", "the range begins after the blob's end", headers={"Content-Range": f"bytes */{size}"}
        )
    start, end = asked or (0, size)
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    status = 200 if asked is None else 206
    if ask.head.method == "HEAD":
        file.close()
        return HttpResponse(status, headers)
    return StreamedResponse(status, headers, _read(ask.registry, file, start, end - start))


def _open(registry: LocalRegistry, digest: str, stored: str) -> tuple[BinaryIO, int]:
    try:
        file = registry.content.blobs.open(stored)
    except StoreError:
        raise blob_unknown(digest) from None
    return file, os.fstat(file.fileno()).st_size


def _read_range(header: str, size: int) -> tuple[int, int] | None:
    """(first, after the last); (0, 0) for none of it; None where all is asked for, or what is asked isn't understood."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return None
    return (start, end) if start < end else (0, 0)


async def _read(registry: LocalRegistry, file: BinaryIO, start: int, left: int) -> AsyncIterator[bytes]:
    """Each piece is read while the one before is sent."""
    with file:
        file.seek(start)
        while left:
            data = await registry.run(lambda: file.read(min(PIECE, left)))  # noqa: B023
            if not data:
                raise CutStreamError
            left -= len(data)
            yield data


async def get_manifest(ask: Ask) -> Response:
    tag, digest = read_reference(ask.label)
    if not tag and not digest:
        raise RefusedError(400, "TAG_INVALID", f"{ask.label[:200]!r} is neither a tag nor a digest")
    image = await ask.run(lambda: ask.registry.catalog.find(ask.place, tag=tag, digest=digest))
    headers = {
        **VERSION,
        "Content-Type": image["mediaType"],
        "Docker-Content-Digest": image["digest"],
        "Content-Length": str(image["manifestSize"]),
        "ETag": f'"{image["digest"]}"',
    }
    if ask.head.method == "HEAD":
        return HttpResponse(200, headers)
    body = await ask.run(lambda: _pull(ask, image))
    return HttpResponse(200, headers, body)


def _pull(ask: Ask, image: Document) -> bytes:
    ask.registry.catalog.pulled(ask.place, image["digest"])
    return ask.registry.content.blobs.read(stored_as(image))


async def list_tags(ask: Ask) -> Response:
    await ask.run(lambda: ask.registry.catalog.repository(ask.place))
    limit, after = _page(ask)
    records = await ask.run(lambda: ask.registry.catalog.tags(ask.place, after=after, limit=limit + 1))
    names = [record.key.name for record in records]
    return _paged(ask, {"name": ask.place.name, "tags": names[:limit]}, names, limit)


async def list_repositories(ask: Ask) -> Response:
    limit, after = _page(ask)
    records = await ask.run(lambda: ask.registry.catalog.repositories(ask.place.scope, after=after, limit=limit + 1))
    names = [record.key.name for record in records]
    return _paged(ask, {"repositories": names[:limit]}, names, limit)


def _page(ask: Ask) -> tuple[int, str]:
    """(how many, after which)."""
    text = ask.query("n")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RefusedError(400, "PAGINATION_NUMBER_INVALID", f"n is {text[:50]!r}, not a number")
    return min(int(text), MOST) if text else MOST, ask.query("last")


def _paged(ask: Ask, value: dict[str, object], names: list[str], limit: int) -> HttpResponse:
    link = {}
    if len(names) > limit > 0:
        following = urlencode({"n": limit, "last": names[limit - 1]})
        link["Link"] = f'<{ask.head.path}?{following}>; rel="next"'
    return document(value, link)


async def list_referrers(ask: Ask) -> Response:
    """Of a manifest that need not be there. Source: the specification's "Listing Referrers"."""
    digest = ask.digest(ask.label)
    await ask.run(lambda: ask.registry.catalog.repository(ask.place))
    found = await ask.run(lambda: ask.registry.catalog.referrers(ask.place, digest))
    wanted = ask.query("artifactType")
    shown = [_as_descriptor(one) for one in found if not wanted or one["artifactType"] == wanted]
    index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": shown}
    applied = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
    return document(index, applied, media_type=media.OCI_INDEX)


def _as_descriptor(image: Document) -> Document:
    shown = {"mediaType": image["mediaType"], "digest": image["digest"], "size": image["manifestSize"]}
    for name in ("artifactType", "annotations"):
        if image[name]:
            shown[name] = image[name]
    return shown


async def greet(ask: Ask) -> Response:
    return empty(200, {"Content-Type": "application/json"})
