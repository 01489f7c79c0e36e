"""An artifact's zip from bundles: copies prepared bytes, patches offsets, writes the central directory. Never deflates.

What it reads is verified while it is copied; what it writes appears under its name whole or not at all. Memory: a few
windows on the blobs and the central directory, whatever the artifact's size.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import mmap
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from lading.build.bundle import Bundle
from lading.build.digester import Checksum, Digester
from lading.build.records import LIMIT32, OFFSET_FIELD, end_records, widen
from lading.errors import BuildError
from lading.model.blobs import Blobs
from lading.oci.leftovers import remove_left, unfinished

WINDOW = 1 << 20
"""Bytes of a blob that are mapped at a time; a multiple of every page size."""
WINDOWS = 8
"""Mapped at once, at most."""
FLUSH = 4 << 20
"""Bytes after which the kernel is told to begin writing to disk, where a file is replaced: its rename waits for all of it."""


class ArchiveError(BuildError):
    """The artifact's file can't be written."""

    exit_code = 6


class PathConflictError(BuildError):
    """One member's name is a folder of another's."""


@dataclass(frozen=True)
class Selection:
    """A bundle, less the members named in `exclude`."""

    bundle: Bundle
    exclude: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Conflict:
    """Two packages bring the same file with different content; `winner`'s is in the artifact, as the later one."""

    name: str
    winner: str
    loser: str


@dataclass(frozen=True)
class Assembled:
    """A finished artifact. Sizes in bytes."""

    path: Path
    sha256: str
    """Lowercase hex."""
    size: int
    unzipped: int
    members: int
    conflicts: tuple[Conflict, ...] = ()

    @property
    def code_sha256(self) -> str:
        """As Lambda's CodeSha256 gives it: base64."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode()


@dataclass(frozen=True)
class _Piece:
    """What of a bundle is written: ranges of members, and where the bundle's first kept byte lands."""

    bundle: Bundle
    ranges: tuple[tuple[int, int], ...]


def assemble(selections: Sequence[Selection], destination: Path, blobs: Blobs) -> Assembled:
    """Write the selected members to `destination`, in order, in place of what was there.

    A file that several selections bring is written once: the last one's (the order in which pip would overwrite), and
    reported when the contents differ. Raises ArchiveError, PathConflictError, or StoreError where the cache is
    damaged (the entry is then removed: a second attempt prepares it anew); the previous artifact
    stays as it was.
    """
    selections, conflicts = settle(selections)
    pieces = [_Piece(selection.bundle, tuple(_ranges(selection))) for selection in selections]
    with _replacing(destination) as output:
        writer = _Writer(output, blobs, flush=destination.exists())
        with contextlib.closing(writer):
            for piece in pieces:
                writer.copy(piece)
            writer.finish()
    return Assembled(
        path=destination,
        sha256=writer.sha256,
        size=writer.offset,
        unzipped=sum(_unzipped(piece) for piece in pieces),
        members=sum(end - start for piece in pieces for start, end in piece.ranges),
        conflicts=conflicts,
    )


def settle(selections: Sequence[Selection]) -> tuple[list[Selection], tuple[Conflict, ...]]:
    """The selections without repeated names, and where contents differed. Pure.

    The last bringer of a name wins. Bytecode of a source that lost goes with it: nothing would notice that it is stale.
    """
    owners: dict[str, int] = {}
    drops: dict[int, set[str]] = {}
    conflicts: list[Conflict] = []
    for number, selection in enumerate(selections):
        names = _kept(selection)
        for name in sorted(owners.keys() & names):
            loser = owners[name]
            drops.setdefault(loser, set()).add(name)
            conflict = _conflict(name, selection.bundle, selections[loser].bundle)
            if conflict:
                conflicts.append(conflict)
        owners.update(dict.fromkeys(names, number))
    _check_folders(owners, selections)
    _drop_stale_bytecode(selections, drops, conflicts)
    settled = [
        replace(selection, exclude=selection.exclude | drops[number]) if number in drops else selection
        for number, selection in enumerate(selections)
    ]
    return settled, tuple(conflicts)


def _kept(selection: Selection) -> set[str]:
    names = set(selection.bundle.names)
    return names - selection.exclude if selection.exclude else names


def _conflict(name: str, winner: Bundle, loser: Bundle) -> Conflict | None:
    first, second = loser.positions_by_name[name], winner.positions_by_name[name]
    same = loser.digest(first) == winner.digest(second)
    if same and loser.member(first).mode == winner.member(second).mode:
        return None
    return Conflict(name, winner.name, loser.name)


def _check_folders(owners: dict[str, int], selections: Sequence[Selection]) -> None:
    """A file can't also be a folder."""
    folders = {name.rpartition("/")[0] for name in owners}
    for folder in list(folders):
        while folder := folder.rpartition("/")[0]:
            if folder in folders:
                break
            folders.add(folder)
    both = owners.keys() & folders
    for name in sorted(both):
        below = next(other for other in owners if other.startswith(f"{name}/"))
        packages = [selections[owners[each]].bundle.name for each in (name, below)]
        raise PathConflictError(
            f"{name} is a file in {packages[0]} and a folder in {packages[1]} ({below})",
            hint="the two can't be installed together; remove one",
        )


def _drop_stale_bytecode(
    selections: Sequence[Selection], drops: dict[int, set[str]], conflicts: Iterable[Conflict]
) -> None:
    differing = {conflict.name for conflict in conflicts}
    lost = {
        selections[number].bundle.index: {name for name in names if name.endswith(".py") and name in differing}
        for number, names in drops.items()
        if selections[number].bundle.index
    }
    for number, selection in enumerate(selections):
        for source in lost.get(selection.bundle.origin, ()) if selection.bundle.origin else ():
            folder, _, file = source.rpartition("/")
            stem = file.removesuffix(".py")
            cached = f"{folder}/__pycache__/{stem}.".removeprefix("/")
            legacy = f"{folder}/{stem}.pyc".removeprefix("/")
            stale = {name for name in selection.bundle.names if name.startswith(cached) or name == legacy}
            drops.setdefault(number, set()).update(stale)


def _ranges(selection: Selection) -> Iterator[tuple[int, int]]:
    """Maximal runs of kept members."""
    names, exclude = selection.bundle.names, selection.exclude
    start = 0
    for number in sorted(n for n, name in enumerate(names) if name in exclude) if exclude else ():
        if number > start:
            yield start, number
        start = number + 1
    if start < len(names):
        yield start, len(names)


def _unzipped(piece: _Piece) -> int:
    if piece.ranges == ((0, len(piece.bundle.names)),):
        return piece.bundle.unzipped
    return sum(sum(piece.bundle.sizes[start:end]) for start, end in piece.ranges)


class _Writer:
    """Copies pieces to an open file while two threads hash what is read and what is written."""

    def __init__(self, output: FileIO, blobs: Blobs, *, flush: bool) -> None:
        self._output = output
        self._blobs = blobs
        self._flush = flush
        self._hash = hashlib.sha256()
        self._checksums: list[tuple[Bundle, Checksum]] = []
        self._central: list[bytes | bytearray] = []
        self._count = 0
        self._written = Digester()
        self._read = Digester()
        self._tickets: deque[tuple[int, int]] = deque([(0, 0)] * WINDOWS, maxlen=WINDOWS)
        self._flushed = 0
        self.offset = 0
        self.sha256 = ""

    def copy(self, piece: _Piece) -> None:
        if not piece.ranges:
            return
        self._add_records(piece)
        offsets = piece.bundle.offsets
        spans = [(offsets[start], offsets[end]) for start, end in piece.ranges]
        checksum = Checksum()
        self._checksums.append((piece.bundle, checksum))
        with self._blobs.open(piece.bundle.data) as source:
            size = os.fstat(source.fileno()).st_size
            for position in range(0, size, WINDOW):
                self._window(source, checksum, (position, min(position + WINDOW, size)), spans)

    def _window(
        self, source: BinaryIO, checksum: Checksum, window: tuple[int, int], spans: list[tuple[int, int]]
    ) -> None:
        """Hash all of one window of a blob, copy what of it belongs to a span."""
        written, read = self._tickets.popleft()
        self._written.wait(written)
        self._read.wait(read)
        low, high = window
        view = memoryview(mmap.mmap(source.fileno(), high - low, access=mmap.ACCESS_READ, offset=low))
        read = self._read.update(checksum, view)
        for start, end in _overlaps(spans, low, high):
            written = self._written.update(self._hash, view[start - low : end - low])
            self._transfer(source, start, view[start - low : end - low])
        self._tickets.append((written, read))

    def _transfer(self, source: BinaryIO, start: int, view: memoryview) -> None:
        """From file to file within the kernel; from the mapping where it can't (other file systems, old kernels)."""
        done = 0
        with contextlib.suppress(OSError):  # a full disk: the write that follows says so
            while done < len(view) and (
                copied := os.copy_file_range(source.fileno(), self._output.fileno(), len(view) - done, start + done)
            ):
                done += copied
        self.offset += done
        self._write(view[done:])
        if self._flush and self.offset - self._flushed >= FLUSH:
            os.posix_fadvise(self._output.fileno(), self._flushed, self.offset - self._flushed, os.POSIX_FADV_DONTNEED)
            self._flushed = self.offset

    def _add_records(self, piece: _Piece) -> None:
        bundle, base = piece.bundle, self.offset
        for start, end in piece.ranges:
            first, positions = bundle.offsets[start], bundle.positions
            records = bytearray(bundle.central[positions[start] : positions[end]])
            shift = base - first
            if shift + bundle.offsets[end] > LIMIT32:
                self._central.append(_widened(bundle, range(start, end), shift))
            else:
                field = OFFSET_FIELD - positions[start]
                place = struct.Struct("<I").pack_into
                for position, offset in zip(positions[start:end], bundle.offsets[start:end], strict=True):
                    place(records, position + field, offset + shift)
                self._central.append(records)
            self._count += end - start
            base += bundle.offsets[end] - first

    def finish(self) -> None:
        """Write the central directory, and see that all that was copied was sound. Raises StoreError."""
        central = b"".join(self._central)
        tail = central + end_records(self._count, len(central), self.offset)
        self._written.update(self._hash, memoryview(tail))
        self._write(memoryview(tail))
        self._read.finish()
        for bundle, checksum in self._checksums:
            if checksum.value != bundle.checksum:
                raise self._blobs.corrupt(bundle.data)
        self._written.finish()
        self.sha256 = self._hash.hexdigest()

    def _write(self, data: memoryview) -> None:
        self.offset += len(data)
        while data:
            data = data[self._output.write(data) :]

    def close(self) -> None:
        self._written.close()
        self._read.close()


def _overlaps(spans: list[tuple[int, int]], low: int, high: int) -> Iterator[tuple[int, int]]:
    for start, end in spans:
        if start < high and end > low:
            yield max(start, low), min(end, high)


def _widened(bundle: Bundle, numbers: range, shift: int) -> bytes:
    """Central records of members of which some lie beyond 4 GiB."""
    records = []
    for number in numbers:
        record = bundle.central[bundle.positions[number] : bundle.positions[number + 1]]
        offset = bundle.offsets[number] + shift
        if offset >= LIMIT32:
            records.append(widen(record, offset))
        else:
            records.append(record[:OFFSET_FIELD] + offset.to_bytes(4, "little") + record[OFFSET_FIELD + 4 :])
    return b"".join(records)


@contextlib.contextmanager
def _replacing(destination: Path) -> Iterator[FileIO]:
    """A new file beside `destination` that takes its place when the block ends well, and disappears when it doesn't.

    Not synced to disk: after a power cut the artifact may have to be built again, as with any compiler's output.
    """
    temporary = unfinished(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        remove_left(destination)
        with temporary.open("xb", buffering=0) as output:
            yield output
        temporary.replace(destination)
    except OSError as error:
        raise ArchiveError(
            f"can't write {destination}: {error.strerror or error}",
            hint="the previous artifact is untouched; free space or choose another folder with --output",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
