"""What the tests of lazy images share: layers as tars, a store in memory, conversions without a disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oci_samples import AMD64, MemoryContent, layer_of, tar_of

from lading.lazy.convert import Conversion, Settings, convert
from lading.lazy.fault import ObjectMissingError
from lading.lazy.keys import MasterKey
from lading.lazy.roots import ImageStore
from lading.model.progress import Silent
from lading.oci.image import Image, empty

MASTER = MasterKey(bytes(range(32)))
ACCOUNT = "123456789012"
KEY = MASTER.account(ACCOUNT)
Member = tuple[str, dict[str, Any], bytes]


class MemoryObjects:
    """The `Objects` protocol in a dictionary; passes the suite that folders and buckets pass."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self.objects[key] = bytes(data)

    def get(self, key: str) -> bytes:
        with self._lock:
            if key not in self.objects:
                raise ObjectMissingError(f"no {key}", hint="put it there")
            return self.objects[key]

    def size(self, key: str) -> int | None:
        with self._lock:
            return len(self.objects[key]) if key in self.objects else None

    def list(self, prefix: str) -> Iterator[str]:
        with self._lock:
            keys = [key for key in self.objects if key.startswith(prefix)]
        yield from keys

    def delete(self, key: str) -> None:
        with self._lock:
            self.objects.pop(key, None)

    def copy(self, source: str, target: str) -> None:
        self.put(target, self.get(source))

    def flush(self) -> None:
        return None


def folder(name: str, **more: Any) -> Member:
    return name, {"type": b"5", "mode": 0o755, "mtime": 1_700_000_000, **more}, b""


def file(name: str, content: str | bytes = b"", **more: Any) -> Member:
    data = content.encode() if isinstance(content, str) else content
    return name, {"mode": 0o644, "mtime": 1_600_000_000, **more}, data


def link(name: str, to: str, **more: Any) -> Member:
    return name, {"type": b"2", "linkname": to, "mode": 0o777, "mtime": 1_500_000_000, **more}, b""


def hard(name: str, to: str) -> Member:
    return name, {"type": b"1", "linkname": to, "mode": 0o644}, b""


def image_of(*layers: tuple[Member, ...]) -> Image:
    content = MemoryContent()
    image = empty(AMD64).append([layer_of(content, tar_of(members)) for members in layers])
    return image.configure({"Cmd": ["app.handler"], "Env": ["A=b"]})


def converted(image: Image, store: ImageStore, workshop: Path, **more: Any) -> Conversion:
    settings = Settings(**{"master": MASTER, "account": ACCOUNT, "workshop": workshop, "threads": 2} | more)
    return convert(image, store, settings, Silent())
