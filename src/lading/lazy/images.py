"""Lazy images on this machine: each one mounted once, however many use it, and gone with the last. What the service holds.

Every call may block for as long as a store does: call from a worker thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lading.lazy import mount
from lading.lazy.manifest import Manifest, encode_manifest
from lading.lazy.mount import LazyMountError
from lading.lazy.settings import ReaderSettings
from lading.lazy.supervisor import Supervisor
from lading.lazy.trace import read_trace, write_trace
from lading.sandbox.inside import kernel

_MOST_IDLE = 16
"""Images that stay known to the reader when nobody uses them: their pages may still be in memory at the next start."""
_FOLDERS = itertools.count(1)


@dataclass(frozen=True)
class ImageSource:
    """An opened manifest, the key of the folder in the store where its chunks are, and the trace that the store has."""

    manifest: Manifest
    place: str
    trace: tuple[int, ...] = ()


class LazyImage:
    """A mounted image. `path` is its root, read-only; give it back with `LazyImages.close`.

    `identity` tells it from the same image elsewhere in the store: a collection may take away what one was opened from.
    """

    def __init__(self, identity: str, digest: str, path: Path, manifest: Manifest, number: int) -> None:
        self.identity = identity
        self.digest = digest
        self.path = path
        self.manifest = manifest
        self.number = number
        self.users = 0

    def tree(self) -> int:
        """A descriptor of the mount, which stays usable in any mount namespace; the caller closes it."""
        return kernel.open_tree(str(self.path))


class LazyImages:
    """The lazily loaded images of one service. Safe between threads. Starts a process at the first need, or with `start`."""

    def __init__(self, settings: ReaderSettings) -> None:
        """Sweeps what killed owners left. Raises LazyMountError where lazy images can't be."""
        problem = mount.find_problem()
        if problem:
            raise LazyMountError(
                problem, hint="unpack the image instead, or run as root on a machine with FUSE and EROFS"
            )
        mount.sweep()
        self._settings = settings
        self._folder = mount.owner_folder() / str(next(_FOLDERS))
        self._lock = threading.Lock()
        self._supervisor: Supervisor | None = None
        self._numbers = itertools.count(2, 2)
        self._open: dict[str, LazyImage] = {}
        self._idle: OrderedDict[str, LazyImage] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}
        self._closed = False
        self._generation = 0
        self._restarts = 0
        """Of workers of supervisors that are no more."""

    def __enter__(self) -> LazyImages:
        return self

    def __exit__(self, *_: object) -> None:
        self.shut_down()

    def start(self) -> Supervisor:
        """The reader's process, running. Called ahead, the first image needn't wait for it. Raises LazyMountError."""
        with self._lock:
            if self._closed:
                raise LazyMountError("the lazy images of this process are shut down", hint="make new ones")
            if self._supervisor is None or self._supervisor.problem:
                self._renew()
            assert self._supervisor is not None
            return self._supervisor

    @property
    def generation(self) -> int:
        """How often there was a new connection: images of an earlier one are broken. As `start`, it replaces a broken one."""
        self.start()
        return self._generation

    @property
    def restarts(self) -> int:
        """How often a worker was replaced."""
        supervisor = self._supervisor
        return self._restarts + (supervisor.restarts if supervisor is not None else 0)

    def open(self, source: ImageSource) -> LazyImage:
        """The image, mounted; once more for every user, who each close it. Raises LazyMountError."""
        plain = encode_manifest(source.manifest)
        digest = hashlib.sha256(plain).hexdigest()
        identity = hashlib.sha256(f"{digest} {source.place}".encode()).hexdigest()
        supervisor = self.start()
        with self._lock:
            alone = self._opening.setdefault(identity, threading.Lock())
        with alone:
            with self._lock:
                image = self._open.get(identity)
                if image is None:
                    image = self._idle.pop(identity, None)
                if image and image.path.is_mount():
                    image.users += 1
                    self._open[identity] = image
                    return image
            if image is None:
                number = next(self._numbers)
                path = self._folder / "images" / identity[:32]
                image = LazyImage(identity, digest, path, source.manifest, number)
                self._introduce(supervisor, image, source, plain)
            data = self._data / str(image.number + 1)
            mount.mount_erofs(self._data / str(image.number), data, image.path)
            with self._lock:
                image.users = 1
                self._open[identity] = image
            return image

    def close(self, image: LazyImage) -> None:
        """One user less; the last one's close unmounts. Environments that still run keep the files they have."""
        with self._lock:
            image.users -= 1
            if image.users or self._open.get(image.identity) is not image:
                return
            del self._open[image.identity]
            self._opening.pop(image.identity, None)
            mount.unmount(image.path)
            self._idle[image.identity] = image
            forgotten = self._idle.popitem(last=False)[1] if len(self._idle) > _MOST_IDLE else None
            supervisor = self._supervisor
        if forgotten and supervisor:
            supervisor.remove(forgotten.number)

    def settled(self, image: LazyImage) -> list[int]:
        """The start is over: what was touched until now is what the next one fetches ahead, and is returned.

        Nothing of an image whose reader broke: the one that there is now does not know it.
        """
        if self._open.get(image.identity) is not image:
            return []
        self.start().ask({"do": "settled", "image": image.number})
        return read_trace(self._trace_file(image), len(image.manifest.data))

    def touched(self, image: LazyImage) -> list[bool]:
        """Of each chunk of the data, whether it was touched since the image was opened."""
        answer = self.start().ask({"do": "touched", "image": image.number})
        return [digit == "1" for digit in answer["touched"]]

    def metrics(self) -> dict[str, Any]:
        """Counters of the running reader (metrics.Metrics.as_data and the disk cache's), images by digest."""
        with self._lock:
            supervisor = self._supervisor
        if supervisor is None or supervisor.problem:
            return {}
        found: dict[str, Any] = supervisor.ask({"do": "metrics"})["metrics"]
        return {**found, "restarts": self.restarts, "mounted": len(self._open)}

    def shut_down(self) -> None:
        """Unmounts everything and ends the reader."""
        with self._lock:
            self._closed = True
            supervisor, self._supervisor = self._supervisor, None
            self._open.clear()
            self._idle.clear()
        for path in mount.mounts_below(self._folder / "images"):
            mount.unmount(path)
        if supervisor:
            self._restarts += supervisor.restarts
            supervisor.close()
        mount.clear(self._folder)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _renew(self) -> None:
        """A connection and a worker, after those that ended for good. Images of those are broken: they are mounted anew."""
        if self._supervisor is not None:
            self._restarts += self._supervisor.restarts + 1
            self._supervisor.close()
        mount.clear(self._folder)
        for image in [*self._open.values(), *self._idle.values()]:
            image.users = 0
        self._open.clear()
        self._idle.clear()
        self._folder.mkdir(parents=True, mode=0o700)
        self._generation += 1
        self._supervisor = Supervisor(mount.connect(self._data), self._settings, self._folder)

    def _introduce(self, supervisor: Supervisor, image: LazyImage, source: ImageSource, plain: bytes) -> None:
        descriptor = os.memfd_create("lading-manifest", os.MFD_CLOEXEC)
        os.write(descriptor, plain)
        trace = self._trace_file(image)
        if source.trace and not trace.exists():
            write_trace(trace, source.trace, len(source.manifest.data))
        supervisor.add(image.number, {"place": source.place, "trace": str(trace)}, descriptor)

    def _trace_file(self, image: LazyImage) -> Path:
        return self._settings.cache / "traces" / image.digest
