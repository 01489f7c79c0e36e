"""Lock → verified wheels in the store: downloads what is missing, builds what is no wheel yet."""

from __future__ import annotations

from collections.abc import Iterator

from lading.model.lock import Lock, LockedFile, LockedPackage, Wheel
from lading.resolve.supply import supply
from lading.resolve.workshop import Workshop


def fetch_wheels(lock: Lock, shop: Workshop) -> Iterator[Wheel]:
    """Every wheel of the lock as soon as it is here, in no order; what has to be built comes last."""
    published = {file: package for package in lock.packages if (file := package.wheel)}
    for file in supply(published, shop):
        yield _as_wheel(published[file], file, shop)
    unbuilt = [package for package in lock.packages if not package.wheel]
    if unbuilt:
        from lading.resolve.building import build_wheels

        yield from build_wheels(unbuilt, shop)


def _as_wheel(package: LockedPackage, file: LockedFile, shop: Workshop) -> Wheel:
    path = shop.blobs.path(file.sha256)
    size = path.stat().st_size if file.size is None else file.size
    return Wheel(package.name, package.version, file.name, file.sha256, size, path)
