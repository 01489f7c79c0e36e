"""The reader's process: serves the FUSE connection that its owner holds, until the owner is gone. `python -m lading.lazy.worker`.

Everything it has can be given to its successor: it may be killed at any moment, and readers notice nothing but a delay.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lading.errors import LadingError
from lading.lazy import chunk, mount, settings
from lading.lazy.disk_cache import DiskCache
from lading.lazy.fetch import Fetcher, Origin
from lading.lazy.fuse import Server
from lading.lazy.fuse_protocol import File
from lading.lazy.manifest import Manifest, decode_manifest
from lading.lazy.metrics import Metrics
from lading.lazy.reader import Reader, Space
from lading.lazy.settings import ReaderSettings
from lading.lazy.tiers import open_tiers
from lading.lazy.trace import LONGEST_SECONDS, QUIET_SECONDS, extend, read_trace, write_trace
from lading.lazy.usage import fold, write_usage
from lading.sandbox.inside import wire

_RECORD_EVERY = 0.5
_COUNT_EVERY = 5.0
"""Seconds between writes of the counters."""


PRIORITY = -10
"""Added to the owner's niceness: on a busy machine each miss would wait for its turn among the functions that wait for it.
What is fetched ahead of them is no reason to keep them from running, and has the owner's."""

SWITCH_SECONDS = 0.0005
"""After which a thread that works asks for the interpreter's lock: those who answer the kernel are few, and mustn't wait 5 ms."""


@dataclass
class Image:
    """One image that is served: two files, and its start as it is being recorded."""

    number: int
    manifest: Manifest
    trace_file: Path
    known: list[int]
    """The trace of an earlier start."""
    data: Space
    began: float
    recording: bool = True

    def record(self, now: float, *, over: bool = False) -> None:
        """Keeps the trace once the start is over."""
        data = self.data
        quiet = data.order and now - data.last_touch > QUIET_SECONDS
        if self.recording and (over or quiet or now - self.began > LONGEST_SECONDS):
            self.recording = False
            order = extend(self.known, data.order)
            if len(order) > len(self.known):
                write_trace(self.trace_file, order, len(data.table))


class Worker:
    """Answers the owner's messages on `channel`; the kernel's are answered by the server's own threads."""

    def __init__(self, channel: socket.socket, device: int, given: ReaderSettings) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._metrics = Metrics()
        self._usage = given.cache / "usage"
        self._cache = DiskCache(given.cache / "chunks", given.limit)
        self._fetcher = Fetcher(self._cache, open_tiers(given), self._metrics, given.patience, step_back=-PRIORITY)
        self._reader = Reader(self._cache, self._fetcher, self._metrics)
        self._files: dict[int, File] = {}
        self._images: dict[int, Image] = {}
        self._server = Server(device, self._files, self._reader.read)

    def run(self) -> None:
        """Until the owner is gone or says so."""
        threading.Thread(target=self._record, name="lazy-traces", daemon=True).start()
        while (received := wire.receive(self._channel)) is not None:
            message, descriptors = received
            try:
                self._do(message, descriptors)
            except (LadingError, OSError, KeyError) as error:
                self._reply(message, {"error": error.message if isinstance(error, LadingError) else repr(error)})
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
        for image in list(self._images.values()):
            image.record(time.monotonic(), over=True)
        self._fetcher.flush()
        write_usage(self._usage, self.measure())

    def _do(self, message: dict[str, Any], descriptors: list[int]) -> None:
        match message["do"]:
            case "serve":
                self._server.start(resend=message["resend"], broken=lambda: os._exit(1))
                self._reply(message, {})
            case "add":
                with os.fdopen(os.dup(descriptors[0]), "rb") as file:
                    file.seek(0)
                    manifest = decode_manifest(file.read())
                self._add(message, manifest)
            case "remove":
                image = self._images.pop(message["image"])
                image.record(time.monotonic(), over=True)
                for node in (image.number, image.number + 1):
                    self._files.pop(node, None)
                    self._reader.spaces.pop(node, None)
                self._reply(message, {})
            case "settled":
                image = self._images[message["image"]]
                image.record(time.monotonic(), over=True)
                self._reply(message, {})
            case "metrics":
                self._reply(message, {"metrics": self.measure()})
            case "touched":
                touched = self._images[message["image"]].data.touched
                self._reply(message, {"touched": bytes(touched).translate(_DIGITS).decode("ascii")})
            case "ping":
                self._reply(message, {"alive": self._server.alive})

    def measure(self) -> dict[str, Any]:
        """Counters of this process, and what each image has touched."""
        images = {
            image.trace_file.name: {
                "touched": sum(image.data.touched),
                "touched_bytes": sum(image.data.table[index].length for index in list(image.data.order)),
                "chunks": len(image.data.table),
                "bytes": image.data.table.content_bytes,
            }
            for image in list(self._images.values())
        }
        return {**self._metrics.as_data(), "disk": vars(self._cache.counts), "images": images}

    def _add(self, message: dict[str, Any], manifest: Manifest) -> None:
        """Answers when the metadata is here; the trace's chunks, or those that any start reads, follow behind it."""
        number = message["image"]
        origin = Origin(message["place"], number)
        spaces = (Space(origin, manifest.metadata, ahead=False), Space(origin, manifest.data, manifest.together))
        for node, space in enumerate(spaces, number):
            self._reader.spaces[node] = space
            self._files[node] = File(node, str(node), space.size)
        trace_file = Path(message["trace"])
        known = read_trace(trace_file, len(manifest.data))
        self._images[number] = Image(number, manifest, trace_file, known, spaces[1], time.monotonic())
        self._bring_metadata(message, spaces[0])
        self._reader.prefetch(number + 1, known or manifest.first)

    def _bring_metadata(self, message: dict[str, Any], space: Space) -> None:
        lock = threading.Lock()
        left = len(space.table)
        problem: list[LadingError] = []

        def done(_: bytes, error: LadingError | None) -> None:
            nonlocal left
            with lock:
                left -= 1
                if error:
                    problem.append(error)
                last = not left
            if last:
                self._reply(message, _said(problem[0]) if problem else {})

        if not left:
            self._reply(message, {})
        for index in range(left):
            record = space.table[index]
            if self._cache.has(record.name):
                done(b"", None)
            else:
                self._fetcher.fetch(record, space.origin, done)

    def _record(self) -> None:
        fold(self._usage)
        due = 0.0
        while True:
            time.sleep(_RECORD_EVERY)
            now = time.monotonic()
            for image in list(self._images.values()):
                image.record(now)
            if now > due:
                due = now + _COUNT_EVERY
                write_usage(self._usage, self.measure())

    def _reply(self, message: dict[str, Any], answer: dict[str, Any]) -> None:
        with self._sending, contextlib.suppress(OSError):
            wire.send(self._channel, {**answer, "id": message["id"]})


_DIGITS = bytes([ord("0"), *[ord("1")] * 255])


def _said(error: LadingError) -> dict[str, Any]:
    return {"error": error.message, "details": list(error.details), "hint": error.hint}


def main(arguments: list[str]) -> None:
    """arguments: numbers of the channel and of the FUSE device, and the folder that holds the mounts. Settings come first."""
    sys.setswitchinterval(SWITCH_SECONDS)
    with contextlib.suppress(OSError):  # every function's page faults wait for this process
        os.nice(PRIORITY)
    channel = socket.socket(fileno=int(arguments[0]))
    folder = Path(arguments[2])
    received = wire.receive(channel)
    if received is None:
        return
    message = received[0]
    try:
        worker = Worker(channel, int(arguments[1]), settings.decode(message["settings"]))
    except LadingError as error:
        wire.send(channel, {"id": message["id"], **_said(error)})
        return
    wire.send(channel, {"id": message["id"]})
    with contextlib.suppress(LadingError):  # the first chunk will say it
        chunk.load()
    worker.run()
    mount.clear(folder)  # the owner may have been killed: nothing stays mounted
    os._exit(0)  # threads may still be waiting for a store


if __name__ == "__main__":
    main(sys.argv[1:])
