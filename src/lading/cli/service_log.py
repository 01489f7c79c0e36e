"""What `lading serve` writes to stderr: a line for each request and event, as text or JSON, by a thread of its own, so
that nobody who reads slowly holds the service up."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TextIO

from lading.service.access import Served, is_silent, json_line, text_line
from lading.service.events import Event, LogLine
from lading.service.moment import iso

WAITING = 100_000
"""What waits for a slow reader; what comes beyond is dropped, and counted."""

PAUSE = 0.05
"""Seconds between two writes."""


class ServiceLog(logging.Handler):
    """`note` for requests and events; as a handler for what goes wrong inside."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        super().__init__(logging.WARNING)
        self._stream = stream
        self._as_json = as_json
        self._line = json_line if as_json else text_line
        self._waiting: deque[Served | Event | str] = deque()
        self._dropped = 0
        self._news = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._write, name="service-log", daemon=True)
        self._thread.start()

    def note(self, what: Served | Event) -> None:
        if isinstance(what, LogLine) or (not self._as_json and is_silent(what)):
            return
        self._put(what)

    def emit(self, record: logging.LogRecord) -> None:
        text = logging.Formatter().format(record)
        if self._as_json:
            values = {"time": iso(record.created), "event": "log", "level": record.levelname.lower()}
            text = json.dumps({**values, "message": text}, separators=(",", ":"))
        self._put(text)

    def close(self) -> None:
        """Everything is written, or nobody reads it within two seconds."""
        self._closing = True
        self._news.set()
        self._thread.join(2)
        super().close()

    def _put(self, what: Served | Event | str) -> None:
        if len(self._waiting) >= WAITING:
            self._dropped += 1
            return
        self._waiting.append(what)
        if not self._news.is_set():
            self._news.set()

    def _write(self) -> None:
        """Wakes once for many lines: a thread that wakes for each would slow the event loop down."""
        while not self._closing:
            self._news.wait()
            if not self._closing:
                time.sleep(PAUSE)
            self._news.clear()
            try:
                self._stream.write("".join(self._lines()))
                self._stream.flush()
            except (OSError, ValueError):
                return  # nobody is there to read

    def _lines(self) -> Iterator[str]:
        while self._waiting:
            what = self._waiting.popleft()
            line = what if isinstance(what, str) else self._line(what)
            if line:
                yield f"{line}\n"
        dropped, self._dropped = self._dropped, 0
        if dropped:
            values = {"event": "log", "level": "warning", "message": f"{dropped} lines were dropped"}
            yield f"{json.dumps(values) if self._as_json else values['message']}\n"
