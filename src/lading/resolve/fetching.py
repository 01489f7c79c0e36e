"""Lock → verified wheels in the store: downloads what is missing, builds what is no wheel yet."""

from __future__ import annotations

from lading.model.lock import Lock, LockedFile, LockedPackage, Wheel
from lading.resolve.supply import download_missing
from lading.resolve.workshop import Workshop


def fetch_wheels(lock: Lock, shop: Workshop) -> tuple[Wheel, ...]:
    """Every wheel of the lock, sorted by name."""
    download_missing([file for package in lock.packages if (file := package.wheel)], shop)
    wheels = [_ready(package, package.wheel, shop) for package in lock.packages if package.wheel]
    unbuilt = [package for package in lock.packages if not package.wheel]
    if unbuilt:
        from lading.resolve.building import build_wheels

        wheels += build_wheels(unbuilt, shop)
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def _ready(package: LockedPackage, file: LockedFile, shop: Workshop) -> Wheel:
    path = shop.blobs.path(file.sha256)
    size = path.stat().st_size if file.size is None else file.size
    return Wheel(package.name, package.version, file.name, file.sha256, size, path)
