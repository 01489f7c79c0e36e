"""Own files as a bundle: the same from any folder, only what changed is read, nothing that can't be packed slips in."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.build import folder
from lading.build.bundle import Bundle, unpack
from lading.build.folder import SourceTreeError, prepare_folder
from lading.build.patterns import PatternError, Patterns
from lading.build.records import EXECUTABLE_MODE, FILE_MODE, LINK_MODE
from lading.model.project import Source
from lading.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "pkg/data").mkdir(parents=True)
    (root / "app.py").write_text("import pkg\n")
    (root / "pkg/__init__.py").write_text("")
    (root / "pkg/data/table.csv").write_text("a,b\n" * 500)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o700)
    (root / "latest.csv").symlink_to("pkg/data/table.csv")
    return root


def prepare(store: Store, root: Path, prefix: str = "", **globs: tuple[str, ...]) -> Bundle:
    return prepare_folder(Source(root, **globs), prefix, "app", store.blobs, store.actions)


def content(store: Store, bundle: Bundle) -> dict[str, bytes]:
    with store.blobs.open(bundle.data) as file:
        data = file.read()
    spans = {name: bundle.span(number) for number, name in enumerate(bundle.names)}
    return {
        name: unpack(bundle.member(number), data[spans[name][0] : sum(spans[name])])
        for number, name in enumerate(bundle.names)
    }


def settle(root: Path) -> None:
    """Give every file a time well before now, so that its stat can be trusted; ctime can't be set, so wait for it."""
    for path in root.rglob("*"):
        os.utime(path, ns=(0, 10**18), follow_symlinks=False)
    deadline = time.time_ns() + folder.SETTLED_NANOSECONDS + 50_000_000
    while time.time_ns() < deadline:
        time.sleep(0.05)


def test_files_links_and_modes(store: Store, tree: Path) -> None:
    bundle = prepare(store, tree, "python/")
    assert {member.name: member.mode for member in bundle.members()} == {
        "python/app.py": FILE_MODE,
        "python/latest.csv": LINK_MODE,
        "python/pkg/__init__.py": FILE_MODE,
        "python/pkg/data/table.csv": FILE_MODE,
        "python/run.sh": EXECUTABLE_MODE,
    }
    assert content(store, bundle)["python/latest.csv"] == b"pkg/data/table.csv"
    assert content(store, bundle)["python/pkg/data/table.csv"] == b"a,b\n" * 500


def test_one_file_as_a_source(store: Store, tree: Path) -> None:
    assert prepare(store, tree / "app.py").names == ("app.py",)


def test_same_bundle_from_another_folder_time_and_umask(store: Store, tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other/place"
    shutil.copytree(tree, copy, symlinks=True)
    for path in copy.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o077)
            os.utime(path, (0, 1))
    other = open_store(tmp_path / "other cache")
    assert prepare(store, tree).index == prepare(other, copy).index


class TestIncremental:
    @pytest.fixture
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the files read, in order."""
        names: list[str] = []
        original = folder._Packer._read
        monkeypatch.setattr(
            folder._Packer,
            "_read",
            lambda self, file, source: (names.append(file.name), original(self, file, source))[1],
        )
        return names

    def test_nothing_is_read_when_nothing_changed_and_one_file_when_one_did(
        self, store: Store, tree: Path, reads: list[str]
    ) -> None:
        settle(tree)
        first = prepare(store, tree)
        assert len(reads) == 5
        reads.clear()
        assert prepare(store, tree).index == first.index
        assert reads == []
        (tree / "app.py").write_text("import pkg  # changed\n")
        second = prepare(store, tree)
        assert reads == ["app.py"]
        assert content(store, second) == content(store, first) | {"app.py": b"import pkg  # changed\n"}

    def test_a_change_that_keeps_size_and_time_right_after_a_build_is_seen(self, store: Store, tree: Path) -> None:
        before = (tree / "app.py").stat()
        first = prepare(store, tree)
        (tree / "app.py").write_text("import pkx\n")
        os.utime(tree / "app.py", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert prepare(store, tree).index != first.index

    def test_added_and_removed_files(self, store: Store, tree: Path) -> None:
        prepare(store, tree)
        (tree / "app.py").unlink()
        (tree / "new.py").write_text("")
        names = prepare(store, tree).names
        assert "new.py" in names
        assert "app.py" not in names

    def test_mode_alone(self, store: Store, tree: Path) -> None:
        first = prepare(store, tree)
        (tree / "app.py").chmod(0o755)
        second = prepare(store, tree)
        assert second.member(second.positions_by_name["app.py"]).mode == EXECUTABLE_MODE
        assert first.index != second.index

    def test_a_damaged_earlier_bundle_is_made_anew(self, store: Store, tree: Path) -> None:
        settle(tree)
        first = prepare(store, tree)
        data = store.blobs.path(first.data)
        data.chmod(0o644)
        data.write_bytes(b"\0" * first.size)
        (tree / "app.py").write_text("changed\n")
        second = prepare(store, tree)
        assert content(store, second)["pkg/data/table.csv"] == b"a,b\n" * 500

    def test_large_files_go_through_in_pieces_and_are_copied_later(
        self, store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(folder, "LARGE", 1000)
        whole = prepare(store, tree)
        (tree / "app.py").write_text("changed\n")
        assert content(store, prepare(store, tree)) == content(store, whole) | {"app.py": b"changed\n"}


class TestRefusals:
    def test_link_out_of_the_tree(self, store: Store, tree: Path) -> None:
        (tree / "pkg/secret").symlink_to("../../outside")
        with pytest.raises(SourceTreeError, match=r"pkg/secret links to '../../outside', outside of"):
            prepare(store, tree)

    def test_absolute_link(self, store: Store, tree: Path) -> None:
        (tree / "hosts").symlink_to("/etc/hosts")
        with pytest.raises(SourceTreeError, match="not a relative path"):
            prepare(store, tree)

    def test_special_files(self, store: Store, tree: Path) -> None:
        os.mkfifo(tree / "pipe")
        with pytest.raises(SourceTreeError, match="pipe is neither a file"):
            prepare(store, tree)
        (tree / "pipe").unlink()
        here = Path.cwd()
        os.chdir(tree)
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("s")
                with pytest.raises(SourceTreeError, match="s is neither a file"):
                    prepare(store, tree)
        finally:
            os.chdir(here)

    def test_name_that_is_not_utf8(self, store: Store, tree: Path) -> None:
        Path(os.fsdecode(os.fsencode(tree) + b"/\xff.py")).write_text("")
        with pytest.raises(SourceTreeError, match="not a UTF-8 name"):
            prepare(store, tree)

    def test_backslash_and_newline_in_names(self, store: Store, tree: Path) -> None:
        (tree / "a\nb").write_text("")
        with pytest.raises(SourceTreeError, match="control character"):
            prepare(store, tree)

    def test_missing_root(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(SourceTreeError, match="nowhere"):
            prepare(store, tmp_path / "nowhere")

    def test_too_much(self, store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folder, "LARGEST_TREE", 2000)
        with pytest.raises(SourceTreeError, match="more than any artifact may") as caught:
            prepare(store, tree)
        assert "table.csv" in caught.value.details[0]


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "path", "expected"),
        [
            ("*.md", "a/b/read.md", True),
            ("*.md", "a/read.mdx", False),
            ("docs/", "a/docs", False),
            ("/a.py", "a.py", True),
            ("/a.py", "b/a.py", False),
            ("a/*.py", "a/b.py", True),
            ("a/*.py", "a/b/c.py", False),
            ("a/**/c.py", "a/c.py", True),
            ("a/**/c.py", "a/b/b/c.py", True),
            ("a/**", "a/b/c", True),
            ("[ab].py", "x/a.py", True),
            ("[!ab].py", "a.py", False),
            ("a?c", "a/c", False),
            ("x[", "x[", True),
        ],
    )
    def test_files(self, pattern: str, path: str, expected: bool) -> None:
        assert Patterns([pattern]).match(path, folder=False) is expected

    @given(st.text("ab*?[]!-/.\\^", max_size=12), st.text("ab/.", max_size=8))
    def test_any_pattern_compiles(self, pattern: str, path: str) -> None:
        Patterns([pattern]).match(path, folder=False)

    def test_a_range_that_is_none(self) -> None:
        with pytest.raises(PatternError, match=r"'\[z-a\]' is not valid"):
            Patterns(["[z-a]"])

    def test_excludes_includes_and_what_is_never_packed(self, store: Store, tree: Path) -> None:
        (tree / "pkg/__pycache__").mkdir()
        (tree / "pkg/__pycache__/x.pyc").write_text("")
        (tree / "env").mkdir()
        (tree / "env/pyvenv.cfg").write_text("")
        (tree / "app.pyc").write_text("stale")
        (tree / "only.pyc").write_text("a module without source")
        assert set(prepare(store, tree, exclude=("data/",)).names) == {
            "app.py", "latest.csv", "only.pyc", "pkg/__init__.py", "run.sh",
        }  # fmt: skip
        assert prepare(store, tree, include=("pkg/", "run.*"), exclude=("*.csv",)).names == (
            "pkg/__init__.py",
            "run.sh",
        )
