"""The user's own files, prepared into a bundle. A file is read when its stat says that it may have changed, and deflated
when its content did; the rest comes from the bundle made before.

The result depends on names, contents and executable bits alone, not on where the folder is, times or umask.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lading.build import bundle as bundles
from lading.build.bundle import Bundle, BundleWriter
from lading.build.directory import link_problem, name_problem
from lading.build.patterns import ALWAYS_EXCLUDED, Patterns
from lading.build.records import DEFLATED, Member, normal_mode
from lading.errors import BuildError, StoreError
from lading.model.blobs import Actions, Blobs
from lading.model.project import Source

STATE_VERSION = 1
SETTLED_NANOSECONDS = 1_000_000_000
"""A file whose times are younger than this when it was read may change again without its stat showing it."""
MOST_FILES = 200_000
LARGEST_TREE = 10 << 30
LARGE = 8 << 20
"""Files above this many bytes are deflated in pieces through a temporary file."""
CHUNK = 1 << 20
VERIFIED_CHUNK = 1 << 13
"""Small, for it may inflate a thousandfold."""

Stat = tuple[int, int, int, int, int]
"""st_mode, st_size, st_mtime_ns, st_ctime_ns, st_ino."""


class SourceTreeError(BuildError):
    """Something in the user's own files can't go into an artifact."""


@dataclass(frozen=True)
class SourceFile:
    """A file or link to pack: its name in the artifact, where it is, and its stat."""

    name: str
    path: str
    stat: Stat


@dataclass(frozen=True)
class _Memory:
    """The bundle made of this folder before, and the stats that its files had."""

    bundle: Bundle | None
    stats: dict[str, Stat]
    taken: int
    """time_ns() before the stats were taken."""

    def knows(self, file: SourceFile) -> int | None:
        """The number of the file in the bundle, if its stat proves it unchanged (as Git's index does)."""
        if self.bundle is None or self.stats.get(file.name) != file.stat:
            return None
        settled = max(file.stat[2], file.stat[3]) < self.taken - SETTLED_NANOSECONDS
        return self.bundle.positions_by_name.get(file.name) if settled else None


def prepare_folder(source: Source, prefix: str, name: str, blobs: Blobs, actions: Actions) -> Bundle:
    """The bundle of the user's own files under `prefix`; the one made before if nothing changed.

    Raises SourceTreeError for a link out of the tree, a special file, a name that isn't UTF-8, a tree too large.
    """
    taken = time.time_ns()
    files = sorted(find_files(source, prefix), key=lambda file: file.name)
    _check_size(files, source)
    key = json.dumps([str(source.root), prefix, name, list(source.include), list(source.exclude)])
    memory = _remember(key, blobs, actions)
    known = [memory.knows(file) for file in files]
    old = memory.bundle
    if old is not None and known == list(range(len(old.names))):
        return old
    with blobs.writer() as output:
        packer = _Packer(BundleWriter(output), memory, blobs)
        for file, number in zip(files, known, strict=True):
            packer.add(file, number, source)
        bundle = packer.writer.finish("folder", name, "")
    kept = bundles.keep(bundle, f"folder|{name}|{bundle.data}", blobs, actions)
    stats = {file.name: file.stat for file in files}
    state = {"version": STATE_VERSION, "index": kept.index, "taken": taken, "stats": stats}
    actions.put("folder", key, json.dumps(state, separators=(",", ":")).encode())
    return kept


class _Packer:
    """Adds files to a bundle, copying from the one made before what has not changed."""

    def __init__(self, writer: BundleWriter, memory: _Memory, blobs: Blobs) -> None:
        self.writer = writer
        self._old = memory.bundle
        self._blobs = blobs

    def add(self, file: SourceFile, known: int | None, source: Source) -> None:
        if known is not None and self._copy(file, known):
            return
        try:
            self._read(file, source)
        except OSError as error:
            raise SourceTreeError(
                f"can't read {file.path}: {error.strerror or error}", hint="check its permissions"
            ) from None

    def _read(self, file: SourceFile, source: Source) -> None:
        mode = normal_mode(file.stat[0])
        if stat.S_ISLNK(mode):
            target = os.readlink(file.path)  # noqa: PTH115 - pathlib would tidy it
            _check_link(file, target, source)
            self.writer.add_content(file.name, mode, target.encode())
            return
        if file.stat[1] > LARGE:
            self._stream(file, mode)
            return
        content = Path(file.path).read_bytes()
        number = self._same(file, hashlib.sha256(content).digest())
        if number is None or not self._copy(file, number):
            self.writer.add_content(file.name, mode, content)

    def _same(self, file: SourceFile, digest: bytes) -> int | None:
        number = self._old.positions_by_name.get(file.name) if self._old else None
        return number if self._old and number is not None and self._old.digest(number) == digest else None

    def _copy(self, file: SourceFile, number: int) -> bool:
        """Take the packed bytes of the earlier bundle, verified; False when they are gone or its mode was another."""
        old = self._old
        if old is None or old.member(number).mode != normal_mode(file.stat[0]):
            return False
        member = old.member(number)
        if member.size > LARGE:
            return self._copy_large(old, number, member)
        offset, length = old.span(number)
        try:
            with self._blobs.open(old.data) as data:
                data.seek(offset)
                packed = data.read(length)
            bundles.unpack(member, packed)
        except StoreError:
            return False
        self.writer.add(member, packed, old.digest(number))
        return True

    def _copy_large(self, old: Bundle, number: int, member: Member) -> bool:
        """In pieces; damage would be found by whoever unpacks it, so check the checksum first."""
        offset, length = old.span(number)
        with self._blobs.open(old.data) as data:
            data.seek(offset)
            inflater = zlib.decompressobj(-15)
            crc, rest = 0, length
            while rest and (packed := data.read(min(VERIFIED_CHUNK, rest))):
                rest -= len(packed)
                try:
                    content = inflater.decompress(packed) if member.method == DEFLATED else packed
                except zlib.error:
                    return False
                crc = zlib.crc32(content, crc)
            if crc != member.crc or rest:
                return False
            data.seek(offset)
            self.writer.begin(member)
            for start in range(0, length, CHUNK):
                self.writer.write(data.read(min(CHUNK, length - start)))
            self.writer.end(old.digest(number))
        return True

    def _stream(self, file: SourceFile, mode: int) -> None:
        deflater = zlib.compressobj(bundles.LEVEL, zlib.DEFLATED, -15)
        digest, crc, size = hashlib.sha256(), 0, 0
        with open(file.path, "rb") as content, tempfile.TemporaryFile() as spool:
            while piece := content.read(CHUNK):
                digest.update(piece)
                crc = zlib.crc32(piece, crc)
                size += len(piece)
                spool.write(deflater.compress(piece))
            spool.write(deflater.flush())
            self._append(spool, Member(file.name, mode, DEFLATED, crc, size, spool.tell()), digest.digest())

    def _append(self, spool: BinaryIO, member: Member, digest: bytes) -> None:
        spool.seek(0)
        self.writer.begin(member)
        while piece := spool.read(CHUNK):
            self.writer.write(piece)
        self.writer.end(digest)


def _remember(key: str, blobs: Blobs, actions: Actions) -> _Memory:
    nothing = _Memory(None, {}, 0)
    known = actions.get("folder", key)
    if known is None:
        return nothing
    try:
        state = json.loads(known)
        bundle = bundles.load(state["index"], blobs)
        stats = {name: tuple(values) for name, values in state["stats"].items()}
        return _Memory(bundle, stats, state["taken"]) if blobs.has(bundle.data) else nothing
    except (StoreError, ValueError, KeyError):
        return nothing


def find_files(source: Source, prefix: str = "") -> Iterator[SourceFile]:
    """Every file and link that belongs to the source. Raises SourceTreeError."""
    root = source.root
    try:
        facts = root.stat()
    except OSError as error:
        raise SourceTreeError(
            f"can't read {root}: {error.strerror}", hint="the project's source folder is missing"
        ) from None
    if not stat.S_ISDIR(facts.st_mode):
        yield SourceFile(prefix + root.name, str(root), _stat(facts))
        return
    include = Patterns(source.include)
    exclude = Patterns([*ALWAYS_EXCLUDED, *source.exclude])
    folders = [("", str(root), not source.include)]
    while folders:
        relative, folder, included = folders.pop()
        for entry in _scan(folder):
            path = f"{relative}{entry.name}"
            is_folder = entry.is_dir(follow_symlinks=False)
            if exclude.match(path, folder=is_folder):
                continue
            wanted = included or include.match(path, folder=is_folder)
            if is_folder:
                folders.append((f"{path}/", entry.path, wanted))
            elif wanted:
                yield _check(SourceFile(prefix + path, entry.path, _stat(entry.stat(follow_symlinks=False))))


def _scan(folder: str) -> list[os.DirEntry[str]]:
    """A folder's entries without bytecode of sources that are there; nothing of a virtual environment."""
    try:
        with os.scandir(folder) as scanned:
            entries = list(scanned)
    except OSError as error:
        raise SourceTreeError(f"can't read {folder}: {error.strerror}", hint="check its permissions") from None
    names = {entry.name for entry in entries}
    if "pyvenv.cfg" in names:
        return []
    return [entry for entry in entries if not (entry.name.endswith(".pyc") and entry.name[:-1] in names)]


def _stat(facts: os.stat_result) -> Stat:
    return (facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def _check(file: SourceFile) -> SourceFile:
    try:
        file.name.encode()
    except UnicodeEncodeError:
        raise SourceTreeError(
            f"{os.fsencode(file.path)!r} is not a UTF-8 name", hint="rename it, or exclude it"
        ) from None
    problem = name_problem(file.name)
    if problem:
        raise SourceTreeError(f"{file.path!r} {problem}", hint="rename it, or exclude it")
    mode = file.stat[0]
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise SourceTreeError(f"{file.path} is neither a file, a folder nor a link", hint="remove it, or exclude it")
    return file


def _check_link(file: SourceFile, target: str, source: Source) -> None:
    relative = os.path.relpath(file.path, source.root)
    problem = link_problem(relative, target)
    if problem:
        problem = problem.replace("outside of the archive", f"outside of {source.root}")
        raise SourceTreeError(f"{file.path} {problem}", hint="copy the file in its place, or exclude the link")


def _check_size(files: list[SourceFile], source: Source) -> None:
    total = sum(file.stat[1] for file in files)
    if len(files) <= MOST_FILES and total <= LARGEST_TREE:
        return
    largest = max(files, key=lambda file: file.stat[1])
    raise SourceTreeError(
        f"{source.root} holds {len(files):,} files, {total:,} bytes: more than any artifact may",
        details=(f"the largest: {largest.path}, {largest.stat[1]:,} bytes",),
        hint="exclude what the function does not need",
    )
