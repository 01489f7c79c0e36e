"""The smallest client of the Debug Adapter Protocol that can set a breakpoint: what an editor does, over the same socket."""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from typing import Any


class DebugClient:
    """One attached debugger. Events that came while an answer was waited for are kept."""

    def __init__(self, port: int, seconds: float = 60) -> None:
        self._deadline = time.monotonic() + seconds
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._stream = self._socket.makefile("rb")
        self._number = 0
        self._events: deque[dict[str, Any]] = deque()

    def __enter__(self) -> DebugClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, command: str, **arguments: Any) -> int:
        self._number += 1
        message = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return self._number

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        return self.answer(self.send(command, **arguments))

    def answer(self, number: int) -> dict[str, Any]:
        while True:
            message = self._read()
            if message["type"] == "response" and message["request_seq"] == number:
                assert message["success"], message
                body: dict[str, Any] = message.get("body") or {}
                return body
            if message["type"] == "event":
                self._events.append(message)

    def event(self, name: str) -> dict[str, Any]:
        while True:
            while self._events:
                message = self._events.popleft()
                if message["event"] == name:
                    body: dict[str, Any] = message.get("body") or {}
                    return body
            message = self._read()
            if message["type"] == "event":
                self._events.append(message)

    def attach(self, breakpoints: dict[str, list[int]], **arguments: Any) -> dict[str, list[bool]]:
        """Attaches, sets the breakpoints (file → lines) and lets it run; which of them were accepted."""
        self.ask("initialize", adapterID="lading-test", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
        attached = self.send("attach", justMyCode=False, **arguments)
        self.event("initialized")
        accepted = {}
        for path, lines in breakpoints.items():
            answer = self.ask("setBreakpoints", source={"path": path}, breakpoints=[{"line": line} for line in lines])
            accepted[path] = [one["verified"] for one in answer["breakpoints"]]
        self.ask("configurationDone")
        self.answer(attached)
        return accepted

    def _read(self) -> dict[str, Any]:
        assert time.monotonic() < self._deadline, "the debugger says nothing more"
        length = 0
        while line := self._stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the debugger hung up"
        message: dict[str, Any] = json.loads(self._stream.read(length))
        return message
