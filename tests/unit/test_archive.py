"""The zip writer against zipfile and unzip: whatever is put in comes out, and the same bytes come of the same input."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lading.build import bundle as bundles
from lading.build.archive import ArchiveError, PathConflictError, Selection, assemble
from lading.build.bundle import Bundle, BundleWriter
from lading.build.records import EXECUTABLE_MODE, FILE_MODE, LINK_MODE
from lading.errors import StoreError
from lading.sandbox.owners import owner_name
from lading.store import Store, open_store

Content = dict[str, tuple[int, bytes]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


def make(store: Store, content: Content, name: str = "package", **facts: str) -> Bundle:
    with store.blobs.writer() as output:
        writer = BundleWriter(output)
        for path, (mode, data) in content.items():
            writer.add_content(path, mode, data)
        bundle = writer.finish("wheel", name, "1.0", **facts)
    return bundles.keep(bundle, f"{name}-{bundle.data}", store.blobs, store.actions)


def plain(*names: str, data: bytes = b"x = 1\n") -> Content:
    return dict.fromkeys(names, (FILE_MODE, data))


part = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/\\"), min_size=1, max_size=12
)
paths = st.lists(part.filter(lambda text: text not in (".", "..")), min_size=1, max_size=3).map(
    lambda parts: "d/".join(parts)
)
modes = st.sampled_from([FILE_MODE, EXECUTABLE_MODE, LINK_MODE])
contents = st.dictionaries(paths, st.tuples(modes, st.binary(max_size=300) | st.just(b"abc" * 40_000)), max_size=8)


def no_file_is_a_folder(content: Content) -> bool:
    return not any(other.startswith(f"{name}/") for name in content for other in content)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(contents, max_size=3))
def test_zipfile_reads_what_was_written(store: Store, tmp_path: Path, parts: list[Content]) -> None:
    whole = {name: value for content in parts for name, value in content.items()}
    if not no_file_is_a_folder(whole):
        return
    made = assemble([Selection(make(store, content)) for content in parts], tmp_path / "out.zip", store.blobs)
    with zipfile.ZipFile(made.path) as archive:
        assert archive.testzip() is None
        assert {info.filename: (info.external_attr >> 16, archive.read(info)) for info in archive.infolist()} == whole
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) and not info.extra for info in archive.infolist())
    assert made.members == len(whole)
    assert made.unzipped == sum(len(data) for _, data in whole.values())
    assert made.size == made.path.stat().st_size
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()


def test_unzip_restores_modes_and_links(store: Store, tmp_path: Path) -> None:
    if not shutil.which("unzip"):
        pytest.skip("unzip is not installed")
    content = {
        "bin/run": (EXECUTABLE_MODE, b"#!/bin/sh\necho ran\n"),
        "bin/walk": (LINK_MODE, b"run"),
        "données/é.txt": (FILE_MODE, b""),
    }
    made = assemble([Selection(make(store, content))], tmp_path / "out.zip", store.blobs)
    subprocess.run(["unzip", "-q", made.path, "-d", tmp_path / "out"], check=True, env={"LC_ALL": "C.UTF-8"})
    assert (tmp_path / "out/bin/walk").is_symlink()
    assert subprocess.check_output([tmp_path / "out/bin/walk"]) == b"ran\n"
    assert stat.S_IMODE((tmp_path / "out/bin/run").stat().st_mode) == 0o755
    assert (tmp_path / "out/données/é.txt").read_bytes() == b""


def test_more_members_than_a_plain_zip_can_count(store: Store, tmp_path: Path) -> None:
    names = [f"many/{number:05}" for number in range(65_600)]
    bundle = make(store, plain(*names[:40_000], data=b""))
    other = make(store, plain(*names[40_000:], data=b""), name="other")
    made = assemble([Selection(bundle), Selection(other)], tmp_path / "out.zip", store.blobs)
    with zipfile.ZipFile(made.path) as archive:
        assert archive.namelist() == names
    if shutil.which("unzip"):
        assert "65600 files" in subprocess.check_output(["unzip", "-l", made.path], text=True)[-60:]


def test_excluded_members_are_left_out_and_the_rest_reads(store: Store, tmp_path: Path) -> None:
    content = {f"p/{number}.py": (FILE_MODE, bytes([number]) * 9000) for number in range(40)}
    bundle = make(store, content)
    exclude = frozenset(name for number, name in enumerate(content) if number % 3 == 0 or number > 35)
    made = assemble([Selection(bundle, exclude), Selection(make(store, plain("z")))], tmp_path / "out.zip", store.blobs)
    with zipfile.ZipFile(made.path) as archive:
        kept = {name: data for name, (_, data) in content.items() if name not in exclude}
        assert {name: archive.read(name) for name in archive.namelist()} == kept | {"z": b"x = 1\n"}
    assert made.unzipped == sum(map(len, kept.values())) + 6


def test_same_input_gives_the_same_bytes_in_another_folder_and_cache(store: Store, tmp_path: Path) -> None:
    content = plain("a.py", "b/c.py")
    other = open_store(tmp_path / "elsewhere")
    first = assemble([Selection(make(store, content))], tmp_path / "one.zip", store.blobs)
    second = assemble([Selection(make(other, content))], tmp_path / "deep/er/two.zip", other.blobs)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.code_sha256 == second.code_sha256


class TestConflicts:
    def test_equal_files_are_written_once_without_a_word(self, store: Store, tmp_path: Path) -> None:
        first, second = (
            make(store, plain("ns/__init__.py", "ns/a.py"), "one"),
            make(store, plain("ns/__init__.py", "ns/b.py"), "two"),
        )
        made = assemble([Selection(first), Selection(second)], tmp_path / "out.zip", store.blobs)
        with zipfile.ZipFile(made.path) as archive:
            assert archive.namelist() == ["ns/a.py", "ns/__init__.py", "ns/b.py"]
        assert made.conflicts == ()

    def test_different_files_last_wins_and_is_reported(self, store: Store, tmp_path: Path) -> None:
        bundles_made = [make(store, plain("both.py", data=name.encode()), name) for name in ("one", "two", "three")]
        made = assemble([Selection(bundle) for bundle in bundles_made], tmp_path / "out.zip", store.blobs)
        with zipfile.ZipFile(made.path) as archive:
            assert archive.read("both.py") == b"three"
        assert [(conflict.winner, conflict.loser) for conflict in made.conflicts] == [("two", "one"), ("three", "two")]

    def test_bytecode_of_a_replaced_source_is_left_out(self, store: Store, tmp_path: Path) -> None:
        first, second = make(store, plain("p/m.py", "p/n.py"), "one"), make(store, plain("p/m.py", data=b"y"), "two")
        compiled = plain("p/__pycache__/m.cpython-313.pyc", "p/__pycache__/n.cpython-313.pyc")
        bytecode = make(store, compiled, "one", origin=first.index)
        made = assemble([Selection(first), Selection(bytecode), Selection(second)], tmp_path / "out.zip", store.blobs)
        with zipfile.ZipFile(made.path) as archive:
            assert archive.namelist() == ["p/n.py", "p/__pycache__/n.cpython-313.pyc", "p/m.py"]

    def test_a_file_where_another_has_a_folder(self, store: Store, tmp_path: Path) -> None:
        first, second = make(store, plain("p"), "one"), make(store, plain("p/q/r.py"), "two")
        with pytest.raises(PathConflictError, match=r"p is a file in one and a folder in two \(p/q/r.py\)"):
            assemble([Selection(first), Selection(second)], tmp_path / "out.zip", store.blobs)


class TestFailure:
    """Whatever goes wrong, the previous artifact is there and nothing else."""

    @pytest.fixture
    def previous(self, tmp_path: Path) -> Iterator[Path]:
        folder = tmp_path / "dist"
        folder.mkdir()
        (folder / "out.zip").write_bytes(b"previous")
        yield folder / "out.zip"
        assert (folder / "out.zip").read_bytes() == b"previous"
        assert [path.name for path in folder.iterdir()] == ["out.zip"]

    def test_damaged_data_is_found_removed_and_named(self, store: Store, previous: Path) -> None:
        bundle = make(store, plain("a.py", data=bytes(range(256)) * 20))
        path = store.blobs.path(bundle.data)
        damaged = bytearray(path.read_bytes())
        damaged[-3] ^= 1
        path.chmod(0o644)
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="damaged"):
            assemble([Selection(bundle)], previous, store.blobs)
        assert not store.blobs.has(bundle.data)

    def test_pruned_data(self, store: Store, previous: Path) -> None:
        bundle = make(store, plain("a.py"))
        store.blobs.path(bundle.data).unlink()
        with pytest.raises(StoreError, match="no blob"):
            assemble([Selection(bundle)], previous, store.blobs)

    def test_full_disk(self, store: Store, previous: Path) -> None:
        """A file size limit stands in for a full disk: write fails in the middle either way."""
        import resource
        import signal

        bundle = make(store, {"a": (FILE_MODE, hashlib.shake_128(b"").digest(3 << 20))})
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, limits[1]))
        try:
            with pytest.raises(ArchiveError, match="can't write"):
                assemble([Selection(bundle)], previous, store.blobs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)


def test_what_a_killed_build_left_is_removed_by_the_next(store: Store, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner, own = owner_name(gone.pid), owner_name(os.getpid())
    gone.communicate(b"\n")
    again = ".".join([*own.split(".")[:2], "1", *own.split(".")[3:]])  # our number, before it was ours
    left, reused, other = (tmp_path / f".artifact.zip.{name}-00000000" for name in (owner, again, own))
    for path in (left, reused, other):
        path.write_bytes(b"half")
    assemble([Selection(make(store, {"a.py": (FILE_MODE, b"")}))], tmp_path / "artifact.zip", store.blobs)
    assert (tmp_path / "artifact.zip").exists()
    assert (left.exists(), reused.exists(), other.exists()) == (False, False, True)
