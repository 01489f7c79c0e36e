"""Prepared bundles as the layers of an image: which goes into which, and the tar of each. Made once per content, then remembered.

Nothing is deflated again with gzip: a layer is another view of the bytes that a zip is made of.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lading.build.archive import Selection, settle
from lading.build.bundle import Bundle
from lading.build.packing import Load, PackPlan
from lading.build.records import LINK_MODE, STORED, Member
from lading.model.blobs import Actions, Blobs
from lading.oci.descriptor import Descriptor
from lading.oci.layer import Layer
from lading.oci.layer_writer import FORMAT, MEDIA_TYPES, LayerWriter

OWN_LAYER = 10_000_000
"""Bytes unpacked from which a package gets a layer of its own."""
MOST_OWN_LAYERS = 20
SMALL = 512
"""Files up to this many bytes are deflated together with the headers around them."""
CHUNK = 1 << 20


@dataclass(frozen=True)
class LayerPlan:
    """What one layer holds: members of bundles, below `mount` (no slash at either end)."""

    title: str
    mount: str
    selections: tuple[Selection, ...]

    @property
    def unpacked(self) -> int:
        return sum(selection.bundle.unzipped for selection in self.selections)


def split(plan: PackPlan, layers: Sequence[PackPlan]) -> tuple[LayerPlan, ...]:
    """The layers of a function's image, rarely changed first: project layers, big packages, the rest of them, own code.

    A change of own code changes the last one only; a package of OWN_LAYER bytes or more can change alone.
    """
    planned = [LayerPlan(f"layer {layer.load.unit.name}", "opt", _settled(layer)) for layer in layers]
    groups = _by_package(plan)
    own = groups.pop("", ())
    sizes = {name: sum(selection.bundle.unzipped for selection in group) for name, group in groups.items()}
    big = sorted(sorted(groups, key=lambda name: -sizes[name])[:MOST_OWN_LAYERS])
    big = [name for name in big if sizes[name] >= OWN_LAYER]
    planned += [LayerPlan(name, "var/task", groups.pop(name)) for name in big]
    rest = tuple(selection for name in sorted(groups) for selection in groups[name])
    if rest:
        planned.append(LayerPlan("dependencies", "var/task", rest))
    if own:
        planned.append(LayerPlan("code", "var/task", own))
    return tuple(planned)


def _settled(plan: PackPlan) -> tuple[Selection, ...]:
    settled, _ = settle(plan.selections)
    return tuple(settled)


def _by_package(plan: PackPlan) -> dict[str, tuple[Selection, ...]]:
    """Settled selections by distribution, bytecode with its source; the user's own under ""."""
    names = _owners(plan.load)
    groups: dict[str, tuple[Selection, ...]] = {}
    for selection in _settled(plan):
        name = names[selection.bundle.origin or selection.bundle.index]
        groups[name] = (*groups.get(name, ()), selection)
    return groups


def _owners(load: Load) -> dict[str, str]:
    """Bundle → distribution."""
    owners = {packed.bundle.index: wheel.name for wheel, packed in load.packages}
    if load.own:
        owners[load.own.bundle.index] = ""
    return owners


def make_layers(plans: Sequence[LayerPlan], compression: str, blobs: Blobs, actions: Actions) -> tuple[Layer, ...]:
    """The layers, on all cores; those made before are only looked up. Raises StoreError for a damaged cache."""
    from concurrent.futures import ThreadPoolExecutor

    known = [_recall(plan, compression, blobs, actions) for plan in plans]
    missing = [number for number, layer in enumerate(known) if layer is None]
    with ThreadPoolExecutor(max(len(os.sched_getaffinity(0)), 1), thread_name_prefix="layer") as threads:
        # The biggest first, so that no core is left with it at the end.
        order = sorted(missing, key=lambda number: -plans[number].unpacked)
        jobs = {number: threads.submit(_make, plans[number], compression, blobs, actions) for number in order}
        return tuple(layer or jobs[number].result() for number, layer in enumerate(known))


def _key(plan: LayerPlan, compression: str) -> str:
    parts = [[selection.bundle.index, sorted(selection.exclude)] for selection in plan.selections]
    return json.dumps([FORMAT, zlib.ZLIB_RUNTIME_VERSION, compression, plan.mount, parts])


def _recall(plan: LayerPlan, compression: str, blobs: Blobs, actions: Actions) -> Layer | None:
    known = actions.get("image-layer", _key(plan, compression))
    if known is None:
        return None
    entry = json.loads(known)
    descriptor = Descriptor(MEDIA_TYPES[compression], entry["digest"], entry["size"])
    return Layer(descriptor, entry["diff_id"], blobs, _line(plan)) if blobs.has(descriptor.hex) else None


def _make(plan: LayerPlan, compression: str, blobs: Blobs, actions: Actions) -> Layer:
    with blobs.writer() as output:
        writer = LayerWriter(output, compression)
        _write(plan, writer, blobs)
        layer = writer.finish(blobs, _line(plan))
    entry = {"digest": layer.digest, "size": layer.size, "diff_id": layer.diff_id}
    actions.put("image-layer", _key(plan, compression), json.dumps(entry).encode())
    return layer


def _line(plan: LayerPlan) -> str:
    return f"lading build: {plan.title}"


def _write(plan: LayerPlan, writer: LayerWriter, blobs: Blobs) -> None:
    """Folders before what is in them, bundle after bundle, members as they lie there."""
    known: set[str] = set()
    _folders(f"{plan.mount}/", known, writer)
    for selection in plan.selections:
        with _Packed(selection.bundle, blobs) as packed:
            for number, name in enumerate(selection.bundle.names):
                if name not in selection.exclude:
                    path = f"{plan.mount}/{name}"
                    _folders(path, known, writer)
                    packed.copy(number, path, writer)


def _folders(path: str, known: set[str], writer: LayerWriter) -> None:
    """Entries for the folders above `path` that have none yet."""
    folder = path.rpartition("/")[0]
    if folder in known:
        return
    parts = folder.split("/")
    for end in range(1, len(parts) + 1):
        above = "/".join(parts[:end])
        if above not in known:
            known.add(above)
            writer.folder(above)


class _Packed:
    """The data of a bundle, mapped; every member is verified against its record while it is copied."""

    def __init__(self, bundle: Bundle, blobs: Blobs) -> None:
        self._bundle = bundle
        self._blobs = blobs
        self._map: mmap.mmap | None = None

    def __enter__(self) -> _Packed:
        if self._bundle.size:
            with self._blobs.open(self._bundle.data) as file:
                if os.fstat(file.fileno()).st_size != self._bundle.size:
                    raise self._blobs.corrupt(self._bundle.data)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.close()

    def copy(self, number: int, path: str, writer: LayerWriter) -> None:
        member = self._bundle.member(number)
        if member.mode == LINK_MODE:
            writer.link(path, self._content(number, member).decode())
        elif member.size <= SMALL:
            writer.file(path, member.mode & 0o7777, self._content(number, member))
        else:
            self._stream(number, member, path, writer)

    def _content(self, number: int, member: Member) -> bytes:
        return b"".join(content for _, content in self._pieces(number, member))

    def _stream(self, number: int, member: Member, path: str, writer: LayerWriter) -> None:
        writer.begin(path, member.mode & 0o7777, member.size)
        if member.method == STORED:
            deflater = zlib.compressobj(0, zlib.DEFLATED, -15)
            for _, content in self._pieces(number, member):
                writer.deflated(deflater.compress(content), content)
            writer.deflated(deflater.flush(), b"")
        else:
            for packed, content in self._pieces(number, member):
                writer.deflated(packed, content)
        writer.end(member.crc, member.size)

    def _pieces(self, number: int, member: Member) -> Iterator[tuple[bytes, bytes]]:
        """(packed, content). Raises StoreError, after removing the blob, where it isn't what the record says."""
        offset, length = self._bundle.span(number)
        inflater = zlib.decompressobj(-15) if member.method != STORED else None
        crc, size = 0, 0
        for start in range(offset, offset + length, CHUNK):
            packed = self._read(start, min(start + CHUNK, offset + length))
            for content in self._inflate(inflater, packed):
                crc, size = zlib.crc32(content, crc), size + len(content)
                if size > member.size:
                    break
                yield packed, content
                packed = b""
        if size != member.size or crc != member.crc or (inflater and not inflater.eof):
            raise self._blobs.corrupt(self._bundle.data)

    def _inflate(self, inflater: zlib._Decompress | None, packed: bytes) -> Iterator[bytes]:
        """Content in pieces of at most 4 × CHUNK; one at least."""
        if inflater is None:
            yield packed
            return
        try:
            yield inflater.decompress(packed, CHUNK * 4)
            while inflater.unconsumed_tail:
                yield inflater.decompress(inflater.unconsumed_tail, CHUNK * 4)
            while not inflater.eof and (more := inflater.decompress(b"", CHUNK * 4)):
                yield more
        except zlib.error:
            raise self._blobs.corrupt(self._bundle.data) from None

    def _read(self, start: int, end: int) -> bytes:
        assert self._map is not None
        return self._map[start:end]
