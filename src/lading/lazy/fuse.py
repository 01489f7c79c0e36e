"""A server of the kernel's FUSE protocol over /dev/fuse: one read-only folder of files that never change.

Reads are handed to a reader and may be answered later, by any thread. The descriptor belongs to somebody else, who may give it
to the next server when this one dies. Mounting is not done here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from lading.lazy import fuse_protocol as protocol
from lading.lazy.fuse_protocol import File, Opcode, ReadRequest, Request

THREADS = 2
"""They parse, and read what is local; none of them ever waits for a network. More would only wait for the interpreter's lock."""


class Answer(Protocol):
    """Takes the bytes of one read, or a positive errno in their place; to be called exactly once, from any thread."""

    def __call__(self, content: Sequence[bytes | memoryview], /, *, error: int = 0) -> None: ...


Read = Callable[[int, int, int, Answer], None]
"""(node, offset, size, answer): must not block for longer than a local disk does."""


class Server:
    """Serves the files of `files` (by node) until the connection ends."""

    def __init__(self, device: int, files: Mapping[int, File], read: Read) -> None:
        self._device = device
        self._files = files
        self._read = read
        self._threads: list[threading.Thread] = []

    def start(self, *, resend: bool, broken: Callable[[], None]) -> None:
        """resend: answers what an earlier server of this connection left. broken: a thread ended where it must not."""
        if resend:
            os.write(self._device, protocol.resend())

        def run() -> None:
            try:
                self._serve()
            except BaseException:
                broken()
                raise

        self._threads = [threading.Thread(target=run, name=f"fuse-{number}", daemon=True) for number in range(THREADS)]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Until the connection has ended."""
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        buffer = bytearray(protocol.REQUEST_BUFFER)
        view = memoryview(buffer)
        while True:
            try:
                length = os.readv(self._device, [buffer])
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return  # unmounted, or aborted
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue  # ENOENT: the request was withdrawn while it was read
                raise
            request = protocol.parse_request(view[:length])
            if request.opcode == Opcode.READ:
                self._answer_read(protocol.parse_read(request))
            elif request.opcode not in protocol.UNANSWERED:
                self._send(self._reply(request))

    def _answer_read(self, request: ReadRequest) -> None:
        def answer(content: Sequence[bytes | memoryview], /, *, error: int = 0) -> None:
            if error:
                self._send(protocol.failure(request.unique, error))
            else:
                self._send(protocol.header(request.unique, sum(map(len, content))), *content)

        try:
            self._read(request.node, request.offset, request.size, answer)
        except Exception:  # whatever it is: this reader gets an error, the others go on
            answer((), error=errno.EIO)

    def _reply(self, request: Request) -> bytes:
        file = self._files.get(request.node)
        if file is None and request.node != protocol.ROOT:
            return protocol.failure(request.unique, errno.ENOENT)
        match request.opcode:
            case Opcode.LOOKUP if file is None:
                name = protocol.parse_name(request)
                found = next((known for known in list(self._files.values()) if known.name == name), None)
                return protocol.entry(request.unique, found) if found else _absent(request)
            case Opcode.GETATTR:
                return protocol.attributes(request.unique, file)
            case Opcode.OPEN if file is not None:
                return protocol.opened(request.unique)
            case Opcode.OPENDIR if file is None:
                return protocol.opened(request.unique, folder=True)
            case Opcode.READDIR if file is None:
                return protocol.listing(protocol.parse_read(request), list(self._files.values()))
            case Opcode.STATFS:
                return protocol.statistics(request.unique, list(self._files.values()))
            case Opcode.RELEASE | Opcode.RELEASEDIR | Opcode.FLUSH | Opcode.ACCESS | Opcode.DESTROY:
                return protocol.frame(request.unique)
        return protocol.failure(request.unique, errno.ENOSYS)

    def _send(self, *parts: bytes | memoryview) -> None:
        """A reader that was killed meanwhile (ENOENT) and a connection that ended (ENODEV) want no answer any more."""
        try:
            os.writev(self._device, parts)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                with contextlib.suppress(OSError):
                    unique = protocol.parse_unique(bytes(parts[0]))
                    os.writev(self._device, [protocol.failure(unique, errno.EIO)])


def _absent(request: Request) -> bytes:
    return protocol.failure(request.unique, errno.ENOENT)
