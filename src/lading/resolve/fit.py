"""Which wheels fit a target, and why others don't. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lading.model.lock import LockedFile
from lading.model.target import Target

if TYPE_CHECKING:
    from packaging.tags import Tag

_GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_")


@functools.lru_cache(maxsize=32)
def _ranks(target: Target) -> Mapping[Tag, int]:
    return {tag: rank for rank, tag in enumerate(target.tags)}


def rank(filename: str, target: Target) -> int | None:
    """Position of a wheel's best tag in the target's order (0 is best); None when it does not fit or is no wheel name."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return None
    ranks = _ranks(target)
    return min((ranks[tag] for tag in tags if tag in ranks), default=None)


def choose(wheels: Iterable[LockedFile], target: Target) -> LockedFile | None:
    """The wheel that fits best; among equals the highest build number, then the last name (a newer abi3 base)."""
    fitting = [(position, wheel) for wheel in wheels if (position := rank(wheel.name, target)) is not None]
    if not fitting:
        return None
    best = min(position for position, _ in fitting)
    return max(
        (wheel for position, wheel in fitting if position == best), key=lambda wheel: (_build(wheel.name), wheel.name)
    )


def _build(filename: str) -> tuple[int, str]:
    from packaging.utils import parse_wheel_filename

    build = parse_wheel_filename(filename)[2]
    return build or (0, "")


def too_new(filename: str, target: Target) -> bool:
    """True for a wheel that would fit if only the target's glibc were newer."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return False
    pythons = {(tag.interpreter, tag.abi) for tag in target.tags}
    glibc, machine = target.runtime.os.glibc, target.architecture.machine
    return rank(filename, target) is None and any(
        (tag.interpreter, tag.abi) in pythons
        and tag.platform.endswith(machine)
        and (match := _GLIBC.match(tag.platform)) is not None
        and tuple(map(int, match.groups())) > glibc
        for tag in tags
    )


def why_not(filename: str, target: Target) -> str:
    """Why a wheel does not fit, in words: other platform, other architecture, newer glibc, other Python."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return "not a valid wheel name"
    platforms = sorted({tag.platform for tag in tags})
    reason = _why_not_platform(platforms, target)
    if reason:
        return reason
    pythons = "/".join(sorted({f"{tag.interpreter}-{tag.abi}" for tag in tags}))
    return f"built for {pythons}, not for Python {target.runtime.python_version}"


def _why_not_platform(platforms: list[str], target: Target) -> str:
    machine, glibc = target.architecture.machine, target.runtime.os.glibc
    if any(tag.platform in platforms for tag in target.tags) or "any" in platforms:
        return ""
    if all(platform.startswith("musllinux") for platform in platforms):
        return "needs musl; Lambda has glibc"
    linux = [platform for platform in platforms if "linux" in platform]
    if not linux:
        return f"built for {', '.join(platforms)}"
    here = [platform for platform in linux if platform.endswith(machine)]
    if not here:
        return f"built for another architecture ({', '.join(linux)})"
    needed = [tuple(map(int, match.groups())) for platform in here if (match := _GLIBC.match(platform))]
    if needed:
        return f"needs glibc {_dotted(min(needed))}; {target.runtime.os.name} has {_dotted(glibc)}"
    return f"built for {', '.join(here)}"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
