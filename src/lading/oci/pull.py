"""Images from a registry into a store: the right platform, blobs in parallel, broken downloads resumed, all of it verified."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from lading.model.blobs import Blobs, BlobWriter
from lading.model.progress import Progress
from lading.oci import media
from lading.oci.client import TransportError
from lading.oci.descriptor import Descriptor, ImageFormatError, Platform, decode, digest_of, read_descriptor
from lading.oci.image import Image, kind_of, read_image
from lading.oci.layout import is_attached, read_index
from lading.oci.reference import Reference
from lading.oci.registry import TRIES, Registry, RegistryError

CONNECTIONS = 4


def pull(reference: Reference, platform: Platform | None, blobs: Blobs, progress: Progress) -> Image:
    """The image of a reference, all its blobs in the store; what is there already is not fetched.

    Raises RegistryError, NotInRegistryError, UnauthorizedError, ImageFormatError, DownloadError for a wrong digest.
    """
    with closing(Registry(reference)) as registry:
        manifest, kind = _manifest(registry, reference.target)
        if kind in media.INDEXES:
            chosen = _choose(manifest, platform, str(reference))
            manifest, kind = _manifest(registry, chosen.digest)
        config = read_descriptor(
            decode(manifest, "the manifest", limit=media.LARGEST_MANIFEST).get("config"), "the manifest's config"
        )
        fetch_blobs(registry, [config], blobs, progress)
        image = read_image(manifest, blobs, kind)
        fetch_blobs(registry, [layer.descriptor for layer in image.layers], blobs, progress)
        return image


def fetch_manifest(reference: Reference) -> tuple[bytes, str]:
    """What a reference names now, and its media type: an index too. Raises as `pull`."""
    with closing(Registry(reference)) as registry:
        return _manifest(registry, reference.target)


def _manifest(registry: Registry, target: str) -> tuple[bytes, str]:
    """A manifest and its media type, its digest verified where the target is one."""
    with registry.stream("GET", f"/manifests/{target}", headers={"Accept": _ACCEPT}) as response:
        if response.status != 200:
            raise registry.refuse(response, f"manifest {target}")
        data = bytearray()
        try:
            for piece in response.pieces():
                data += piece
                if len(data) > media.LARGEST_MANIFEST:
                    raise ImageFormatError(f"manifest {target} is larger than 4 MiB", hint="no registry should hold it")
        except TransportError as error:
            raise RegistryError(
                f"{registry.reference.registry} broke off manifest {target}: {error}", hint="try again"
            ) from None
        stated = response.headers.get("Content-Type", "").partition(";")[0].strip()
    manifest = bytes(data)
    if target.startswith("sha256:") and digest_of(manifest) != target:
        raise ImageFormatError(f"the registry gave {digest_of(manifest)} for {target}", hint="try again, or report it")
    return manifest, kind_of(decode(manifest, f"manifest {target}", limit=media.LARGEST_MANIFEST), stated)


_ACCEPT = ", ".join(sorted(media.MANIFESTS | media.INDEXES))


def _choose(index: bytes, platform: Platform | None, what: str) -> Descriptor:
    entries = [entry for entry in read_index(index, f"the index of {what}") if not is_attached(entry)]
    fitting = [
        entry
        for entry in entries
        if platform is None
        or (entry.platform and (entry.platform.os, entry.platform.architecture) == (platform.os, platform.architecture))
    ]
    if not fitting or (platform is None and len(fitting) > 1):
        held = ", ".join(str(entry.platform) for entry in entries) or "none"
        raise ImageFormatError(
            f"{what} does not have one image for {platform or 'you'}; it has: {held}", hint="name one"
        )
    return fitting[0]


def fetch_blobs(registry: Registry, wanted: list[Descriptor], blobs: Blobs, progress: Progress) -> None:
    """Those that the store lacks, a few at a time. The first failure stops the rest."""
    missing = {entry.hex: entry for entry in wanted if not blobs.has(entry.hex)}
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="pull") as threads:
        jobs = [threads.submit(_fetch, registry, entry, blobs, progress) for entry in missing.values()]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(registry: Registry, entry: Descriptor, blobs: Blobs, progress: Progress) -> None:
    task = progress.start(f"pull {entry.digest[7:19]}", entry.size)
    with blobs.writer() as writer:
        position = 0
        for attempt in range(1, TRIES + 1):
            for length in _range(registry, entry, position, writer):
                position += length
                progress.advance(task, length)
            if position == entry.size:
                break
            if attempt == TRIES:
                raise RegistryError(
                    f"{registry.reference.registry} broke off {entry.digest} at byte {position:,} of {entry.size:,}",
                    hint="try again: what is complete is kept",
                )
        writer.commit(expect=entry.hex)
    progress.finish(task)


def _range(registry: Registry, entry: Descriptor, start: int, writer: BlobWriter) -> Iterator[int]:
    """Write from `start` on; the lengths written. Ends early where the connection does."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with registry.stream("GET", f"/blobs/{entry.digest}", headers=headers) as response:
        if response.status not in (200, 206):
            raise registry.refuse(response, f"blob {entry.digest}")
        skip = start if response.status == 200 else 0
        left = entry.size - start
        try:
            for piece in response.pieces():
                fresh = piece[skip:]
                skip -= len(piece) - len(fresh)
                left -= len(fresh)
                if left < 0:
                    raise ImageFormatError(
                        f"blob {entry.digest} is longer than the {entry.size:,} bytes that its manifest says",
                        hint="the image is broken, or the registry is",
                    )
                writer.write(fresh)
                yield len(fresh)
        except TransportError:
            return
