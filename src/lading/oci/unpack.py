"""Images as trees on disk: one folder per layer on what lies below it, made once, complete or not there; an overlay of them
is the image's root. Every entry is hostile: nothing is written outside its folder or through a link.

Source: OCI image specification 1.1, "image layer filesystem changeset". Whiteouts become overlayfs's (character device 0:0).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lading.oci.descriptor import ImageFormatError
from lading.oci.image import Image
from lading.oci.layer import Layer
from lading.oci.layer_tree import ImageRefusedError, LayerTree
from lading.oci.tar import MOST_ENTRIES, Walker
from lading.oci.validate import LARGEST_IMAGE, MOST_LAYERS
from lading.sandbox.merged import Merged
from lading.store.folder import disk_errors, remove_tree


class ImageTrees:
    """Unpacked layers under a folder, by what they and all layers below them hold. Safe between threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def unpack(self, image: Image) -> tuple[Path, ...]:
        """The folders to merge, the lowest first; what is there already is not made again.

        Raises ImageRefusedError, ImageFormatError for a damaged layer, StoreError for a full disk.
        """
        if len(image.layers) > MOST_LAYERS:
            raise ImageRefusedError(
                f"the image has {len(image.layers)} layers, more than {MOST_LAYERS}", hint="join some of them"
            )
        folders: list[Path] = []
        budget = Budget()
        for layer, name in zip(image.layers, chain_of(image), strict=True):
            folder = self._root / name
            if not folder.is_dir():
                with disk_errors("can't unpack the image"), _lock(folder):
                    if not folder.is_dir():
                        self._make(layer, folder, tuple(folders), budget)
            budget.spend_unpacked(folder)
            folders.append(folder)
        return tuple(folders)

    def keep_only(self, names: Collection[str]) -> None:
        """Remove every other folder, and what a kill left half made. Nothing may be using them."""
        if self._root.is_dir():
            for path in [path for path in self._root.iterdir() if path.name.removesuffix(_SIZE) not in names]:
                remove_tree(path)

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
"""Beside a folder: bytes of its layer's tar."""


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
