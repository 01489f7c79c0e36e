"""Images as trees on disk: one folder per layer on what lies below it, made once, complete or not there; an overlay of them
is the image's root. Every entry is hostile: nothing is written outside its folder or through a link.

Source: OCI image specification 1.1, "image layer filesystem changeset". Whiteouts become overlayfs's (character device 0:0).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lading.oci.descriptor import ImageFormatError
from lading.oci.image import Image
from lading.oci.layer import Layer
from lading.oci.layer_tree import ImageRefusedError, LayerTree
from lading.oci.tar import MOST_ENTRIES, Walker
from lading.oci.validate import LARGEST_IMAGE, MOST_LAYERS
from lading.sandbox.merged import Merged
from lading.store.folder import Store, disk_errors, remove_tree
from lading.store.prune import KEEP_SECONDS


class ImageTrees:
    """Unpacked layers under a folder, by what they and all layers below them hold. Safe between threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def unpack(self, image: Image) -> tuple[Path, ...]:
        """The folders to merge, the lowest first; what is there already is not made again.

        Raises ImageRefusedError, ImageFormatError for a damaged layer, StoreError for a full disk.
        """
        held = self.hold(image)
        held.release()
        return held.folders

    def hold(self, image: Image) -> Held:
        """As `unpack`; the folders stay until they are released, whatever is pruned."""
        if len(image.layers) > MOST_LAYERS:
            raise ImageRefusedError(
                f"the image has {len(image.layers)} layers, more than {MOST_LAYERS}", hint="join some of them"
            )
        held, budget = Held(), Budget()
        try:
            for layer, name in zip(image.layers, chain_of(image), strict=True):
                folder = self._root / name
                while not held.take(folder):
                    with disk_errors("can't unpack the image"), _lock(folder):
                        self._make_missing(layer, folder, held.folders, budget)
                budget.spend_unpacked(folder)
        except BaseException:
            held.release()
            raise
        return held

    def trees(self) -> Iterator[Tree]:
        """What is unpacked, in no order."""
        for size in self._root.glob(f"*{_SIZE}"):
            with suppress(OSError, ValueError):
                yield Tree(size.name.removesuffix(_SIZE), int(size.read_text("ascii")), size.stat().st_mtime)

    def remove(self, names: Collection[str]) -> list[str]:
        """Those that nobody holds; the names of what is gone. What is wanted of them later is made again."""
        if not self._root.is_dir() or not names:
            return []
        with disk_errors("can't remove unpacked images"), _lock(self._root / "x"):
            gone = [name for name in names if self._take_out(name)]
        self.sweep()
        return gone

    def keep_only(self, names: Collection[str]) -> None:
        """Remove every other folder that nobody holds, and what a kill left half made."""
        self.remove({tree.name for tree in self.trees()} - set(names))
        self.sweep()

    def sweep(self) -> None:
        """Remove what was taken out or left half made."""
        if not self._root.is_dir():
            return
        with disk_errors("can't remove unpacked images"), _lock(self._root / "x"):
            left = list(self._root.glob(".*"))
            left += [path for path in self._root.iterdir() if _is_orphan(path)]
            gone = [path if path.name.startswith(_GONE) else path.rename(self._away(path.name)) for path in left]
        for path in gone:
            remove_tree(path)

    def _take_out(self, name: str) -> bool:
        """Out of everybody's sight, unless somebody holds it. The lock is held."""
        folder = self._root / name
        size = folder.with_name(name + _SIZE)
        try:
            with size.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                folder.rename(self._away(name))
                size.unlink()
        except (FileNotFoundError, BlockingIOError):
            return False
        return True

    def _away(self, name: str) -> Path:
        return self._root / f"{_GONE}{name}-{secrets.token_hex(4)}"

    def _make_missing(self, layer: Layer, final: Path, below: tuple[Path, ...], budget: Budget) -> None:
        whole = final.is_dir() and final.with_name(final.name + _SIZE).is_file()
        if not whole:
            if final.is_dir():
                final.rename(self._away(final.name))  # a kill came between
            self._make(layer, final, below, budget)

    def _make(self, layer: Layer, final: Path, below: tuple[Path, ...], budget: Budget) -> None:
        fresh = Path(tempfile.mkdtemp(prefix=f".{final.name[:16]}-", dir=final.parent))
        try:
            size = _fill(layer, LayerTree(fresh, Merged(below)), budget)
            final.with_name(final.name + _SIZE).write_text(str(size), "ascii")
            fresh.rename(final)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


_SIZE = ".size"
"""Beside a folder: bytes of its layer's tar. Whoever uses the folder has a shared lock on it, and renews its time."""
_GONE = ".gone-"


def _is_orphan(path: Path) -> bool:
    """A folder without its size, or a size without its folder: a kill came between."""
    other = path.with_name(path.name.removesuffix(_SIZE) if path.name.endswith(_SIZE) else path.name + _SIZE)
    return _NAME.fullmatch(path.name.removesuffix(_SIZE)) is not None and not other.exists()


_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Tree:
    """An unpacked layer: bytes of its tar, and when it was last used (seconds since 1970)."""

    name: str
    size: int
    used: float


class Held:
    """Unpacked folders, the lowest first, that nobody removes until `release`."""

    def __init__(self) -> None:
        self.folders: tuple[Path, ...] = ()
        self._descriptors: list[int] = []

    def take(self, folder: Path) -> bool:
        """Whether the folder is there, and held now."""
        size = folder.with_name(folder.name + _SIZE)
        with disk_errors("can't use the unpacked image"):
            try:
                descriptor = os.open(size, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            self._descriptors.append(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            os.utime(descriptor)
        if not os.fstat(descriptor).st_nlink or not folder.is_dir():
            return False  # taken out between the opening and the lock
        self.folders += (folder,)
        return True

    def release(self) -> None:
        descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            os.close(descriptor)


def local_trees(store: Store) -> ImageTrees:
    """Beside a cache's blobs: what is there can be made again from them."""
    return ImageTrees(store.root / "v1" / "unpacked" / "images")


def prune_trees(trees: ImageTrees, *, older_than: float, keep_bytes: int | None, now: float) -> list[Tree]:
    """Remove trees unused for `older_than` seconds, then the least recently used until at most `keep_bytes` remain."""
    known = sorted(trees.trees(), key=lambda tree: tree.used)
    remaining = sum(tree.size for tree in known)
    chosen: dict[str, Tree] = {}
    for tree in known:
        too_much = keep_bytes is not None and remaining > keep_bytes
        if now - tree.used >= KEEP_SECONDS and (now - tree.used > older_than or too_much):
            chosen[tree.name] = tree
            remaining -= tree.size
    trees.sweep()
    return [chosen[name] for name in trees.remove(chosen)]


class Budget:
    """What an image may hold in all."""

    def __init__(self) -> None:
        self.left = LARGEST_IMAGE
        self.entries = MOST_ENTRIES

    def spend_unpacked(self, folder: Path) -> None:
        try:
            self.left -= int(folder.with_name(folder.name + _SIZE).read_text("ascii"))
        except (OSError, ValueError):
            raise ImageRefusedError(f"{folder} has lost its size", hint="remove the folder; it is made again") from None
        self.check()

    def check(self, pending: int = 0) -> None:
        if self.left < pending:
            raise ImageRefusedError(
                f"the image unpacks to more than {LARGEST_IMAGE:,} bytes",
                hint="Lambda takes no larger one; leave out what the function does not need",
            )


def chain_of(image: Image) -> tuple[str, ...]:
    """A name for each layer on those below it: equal for images that share their lowest layers (OCI's ChainID, in hex)."""
    names: list[str] = []
    for layer in image.layers:
        below = names[-1] if names else ""
        names.append(hashlib.sha256(f"{below} {layer.diff_id}".encode()).hexdigest())
    return tuple(names)


def _fill(layer: Layer, tree: LayerTree, budget: Budget) -> int:
    """Write all entries of a layer, its digest verified; bytes of its tar."""
    total, size = hashlib.sha256(), 0

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for piece in layer.uncompressed():
            size += len(piece)
            budget.check(size)
            total.update(piece)
            yield piece

    walker = Walker(pieces())
    what = f"layer {layer.digest}"
    for entry in walker:
        budget.entries -= 1
        if budget.entries < 0:
            raise ImageRefusedError(
                f"the image has more than {MOST_ENTRIES:,} entries", hint="leave out what the function does not need"
            )
        problem = tree.refusal(entry)
        if problem:
            raise ImageRefusedError(
                f"{what}: {entry.name[:200]!r} {problem}", hint="build the layer anew from a clean folder"
            )
        size += entry.size - entry.stored
        budget.check(size)
        tree.add(entry, walker.content(entry))
    walker.rest()
    if f"sha256:{total.hexdigest()}" != layer.diff_id:
        raise ImageFormatError(
            f"{what} unpacks to sha256:{total.hexdigest()}, not {layer.diff_id}",
            hint="the image is damaged; pull or build it anew",
        )
    tree.finish()
    return size


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One makes a folder, the others wait for it. The lock is its parent's: the next layer stands on it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
