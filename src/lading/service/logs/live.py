"""StartLiveTail: what comes in at log groups while somebody looks, once a second. Runs on the event loop.

Source: CloudWatch Logs API reference, "StartLiveTail": at most 500 events an update, 5,000 waiting, three hours.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.contract.eventstream import encode_event, encode_exception, encode_initial
from lading.service.control.call import Parameters
from lading.service.control.names import Scope
from lading.service.logs.pattern import compile_pattern
from lading.service.logs.store import Entry, LogStore

PERIOD = 1.0
LONGEST = 3 * 3600.0
SHOWN = 500
WAITING = 5_000
_GIVEN = ("logGroupIdentifiers", "logStreamNames", "logStreamNamePrefixes", "logEventFilterPattern")


@dataclass(frozen=True)
class Wanted:
    """Which events a session shows. `groups`: name → the identifier it was asked by."""

    scope: Scope
    groups: dict[str, str]
    streams: tuple[str, ...]
    prefixes: tuple[str, ...]
    matches: Callable[[str], bool]

    def takes(self, entry: Entry) -> bool:
        if entry.scope != self.scope or entry.group not in self.groups:
            return False
        if self.streams and entry.stream not in self.streams:
            return False
        return (not self.prefixes or entry.stream.startswith(self.prefixes)) and self.matches(entry.message)


def read_wanted(store: LogStore, scope: Scope, parameters: Parameters) -> Wanted:
    """Blocks. Raises ApiError for groups that aren't there and for settings that exclude each other."""
    groups = {}
    for identifier in parameters["logGroupIdentifiers"]:
        parts = identifier.split(":", 6)
        if len(parts) != 7 or parts[5] != "log-group" or identifier.endswith("*"):
            message = (
                f"Invalid log group identifier: {identifier[:200]}. Give the ARN of a log group, without an asterisk."
            )
            raise ApiError("InvalidParameterException", message)
        if store.group(scope, parts[6]) is None or (parts[3], parts[4]) != (scope.region, scope.account):
            raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
        groups[parts[6]] = identifier
    streams, prefixes = parameters.get("logStreamNames", ()), parameters.get("logStreamNamePrefixes", ())
    if streams and prefixes:
        raise ApiError("InvalidParameterException", "logStreamNames and logStreamNamePrefixes exclude each other.")
    if (streams or prefixes) and len(groups) > 1:
        raise ApiError("InvalidParameterException", "Log streams can be chosen in a single log group only.")
    matches = compile_pattern(parameters.get("logEventFilterPattern", ""))
    return Wanted(scope, groups, tuple(streams), tuple(prefixes), matches)


async def live_tail(store: LogStore, wanted: Wanted, shape: Any, parameters: Parameters) -> AsyncIterator[bytes]:
    """The session's messages, until it times out or its reader leaves. `shape` is the model's event stream."""
    loop = asyncio.get_running_loop()
    waiting: deque[tuple[Entry, int]] = deque(maxlen=WAITING)

    def arrived(entries: Sequence[Entry], now: int) -> None:
        """From the store's thread."""
        found = [(entry, now) for entry in entries if wanted.takes(entry)]
        if found:
            loop.call_soon_threadsafe(waiting.extend, found)

    end, ends_at = store.follow(arrived), time.monotonic() + LONGEST
    try:
        yield encode_initial({})
        said = {name: parameters[name] for name in _GIVEN if name in parameters}
        identity = {"requestId": str(uuid.uuid4()), "sessionId": str(uuid.uuid4())}
        yield encode_event(shape, "sessionStart", identity | said)
        while time.monotonic() < ends_at:
            await asyncio.sleep(PERIOD)
            yield encode_event(shape, "sessionUpdate", make_update(wanted, waiting))
        yield encode_exception("SessionTimeoutException", "The Live Tail session timed out.")
    finally:
        end()


def make_update(wanted: Wanted, waiting: deque[tuple[Entry, int]]) -> dict[str, Any]:
    """What came since the last one; of more than 500 events as many, evenly."""
    every = max(1, -(-len(waiting) // SHOWN))
    shown = [waiting[at] for at in range(0, len(waiting), every)]
    sampled = len(shown) < len(waiting)
    waiting.clear()
    results = [
        {
            "logStreamName": entry.stream,
            "logGroupIdentifier": wanted.groups[entry.group],
            "message": entry.message,
            "timestamp": entry.time,
            "ingestionTime": ingested,
        }
        for entry, ingested in shown
    ]
    return {"sessionMetadata": {"sampled": sampled}, "sessionResults": results}
