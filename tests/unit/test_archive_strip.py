"""Stripping only ever gives a file that loads the same."""

from __future__ import annotations

import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from lading.build import strip
from lading.build.strip import StripToolMissingError, find_tools, strip_symbols


@pytest.fixture
def library(tmp_path: Path) -> bytes:
    if not (shutil.which("gcc") and shutil.which("strip")):
        pytest.skip("needs gcc and strip")
    source = tmp_path / "x.c"
    source.write_text("static int hidden(int x) { return x + 1; }\nint shown(int x) { return hidden(x); }\n")
    made = tmp_path / "x.so"
    subprocess.run(["gcc", "-g", "-O0", "-shared", "-fPIC", "-o", made, source], check=True)
    return made.read_bytes()


def tool(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """The only strip there is: `$3` is where it writes, `$4` what it reads."""
    path = folder / "strip"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(strip, "TOOLS", (str(path),))


def test_symbols_go_and_what_is_loaded_stays(library: bytes, tmp_path: Path) -> None:
    smaller = strip_symbols(library, "x.so")
    assert smaller is not None
    assert len(smaller) < len(library)
    assert b".debug_info" in library
    assert b".debug_info" not in smaller
    (tmp_path / "small.so").write_bytes(smaller)
    script = f"import ctypes; assert ctypes.CDLL({str(tmp_path / 'small.so')!r}).shown(1) == 2"
    subprocess.run([shutil.which("python3") or "python3", "-c", script], check=True)


def test_a_tool_that_changes_what_is_loaded(library: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, monkeypatch, 'tr "\\000" "\\001" < "$4" | head -c 9000 > "$3"')
    assert strip_symbols(library, "x.so") is None


def test_a_tool_that_breaks_the_alignment(library: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As llvm-strip does to libraries that patchelf changed: bytes moved, headers adjusted, the loader would refuse."""
    table = struct.unpack_from("<Q", library, 32)[0]
    moved = bytearray(library)
    last = max(number for number in range(4) if struct.unpack_from("<I", library, table + 56 * number)[0] == strip.LOAD)
    offset = struct.unpack_from("<Q", library, table + 56 * last + 8)[0]
    moved[offset:offset] = b"\0" * 8
    struct.pack_into("<Q", moved, table + 56 * last + 8, offset + 8)
    (tmp_path / "moved").write_bytes(moved[: len(library) - 1])
    tool(tmp_path, monkeypatch, f'cp {tmp_path / "moved"} "$3"')
    assert strip_symbols(library, "x.so") is None


def test_a_tool_that_fails_or_gains_nothing(library: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for script in ("exit 1", 'cp "$4" "$3"'):
        tool(tmp_path, monkeypatch, script)
        assert strip_symbols(library, "x.so") is None


def test_what_is_no_elf_file_is_left_alone() -> None:
    for content in (b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 100, b"text"):
        assert strip_symbols(content, "x") is None


def test_no_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strip, "TOOLS", ("no-such-tool",))
    with pytest.raises(StripToolMissingError, match="needs llvm-strip or strip"):
        find_tools()


def test_a_tool_that_hangs(library: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(strip, "SECONDS", 1)
    with pytest.raises(StripToolMissingError, match="took over 1 s"):
        strip_symbols(library, "x.so")
