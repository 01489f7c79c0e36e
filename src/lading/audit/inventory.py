"""Gathering what one distribution brings, without running it: from a wheel, an artifact or a folder."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from lading.audit.elf import ElfError, read_elf
from lading.audit.imports import scan
from lading.audit.package import (
    FORMAT,
    Bytecode,
    Import,
    Module,
    PackageFacts,
    module_name,
    source_of_bytecode,
)
from lading.errors import LadingError
from lading.model.facts import ElfFacts
from lading.model.names import normalize

__all__ = ["FORMAT", "Bytecode", "Entry", "Import", "Module", "PackageFacts", "gather", "module_of", "read_metadata"]

LARGEST_ELF = 1 << 30
"""Bytes; a bigger native file is not read (Lambda takes 250 MB in all)."""
_IN_MEMORY = 8 << 20
_LARGEST_TEXT = 8 << 20

_EXTENSION = re.compile(r"\.(?:so|pyd)$")
_NATIVE = re.compile(r"\.(?:so|pyd|dll|dylib)$|\.so\.[0-9.]+$")
_OTHER_MAGIC = {
    b"MZ": "a Windows file",
    b"\xcf\xfa\xed\xfe": "a macOS file",
    b"\xce\xfa\xed\xfe": "a macOS file",
    b"\xca\xfe\xba\xbe": "a macOS file",
    b"\xca\xfe\xba\xbf": "a macOS file",
}
UNREADABLE = "unreadable:"
"""Begins the error of a module whose bytes could not be read, as against one that has a syntax error."""


class Entry(NamedTuple):
    """A file to gather from. Sizes in bytes; mode is permission bits or None; time is seconds since 1970 (UTC) or None."""

    path: str
    size: int
    compressed: int
    open: Callable[[], BinaryIO]
    mode: int | None = None
    time: int | None = None
    link: bool = False
    """A symbolic link to a file; `open` opens what it points to."""


class ScannedModules(Mapping[str, Module]):
    """Modules as sources that are still in the artifact; one is read and parsed when it is asked for, then remembered."""

    def __init__(self, sources: Mapping[str, tuple[Entry, bool]]) -> None:
        self._sources = sources
        self._read: dict[str, Module] = {}

    def __getitem__(self, name: str) -> Module:
        module = self._read.get(name)
        if module is None:
            entry, is_package = self._sources[name]
            module = self._read[name] = _scan_entry(entry, name, is_package=is_package)
        return module

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def module_of(scanned: Mapping[str, Any], *, is_package: bool) -> Module:
    """What `audit.imports.scan` returns, as a Module."""
    imports = tuple(Import(module, kind, line, tuple(members)) for module, kind, line, members in scanned["imports"])
    defines = scanned["defines"]
    return Module(is_package, imports, None if defines is None else tuple(defines), scanned["error"])


def gather(
    entries: Iterable[Entry],
    *,
    name: str = "",
    version: str = "",
    scans: Mapping[str, Mapping[str, Any]] | None = None,
    root: str = "",
    importable: bool = True,
) -> PackageFacts:
    """Facts of a set of files, paths relative to the install root.

    `scans` holds what `audit.imports.scan` said of some paths already (a compiler that parsed them); other sources are read
    when they are asked for, so the entries must stay open as long as the facts are used, or until `to_json`. Files that are not
    `importable` (a layer's beside python/) have no modules.
    """
    gatherer = _Gatherer(scans or {}, importable=importable)
    for entry in entries:
        try:
            gatherer.add(entry)
        except (LadingError, OSError) as error:
            gatherer.damaged[entry.path] = str(error)
    return gatherer.facts(name, version, root)


class _Gatherer:
    def __init__(self, scans: Mapping[str, Mapping[str, Any]], *, importable: bool) -> None:
        self.scans = scans
        self.importable = importable
        self.damaged: dict[str, str] = {}
        self.files: dict[str, tuple[int, int]] = {}
        self.elf: list[ElfFacts] = []
        self.foreign: dict[str, str] = {}
        self.known: dict[str, Module] = {}
        self.sources: dict[str, tuple[Entry, bool]] = {}
        self.bytecode: dict[str, Bytecode] = {}
        self.unreadable: list[str] = []
        self.not_executable: list[str] = []
        self.times: dict[str, int | None] = {}
        self.pycs: list[Entry] = []
        self.headers: dict[str, bytes] = {}
        self.metadata: tuple[str, tuple[str, ...], str, str] = ("", (), "", "")

    def add(self, entry: Entry) -> None:
        path = entry.path
        self.files[path] = (entry.size, entry.compressed)
        if entry.mode is not None:
            self.check_mode(path, entry.mode)
        if path.endswith(".py"):
            self.add_source(entry)
        elif path.endswith(".pyc"):
            self.pycs.append(entry)
            self.add_bytecode_header(entry)
        elif not entry.link and _may_be_native(path, entry):
            self.add_native(entry)
        elif path.endswith(".dist-info/METADATA") and path.count("/") == 1:
            self.metadata = read_metadata(_read_text(entry))

    def check_mode(self, path: str, mode: int) -> None:
        if mode and not mode & 0o004:
            self.unreadable.append(path)
        if path.startswith(("extensions/", "bin/")) and path.count("/") == 1 and not mode & 0o001:
            self.not_executable.append(path)

    def add_source(self, entry: Entry) -> None:
        self.times[entry.path] = entry.time
        dotted, is_package = module_name(entry.path)
        if not dotted or not self.importable:
            return
        scanned = self.scans.get(entry.path)
        if scanned is not None:
            self.known[dotted] = module_of(scanned, is_package=is_package)
        else:
            self.sources[dotted] = (entry, is_package)

    def add_native(self, entry: Entry) -> None:
        facts, problem = _read_native(entry)
        if facts is not None:
            self.elf.append(facts)
        elif problem:
            self.foreign[entry.path] = problem

    def add_bytecode_header(self, entry: Entry) -> None:
        with entry.open() as stream:
            self.headers[entry.path] = stream.read(16)

    def add_bytecode(self, entry: Entry) -> None:
        header = self.headers.get(entry.path, b"")
        if len(header) < 16:
            self.bytecode[entry.path] = Bytecode(0, "stale")
            return
        magic, _, flags, time, size = struct.unpack("<HHIII", header)
        if flags & 1:
            state = "checked" if flags & 2 else "unchecked"
        else:
            source = source_of_bytecode(entry.path)
            known = self.files.get(source) if source else None
            fresh = known is None or (known[0] & 0xFFFFFFFF == size and self.times.get(source) in (None, time))
            state = "fresh" if fresh else "stale"
        self.bytecode[entry.path] = Bytecode(magic, state)

    def facts(self, name: str, version: str, root: str) -> PackageFacts:
        for entry in self.pycs:
            self.add_bytecode(entry)
        sourceless = {}
        for entry in self.pycs:
            dotted, is_package = module_name(entry.path)
            if dotted and self.importable and dotted not in self.known and dotted not in self.sources:
                sourceless[dotted] = Module(is_package, (), None, "")
        modules: Mapping[str, Module]
        if self.sources:
            modules = _Joined({**self.known, **sourceless}, ScannedModules(self.sources))
        else:
            modules = {**self.known, **sourceless}
        found, requires, requires_python, found_version = self.metadata
        return PackageFacts(
            name=name or found,
            version=version or found_version,
            files=self.files,
            elf=tuple(self.elf),
            modules=modules,
            requires=requires,
            requires_python=requires_python,
            foreign=self.foreign,
            damaged=self.damaged,
            bytecode=self.bytecode,
            unreadable=tuple(self.unreadable),
            not_executable=tuple(self.not_executable),
            root=root,
        )


class _Joined(Mapping[str, Module]):
    """Modules that are known, then modules that are still to be read."""

    def __init__(self, known: Mapping[str, Module], rest: Mapping[str, Module]) -> None:
        self._known = known
        self._rest = rest

    def __getitem__(self, name: str) -> Module:
        known = self._known.get(name)
        return self._rest[name] if known is None else known

    def __iter__(self) -> Iterator[str]:
        yield from self._known
        yield from self._rest

    def __len__(self) -> int:
        return len(self._known) + len(self._rest)


def read_metadata(text: str) -> tuple[str, tuple[str, ...], str, str]:
    """Normalized name, Requires-Dist lines, Requires-Python and version out of a METADATA file's headers."""
    fields: list[tuple[str, str]] = []
    for line in text.splitlines():
        if not line.strip():
            break
        if line[0] in " \t" and fields:
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line.strip()}")
        else:
            key, _, value = line.partition(":")
            fields.append((key.lower(), value.strip()))
    single = dict(reversed(fields))
    requires = tuple(value for key, value in fields if key == "requires-dist")
    return normalize(single.get("name", "")), requires, single.get("requires-python", ""), single.get("version", "")


def _may_be_native(path: str, entry: Entry) -> bool:
    base = path.rpartition("/")[2]
    if _NATIVE.search(base):
        return True
    # A program has no suffix; metadata and licences have none either, but no x bit.
    return "." not in base and bool((entry.mode or 0) & 0o111 or path.startswith(("bin/", "extensions/")))


def _read_native(entry: Entry) -> tuple[ElfFacts | None, str]:
    if entry.size > LARGEST_ELF:
        return None, f"larger than {LARGEST_ELF} bytes, not read"
    with entry.open() as stream:
        magic = stream.read(4)
    if magic != b"\x7fELF":
        other = _OTHER_MAGIC.get(magic) or _OTHER_MAGIC.get(magic[:2], "")
        return None, other or ("not a native file" if _EXTENSION.search(entry.path) and not _is_script(magic) else "")
    try:
        with _seekable(entry) as stream:
            return read_elf(stream, entry.path), ""
    except ElfError as error:
        return None, error.message


def _is_script(magic: bytes) -> bool:
    """Linker scripts and stubs named .so are text; nobody imports them."""
    return magic[:2] in (b"/*", b"GR", b"IN", b"#!")


def _seekable(entry: Entry) -> BinaryIO:
    """The entry as a stream that seeks for free; a compressed member is unpacked first, on disk when it is big."""
    import shutil
    import tempfile

    stream = entry.open()
    if entry.compressed == entry.size and entry.size > _IN_MEMORY:
        return stream
    copy = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by the caller
    with stream:
        shutil.copyfileobj(stream, copy, 1 << 20)
    copy.seek(0)
    return copy  # type: ignore[return-value]


def _read_text(entry: Entry) -> str:
    with entry.open() as stream:
        return stream.read(_LARGEST_TEXT).decode("utf-8", "replace")


def _scan_entry(entry: Entry, name: str, *, is_package: bool) -> Module:
    try:
        with entry.open() as stream:
            source = stream.read()
    except (OSError, LadingError) as error:
        return Module(is_package, (), None, f"{UNREADABLE} {error}")
    return module_of(scan(source, name, is_package), is_package=is_package)
