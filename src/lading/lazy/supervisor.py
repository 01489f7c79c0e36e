"""The owner's side of a reader: holds the FUSE connection, keeps a worker serving it, and replaces one that dies or stands still.

A new worker asks the kernel again for what the old one left unanswered, so readers see a delay. If none stays alive, the
connection is closed: readers get errors, and nobody hangs.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lading.lazy import mount
from lading.lazy.mount import Connection, LazyMountError
from lading.lazy.settings import ReaderSettings
from lading.sandbox.inside import wire

START_SECONDS = 20.0
PING_EVERY = 2.0
SILENCE = 10.0
"""Seconds without an answer after which a worker counts as standing still."""
_ALLOCATION = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
}
"""Buffers of chunks are used again: by default each is mapped and its pages cleared anew, which halves the speed."""
_MOST_DEATHS = 5
_DEATHS_WITHIN = 30.0


class WorkerGoneError(LazyMountError):
    """The worker died before it answered; the next one can be asked."""


@dataclass
class _Worker:
    """A live process, its channel and the questions it has not answered."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    asked: dict[int, Future[dict[str, Any]]] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)


class Supervisor:
    """Safe between threads."""

    def __init__(self, connection: Connection, settings: ReaderSettings, folder: Path) -> None:
        """folder: what a worker clears when this process is gone. Starts the first worker. Raises LazyMountError."""
        self._connection = connection
        self._settings = settings
        self._folder = folder
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._images: dict[int, tuple[dict[str, Any], int]] = {}
        self._deaths: list[float] = []
        self._closed = self._ended = False
        self.problem = ""
        """Why there is no worker any more; empty while there is."""
        self.restarts = 0
        with self._lock:
            try:
                self._worker = self._start(resend=False)
            except LazyMountError:
                self._closed = True
                self._end()
                raise

    @property
    def pid(self) -> int:
        return self._worker.process.pid

    def add(self, image: int, message: dict[str, Any], manifest: int) -> None:
        """Has an image served: two files, named by its number and the next one. manifest: a descriptor that is taken over.

        Returns once the metadata is here. Raises LazyMountError.
        """
        with self._lock:
            self._images[image] = ({"do": "add", "image": image, **message}, manifest)
        try:
            self._ask_again(*self._images[image])
        except LazyMountError:
            self._forget(image)
            raise

    def remove(self, image: int) -> None:
        self._forget(image)
        with contextlib.suppress(LazyMountError):
            self.ask({"do": "remove", "image": image})

    def ask(self, message: dict[str, Any], *descriptors: int, seconds: float = 60.0) -> dict[str, Any]:
        """A worker's answer. Raises LazyMountError with its error, WorkerGoneError if it died meanwhile."""
        worker, number, answer = self._post(message, descriptors)
        try:
            given = answer.result(seconds)
        except FutureTimeoutError:
            worker.asked.pop(number, None)
            raise LazyMountError(
                f"the lazy reader did not answer within {seconds:.0f} s", hint="is the machine overloaded?"
            ) from None
        if "error" in given:
            raise LazyMountError(
                given["error"], details=given.get("details", ()), hint=given.get("hint") or "see the log of the reader"
            )
        return given

    def close(self) -> None:
        """Ends the worker and the connection; what still reads gets errors."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            worker = self._worker
        with contextlib.suppress(OSError):
            worker.channel.shutdown(socket.SHUT_RDWR)
        try:
            worker.process.wait(5)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        self._end()

    def _start(self, *, resend: bool) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        device = self._connection.device
        command = [sys.executable, "-P", "-m", "lading.lazy.worker"]
        environment = {**os.environ, **_ALLOCATION}
        with theirs:
            process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(device), str(self._folder)],
                pass_fds=[theirs.fileno(), device],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env=environment,
            )
        mount.note_worker(self._folder, process.pid)
        worker = _Worker(process, ours)
        self._worker = worker
        threading.Thread(target=self._listen, args=(worker,), name="lazy-supervisor", daemon=True).start()
        self.ask({"do": "settings", "settings": self._settings.encode()}, seconds=START_SECONDS)
        for message, manifest in list(self._images.values()):
            self._post(message, (manifest,))
        self._post({"do": "serve", "resend": resend}, ())
        return worker

    def _post(
        self, message: dict[str, Any], descriptors: tuple[int, ...]
    ) -> tuple[_Worker, int, Future[dict[str, Any]]]:
        worker = self._worker
        number = next(self._numbers)
        answer: Future[dict[str, Any]] = Future()
        worker.asked[number] = answer
        try:
            wire.send(worker.channel, {**message, "id": number}, descriptors)
        except OSError as error:
            worker.asked.pop(number, None)
            raise self._gone() from error
        return worker, number, answer

    def _ask_again(self, message: dict[str, Any], manifest: int) -> None:
        """Once more if the worker dies under it: the next one knows the image already, or is told again."""
        for attempt in range(3):
            try:
                self.ask(message, manifest, seconds=self._settings.patience * 2 + 20)
                return
            except WorkerGoneError:
                if attempt == 2 or not self._await_next():
                    raise

    def _await_next(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not self.problem and not self._closed:
            with self._lock:
                if self._worker.process.poll() is None:
                    return True
            time.sleep(0.02)
        return False

    def _forget(self, image: int) -> None:
        with self._lock:
            known = self._images.pop(image, None)
        if known:
            os.close(known[1])

    def _listen(self, worker: _Worker) -> None:
        """A thread per worker: hears its answers, pings it, and follows it with another when it is gone."""
        pinged = 0.0
        while True:
            now = time.monotonic()
            if wire.readable(worker.channel.fileno(), PING_EVERY):
                received = None
                with contextlib.suppress(OSError, ValueError):
                    received = wire.receive(worker.channel)
                if received is None:
                    break
                worker.heard = time.monotonic()
                answer = worker.asked.pop(received[0].get("id", 0), None)
                if answer:
                    answer.set_result(received[0])
            elif now - worker.heard > SILENCE:
                break
            if now - pinged > PING_EVERY:
                pinged = now
                with contextlib.suppress(OSError):
                    wire.send(worker.channel, {"do": "ping", "id": 0}, ())
        self._bury(worker)
        with self._lock:
            if self._closed:
                return
            self._follow()

    def _bury(self, worker: _Worker) -> None:
        """It is dead, or will be now; whoever asked it something hears so."""
        if not self._closed:
            worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        for answer in list(worker.asked.values()):
            answer.set_exception(self._gone())
        worker.channel.close()

    def _follow(self) -> None:
        """Another worker, unless they die one after the other, or the kernel can't ask again for what the last one left."""
        now = time.monotonic()
        self._deaths = [when for when in self._deaths if now - when < _DEATHS_WITHIN] + [now]
        if not self._connection.negotiated.resend:
            self.problem = "the lazy reader died, and this kernel (older than 6.9) can't give its work to another"
        elif len(self._deaths) > _MOST_DEATHS:
            self.problem = f"the lazy reader died {len(self._deaths)} times within {_DEATHS_WITHIN:.0f} s"
        else:
            self.restarts += 1
            try:
                self._start(resend=True)
                return
            except LazyMountError as error:
                if isinstance(error, WorkerGoneError):
                    return  # its own listener follows it
                self.problem = error.message
        self._end()

    def _end(self) -> None:
        """No server any more: readers get errors from here on. Once: the descriptor's number may be another file's by then."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        mount.abort(self._connection)
        for image in list(self._images):
            self._forget(image)

    def _gone(self) -> WorkerGoneError:
        return WorkerGoneError(self.problem or "the lazy reader's process is gone", hint="start the function again")
