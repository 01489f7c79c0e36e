"""What an ELF file asks of the machine it is loaded on: processor, libraries, symbol versions.

Reads the program headers and the dynamic segment only (System V gABI chapter 5, LSB symbol versioning); no section is
trusted or needed. Every offset and count comes from the file, so each is bounded before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from lading.errors import AuditError
from lading.model.facts import ElfFacts


class ElfError(AuditError):
    """A file that begins like ELF and can't be read as ELF."""


MACHINES = {
    3: "i686", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "armv7l", 50: "ia64", 62: "x86_64", 183: "aarch64",
    243: "riscv64", 247: "bpf", 258: "loongarch64",
}  # fmt: skip
"""e_machine → the name `uname -m` gives it."""

_LOADABLE = (2, 3)
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29
_DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
_VERSION_IS_WEAK = 2

_MOST_HEADERS = 512
_MOST_DYNAMIC = 4096
_MOST_VERSIONS = 4096
_LARGEST_STRINGS = 64 * 1024 * 1024
_LONGEST_NAME = 4096

_FAMILIES = {"GLIBCXX": "libstdc++.so.", "CXXABI": "libstdc++.so.", "GCC": "libgcc_s.so."}


class _Load(NamedTuple):
    address: int
    offset: int
    size: int


def read_elf(stream: BinaryIO, path: str) -> ElfFacts | None:
    """The facts of a seekable stream; None when it is not an ELF program or shared object.

    `versions` holds what is asked of the C, C++ and GCC run-time libraries under their own names: a copy renamed and
    shipped by a wheel answers for itself. Raises ElfError for a broken file. Cost: a few reads, whatever the size.
    """
    stream.seek(0)
    head = stream.read(64)
    if head[:4] != b"\x7fELF":
        return None
    try:
        return _read(stream, head, path)
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise ElfError(
            f"{path} is not a readable ELF file: {error}", hint="reinstall the package it came with"
        ) from None


def _read(stream: BinaryIO, head: bytes, path: str) -> ElfFacts | None:
    if len(head) < 52 or head[4] not in (1, 2) or head[5] not in (1, 2):
        raise ValueError("its header is cut short or of an unknown class")
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    kind, machine = struct.unpack_from(order + "HH", head, 16)
    if kind not in _LOADABLE:
        return None
    # A big-endian processor shares its number with the little-endian one, and a 64-bit x86 with the x32 mode.
    name = MACHINES.get(machine, f"machine-{machine}") + _variant(machine, wide=wide, order=order)
    loads, dynamic, has_interpreter = _segments(stream, head, wide=wide, order=order)
    if dynamic is None:
        return ElfFacts(path, name, executable=has_interpreter or kind == 2)
    tags = list(_dynamic(stream, dynamic, wide=wide, order=order))
    strings = _strings(stream, tags, loads)
    runpath = [_text(strings, value) for tag, value in tags if tag in (_DT_RPATH, _DT_RUNPATH)]
    return ElfFacts(
        path,
        name,
        soname=next((_text(strings, value) for tag, value in tags if tag == _DT_SONAME), ""),
        needed=tuple(_text(strings, value) for tag, value in tags if tag == _DT_NEEDED),
        runpath=tuple(entry for entries in runpath for entry in entries.split(":") if entry),
        versions=tuple(sorted(set(_versions(stream, dict(tags), loads, strings, order)))),
        executable=has_interpreter,
    )


def _variant(machine: int, *, wide: bool, order: str) -> str:
    if machine == 183 and order == ">":
        return "_be"
    if machine == 62 and not wide:
        return "_x32"
    return ""


def _segments(
    stream: BinaryIO, head: bytes, *, wide: bool, order: str
) -> tuple[list[_Load], tuple[int, int] | None, bool]:
    """The loaded ranges, where the dynamic segment lies in the file (offset, size), and whether it names a loader."""
    offset = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
    entry_size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    layout = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    if count > _MOST_HEADERS or entry_size < layout.size:
        raise ValueError(f"{count} program headers of {entry_size} bytes")
    table = _at(stream, offset, count * entry_size)
    loads: list[_Load] = []
    dynamic: tuple[int, int] | None = None
    interpreter = False
    for index in range(count):
        fields = layout.unpack_from(table, index * entry_size)
        kind, start, address, size = (
            fields[0],
            fields[2 if wide else 1],
            fields[3 if wide else 2],
            fields[5 if wide else 4],
        )
        if kind == _PT_LOAD:
            loads.append(_Load(address, start, size))
        elif kind == _PT_DYNAMIC:
            dynamic = (start, size)
        elif kind == _PT_INTERP:
            interpreter = True
    return loads, dynamic, interpreter


def _dynamic(stream: BinaryIO, place: tuple[int, int], *, wide: bool, order: str) -> Iterator[tuple[int, int]]:
    layout = struct.Struct(order + ("QQ" if wide else "II"))
    table = _at(stream, place[0], min(place[1], _MOST_DYNAMIC * layout.size))
    for tag, value in layout.iter_unpack(table[: len(table) // layout.size * layout.size]):
        if tag == 0:
            return
        yield tag, value


def _strings(stream: BinaryIO, tags: list[tuple[int, int]], loads: list[_Load]) -> bytes:
    known = dict(tags)
    size = known.get(_DT_STRSZ, 0)
    if _DT_STRTAB not in known or not size:
        return b""
    if size > _LARGEST_STRINGS:
        raise ValueError(f"a string table of {size} bytes")
    return _at(stream, _offset(known[_DT_STRTAB], loads), size)


def _versions(stream: BinaryIO, tags: dict[int, int], loads: list[_Load], strings: bytes, order: str) -> Iterator[str]:
    """Names out of the "version needed" records, less weak ones (the loader only warns about those)."""
    if _DT_VERNEED not in tags:
        return
    need, auxiliary = struct.Struct(order + "HHIII"), struct.Struct(order + "IHHII")
    place = _offset(tags[_DT_VERNEED], loads)
    left = _MOST_VERSIONS
    for _ in range(min(tags.get(_DT_VERNEEDNUM, 0), _MOST_VERSIONS)):
        _, count, file, first, following = need.unpack(_at(stream, place, need.size))
        library, inner = _text(strings, file), place + first
        for _ in range(count):
            left -= 1
            if left < 0:
                raise ValueError("more symbol versions than any library has")
            _, flags, _, name, step = auxiliary.unpack(_at(stream, inner, auxiliary.size))
            version = _text(strings, name)
            if not flags & _VERSION_IS_WEAK and _belongs(version, library):
                yield version
            inner += step
            if not step:
                break
        place += following
        if not following:
            break


def _belongs(version: str, library: str) -> bool:
    """Whether a version is one of the system libraries', asked of the system's own copy."""
    family = version.partition("_")[0]
    if family == "GLIBC":
        return True
    return family in _FAMILIES and library.startswith(_FAMILIES[family])


def _offset(address: int, loads: list[_Load]) -> int:
    for load in loads:
        if load.address <= address < load.address + load.size:
            return address - load.address + load.offset
    raise ValueError(f"address {address:#x} is in no segment")


def _text(strings: bytes, start: int) -> str:
    if start >= len(strings):
        raise ValueError(f"string {start} is outside the table")
    end = strings.find(b"\0", start, start + _LONGEST_NAME)
    if end < 0:
        raise ValueError(f"string {start} has no end")
    return strings[start:end].decode("utf-8", "backslashreplace")


def _at(stream: BinaryIO, offset: int, size: int) -> bytes:
    if offset > 1 << 62:
        raise ValueError(f"offset {offset:#x}")
    stream.seek(offset)
    data = stream.read(size)
    if len(data) < size:
        raise ValueError(f"it ends before byte {offset + size}")
    return data
