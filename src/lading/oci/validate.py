"""Is an image what it says, and does Lambda take it? All mismatches at once, as findings. Reads all of it, changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from lading.errors import LadingError
from lading.model.finding import Finding, Severity
from lading.oci import media
from lading.oci.descriptor import ImageFormatError, Platform, decode, digest_of
from lading.oci.image import Image, kind_of, read_diff_ids
from lading.oci.layer import CHUNK, Layer
from lading.oci.tar import Entry, TarError, Walker

LARGEST_IMAGE = 10 << 30
"""Bytes uncompressed. Source: AWS Lambda quotas, "Container image code package size"."""
MOST_LAYERS = 127
"""What container engines stack at most (overlay mounts)."""
MOST_FINDINGS = 20
"""Of one kind in one layer: a broken layer has thousands."""


class Code(NamedTuple):
    """What a finding's code stands for."""

    severity: Severity
    meaning: str
    fix: str


_REBUILD = "build or pull the image anew"
CODES = {
    "image-document": Code(Severity.ERROR, "A manifest or config is not readable.", _REBUILD),
    "image-index": Code(
        Severity.ERROR,
        "An index of several images (or with attestations): Lambda takes a single image manifest.",
        "push one platform's image; with docker buildx: --provenance=false --sbom=false",
    ),
    "image-media-type": Code(
        Severity.ERROR, "A media type that Lambda does not take.", "convert it: skopeo copy --format v2s2"
    ),
    "image-digest": Code(Severity.ERROR, "A blob's content has another digest than its name.", _REBUILD),
    "image-size": Code(Severity.ERROR, "A blob has another size than its descriptor.", _REBUILD),
    "image-diff-id": Code(Severity.ERROR, "A layer's content has another digest than the config says.", _REBUILD),
    "image-history": Code(
        Severity.ERROR, "The history does not have one entry for each layer: Lambda refuses the image.", _REBUILD
    ),
    "image-compression": Code(
        Severity.ERROR, "A layer is not compressed: Lambda refuses it.", "copy it with --dest-compress"
    ),
    "image-zstd": Code(
        Severity.WARNING, "A layer is compressed with zstd; AWS documents gzip only.", 'set compression = "gzip"'
    ),
    "image-platform": Code(
        Severity.ERROR, "Built for another processor or system than the function's.", "build for the right architecture"
    ),
    "image-too-large": Code(
        Severity.ERROR, "More than Lambda's 10 GB uncompressed.", "leave out what the function does not need"
    ),
    "image-layers": Code(
        Severity.ERROR, f"More than {MOST_LAYERS} layers: it can't be mounted.", "join some of the layers"
    ),
    "image-entry": Code(
        Severity.ERROR,
        "A layer holds what no image should: a path or hard link out of the image, a file below a link, a device.",
        "build the layer anew from a clean folder",
    ),
    "image-entrypoint": Code(
        Severity.ERROR, "Neither ENTRYPOINT nor CMD: Lambda has nothing to start.", "set ENTRYPOINT and CMD"
    ),
}


def mismatch(code: str, message: str, *, file: str = "") -> Finding:
    """A finding of this module's table."""
    return Finding(code, CODES[code].severity, message, file=file, fix=CODES[code].fix)


def validate(image: Image, platform: Platform | None = None) -> tuple[Finding, ...]:
    """Everything that is wrong with an image: its documents, every blob, every layer's entries, what Lambda refuses.

    `platform` is the one wanted. Cost: every layer is read and unpacked once; memory is a few MiB.
    """
    try:
        return tuple(_validate(image, platform))
    except ImageFormatError as error:
        return (mismatch("image-document", error.message),)


def validate_manifest(data: bytes, media_type: str = "") -> tuple[Finding, ...]:
    """What can be told from a manifest alone: is it one that Lambda takes?"""
    try:
        kind = kind_of(decode(data, "the manifest", limit=media.LARGEST_MANIFEST), media_type)
    except ImageFormatError as error:
        return (mismatch("image-document", error.message),)
    if kind in media.INDEXES:
        return (mismatch("image-index", f"{digest_of(data)} is an index, not an image"),)
    if kind not in media.MANIFESTS:
        return (mismatch("image-media-type", f"the manifest's media type is {kind or 'not stated'!r}"),)
    return ()


def _validate(image: Image, platform: Platform | None) -> Iterator[Finding]:
    yield from validate_manifest(image.manifest, image.media_type)
    yield from _check_config(image, platform)
    left = LARGEST_IMAGE
    for number, layer in enumerate(image.layers):
        check = LayerCheck(layer, number, left)
        yield from check.run()
        left = max(left - check.unpacked, 0)


def _check_config(image: Image, platform: Platform | None) -> Iterator[Finding]:
    stated = image.config_descriptor
    if stated.digest != digest_of(image.config):
        yield mismatch("image-digest", f"the config is {digest_of(image.config)}, the manifest says {stated.digest}")
    if stated.size != len(image.config):
        yield mismatch("image-size", f"the config has {len(image.config):,} bytes, the manifest says {stated.size:,}")
    if stated.media_type not in media.CONFIGS:
        yield mismatch("image-media-type", f"the config's media type is {stated.media_type!r}")
    if len(image.layers) > MOST_LAYERS:
        yield mismatch("image-layers", f"{len(image.layers)} layers")
    yield from _check_platform(image.platform, platform)
    yield from _check_lists(image.settings, len(image.layers))
    if not image.process.get("Entrypoint") and not image.process.get("Cmd"):
        yield mismatch("image-entrypoint", "the config has no Entrypoint and no Cmd")


def _check_platform(own: Platform, wanted: Platform | None) -> Iterator[Finding]:
    if own.os != "linux" or own.architecture not in ("amd64", "arm64"):
        yield mismatch("image-platform", f"the image is for {own}; Lambda runs linux/amd64 and linux/arm64")
    elif wanted and own.architecture != wanted.architecture:
        yield mismatch("image-platform", f"the image is for {own}, not {wanted}")


def _check_lists(settings: Mapping[str, Any], layers: int) -> Iterator[Finding]:
    diff_ids = read_diff_ids(settings)
    if len(diff_ids) != layers:
        yield mismatch("image-diff-id", f"the config has {len(diff_ids)} diff_ids for {layers} layers")
    history = settings.get("history")
    lines = history if isinstance(history, list) else []
    real = [line for line in lines if isinstance(line, Mapping) and not line.get("empty_layer")]
    if len(real) != layers:
        yield mismatch("image-history", f"the config's history has {len(real)} entries for {layers} layers")


class LayerCheck:
    """Reads one layer: digest and size of the blob, digest of its tar, its entries. Stops at `limit` bytes of tar."""

    def __init__(self, layer: Layer, number: int, limit: int) -> None:
        self._layer = layer
        self._what = f"layer {number} ({layer.digest[:19]}…)"
        self._limit = limit
        self._hash = hashlib.sha256()
        self._counts: dict[str, int] = {}
        self.unpacked = 0

    def run(self) -> Iterator[Finding]:
        compression = media.COMPRESSION.get(self._layer.media_type)
        if compression is None:
            yield mismatch("image-media-type", f"{self._what} has the media type {self._layer.media_type!r}")
        elif not compression:
            yield mismatch("image-compression", f"{self._what} is a plain tar")
        elif compression == "zstd":
            yield mismatch("image-zstd", f"{self._what} is compressed with zstd")
        try:
            mismatches = list(self._check_blob())
            yield from mismatches
            if not mismatches and compression is not None:
                yield from self._check_tar()
        except (LadingError, OSError) as error:
            yield mismatch("image-digest", f"{self._what} can't be read: {getattr(error, 'message', error)}")

    def _check_blob(self) -> Iterator[Finding]:
        total, size = hashlib.sha256(), 0
        with closing(self._layer.compressed()) as stream:
            while data := stream.read(CHUNK):
                size += len(data)
                total.update(data)
        digest = f"sha256:{total.hexdigest()}"
        if size != self._layer.size:
            yield mismatch("image-size", f"{self._what} has {size:,} bytes, the manifest says {self._layer.size:,}")
        if digest != self._layer.digest:
            yield mismatch("image-digest", f"{self._what} is {digest}, the manifest says {self._layer.digest}")

    def _check_tar(self) -> Iterator[Finding]:
        """Damage inside counts under the code it hides: what was found before it is told too."""
        walker = Walker(self._pieces())
        entries = EntryCheck()
        try:
            for entry in walker:
                self._spend(entry.size - entry.stored)
                problem = entries.problem(entry)
                if problem and self._worth_telling("image-entry"):
                    yield mismatch(
                        "image-entry", f"{self._what}: {entry.name[:200]!r} {problem}", file=entry.name[:200]
                    )
            walker.rest()
        except _TooLargeError:
            yield mismatch("image-too-large", f"{self._what} brings the image to more than {LARGEST_IMAGE:,} bytes")
            return
        except TarError as error:
            yield mismatch("image-entry", f"{self._what}: {error.message}")
            return
        digest = f"sha256:{self._hash.hexdigest()}"
        if digest != self._layer.diff_id:
            yield mismatch("image-diff-id", f"{self._what} unpacks to {digest}, the config says {self._layer.diff_id}")

    def _worth_telling(self, code: str) -> bool:
        self._counts[code] = self._counts.get(code, 0) + 1
        return self._counts[code] <= MOST_FINDINGS

    def _spend(self, size: int) -> None:
        self.unpacked += size
        if self.unpacked > self._limit:
            raise _TooLargeError

    def _pieces(self) -> Iterator[bytes]:
        for piece in self._layer.uncompressed():
            self._spend(len(piece))
            self._hash.update(piece)
            yield piece


class _TooLargeError(Exception):
    """More than the limit was unpacked."""


class EntryCheck:
    """Judges entries of one layer in order; remembers its links, for a later entry must not go through one."""

    def __init__(self) -> None:
        self._links: set[str] = set()

    def problem(self, entry: Entry) -> str:
        """What is wrong with an entry, or nothing."""
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            return "leads out of the image"
        if "\0" in entry.name or len(entry.name) > 4096:
            return "is no possible path"
        if entry.kind in ("character device", "block device", "fifo"):
            return f"is a {entry.kind}"
        if self._through_link(parts):
            return "lies below a link of the same layer"
        path = "/".join(parts)
        if entry.kind == "hard link" and (entry.link.startswith("/") or ".." in entry.link.split("/")):
            return f"is a hard link to {entry.link[:200]!r}, out of the image"
        if entry.kind == "link":
            if not entry.link:
                return "is a link to nothing"
            if _climbs(parts, entry.link):
                return f"is a link to {entry.link[:200]!r}, above the image's root"
            self._links.add(path)
        else:
            self._links.discard(path)
        return ""

    def _through_link(self, parts: list[str]) -> bool:
        return bool(self._links) and any("/".join(parts[:end]) in self._links for end in range(1, len(parts)))


def _climbs(parts: list[str], target: str) -> bool:
    """Whether a relative link goes above the root. An absolute one is the image's own affair: it is read inside of it."""
    depth = 0 if target.startswith("/") else len(parts) - 1
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False
