"""A wheel as an installer would lay it out (PEP 427, PEP 376), prepared into a bundle without recompression.

Every member is inflated once, to verify its size and CRC and to list it in RECORD; what is written is the wheel's own
deflated bytes. A wheel is hostile input: see directory.py.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lading.build import bundle as bundles
from lading.build.bundle import Bundle, BundleWriter
from lading.build.directory import ArchiveFile, Entry, link_problem
from lading.build.prune import BOTOCORE_DATA, imported_folders, test_folders, unwanted_models
from lading.build.records import EXECUTABLE_MODE, FILE_MODE, STORED, Member, normal_mode
from lading.build.scripts import entry_point_scripts, rewrite_interpreter
from lading.errors import BuildError
from lading.model.blobs import Actions, Blobs
from lading.model.lock import Wheel

CHUNK = 1 << 20
LARGEST_PIECE = 4 << 20
LARGEST_TEXT = 64 << 20
"""Bytes of a member that has to be held in memory as a whole: metadata, scripts, sources."""


class WheelError(BuildError):
    """A file named as a wheel isn't one, or contradicts itself."""


@dataclass(frozen=True)
class Recipe:
    """How a wheel is laid out in an artifact. Equal recipes share a bundle."""

    prefix: str = ""
    """"" for functions, "python/" for layers."""
    drop_tests: bool = False
    botocore_services: tuple[str, ...] | None = None
    strip: bool = False

    def key(self, wheel: Wheel) -> str:
        """Names the bundle of `wheel` under this recipe."""
        services = self.services(wheel)
        chosen = "all" if services is None else ",".join(sorted(set(services)))
        parts = [f"wheel-{bundles.FORMAT}", wheel.sha256, wheel.name, wheel.version, self.prefix, chosen]
        return "|".join([*parts, f"tests={not self.drop_tests}", f"strip={self._tool()}", zlib.ZLIB_RUNTIME_VERSION])

    def _tool(self) -> str:
        """The stripping tools' identity: others give other bytes."""
        if not self.strip:
            return ""
        from lading.build.strip import find_tools

        facts = [(path, Path(path).stat()) for path in find_tools()]
        return ",".join(f"{path}:{stat.st_size}:{stat.st_mtime_ns}" for path, stat in facts)

    def services(self, wheel: Wheel) -> tuple[str, ...] | None:
        """The service models to keep, where the wheel is botocore."""
        return self.botocore_services if wheel.name == "botocore" else None


Planned = Entry | bytes
"""A member of the wheel, or content made here."""


def recall_wheel(wheel: Wheel, recipe: Recipe, blobs: Blobs, actions: Actions) -> Bundle | None:
    """The bundle, where it has been prepared before."""
    return bundles.recall(recipe.key(wheel), blobs, actions)


def prepare_wheel(wheel: Wheel, recipe: Recipe, blobs: Blobs, actions: Actions) -> Bundle:
    """The bundle of a wheel, made now or remembered. Raises WheelError, UnsafeArchiveError and others of BuildError."""
    known = recall_wheel(wheel, recipe, blobs, actions)
    if known is not None:
        return known
    try:
        descriptor = os.open(wheel.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise WheelError(
            f"can't read {wheel.path}: {error.strerror}", hint="run the command again to fetch it"
        ) from None
    try:
        archive = ArchiveFile(descriptor, wheel.filename)
        preparation = _Preparation(archive, wheel, recipe)
        with blobs.writer() as output:
            bundle = preparation.write(BundleWriter(output))
    finally:
        os.close(descriptor)
    return bundles.keep(bundle, recipe.key(wheel), blobs, actions)


class _Preparation:
    """One wheel being laid out under one recipe."""

    def __init__(self, archive: ArchiveFile, wheel: Wheel, recipe: Recipe) -> None:
        self._archive = archive
        self._wheel = wheel
        self._recipe = recipe
        entries = {entry.member.name: entry for entry in archive.entries()}
        self._info = _info_folder(archive, entries)
        self._check_version(entries)
        self._executables: set[str] = set()
        self._planned = self._layout(entries)
        self._add_scripts(entries)
        self._leave_out()

    def write(self, writer: BundleWriter) -> Bundle:
        """Everything in order of name, RECORD last, for it lists the others."""
        self._planned[f"{self._info}/INSTALLER"] = b"lading\n"
        rows: list[tuple[str, str, str]] = []
        for name in sorted(self._planned):
            digest, size = self._write_one(writer, name, self._planned[name])
            encoded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            rows.append((name, f"sha256={encoded}", str(size)))
        record = f"{self._info}/RECORD"
        writer.add_content(self._recipe.prefix + record, FILE_MODE, _csv([*rows, (record, "", "")]))
        return writer.finish("wheel", self._wheel.name, self._wheel.version)

    def _write_one(self, writer: BundleWriter, name: str, planned: Planned) -> tuple[bytes, int]:
        path = self._recipe.prefix + name
        if isinstance(planned, bytes):
            mode = EXECUTABLE_MODE if name in self._executables else FILE_MODE
            writer.add_content(path, mode, planned)
            return hashlib.sha256(planned).digest(), len(planned)
        mode = normal_mode(planned.member.mode)
        if stat.S_ISLNK(mode):
            self._check_link(name, planned)
        elif self._recipe.strip and _may_be_elf(name):
            smaller = self._stripped(planned)
            if smaller is not None:
                writer.add_content(path, mode, smaller)
                return hashlib.sha256(smaller).digest(), len(smaller)
        digest = copy_member(self._archive, planned, replace(planned.member, name=path, mode=mode), writer)
        return digest, planned.member.size

    def _stripped(self, entry: Entry) -> bytes | None:
        from lading.build.strip import strip_symbols

        content = b"".join(self._contents(entry))
        return strip_symbols(content, f"{self._wheel.filename}: {entry.member.name}")

    def _check_link(self, name: str, entry: Entry) -> None:
        target = self._text(entry).decode("utf-8", "backslashreplace")
        problem = link_problem(name, target)
        if problem:
            raise self._archive.refuse(f"{entry.member.name!r} {problem}")

    def _check_version(self, entries: Mapping[str, Entry]) -> None:
        text = self._text(entries[f"{self._info}/WHEEL"]).decode("utf-8", "replace")
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        version = fields.get("Wheel-Version", "").strip()
        if version.split(".")[0] != "1":
            raise WheelError(
                f"{self._archive.label}: wheel format {version or 'unknown'} is not supported",
                hint="only format 1 exists as of 2026; update lading, or choose another version of the package",
            )

    def _layout(self, entries: Mapping[str, Entry]) -> dict[str, Planned]:
        """Install path → member."""
        planned: dict[str, Planned] = {}
        for name, entry in entries.items():
            path = self._install_path(name)
            if path is None or _is_stale_bytecode(name, entries):
                continue
            if path in planned:
                raise WheelError(f"{self._archive.label}: two members install as {path}", hint="the wheel is broken")
            planned[path] = entry
            scripts = f"{self._info.removesuffix('.dist-info')}.data/scripts/"
            if name.startswith(scripts):
                planned[path] = self._script(entry)
        return planned

    def _install_path(self, name: str) -> str | None:
        """Where an installer puts a member, relative to the import root; None for what it makes anew."""
        if name.removeprefix(f"{self._info}/") in ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER"):
            return None
        data = f"{self._info.removesuffix('.dist-info')}.data/"
        if not name.startswith(data):
            return name
        scheme, _, rest = name.removeprefix(data).partition("/")
        folders = {
            "purelib": "",
            "platlib": "",
            "data": "",
            "scripts": "bin/",
            "headers": f"include/{self._wheel.name}/",
        }
        if scheme not in folders or not rest:
            raise WheelError(
                f"{self._archive.label}: {name} is in no known installation scheme", hint="the wheel is broken"
            )
        return folders[scheme] + rest

    def _script(self, entry: Entry) -> Planned:
        """A script of the wheel's own: executable, its `#!python` filled in."""
        executable = replace(entry, member=replace(entry.member, mode=EXECUTABLE_MODE))
        if entry.member.size > LARGEST_TEXT:
            return executable
        content = self._text(entry)
        rewritten = rewrite_interpreter(content)
        if rewritten == content:
            return executable
        self._executables.add(self._install_path(entry.member.name) or "")
        return rewritten

    def _add_scripts(self, entries: Mapping[str, Entry]) -> None:
        declared = entries.get(f"{self._info}/entry_points.txt")
        if declared is None:
            return
        text = self._text(declared).decode("utf-8", "replace")
        for name, content in entry_point_scripts(text, self._archive.label).items():
            path = f"bin/{name}"
            if path not in self._planned:
                self._planned[path] = content
                self._executables.add(path)

    def _leave_out(self) -> None:
        services = self._recipe.services(self._wheel)
        if services is not None:
            models = [name for name in self._planned if name.startswith(BOTOCORE_DATA)]
            for name in unwanted_models(models, services):
                del self._planned[name]
        folders = test_folders(self._planned) if self._recipe.drop_tests else set()
        if folders:
            sources = {name: self._text(entry) for name, entry in self._planned.items() if _is_source(name, entry)}
            folders -= imported_folders(folders, sources)
        for name in list(self._planned):
            if any(name.startswith(f"{folder}/") for folder in folders):
                del self._planned[name]

    def _text(self, planned: Planned) -> bytes:
        if isinstance(planned, bytes):
            return planned
        if planned.member.size > LARGEST_TEXT:
            raise self._archive.refuse(f"{planned.member.name!r} is {planned.member.size:,} bytes")
        return b"".join(self._contents(planned))

    def _contents(self, entry: Entry) -> Iterator[bytes]:
        return (content for _, content in read_member(self._archive, entry))


def read_member(archive: ArchiveFile, entry: Entry) -> Iterator[tuple[bytes, bytes]]:
    """(packed, content) pieces of a member. Raises UnsafeArchiveError when they aren't what the directory says."""
    member = entry.member
    start = archive.data_offset(entry)
    inflater = zlib.decompressobj(-15) if member.method != STORED else None
    crc, size = 0, 0
    for position in range(0, member.packed, CHUNK):
        packed = archive.read(start + position, min(CHUNK, member.packed - position))
        for content in _inflate(archive, entry, inflater, packed):
            crc = zlib.crc32(content, crc)
            size += len(content)
            if size > member.size:
                raise archive.refuse(f"{member.name!r} unpacks to more than the {member.size:,} bytes it declares")
            yield packed, content
            packed = b""
    if size != member.size or crc != member.crc or (inflater and (not inflater.eof or inflater.unused_data)):
        raise archive.refuse(f"{member.name!r} is damaged: size or checksum differ from the directory's")


def _inflate(archive: ArchiveFile, entry: Entry, inflater: zlib._Decompress | None, packed: bytes) -> Iterator[bytes]:
    """Content of `packed` in pieces of at most a few MiB; at least one, so that `packed` is seen even if it gives nothing."""
    if inflater is None:
        yield packed
        return
    try:
        content = inflater.decompress(packed, LARGEST_PIECE)
        yield content
        while inflater.unconsumed_tail or len(content) == LARGEST_PIECE:
            content = inflater.decompress(inflater.unconsumed_tail, LARGEST_PIECE)
            yield content
    except zlib.error:
        raise archive.refuse(f"{entry.member.name!r} is damaged: not a deflate stream") from None


def copy_member(archive: ArchiveFile, entry: Entry, member: Member, writer: BundleWriter) -> bytes:
    """Copy a member's packed bytes as `member`, verifying; sha256 of its content."""
    digest = hashlib.sha256()
    writer.begin(member)
    for packed, content in read_member(archive, entry):
        writer.write(packed)
        digest.update(content)
    writer.end(digest.digest())
    return digest.digest()


def _info_folder(archive: ArchiveFile, entries: Mapping[str, Entry]) -> str:
    """The wheel's one dist-info folder."""
    folders = [
        name.removesuffix("/WHEEL") for name in entries if name.endswith(".dist-info/WHEEL") and name.count("/") == 1
    ]
    if len(folders) != 1:
        raise WheelError(
            f"{archive.label}: {len(folders)} dist-info folders; a wheel has one",
            hint="the wheel is broken; fetch it anew",
        )
    return folders[0]


def _is_stale_bytecode(name: str, entries: Mapping[str, Entry]) -> bool:
    """Bytecode of a source that is there too. A .pyc alone in its folder is the module itself (PEP 3147) and stays."""
    return "__pycache__" in name.split("/") or (name.endswith(".pyc") and name[:-1] in entries)


def _is_source(name: str, planned: Planned) -> bool:
    return name.endswith(".py") and not isinstance(planned, bytes) and planned.member.size <= LARGEST_TEXT


def _may_be_elf(name: str) -> bool:
    file = name.rpartition("/")[2]
    return file.endswith(".so") or ".so." in file


def _csv(rows: list[tuple[str, str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
