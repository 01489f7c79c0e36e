"""What a reader is given: where its cache is and how large it may grow, its store, its peers. As JSON for the worker."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lading.lazy.fetch import PATIENCE
from lading.store.folder import default_root

DEFAULT_LIMIT = 20 << 30


def default_cache() -> Path:
    """`lazy` in lading's own cache folder."""
    return default_root() / "lazy"


@dataclass(frozen=True)
class ReaderSettings:
    """limit: bytes of the local disk cache. store: an address as `objects.open_objects` takes.

    patience: seconds for a store that is down.

    latency (seconds per request) and bandwidth (bytes per second, 0: any) slow the store down, for measurements.
    """

    cache: Path
    store: str
    limit: int = DEFAULT_LIMIT
    peers: tuple[str, ...] = ()
    peer_token: str = ""
    patience: float = PATIENCE
    latency: float = 0.0
    bandwidth: float = 0.0

    def encode(self) -> str:
        return json.dumps({**asdict(self), "cache": str(self.cache)})


def decode(text: str) -> ReaderSettings:
    document = json.loads(text)
    return ReaderSettings(**{**document, "cache": Path(document["cache"]), "peers": tuple(document["peers"])})
