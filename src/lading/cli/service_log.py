"""What `lading serve` writes to stderr: a line for each request and event, as text or JSON, by a thread of its own, so
that nobody who reads slowly holds the service up."""

from __future__ import annotations

import datetime as dt
import json
import logging
import queue
import threading
from typing import TextIO

from lading.service.access import Served, json_line, text_line
from lading.service.events import Event

WAITING = 100_000
"""Lines that wait for a slow reader; what comes beyond is dropped, and counted."""


class ServiceLog(logging.Handler):
    """`note` for requests and events; as a handler for what goes wrong inside."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        super().__init__(logging.WARNING)
        self._stream = stream
        self._as_json = as_json
        self._line = json_line if as_json else text_line
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="service-log", daemon=True)
        self._thread.start()

    def note(self, what: Served | Event) -> None:
        line = self._line(what)
        if line:
            self._put(line)

    def emit(self, record: logging.LogRecord) -> None:
        text = logging.Formatter().format(record)
        if self._as_json:
            moment = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
            values = {"time": moment.replace("+00:00", "Z"), "event": "log", "level": record.levelname.lower()}
            text = json.dumps({**values, "message": text}, separators=(",", ":"))
        self._put(text)

    def close(self) -> None:
        """Everything is written, or nobody reads it within two seconds."""
        self._lines.put(None)
        self._thread.join(2)
        super().close()

    def _put(self, line: str) -> None:
        if self._lines.qsize() < WAITING:
            self._lines.put(line)
        else:
            self._dropped += 1

    def _write(self) -> None:
        while True:
            batch = [self._lines.get()]
            while not self._lines.empty() and len(batch) < 1000:
                batch.append(self._lines.get())
            dropped, self._dropped = self._dropped, 0
            lines = [line for line in batch if line is not None]
            if dropped:
                what = {"event": "log", "level": "warning", "message": f"{dropped} lines were dropped"}
                lines.append(json.dumps(what) if self._as_json else what["message"])
            try:
                self._stream.write("".join(f"{line}\n" for line in lines))
                self._stream.flush()
            except (OSError, ValueError):
                return  # nobody is there to read
            if None in batch:
                return
