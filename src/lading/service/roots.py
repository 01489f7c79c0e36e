"""Which way the images of functions become roots here: lazily where this machine can, unpacked where it can't, which is said."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

from lading.errors import UsageError
from lading.lazy import mount
from lading.oci.unpack import ImageTrees
from lading.sandbox.spec import Isolation
from lading.service.events import ImageChanged
from lading.service.pool.image_function import OwnedImage, RootLease, Roots, UnpackedRoots

log = logging.getLogger("lading.service")


class ImageWay(StrEnum):
    """How image functions start."""

    LAZY = "lazy"
    UNPACK = "unpack"


def choose_roots(
    folder: Path, wanted: ImageWay | None, isolation: Isolation | None, left: Callable[[tuple[Path, ...]], None],
    tell: Callable[[ImageChanged], None],
) -> Roots:  # fmt: skip
    """wanted: None takes what this machine can. isolation: None where nothing is run. left: is told of a mounted root that
    nobody uses any more, before it is unmounted. tell: takes what happens to lazy images, from any thread.

    Raises UsageError where lazy images are asked for and can't be.
    """
    problem = find_problem(isolation)
    unpacked = UnpackedRoots(ImageTrees(folder / "unpacked"))
    if wanted is ImageWay.LAZY and problem:
        raise UsageError(f"image functions can't start lazily: {problem}", hint="unpack them: --images unpack")
    if wanted is ImageWay.UNPACK:
        return unpacked
    if problem:
        return ReportedRoots(unpacked, f"images are unpacked, they can't start lazily here: {problem}")
    unpacked.keep_only(())
    from lading.service.lazy_roots import LazyRoots  # here: it needs cryptography

    return LazyRoots(folder / "lazy", left, tell)


def find_problem(isolation: Isolation | None) -> str:
    """Why image functions can't start lazily here; empty where they can. Looks only."""
    if isolation is None:
        return "this service runs no functions"
    if isolation is not Isolation.ROOT:
        return f"isolation {isolation} can't be given mounts"
    if importlib.util.find_spec("cryptography") is None:
        return "the package cryptography is missing (pip install 'lading[lazy]')"
    return mount.find_problem()


class ReportedRoots:
    """Other roots; says with the first image that is asked for why they are these."""

    def __init__(self, roots: Roots, reason: str) -> None:
        self._roots = roots
        self._reason = reason

    def prepare(self, owned: OwnedImage) -> None:
        self._say()
        self._roots.prepare(owned)

    def open(self, owned: OwnedImage) -> RootLease:
        self._say()
        return self._roots.open(owned)

    def keep_only(self, images: Iterable[OwnedImage]) -> None:
        self._roots.keep_only(images)

    def sweep(self, images: Iterable[OwnedImage]) -> None:
        self._roots.sweep(images)

    def metrics(self) -> str:
        return self._roots.metrics()

    def close(self) -> None:
        self._roots.close()

    def _say(self) -> None:
        if self._reason:
            log.warning("%s", self._reason)
            self._reason = ""
