"""The service's own log: lines for people and as JSON; a reader who reads no more holds nobody up."""

from __future__ import annotations

import io
import json
import logging
import os
import time

from lading.cli import service_log
from lading.cli.service_log import ServiceLog
from lading.service.access import Served, text_line
from lading.service.events import EnvironmentChanged, InvocationEnded, LogLine, Throttled

ARN = "arn:aws:lambda:eu-west-1:000000000000:function:orders"
SERVED = Served(0.0, "id-1", "lambda", "Invoke", "POST", "/p", 200, "", 1.23456, "0" * 12, "eu-west-1", "127.0.0.1", 2)


def test_lines_for_people() -> None:
    assert text_line(SERVED).endswith("200 lambda Invoke 1.2 ms id-1")
    unknown = Served(0.0, "i", "", "", "GET", "/x", 501, "NotImplementedException", 0.0, "0" * 12, "", "", 0)
    assert text_line(unknown).endswith("501 GET /x NotImplementedException 0.0 ms i")
    ended = InvocationEnded(0.0, ARN, "e" * 32, "id-1", "timeout", 3000.0, 3000, None, 36)
    assert text_line(ended).endswith("orders: timeout, 3000.0 ms, 36 MB id-1")
    assert text_line(Throttled(0.0, ARN, "id-2", "Why")).endswith("orders: throttled, Why id-2")
    assert text_line(EnvironmentChanged(0.0, ARN, "abcdefghij", "starting")).endswith("environment abcdefgh starting")
    assert text_line(EnvironmentChanged(0.0, ARN, "abcdefghij", "busy")) == ""
    assert text_line(LogLine(0.0, ARN, "s", "said", "function")) == ""


def test_json_and_what_goes_wrong_inside() -> None:
    stream = io.StringIO()
    log = ServiceLog(stream, as_json=True)
    log.note(SERVED)
    log.handle(logging.LogRecord("lading.service", logging.ERROR, "", 0, "it\nfailed", (), None))
    log.close()
    request, problem = map(json.loads, stream.getvalue().splitlines())
    assert request["time"] == "1970-01-01T00:00:00.000Z" and request["duration"] == 1.235
    assert (problem["level"], problem["message"]) == ("error", "it\nfailed")


def test_a_pipe_that_nobody_reads_holds_nobody_up() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream, os.fdopen(read) as reader:
        log = ServiceLog(stream, as_json=False)
        started = time.monotonic()
        for _ in range(service_log.WAITING + 5_000):
            log.note(SERVED)
        assert time.monotonic() - started < 10
        found = reader.readline()
        assert found.endswith("id-1\n")
        while "dropped" not in found:
            log.note(SERVED)
            found = reader.readline()
        reader.close()
        log.close()
