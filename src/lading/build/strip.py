"""Removes symbol tables and debug sections from ELF files with the machine's own `llvm-strip` or `strip`.

The result is used only if everything that the loader maps is byte for byte what it was; otherwise the original stays.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from lading.errors import ConfigError

TOOLS = ("llvm-strip", "strip")
SECONDS = 60
MOST_SEGMENTS = 64
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
LOAD = 1
"""PT_LOAD: its offset and address must agree modulo its alignment. llvm-strip breaks that in libraries that patchelf
changed (numpy's), and the dynamic linker refuses them."""
_LITTLE_64 = b"\x7fELF\x02\x01"
_SECTION_TABLE = (slice(40, 48), slice(58, 64))
"""Where the ELF header speaks of sections (e_shoff; e_shentsize, e_shnum, e_shstrndx), which the loader ignores."""


class StripToolMissingError(ConfigError):
    """`strip = true`, and no tool for it."""


@dataclass(frozen=True)
class _Image:
    """What a loader sees of an ELF file."""

    kind: int
    machine: int
    entry: int
    segments: tuple[tuple[int, ...], ...]
    """Program headers without their file offsets."""
    contents: tuple[bytes, ...]
    """sha256 of each, with what speaks of file offsets blanked."""


def find_tools() -> list[str]:
    """Paths of the tools that are there, in order of preference; never none. Raises StripToolMissingError."""
    from shutil import which

    found = [path for name in TOOLS if (path := which(name))]
    if found:
        return found
    raise StripToolMissingError(
        "strip = true needs llvm-strip or strip, and neither is on PATH",
        hint="apt-get install binutils, or strip = false",
    )


def strip_symbols(content: bytes, label: str) -> bytes | None:
    """A smaller file that loads the same, or None where there is none. `label` names the file in a timeout's message."""
    before = _image(content)
    if before is None:
        return None
    for tool in find_tools():
        smaller = _run(tool, content, label)
        if smaller is not None and len(smaller) < len(content) and _image(smaller) == before:
            return smaller
    return None


def _run(tool: str, content: bytes, label: str) -> bytes | None:
    import subprocess
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="lading-strip-") as folder:
        source, result = Path(folder, "before"), Path(folder, "after")
        source.write_bytes(content)
        command = [tool, "--strip-unneeded", "-o", str(result), str(source)]
        try:
            finished = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise StripToolMissingError(f"{tool} took over {SECONDS} s on {label}", hint="strip = false") from None
        return result.read_bytes() if finished.returncode == 0 and result.exists() else None


def _image(content: bytes) -> _Image | None:
    """None for what isn't a 64-bit little-endian ELF file, as all that Lambda runs are."""
    try:
        return _read_image(content)
    except struct.error:
        return None


def _read_image(content: bytes) -> _Image | None:
    if not content.startswith(_LITTLE_64):
        return None
    fields = _HEADER.unpack_from(content)
    table, entry_size, count = fields[5], fields[9], fields[10]
    if entry_size != _SEGMENT.size or count > MOST_SEGMENTS or table + entry_size * count > len(content):
        return None
    blanked = bytearray(content)
    for part in (*_SECTION_TABLE, slice(table, table + entry_size * count)):
        blanked[part] = bytes(len(blanked[part]))
    segments, contents = [], []
    for number in range(count):
        kind, flags, offset, address, physical, size, memory, alignment = _SEGMENT.unpack_from(
            content, table + number * entry_size
        )
        if offset + size > len(content) or (kind == LOAD and alignment > 1 and (address - offset) % alignment):
            return None
        segments.append((kind, flags, address, physical, size, memory, alignment))
        contents.append(hashlib.sha256(memoryview(blanked)[offset : offset + size]).digest())
    return _Image(fields[1], fields[2], fields[4], tuple(segments), tuple(contents))
