"""Removes the packages that no version and no layer refers to any more. Only at a start, when nothing runs in them and no
upload is under way."""

from __future__ import annotations

from collections.abc import Iterator

from lading.service.control.call import Result
from lading.service.control.packages import Packages
from lading.service.state import State


def collect(state: State, packages: Packages) -> None:
    kept: set[str] = set()
    for kind in ("version", "layer-version"):
        for document in state.documents(kind):
            kept.update(_digests(document))
    packages.keep_only(kept)


def _digests(document: Result) -> Iterator[str]:
    """Of a version's code and layers, and of what serves while it is updated; of a layer version's content."""
    yield document["_digest"]
    yield from (layer["digest"] for layer in document.get("_layers", ()))
    if "_serving" in document:
        yield from _digests(document["_serving"])
