"""The ELF reader: what it says agrees with pyelftools, and no bytes make it do worse than refuse."""

from __future__ import annotations

import io
import sysconfig
import time
from pathlib import Path

import pytest
from audit_elf_maker import AARCH64, make_elf
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.audit.elf import ElfError, read_elf
from lading.model.facts import ElfFacts

SAMPLE = make_elf(
    ["libm.so.6", "libc.so.6"],
    soname="libx.so.1",
    runpath="$ORIGIN/../x.libs:/opt/lib",
    versions=[
        ("libc.so.6", "GLIBC_2.34"),
        ("libstdc++.so.6", "GLIBCXX_3.4.30"),
        ("libstdc++-abc.so.6", "GLIBCXX_3.4.32"),
    ],
)


def read(data: bytes) -> ElfFacts | None:
    return read_elf(io.BytesIO(data), "x.so")


def test_facts_of_a_made_library() -> None:
    facts = read(SAMPLE)
    assert facts == ElfFacts(
        "x.so",
        "x86_64",
        soname="libx.so.1",
        needed=("libm.so.6", "libc.so.6"),
        runpath=("$ORIGIN/../x.libs", "/opt/lib"),
        versions=("GLIBCXX_3.4.30", "GLIBC_2.34"),
    )


def test_machine_and_program() -> None:
    facts = read(make_elf(machine=AARCH64, interpreter=True))
    assert facts is not None
    assert (facts.machine, facts.executable) == ("aarch64", True)


@pytest.mark.parametrize("data", [b"", b"\x7fEL", b"#!/bin/sh\n", b"PK\x03\x04" + bytes(100), bytes(200)])
def test_other_files_are_none(data: bytes) -> None:
    assert read(data) is None


@pytest.mark.parametrize("cut", [5, 40, 63, 80, len(SAMPLE) // 2])
def test_cut_files_are_refused_with_a_hint(cut: int) -> None:
    with pytest.raises(ElfError) as caught:
        read(SAMPLE[:cut])
    assert "x.so" in caught.value.message
    assert caught.value.hint


def test_huge_counts_are_refused_quickly() -> None:
    many_headers = bytearray(SAMPLE)
    many_headers[56:58] = b"\xff\xff"
    start = time.thread_time()
    with pytest.raises(ElfError, match="program headers"):
        read(bytes(many_headers))
    assert time.thread_time() - start < 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(4, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_changed_bytes_never_do_more_than_refuse(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for place, value in changes:
        data[place] = value
    start = time.thread_time()
    try:
        facts = read(bytes(data))
    except ElfError:
        facts = None
    assert facts is None or isinstance(facts, ElfFacts)
    assert time.thread_time() - start < 5


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_after_the_magic(data: bytes) -> None:
    try:
        read(b"\x7fELF" + data)
    except ElfError as error:
        assert error.exit_code == 5


def native_files() -> list[Path]:
    """Extension modules of this interpreter and its packages: real files from several linkers."""
    folders = [Path(sysconfig.get_path("platlib")), Path(sysconfig.get_config_var("DESTSHARED") or "/nonexistent")]
    return sorted(path for folder in folders if folder.is_dir() for path in folder.rglob("*.so"))[::3][:30]


def test_agrees_with_pyelftools() -> None:
    files = native_files()
    if not files:
        pytest.skip("this interpreter has no extension modules on disk")
    for path in files:
        with path.open("rb") as stream:
            facts = read_elf(stream, str(path))
            assert facts is not None
            assert (facts.needed, facts.soname, facts.runpath, set(facts.versions)) == oracle(ELFFile(stream)), path


def oracle(elf: ELFFile) -> tuple[tuple[str, ...], str, tuple[str, ...], set[str]]:
    needed: list[str] = []
    runpath: list[str] = []
    soname = ""
    for segment in elf.iter_segments():
        if isinstance(segment, DynamicSegment):
            for tag in segment.iter_tags():
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(tag.needed)
                elif tag.entry.d_tag == "DT_SONAME":
                    soname = tag.soname
                elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                    runpath += (tag.runpath if tag.entry.d_tag == "DT_RUNPATH" else tag.rpath).split(":")
    versions: set[str] = set()
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for need, auxiliary in section.iter_versions():
                for version in auxiliary:
                    family = version.name.partition("_")[0]
                    own = {"GLIBCXX": "libstdc++.so.", "CXXABI": "libstdc++.so.", "GCC": "libgcc_s.so."}.get(
                        family, "?"
                    )
                    if (family == "GLIBC" or need.name.startswith(own)) and not version["vna_flags"] & 2:
                        versions.add(version.name)
    return tuple(needed), soname, tuple(runpath), versions
