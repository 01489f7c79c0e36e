"""A start-up trace as the store keeps it beside the manifest: sealed for the account, bound to the one image it was recorded of.

docs/design/lazy-format.md, "Start-up traces". No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from lading.lazy.fault import LazyFormatError
from lading.lazy.keys import AccountKey
from lading.lazy.sealing import Kind, seal, unseal
from lading.lazy.trace import LARGEST_TRACE, MOST_CHUNKS, TRACE_VERSION, valid_order


class TraceError(LazyFormatError):
    """A trace can't be opened, or is another image's."""


_KIND = Kind(
    b"LDLZTRAC", "start-up trace", LARGEST_TRACE, TraceError, "record it anew: mount the image, start, unmount"
)


def seal_trace(order: Sequence[int], chunks: int, image: str, key: AccountKey) -> bytes:
    """order: indices of the image's data chunks, of which there are `chunks`. image: as `manifest.identify` names it."""
    document = {"version": TRACE_VERSION, "image": image, "of": chunks, "chunks": list(order[:MOST_CHUNKS])}
    return seal(_KIND, json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), key)


def open_trace(data: bytes, chunks: int, image: str, key: AccountKey) -> list[int]:
    """Raises TraceError, WrongKeyError."""
    plain = unseal(_KIND, data, key)
    try:
        document = json.loads(plain)
    except (ValueError, RecursionError):
        raise _KIND.broken("it is not readable") from None
    if isinstance(document, dict) and document.get("image") != image:
        raise TraceError("the start-up trace is of another image", hint=_KIND.hint)
    order = valid_order(document, chunks)
    if order is None:
        raise _KIND.broken("it has no order of the image's chunks")
    return order
