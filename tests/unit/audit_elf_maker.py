"""Small ELF files made to order, so that a test says what a library needs without a compiler."""

from __future__ import annotations

import struct
from collections.abc import Sequence

X86_64, AARCH64 = 62, 183


def make_elf(
    needed: Sequence[str] = (),
    *,
    machine: int = X86_64,
    soname: str = "",
    runpath: str = "",
    versions: Sequence[tuple[str, str]] = (),
    interpreter: bool = False,
) -> bytes:
    """A 64-bit little-endian shared object. `versions` are (library, version) pairs, as in ("libc.so.6", "GLIBC_2.34")."""
    strings = bytearray(b"\0")

    def string(text: str) -> int:
        place = len(strings)
        strings.extend(text.encode() + b"\0")
        return place

    tags = [(1, string(name)) for name in needed]
    if soname:
        tags.append((14, string(soname)))
    if runpath:
        tags.append((29, string(runpath)))
    records = bytearray()
    for index, (library, version) in enumerate(versions):
        last = index == len(versions) - 1
        records += struct.pack("<HHIII", 1, 1, string(library), 16, 0 if last else 32)
        records += struct.pack("<IHHII", 0, 0, 2, string(version), 0)
    headers = 2 + interpreter
    base = 64 + 56 * headers
    strings_at = base
    records_at = strings_at + len(strings)
    dynamic_at = records_at + len(records)
    tags += [(5, strings_at), (10, len(strings))]
    if versions:
        tags += [(0x6FFFFFFE, records_at), (0x6FFFFFFF, len(versions))]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in [*tags, (0, 0)])
    size = dynamic_at + len(dynamic)
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 4096)
    program += struct.pack("<IIQQQQQQ", 2, 4, dynamic_at, dynamic_at, 0, len(dynamic), len(dynamic), 8)
    if interpreter:
        program += struct.pack("<IIQQQQQQ", 3, 4, strings_at, strings_at, 0, 1, 1, 1)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, headers, 64, 0, 0)
    return head + program + bytes(strings) + bytes(records) + dynamic
