"""A converted image as the kernel mounts it, beside umoci's unpack of the same image, file by file."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from lazy_samples import KEY, Member, converted, file, folder, hard, link
from oci_samples import AMD64, layer_of, tar_of

from lading.lazy import mount
from lading.lazy.erofs import DEVICE_SLOT, SUPERBLOCK_AT, crc32c
from lading.lazy.export import export
from lading.lazy.images import LazyImages
from lading.lazy.manifest import open_manifest
from lading.lazy.objects import FolderObjects
from lading.lazy.opening import open_source
from lading.lazy.roots import ImageStore
from lading.lazy.settings import ReaderSettings
from lading.oci.image import Image, empty
from lading.oci.layout import write_layout
from lading.oci.tar import END, FILE, header, padding
from lading.sandbox.inside import kernel
from lading.store import open_store

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts and owners need root on Linux"
)


class StoreContent:
    """A layer's content in a store on disk, as `layer_of` adds it."""

    def __init__(self, root: Path) -> None:
        self._blobs = open_store(root).blobs
        self.blobs = self

    def __setitem__(self, digest: str, data: bytes) -> None:
        self._blobs.put([data])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)


def noise(seed: object, size: int) -> bytes:
    return hashlib.shake_256(repr(seed).encode()).digest(size)


def attributes(**values: str) -> dict[str, str]:
    return {f"SCHILY.xattr.{name.replace('__', '.')}": value for name, value in values.items()}


def device(name: str, kind: bytes, major: int, minor: int) -> Member:
    return name, {"type": kind, "devmajor": major, "devminor": minor, "mode": 0o640, "mtime": 1_500_000_000}, b""


CAPABILITY = "\x01\0\0\x02\0\x20" + "\0" * 14
SIZES = (1, 127, 128, 129, 4095, 4096, 4097, 524_287, 524_288, 524_289)
LAYERS: tuple[tuple[Member, ...], ...] = (
    (
        folder("usr"), folder("usr/lib"), folder("root", mode=0o700), folder("tmp", mode=0o1777),
        file("usr/lib/one.so", noise("so", 1_700_001), mode=0o755), link("lib", "usr/lib"), link("abs", "/usr/lib/one.so"),
        folder("gone"), file("gone/a", "a"), folder("gone/deep"), file("gone/deep/b", "b"),
        folder("opaque"), file("opaque/old", "old"), folder("opaque/sub"), file("opaque/sub/old", "old"),
        folder("etc", mode=0o750, uid=3, gid=4), file("etc/keep", "keep"), file("etc/drop", "drop"),
        file("suid", "x", uid=1234, gid=4321, mode=0o4755), file("large-owner", "x", uid=70_000, gid=4_000_000_000),
        file("pair-a", "pair" * 100), hard("pair-b", "pair-a"), hard("usr/pair-c", "pair-a"), file("first", "low"),
        file("noted", "x" * 5000, pax_headers=attributes(user__colour="blue", security__capability=CAPABILITY)),
        file("noted-much", "tiny", pax_headers=attributes(**{f"user__n{n}": "v" * 90 for n in range(30)})),
        file("fraction", "x", mtime=1_600_000_000.25), file("before-2000", "x", mtime=1.5), file("far", "x", mtime=1 << 32),
        file("empty"), folder("empty-folder"), file("zeros", bytes(3 << 20)),
        link("long-link", "x" * 3000), link("longest-link", "y" * 4090), link("noted-link", "z" * 3900),
        file("caf\udce9", "latin"), file("new\nline", "x"), file("sp ace", "x"), file("ü" * 120, "x"),
        file("deep/" * 100 + "file", "x"),
        device("null", b"3", 1, 3), device("disk", b"4", 259, 70_000), ("pipe", {"type": b"6", "mode": 0o600}, b""),
        folder("many"), *(file(f"many/{'n' * (number % 200)}{number}", str(number)) for number in range(3000)),
        folder("sizes"), *(file(f"sizes/{size}", noise(size, size)) for size in SIZES),
    ),
    (
        file("lib/two.so", "two"), file("etc/new", "new"), file("etc/.wh.drop"), file(".wh.gone"),
        file("opaque/.wh..wh..opq"), file("opaque/fresh", "fresh"), folder("opaque/sub"), file("opaque/sub/new", "new"),
        file("pair-a", "apart"), file("suid", "again", mode=0o6755), link("first", "fraction"),
    ),
    (folder("etc", mode=0o711, uid=9), file("many/.wh.0"), file("tmp/made", "made", mode=0o600), hard("late", "usr/lib/one.so")),
)  # fmt: skip


@pytest.fixture
def image(tmp_path: Path) -> Image:
    content: Any = StoreContent(tmp_path / "blobs")
    return empty(AMD64).append([layer_of(content, tar_of(members)) for members in LAYERS])


@contextmanager
def mounted(image: Image, folder: Path) -> Iterator[Path]:
    """Converted, exported and mounted with file-backed devices."""
    store = ImageStore(FolderObjects(folder / "store"))
    converted(image, store, folder)
    root, sealed = store.find(KEY.id, image.digest)
    export(store, root, open_manifest(sealed, KEY), folder / "out")
    target = folder / "mounted"
    target.mkdir()
    try:
        kernel.mount(
            str(folder / "out" / "metadata.erofs"),
            str(target),
            "erofs",
            kernel.MS_RDONLY,
            f"device={folder / 'out' / 'data'}",
        )
    except OSError as error:
        pytest.skip(f"this kernel mounts no EROFS from files: {error}")
    try:
        yield target
    finally:
        kernel.umount(str(target), 0)


def facts(top: Path) -> dict[bytes, object]:
    """Of every name: kind, mode, owner, time, links, content or target or device, attributes, the first of its inode."""
    found: dict[bytes, object] = {}
    inodes: dict[int, bytes] = {}
    for where, folders, files in os.walk(os.fsencode(top)):
        folders.sort()
        for name in sorted(folders + files):
            path = os.path.join(where, name)  # noqa: PTH118
            state, relative = os.lstat(path), os.path.relpath(path, os.fsencode(top))
            content: object = None
            if stat.S_ISREG(state.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(state.st_mode):
                content = os.readlink(path)  # noqa: PTH115
            elif stat.S_ISCHR(state.st_mode) or stat.S_ISBLK(state.st_mode):
                content = (os.major(state.st_rdev), os.minor(state.st_rdev))
            names = os.listxattr(path, follow_symlinks=False)
            kept = {
                one: os.getxattr(path, one, follow_symlinks=False)
                for one in names
                if not one.startswith("user.rootless")
            }
            is_folder = stat.S_ISDIR(state.st_mode)
            peer = None if is_folder else inodes.setdefault(state.st_ino, relative)
            found[relative] = (
                oct(state.st_mode), state.st_uid, state.st_gid, state.st_mtime_ns, 0 if is_folder else state.st_nlink,
                0 if is_folder else state.st_size, content, kept, peer,
            )  # fmt: skip
    return found


def unpacked(image: Image, folder: Path) -> Path:
    umoci = shutil.which("umoci") or pytest.skip("umoci is not installed")
    write_layout(folder / "layout", [image], name="latest")
    subprocess.run(
        [umoci, "unpack", "--image", f"{folder / 'layout'}:latest", str(folder / "bundle")],
        check=True,
        capture_output=True,
    )
    return folder / "bundle" / "rootfs"


def compare(ours: dict[bytes, object], theirs: dict[bytes, object], nobodys: set[bytes]) -> None:
    assert set(ours) == set(theirs)
    different = {
        name: (ours[name], theirs[name]) for name in ours if name not in nobodys and ours[name] != theirs[name]
    }
    assert not different


def test_the_mounted_image_is_umoci_s_file_by_file(image: Image, tmp_path: Path) -> None:
    with mounted(image, tmp_path) as root:
        ours = facts(root)
    # Folders that no entry made: ours are dated 0, umoci's with the moment at which it made them.
    made = {b"/".join([b"deep"] * depth) for depth in range(1, 101)}
    compare(ours, facts(unpacked(image, tmp_path)), made)
    assert len(ours) > 3000


@contextmanager
def lazily(image: Image, folder: Path) -> Iterator[Path]:
    """Converted and mounted as the service does it: each byte comes through the reader and its tiers."""
    if problem := mount.find_problem():
        pytest.skip(problem)
    store = ImageStore(FolderObjects(folder / "lazily"))
    converted(image, store, folder)
    opening = open_source(store, KEY, image.digest)
    with LazyImages(ReaderSettings(folder / "cache", str(folder / "lazily"))) as images:
        yield images.open(opening.source).path


class Generated:
    """Layers by chance: each changes what the ones below have. No name is touched twice in a layer, nor one in another."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._kinds: dict[str, str] = {"": "folder"}
        self.layers = [self._layer() for _ in range(4)]

    def _layer(self) -> tuple[Member, ...]:
        chance, members = self._chance, []
        touched: set[str] = set()
        for _ in range(60):
            folders = sorted(name for name, kind in self._kinds.items() if kind == "folder")
            name = f"{chance.choice(folders)}/{chance.choice('abcdefgh')}{chance.randrange(6)}".lstrip("/")
            if any(name == one or name.startswith(f"{one}/") or one.startswith(f"{name}/") for one in touched):
                continue
            touched.add(name)
            members.append(self._member(name))
        return tuple(members)

    def _member(self, name: str) -> Member:
        chance, old = self._chance, self._kinds.get(name)
        where, _, base = name.rpartition("/")
        kind = chance.choice(["file", "file", "file", "folder", "link", "hard", "node", "gone", "opaque"])
        files = sorted(one for one, known in self._kinds.items() if known == "file" and one != name)
        if (
            (kind in ("gone", "opaque") and old is None)
            or (kind == "opaque" and old != "folder")
            or (kind == "hard" and not files)
        ):
            kind = "file"
        if kind in ("gone", "opaque") or kind != old:
            self._kinds = {one: known for one, known in self._kinds.items() if not one.startswith(f"{name}/")}
        if kind == "gone":
            del self._kinds[name]
            return file(f"{where}/.wh.{base}".lstrip("/"))
        if kind == "opaque":
            return file(f"{name}/.wh..wh..opq")
        self._kinds[name] = "other" if kind in ("link", "hard", "node") else kind
        facts = {
            "mode": chance.choice([0o644, 0o755, 0o600, 0o4711, 0o1777]), "uid": chance.choice([0, 7, 70_000]),
            "gid": chance.choice([0, 9, 4_000_000_000]), "mtime": chance.choice([1.5, 1_600_000_000, 1_700_000_000.25]),
        }  # fmt: skip
        if chance.random() < 0.2 and kind in ("file", "folder"):
            facts["pax_headers"] = attributes(user__colour=str(chance.random()), security__capability=CAPABILITY)
        if kind == "folder":
            return folder(name, **facts)
        if kind == "link":
            return link(name, chance.choice(["a0", "/b1", "../c2", "nowhere"]), mtime=facts["mtime"])
        if kind == "hard":
            return hard(name, chance.choice(files))
        if kind == "node":
            node, details, _ = chance.choice(
                [device(name, b"3", 1, 3), device(name, b"4", 259, 7), (name, {"type": b"6"}, b"")]
            )
            return node, facts | details, b""
        return file(
            name, noise((name, chance.random()), chance.choice([0, 1, 128, 129, 5_000, 70_000, 600_000])), **facts
        )


@pytest.mark.parametrize("seed", range(3))
def test_generated_images_are_umoci_s_file_by_file(tmp_path: Path, seed: int) -> None:
    content: Any = StoreContent(tmp_path / "blobs")
    image = empty(AMD64).append([layer_of(content, tar_of(members)) for members in Generated(seed).layers])
    with lazily(image, tmp_path) as root:
        ours = facts(root)
    compare(ours, facts(unpacked(image, tmp_path)), set())
    assert len(ours) > 60
    kinds = {stat.S_IFMT(int(str(fact[0]), 8)) for fact in ours.values() if isinstance(fact, tuple)}
    assert {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK} <= kinds


def test_twenty_thousand_files_are_listed_and_read(tmp_path: Path) -> None:
    """bench/lazy.py has a million."""
    names = [f"opt/{number // 500}/{number}" for number in range(20_000)]
    tar = b"".join(header(name, FILE, 0o644, len(name)) + name.encode() + padding(len(name)) for name in names) + END
    content: Any = StoreContent(tmp_path / "blobs")
    with lazily(empty(AMD64).append([layer_of(content, tar)]), tmp_path) as root:
        found = {str(Path(where, name).relative_to(root)) for where, _, files in os.walk(root) for name in files}
        assert found == set(names)
        assert all((root / name).read_text() == name for name in names[::97])


def test_real_files_are_umoci_s_file_by_file(tmp_path: Path) -> None:
    """The interpreter's own library in one layer, with its bytecode, links and times; a part of it again in another."""
    library = Path(os.__file__).parent
    content: Any = StoreContent(tmp_path / "blobs")
    layers = []
    for number, parts in enumerate((["asyncio", "email", "encodings", "json", "lib-dynload", "os.py"], ["json"])):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(library, "lib" if number == 0 else "lib/again", recursive=False)
            for part in parts:
                archive.add(library / part, f"lib/{part}" if number == 0 else f"lib/again/{part}")
        layers.append(layer_of(content, buffer.getvalue()))
    image = empty(AMD64).append(layers)
    with lazily(image, tmp_path) as root:
        compare(facts(root), facts(unpacked(image, tmp_path)), set())


def test_the_kernel_lists_folders_of_many_blocks_and_finds_every_name(image: Image, tmp_path: Path) -> None:
    with mounted(image, tmp_path) as root:
        names = [path.name for path in (root / "many").iterdir()]
        assert len(names) == 2999
        assert all((root / "many" / name).stat().st_size for name in names)
        assert not (root / "many" / "nobody").exists()


def test_the_checker_of_erofs_utils_has_nothing_to_say(image: Image, tmp_path: Path) -> None:
    checker = shutil.which("fsck.erofs") or pytest.skip("erofs-utils is not installed")
    with mounted(image, tmp_path):
        pass
    out = tmp_path / "out"
    run = subprocess.run(
        [checker, f"--device={out / 'data'}", str(out / "metadata.erofs")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_the_superblock_s_checksum_and_device_slot(image: Image, tmp_path: Path) -> None:
    with mounted(image, tmp_path):
        pass
    block = bytearray((tmp_path / "out" / "metadata.erofs").read_bytes()[:4096])
    stated = int.from_bytes(block[SUPERBLOCK_AT + 4 : SUPERBLOCK_AT + 8], "little")
    block[SUPERBLOCK_AT + 4 : SUPERBLOCK_AT + 8] = bytes(4)
    assert crc32c(block[SUPERBLOCK_AT:]) == stated
    blocks = int.from_bytes(block[DEVICE_SLOT * 128 + 64 : DEVICE_SLOT * 128 + 68], "little")
    assert blocks * 4096 == (tmp_path / "out" / "data").stat().st_size
