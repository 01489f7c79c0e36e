"""Archives with changed bytes: the audit answers or refuses with one clear error, whatever they hold."""

from __future__ import annotations

import datetime as dt
import io
import stat
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
from audit_elf_maker import make_elf
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.audit.artifact import name_problem
from lading.audit.inspection import Wanted, inspect
from lading.errors import LadingError
from lading.model.finding import Finding


def sample() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", "import d\ndef handler(e, c): ...\n")
        archive.writestr("d/__init__.py", "from .n import x\n")
        archive.writestr("d/n.abi3.so", make_elf(["libc.so.6"], versions=[("libc.so.6", "GLIBC_2.17")]))
        archive.writestr("d-1.dist-info/METADATA", "Name: d\nVersion: 1\nRequires-Dist: e\n")
        archive.writestr("d-1.dist-info/RECORD", "d/__init__.py,,\nd/n.abi3.so,,\nd-1.dist-info/RECORD,,\n")
        archive.writestr("__pycache__/app.cpython-313.pyc", bytes(16))
        link = zipfile.ZipInfo("alias.py")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "app.py")
    return buffer.getvalue()


SAMPLE = sample()


def findings_of(data: bytes) -> tuple[Finding, ...] | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.zip")
        path.write_bytes(data)
        try:
            with inspect(path, Wanted("python3.13", "x86_64", "app.handler")) as inspection:
                return inspection.findings(dt.date(2026, 1, 1))
        except LadingError as error:
            assert error.message
            assert error.hint
            return None


def test_the_sample_itself_is_read() -> None:
    found = findings_of(SAMPLE)
    assert found is not None
    assert {"missing-requirement", "not-readable", "stale-bytecode"} <= {finding.code for finding in found}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for place, value in changes:
        data[place] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings_of(bytes(data))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SAMPLE)))
def test_cut_short(length: int) -> None:
    assert (findings_of(SAMPLE[:length]) is None) is (length < len(SAMPLE))


@settings(max_examples=300)
@given(st.text(max_size=40))
def test_a_name_that_passes_stays_inside(name: str) -> None:
    if name_problem(name) is None:
        parts = name.rstrip("/").split("/")
        assert not name.startswith("/")
        assert ".." not in parts
        assert "\0" not in name
        assert all(0 < len(part.encode()) <= 255 for part in parts)


@pytest.mark.parametrize("name", ["a.py", "a/b.py", "a/", ".hidden", "a b", "ü/é.py", "..a", "a..b/c"])
def test_ordinary_names_pass(name: str) -> None:
    assert name_problem(name) is None
