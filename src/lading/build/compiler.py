"""Runs inside a target's interpreter: sources on stdin, unchecked-hash bytecode (PEP 552) and import facts on stdout.

Standard library only, Python 3.9 syntax, no lading imports; reads no file but the scanner named by its argument.
The same source and file name give the same bytes, whatever was compiled before.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # the folder of this file, whose names must not hide the standard library's

import _imp
import gc
import importlib.util
import json
import marshal
import struct
import types
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO, cast

Scanner = Callable[[bytes, str, bool], "dict[str, Any]"]
REQUEST = struct.Struct("<IIIB")
RESPONSE = struct.Struct("<BII")
HASH_BASED = 1
"""PEP 552's flags: based on a hash, and (bit 1 clear) never checked against the source."""
_MAGIC = importlib.util.MAGIC_NUMBER


def compile_source(source: bytes, filename: str) -> bytes | None:
    """The content of a .pyc, or None where the source doesn't compile."""
    try:
        code = compile(source, sys.intern(filename), "exec", dont_inherit=True, optimize=0)
        data = _canonical(code)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return None
    return _MAGIC + struct.pack("<I", HASH_BASED) + _source_hash(source) + data


def _source_hash(source: bytes) -> bytes:
    return _imp.source_hash(int.from_bytes(_MAGIC[:2], "little"), source)


def _canonical(code: types.CodeType) -> bytes:
    """The code as marshal writes it, whatever else is or was alive in this process.

    marshal marks objects that have more than one reference, which for interned strings depends on what else is alive: in
    a copy made while the original lives, each has at least two. And CPython 3.12 merges equal sets in some runs only:
    version 2 of the format shares nothing but interned strings, so the copy has none merged. (It can't hold slices,
    constants since 3.14.)
    """
    try:
        plain = marshal.dumps(code, 2)
    except ValueError:
        plain = marshal.dumps(code)
    copy = marshal.loads(plain)
    data = marshal.dumps(copy)
    del code
    return data


def load_scanner(path: str) -> Scanner:
    """The `scan` function of the file at `path`."""
    with open(path, "rb") as file:
        module = types.ModuleType("scanner")
        exec(compile(file.read(), path, "exec"), module.__dict__)
    return cast("Scanner", module.scan)


def describe() -> dict[str, Any]:
    """What the caller has to know of this interpreter."""
    return {
        "implementation": sys.implementation.name,
        "version": list(sys.version_info[:3]),
        "release": sys.version_info[3],
        "tag": sys.implementation.cache_tag,
        "magic": _MAGIC.hex(),
    }


def serve(scan: Scanner, reader: BinaryIO, writer: BinaryIO) -> None:
    """Answer requests until the input ends."""
    while True:
        header = reader.read(REQUEST.size)
        if len(header) < REQUEST.size:
            return
        filename_length, name_length, source_length, is_package = REQUEST.unpack(header)
        filename = reader.read(filename_length).decode("utf-8")
        name = reader.read(name_length).decode("utf-8")
        source = reader.read(source_length)
        bytecode = compile_source(source, filename)
        facts = json.dumps(scan(source, name, bool(is_package)), separators=(",", ":")).encode("utf-8")
        writer.write(RESPONSE.pack(bytecode is not None, len(bytecode or b""), len(facts)))
        writer.write(bytecode or b"")
        writer.write(facts)
        writer.flush()


def main() -> None:
    """Serve on stdin and stdout; say first who is there, on a line of JSON."""
    warnings.simplefilter("ignore")
    # Syntax trees have no cycles, but their many objects set off collection after collection: half of the time.
    gc.disable()
    sys.stdout.write(json.dumps(describe()) + "\n")
    sys.stdout.flush()
    serve(load_scanner(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
