"""Finds the packages that no version and no layer refers to any more, and removes them: at a start all of them, later those
that `take_out` is given. Knows nothing of environments."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from lading.service.control.call import Result
from lading.service.control.packages import Packages
from lading.service.state import State


def collect(state: State, packages: Packages) -> None:
    """When nothing runs in them and no upload is under way."""
    packages.keep_only(referenced(state))


def take_out(state: State, packages: Packages, unused: AbstractSet[str]) -> list[Path]:
    """Those of the packages that are still unreferenced are gone for every operation that follows; the folders returned are
    to be removed. In turn with the operations: one that comes before it keeps what it refers to, one after puts it anew."""
    return packages.take_out(unused - referenced(state))


def referenced(state: State) -> set[str]:
    """Digests."""
    kept: set[str] = set()
    for kind in ("version", "layer-version"):
        for document in state.documents(kind):
            kept.update(_digests(document))
    return kept


def _digests(document: Result) -> Iterator[str]:
    """Of a version's code and layers, and of what serves while it is updated; of a layer version's content."""
    yield document["_digest"]
    yield from (layer["digest"] for layer in document.get("_layers", ()))
    if "_serving" in document:
        yield from _digests(document["_serving"])
