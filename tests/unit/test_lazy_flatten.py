"""Layers one on the other: whiteouts, links, owners; and tars that would harm somebody."""

from __future__ import annotations

import stat
from typing import Any

import pytest
from lazy_samples import Member, file, folder, hard, link
from oci_samples import tar_of

from lading.lazy.flatten import ImageRefusedError, flatten
from lading.lazy.tree import Node, count_links, walk
from lading.oci.tar import Walker


def tree(*layers: tuple[Member, ...]) -> Node:
    def entries(members: tuple[Member, ...]) -> Any:
        walker = Walker(iter([tar_of(members)]))
        return ((entry, walker.position) for entry in walker)

    return flatten(entries(members) for members in layers)


def names(root: Node) -> list[str]:
    return [path.decode("utf-8", "surrogateescape") for path, _ in walk(root)]


def node_at(root: Node, path: str) -> Node:
    return dict(walk(root))[path.encode()]


def test_later_layers_win() -> None:
    root = tree((folder("etc"), file("etc/a", "old"), file("etc/b", "b")), (file("etc/a", "newer", uid=7),))
    assert names(root) == ["etc", "etc/a", "etc/b"]
    assert (node_at(root, "etc/a").layer, node_at(root, "etc/a").size, node_at(root, "etc/a").uid) == (1, 5, 7)
    assert node_at(root, "etc/b").layer == 0


def test_content_is_where_the_tree_says() -> None:
    members = (file("a", "first"), file("deep/" + "n" * 150, "second"), file("c", b"third"))
    data = tar_of(members)
    root = tree(members)
    for path, text in (("a", b"first"), ("deep/" + "n" * 150, b"second"), ("c", b"third")):
        node = node_at(root, path)
        assert data[node.position : node.position + node.size] == text


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_removes_what_is_below_and_nothing_of_its_own_layer(order: int) -> None:
    own = (folder("gone"), file("gone/new", "x"), file(".wh.gone"), file(".wh.file"))
    below = (folder("gone"), file("gone/old"), folder("gone/sub"), file("gone/sub/old"), file("file"), file("kept"))
    assert names(tree(below, own[::order])) == ["gone", "kept", "gone/new"]


@pytest.mark.parametrize("order", [1, -1])
def test_an_opaque_folder_keeps_only_what_its_layer_brings(order: int) -> None:
    own = (file("o/.wh..wh..opq"), file("o/new"), file("o/sub/new"))
    below = (
        folder("o"),
        file("o/old"),
        folder("o/sub", uid=3),
        file("o/sub/old"),
        folder("o/other"),
        file("o/other/x"),
    )
    root = tree(below, own[::order])
    assert names(root) == ["o", "o/new", "o/sub", "o/sub/new"]


def test_a_whiteout_of_a_folder_that_its_layer_writes_into() -> None:
    root = tree((folder("d"), file("d/old"), folder("d/deep"), file("d/deep/old")), (file("d/deep/new"), file(".wh.d")))
    assert names(root) == ["d", "d/deep", "d/deep/new"]


def test_files_and_folders_replace_each_other() -> None:
    root = tree((folder("a"), file("a/x"), file("b")), (file("a"), folder("b"), file("b/y")))
    assert names(root) == ["a", "b", "b/y"]
    assert stat.S_ISREG(node_at(root, "a").mode)


def test_a_folder_over_a_folder_takes_its_attributes() -> None:
    root = tree((folder("d", mode=0o700, uid=1), file("d/x")), (folder("d", mode=0o1777, gid=9),))
    assert (node_at(root, "d").mode, node_at(root, "d").uid, node_at(root, "d").gid) == (stat.S_IFDIR | 0o1777, 0, 9)
    assert names(root) == ["d", "d/x"]


def test_folders_nobody_made_are_plain() -> None:
    node = node_at(tree((file("a/b/c"),)), "a/b")
    assert (node.mode, node.uid, node.mtime) == (stat.S_IFDIR | 0o755, 0, 0)


def test_entries_below_a_link_go_where_it_leads() -> None:
    root = tree(
        (folder("usr"), folder("usr/lib"), link("lib", "usr/lib"), link("abs", "/usr/lib"), link("up", "../../usr")),
        (file("lib/one"), file("abs/two"), file("up/three")),
    )
    assert names(root) == ["abs", "lib", "up", "usr", "usr/lib", "usr/three", "usr/lib/one", "usr/lib/two"]


def test_hard_links_share_a_node_across_layers() -> None:
    root = tree((file("a", "text"), hard("b", "a")), (hard("d/c", "./a"), file("a", "apart")))
    count_links(root)
    assert node_at(root, "b") is node_at(root, "d/c")
    assert (node_at(root, "b").links, node_at(root, "a").links) == (2, 1)
    assert root.links == 3


def test_times_have_fractions_and_names_need_not_be_text() -> None:
    root = tree((file("caf\udce9", "x", mtime=1_600_000_000.25),))
    ((path, node),) = walk(root)
    assert path == b"caf\xe9"
    assert node.mtime == 1_600_000_000_250_000_000


def test_extended_attributes() -> None:
    pax = {
        f"SCHILY.xattr.{name}": value
        for name, value in {
            "user.colour": "blue", "security.capability": "\x01\0\0\x02", "trusted.overlay.opaque": "y",
            "com.apple.provenance": "x", "user.overlay.redirect": "/etc",
        }.items()
    }  # fmt: skip
    node = node_at(tree((file("a", pax_headers=pax),)), "a")
    assert node.xattrs == ((b"security.capability", b"\x01\0\0\x02"), (b"user.colour", b"blue"))


def test_devices_and_pipes() -> None:
    root = tree(
        (
            ("null", {"type": b"3", "devmajor": 1, "devminor": 3, "mode": 0o666}, b""),
            ("disk", {"type": b"4", "devmajor": 259, "devminor": 1000, "mode": 0o660}, b""),
            ("pipe", {"type": b"6", "mode": 0o600}, b""),
        )
    )
    assert node_at(root, "null").device == (1, 3)
    assert stat.S_ISBLK(node_at(root, "disk").mode)
    assert node_at(root, "disk").device == (259, 1000)
    assert stat.S_ISFIFO(node_at(root, "pipe").mode)


HOSTILE: dict[str, tuple[tuple[Member, ...], str]] = {
    "climbs": ((file("../etc/passwd"),), "leads out of the image"),
    "climbs inside": ((file("a/../../b"),), "leads out of the image"),
    "long name": ((file("n" * 256),), "no possible path"),
    "long path": ((file("/".join(["n" * 200] * 25)),), "no possible path"),
    "hard link out": ((hard("a", "../x"),), "hard link"),
    "hard link to nothing": ((hard("a", "b"),), "which is no file"),
    "hard link to a folder": ((folder("d"), hard("a", "d")), "which is no file"),
    "below a file": ((file("a"), file("a/b")), "below what is no folder"),
    "links in a circle": ((link("a", "b"), link("b", "a"), file("a/x")), "links in a circle"),
    "deep": ((file("/".join("d" for _ in range(1500))),), "folders deep"),
    "root as a file": ((file("./"),), "no folder"),
    "whiteout of nothing": ((file(".wh."),), "removes no possible name"),
    "whiteout of the parent": ((file("a/.wh..."),), "removes no possible name"),
    "owner": ((file("a", uid=1 << 33),), "no possible owner"),
    "device number": ((("d", {"type": b"3", "devmajor": 1 << 20, "devminor": 0}, b""),), "can't be"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_entries_are_refused(name: str) -> None:
    members, why = HOSTILE[name]
    if name == "root as a file":
        members = (("./", {"type": b"2", "linkname": "x"}, b""),)
    with pytest.raises(ImageRefusedError, match=why) as caught:
        tree(members)
    assert caught.value.hint


def test_attributes_beyond_any_file_system_are_refused() -> None:
    with pytest.raises(ImageRefusedError, match="extended attributes"):
        tree((file("a", pax_headers={"SCHILY.xattr.user.big": "x" * 40_000}),))


def test_whiteouts_repeated_cost_nothing() -> None:
    """Quadratic before folders remembered that they are clean: minutes for this one."""
    below = tuple(file(f"d/{number}") for number in range(2000))
    own = (*(file(f"d/new{number}") for number in range(2000)), *(file(".wh.d"),) * 3000)
    assert len(names(tree(below, own))) == 2001


def test_the_walk_is_sorted_and_the_folder_s_own_names_come_first() -> None:
    root = tree((file("b/x"), file("a/y/z"), file("a/b"), file("c")))
    assert names(root) == ["a", "b", "c", "a/b", "a/y", "a/y/z", "b/x"]
