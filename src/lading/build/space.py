"""How much bytecode fits under Lambda's unzipped limit: what the handler imports first, then the rest in order. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lading.build.archive import Selection
from lading.build.bundle import Bundle


@dataclass(frozen=True)
class Fitted:
    """Bytecode bundles as they will be packed, and the packages of which some had to stay out."""

    selections: tuple[Selection, ...]
    left_out: tuple[str, ...] = ()


def fit(bundles: Sequence[Bundle], wanted: Collection[str], room: int) -> Fitted:
    """Choose members of `bundles` whose sizes add up to at most `room` bytes.

    `wanted` names the bytecode of the handler's import closure: it goes first. Then the rest, bundle by bundle, in
    order of name: the same inputs always leave out the same files.
    """
    if sum(bundle.unzipped for bundle in bundles) <= room:
        return Fitted(tuple(map(Selection, bundles)))
    kept: set[tuple[int, int]] = set()
    for first in (True, False):
        for number, bundle in enumerate(bundles):
            for position, name in enumerate(bundle.names):
                size = bundle.sizes[position]
                if (name in wanted) is first and size <= room:
                    room -= size
                    kept.add((number, position))
    selections = []
    left_out = []
    for number, bundle in enumerate(bundles):
        missing = frozenset(name for position, name in enumerate(bundle.names) if (number, position) not in kept)
        selections.append(Selection(bundle, missing))
        if missing:
            left_out.append(bundle.name)
    return Fitted(tuple(selections), tuple(left_out))
