"""Layers unpacked here and merged by an overlay, beside umoci's unpack of the same image, file by file; and hostile layers."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from oci_samples import AMD64, MemoryContent, layer_of, tar_of

from lading.errors import LadingError
from lading.oci import unpack as unpacking
from lading.oci.descriptor import ImageFormatError
from lading.oci.image import Image, empty
from lading.oci.layer_tree import ImageRefusedError
from lading.oci.layout import Layout, write_layout
from lading.oci.unpack import ImageTrees, prune_trees
from lading.sandbox.merged import Merged
from lading.store import open_store

Member = tuple[str, dict[str, Any], bytes]
FOLDER, LINK, HARD, DEVICE, FIFO = b"5", b"2", b"1", b"3", b"6"


def folder(name: str, **more: Any) -> Member:
    return name, {"type": FOLDER, "mode": 0o755, "mtime": 1_700_000_000, **more}, b""


def file(name: str, text: str = "", **more: Any) -> Member:
    return name, {"mode": 0o644, "mtime": 1_600_000_000, **more}, text.encode()


def link(name: str, to: str, kind: bytes = LINK) -> Member:
    return name, {"type": kind, "linkname": to, "mode": 0o777, "mtime": 1_500_000_000}, b""


def attribute(**values: str) -> dict[str, str]:
    return {f"SCHILY.xattr.{name.replace('__', '.')}": value for name, value in values.items()}


LAYERS: tuple[tuple[Member, ...], ...] = (
    (
        folder("usr", mode=0o755), folder("usr/lib"), folder("root", mode=0o700), folder("tmp", mode=0o1777),
        file("usr/lib/one.so", "one", mode=0o755), link("lib", "usr/lib"), link("usr/absolute", "/usr/lib/one.so"),
        folder("gone"), file("gone/a", "a"), folder("gone/deep"), file("gone/deep/b", "b"),
        folder("opaque"), file("opaque/old", "old"), folder("opaque/sub"), file("opaque/sub/old", "old"),
        folder("etc", mode=0o750, uid=3, gid=4), file("etc/keep", "keep"), file("etc/drop", "drop"),
        file("owned", "x", uid=1234, gid=4321, mode=0o4755),
        file("pair-a", "pair"), link("pair-b", "pair-a", HARD), file("first", "low"),
        file("noted", "x", pax_headers=attribute(user__colour="blue")), file("fraction", "x", mtime=1_600_000_000.25),
        folder("becomes-file"), file("becomes-file/x", "x"), file("becomes-folder", "x"),
    ),
    (
        file("lib/two.so", "two"), file("etc/new", "new"), file("etc/.wh.drop"), file(".wh.gone"),
        file("opaque/.wh..wh..opq"), file("opaque/fresh", "fresh"), folder("opaque/sub"), file("opaque/sub/new", "new"),
        link("low-link", "first", HARD), file("tmp/made", "made"), file("root/inside", "x", mode=0o600),
        file("becomes-file", "now a file"), folder("becomes-folder"), file("becomes-folder/y", "y"),
        file("a" * 120 + "/" + "ü" * 90, "long"),
    ),
    (
        folder("gone", mode=0o711), file("gone/back", "back"), file("opaque/.wh.fresh"), file("opaque/fresh2", "f"),
        file("owned", "changed", uid=7, gid=7), file("pair-a", "apart"), file(".wh.nothing-there"),
        file("becomes-folder/.wh.y"),
    ),
)  # fmt: skip


def image_of(*layers: tuple[Member, ...], content: MemoryContent | None = None) -> Image:
    content = content or MemoryContent()
    return empty(AMD64).append([layer_of(content, tar_of(members)) for members in layers])


@pytest.fixture
def rooted() -> None:
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("owners and mounts need root on Linux")


@pytest.fixture
def trees(tmp_path: Path) -> ImageTrees:
    return ImageTrees(tmp_path / "trees")


@pytest.fixture
def merged(tmp_path: Path, rooted: None) -> Iterator[Any]:
    mounted: list[Path] = []

    def mount(folders: tuple[Path, ...]) -> Path:
        target = tmp_path / f"merged{len(mounted)}"
        target.mkdir()
        lower = ":".join(str(path) for path in reversed(folders))
        command = ["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={lower}", str(target)]
        if len(folders) == 1:
            command = ["mount", "--bind", str(folders[0]), str(target)]
        subprocess.run(command, check=True)
        mounted.append(target)
        return target

    yield mount
    for target in mounted:
        subprocess.run(["umount", str(target)], check=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def facts(root: Path) -> dict[str, object]:
    """Of every file: kind, mode, owner, times, content, attributes; what shares an inode within the tree."""
    found: dict[str, object] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        state = path.lstat()
        name = path.relative_to(root).as_posix()
        content: object = None
        if stat.S_ISREG(state.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(state.st_mode):
            content = str(path.readlink())
        kept = [
            one for one in os.listxattr(path, follow_symlinks=False) if not one.startswith("user.rootlesscontainers")
        ]
        attributes = {one: os.getxattr(path, one, follow_symlinks=False) for one in kept}
        found[name] = (oct(state.st_mode), state.st_uid, state.st_gid, state.st_mtime_ns, content, attributes)
    del found["."]  # umoci gives the bundle's own root its time
    return found


def test_the_tree_is_umoci_s_file_by_file(tmp_path: Path, trees: ImageTrees, merged: Any) -> None:
    umoci = shutil.which("umoci") or pytest.skip("umoci is not installed")
    store = open_store(tmp_path / "store")
    content = MemoryContent()
    made = image_of(*LAYERS, content=content)
    for data in content.blobs.values():
        store.blobs.put([data])
    image = empty(AMD64).append(
        [type(layer)(layer.descriptor, layer.diff_id, store.blobs, "test") for layer in made.layers]
    )
    write_layout(tmp_path / "layout", [image], name="latest")
    subprocess.run([umoci, "unpack", "--image", f"{tmp_path}/layout:latest", str(tmp_path / "bundle")], check=True)
    ours = facts(merged(trees.unpack(Layout(tmp_path / "layout").image())))
    theirs = facts(tmp_path / "bundle" / "rootfs")
    assert sorted(ours) == sorted(theirs)
    changed = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    # umoci gives a folder that it had to write into the time of writing; we leave it as the lower layer had it
    written = {name for name, (own, other) in changed.items() if own[:3] + own[4:] == other[:3] + other[4:]}
    assert changed.keys() == written and all((tmp_path / "bundle/rootfs" / name).is_dir() for name in written), changed


def test_what_it_should_be_is_what_it_is(trees: ImageTrees, merged: Any) -> None:
    root = merged(trees.unpack(image_of(*LAYERS)))
    assert (root / "usr/lib/two.so").read_text() == "two" and (root / "lib").is_symlink()
    assert not (root / "etc/drop").exists() and stat.S_IMODE((root / "etc").stat().st_mode) == 0o750
    assert (root / "etc").stat().st_uid == 3
    assert names(root / "gone") == ["back"]
    assert names(root / "opaque") == ["fresh2", "sub"] and names(root / "opaque/sub") == ["new"]
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert (root / "owned").read_text() == "changed" and (root / "pair-b").read_text() == "pair"
    assert (root / "low-link").read_text() == "low"
    assert os.getxattr(root / "noted", "user.colour") == b"blue"
    assert (root / "fraction").stat().st_mtime_ns == 1_600_000_000_250_000_000
    assert names(root / "becomes-folder") == []


def test_hard_links_of_a_layer_share_their_file(trees: ImageTrees, tmp_path: Path) -> None:
    (tree,) = trees.unpack(image_of(LAYERS[0]))
    assert (tree / "pair-a").stat().st_ino == (tree / "pair-b").stat().st_ino


def test_the_merged_view_reads_as_the_mount(trees: ImageTrees, merged: Any) -> None:
    folders = trees.unpack(image_of(*LAYERS))
    root, view = merged(folders), Merged(folders)
    for path in [root, *root.rglob("*")]:
        name = path.relative_to(root).as_posix().removeprefix(".")
        found = view.find(name)
        assert found is not None and stat.S_IFMT(found.lstat().st_mode) == stat.S_IFMT(path.lstat().st_mode)
        if path.is_dir() and not path.is_symlink():
            assert view.list(name) == names(path)
    assert view.find("etc/drop") is None and view.find("gone/a") is None and view.find("opaque/old") is None
    assert view.follow("/lib/one.so") == view.follow("usr/absolute") == view.find("usr/lib/one.so")
    assert view.resolve("lib/../../../etc/keep") == "usr/etc/keep".replace("usr/", "")


def test_layers_are_shared_and_not_made_twice(trees: ImageTrees) -> None:
    first = trees.unpack(image_of(LAYERS[0], LAYERS[1]))
    inodes = [path.stat().st_ino for path in first]
    second = trees.unpack(image_of(LAYERS[0], LAYERS[2]))
    assert second[0] == first[0] and second[1] != first[1]
    assert [path.stat().st_ino for path in trees.unpack(image_of(LAYERS[0], LAYERS[1]))] == inodes


def test_what_somebody_holds_stays_and_the_rest_goes(trees: ImageTrees, tmp_path: Path) -> None:
    held = trees.hold(image_of(LAYERS[0], LAYERS[1]))
    other = trees.unpack(image_of(LAYERS[0], LAYERS[2]))
    root = held.folders[0].parent
    (root / ".half-made").mkdir()
    (root / ("f" * 64)).mkdir()
    trees.keep_only(())
    assert all(folder.is_dir() for folder in held.folders) and not other[1].exists()
    assert {path.name for path in root.iterdir()} == {
        f"{one.name}{end}" for one in held.folders for end in ("", ".size")
    }
    held.release()
    trees.keep_only([held.folders[0].name])
    assert held.folders[0].is_dir() and not held.folders[1].exists()
    again = trees.hold(image_of(LAYERS[0], LAYERS[1]))
    assert again.folders == held.folders and (again.folders[1] / "tmp/made").read_text() == "made"
    again.release()


def test_pruned_are_those_that_were_not_used_for_long_or_are_too_much(trees: ImageTrees) -> None:
    first, second = trees.unpack(image_of((file("a", "a"),))), trees.unpack(image_of((file("b", "b"),)))
    now = max(tree.used for tree in trees.trees())
    size = max(tree.size for tree in trees.trees())

    def pruned(later: float, days: float, keep_bytes: int | None = None) -> list[str]:
        gone = prune_trees(trees, older_than=days * 86400, keep_bytes=keep_bytes, now=now + later)
        return [tree.name for tree in gone]

    assert pruned(1800, 0) == [], "used within the hour"
    assert pruned(7200, 30, 1 << 40) == []
    os.utime(first[0].with_name(f"{first[0].name}.size"), (now - 60, now - 60))
    held = trees.hold(image_of((file("b", "b"),)))
    assert pruned(7200, 30, size) == [first[0].name], "the least recently used"
    assert pruned(40 * 86400, 30) == [] and second[0].is_dir(), "it is held"
    held.release()
    assert pruned(40 * 86400, 30) == [second[0].name]


def test_removing_and_holding_at_once_never_gives_half_a_tree(trees: ImageTrees) -> None:
    image, trouble, stop = image_of(*LAYERS), [], threading.Event()

    def use() -> None:
        while not stop.is_set():
            held = trees.hold(image)
            if not (held.folders[0] / "etc/keep").is_file() or not all(one.is_dir() for one in held.folders):
                trouble.append(held.folders)
            held.release()

    users = [threading.Thread(target=use) for _ in range(2)]
    for user in users:
        user.start()
    removed = 0
    deadline = time.monotonic() + 60
    while removed < 10 and time.monotonic() < deadline:
        removed += len(trees.remove({tree.name for tree in trees.trees()}))
    stop.set()
    for user in users:
        user.join()
    assert not trouble and removed >= 10


def test_many_at_once_make_one(trees: ImageTrees) -> None:
    image = image_of(*LAYERS)
    got: list[tuple[Path, ...]] = []
    threads = [threading.Thread(target=lambda: got.append(trees.unpack(image))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4 and len(set(got)) == 1
    assert not [name for name in names(got[0][0].parent) if name.startswith(".")]


HOSTILE = {
    "up": (file("../evil"), "leads out"),
    "up in the middle": (file("a/../../evil"), "leads out"),
    "device": (("dev/sda", {"type": DEVICE, "devmajor": 8, "devminor": 0}, b""), "character device"),
    "fifo": (("pipe", {"type": FIFO}, b""), "fifo"),
    "hard link up": (link("x", "../../etc/shadow", HARD), "out of the image"),
    "hard link absolute": (link("x", "/etc/shadow", HARD), "out of the image"),
    "hard link to nothing": (link("x", "missing", HARD), "no file of the image"),
    "link up": (link("x", "../../../etc"), "above the image's root"),
    "whiteout of the parent": (file("a/.wh..."), "removes no possible name"),
    "whiteout of itself": (file("a/.wh.."), "removes no possible name"),
    "whiteout of nothing": (file("a/.wh."), "removes no possible name"),
    "owner": (file("x", uid=1 << 33), "no possible owner"),
    "deep": (file("d/" * 400 + "x"), "folders deep"),
    "nul": (("x", {"pax_headers": {"path": "a\0b"}}, b""), "no possible path"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_entry_is_refused_and_leaves_nothing(case: str, trees: ImageTrees, tmp_path: Path) -> None:
    member, reason = HOSTILE[case]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LadingError, match=reason) as caught:
        trees.unpack(image_of((file("fine", "x"), member)))
    assert caught.value.hint
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == [tmp_path / "trees"]


def test_a_file_below_a_link_is_refused(trees: ImageTrees) -> None:
    with pytest.raises(ImageRefusedError, match="below a link of the same layer"):
        trees.unpack(image_of((link("out", "/etc"), file("out/passwd", "evil"))))


def test_an_absolute_link_of_a_lower_layer_leads_inside(trees: ImageTrees) -> None:
    folders = trees.unpack(image_of((link("out", "/etc"),), (file("out/lading-evil", "x"),)))
    assert Merged(folders).find("etc/lading-evil") is not None and not Path("/etc/lading-evil").exists()


def test_links_in_a_circle_end(trees: ImageTrees) -> None:
    with pytest.raises(ImageRefusedError, match="symbolic links"):
        trees.unpack(image_of((link("a", "b"), link("b", "a")), (file("a/x", "x"),)))


def test_bombs_and_crowds_are_cut(trees: ImageTrees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LARGEST_IMAGE", 1 << 20)
    with pytest.raises(ImageRefusedError, match="unpacks to more than"):
        trees.unpack(image_of((file("zeros", "\0" * (4 << 20)),)))
    with pytest.raises(ImageRefusedError, match="unpacks to more than"):
        trees.unpack(image_of((file("a", "\0" * 600_000),), (file("b", "\1" * 600_000),)))
    monkeypatch.setattr(unpacking, "MOST_ENTRIES", 20)
    with pytest.raises(ImageRefusedError, match="more than 20 entries"):
        trees.unpack(image_of(tuple(file(f"f{number}") for number in range(30))))


def test_damage_is_told(trees: ImageTrees) -> None:
    content = MemoryContent()
    tar = tar_of([file("a", "x" * 10_000)])
    for changes, reason in (
        ({"diff_id": f"sha256:{'0' * 64}"}, "unpacks to"),
        ({"blob": gzip.compress(tar)[:-20]}, "damaged|middle"),
        ({"blob": b"no gzip"}, "not gzip"),
    ):
        image = empty(AMD64).append([layer_of(content, tar, **changes)])
        with pytest.raises(ImageFormatError, match=reason):
            trees.unpack(image)
