"""Subscription filters: log events that match go to functions, compressed, as CloudWatch Logs sends them. What blocks runs on a
thread of its own.

Sources: CloudWatch Logs user guide, "Subscription filters with Lambda"; API reference, "PutSubscriptionFilter".
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.control.call import Parameters, Result
from lading.service.control.names import Scope
from lading.service.control.refusal import not_here
from lading.service.logs.operations import delete_log_group, find_group, milliseconds, read_token, write_token
from lading.service.logs.pattern import compile_pattern
from lading.service.logs.store import Entry, LogStore
from lading.service.triggers.trigger import Refusal, Taker, Trigger

PRINCIPAL = "logs.amazonaws.com"
MOST = 2
"""Of a group (CloudWatch Logs quotas)."""
PIECE = 262_144
"""Characters of messages in one invoke."""
WAITING = 100_000
"""Events that wait to be handed on; of more the newest are dropped, with a line in the service's log."""
log = logging.getLogger("lading.service")


@dataclass(frozen=True)
class _Subscription:
    name: str
    matches: Callable[[str], bool]
    destination: str


class Subscriptions:
    """The operations, and what follows the store. Close it before the taker."""

    def __init__(self, store: LogStore, taker: Taker) -> None:
        self._store = store
        self._taker = taker
        self._thread = ThreadPoolExecutor(1, "subscriptions")
        self._lock = threading.Lock()
        self._waiting = 0
        self._numbers = itertools.count()
        self._known: dict[tuple[Scope, str], list[_Subscription]] = {}
        """By owner and name of the group."""
        self.operations: dict[str, Callable[[LogStore, Scope, Parameters], Result]] = {
            "PutSubscriptionFilter": self._put,
            "DeleteSubscriptionFilter": self._delete,
            "DescribeSubscriptionFilters": _describe,
            "DeleteLogGroup": self._delete_group,
        }

    async def start(self) -> None:
        self._read()
        self._store.follow(self._on_entries)

    async def close(self) -> None:
        self._known = {}
        self._thread.shutdown(cancel_futures=True)

    def _read(self) -> None:
        found: dict[tuple[Scope, str], list[_Subscription]] = {}
        for row in self._store.all_subscriptions():
            made = _Subscription(row["name"], compile_pattern(row["pattern"]), row["destination"])
            found.setdefault((Scope(row["account"], row["region"]), row["group_name"]), []).append(made)
        self._known = found

    def _put(self, store: LogStore, scope: Scope, parameters: Parameters) -> Result:
        group = find_group(store, scope, parameters)
        destination, pattern = parameters["destinationArn"], parameters["filterPattern"]
        if destination.split(":")[2:3] != ["lambda"]:
            raise not_here("a subscription filter for anything but a function", "subscribe a function")
        compile_pattern(pattern)
        source = scope.log_group_arn(group["name"]) + ":*"
        refused = self._taker.standing(destination).refusal(_trigger(destination, source, scope, b""))
        if refused in (Refusal.NO_FUNCTION, Refusal.NO_PERMISSION):
            raise ApiError(
                "InvalidParameterException",
                "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute "
                "your function.",
            )
        name = parameters["filterName"]
        others = [row for row in store.subscriptions(group["id"]) if row["name"] != name]
        if len(others) >= MOST:
            raise ApiError("LimitExceededException", "Resource limit exceeded.")
        settings = pattern, destination, parameters.get("distribution", "ByLogStream")
        store.put_subscription(group["id"], name, settings, milliseconds())
        self._read()
        return {}

    def _delete(self, store: LogStore, scope: Scope, parameters: Parameters) -> Result:
        group = find_group(store, scope, parameters)
        if not store.delete_subscription(group["id"], parameters["filterName"]):
            raise ApiError("ResourceNotFoundException", "The specified subscription filter does not exist.")
        self._read()
        return {}

    def _delete_group(self, store: LogStore, scope: Scope, parameters: Parameters) -> Result:
        """A group's subscriptions go with it."""
        result = delete_log_group(store, scope, parameters)
        self._read()
        return result

    def _on_entries(self, entries: Sequence[Entry], now: int) -> None:
        """On the thread that appends, which holds the store's lock."""
        if not self._known:
            return
        wanted = [entry for entry in entries if (entry.scope, entry.group) in self._known]
        if not wanted:
            return
        with self._lock:
            if self._waiting + len(wanted) > WAITING:
                log.warning("%d log events for subscriptions are dropped: too many wait", len(wanted))
                return
            self._waiting += len(wanted)
        self._thread.submit(self._hand_on, wanted)

    def _hand_on(self, entries: list[Entry]) -> None:
        try:
            if triggers := list(self._triggers(entries)):
                self._taker.take(triggers)
        except Exception:
            log.exception("log events could not be handed to their subscriptions")
        finally:
            with self._lock:
                self._waiting -= len(entries)

    def _triggers(self, entries: list[Entry]) -> Iterator[Trigger]:
        def stream(entry: Entry) -> tuple[str, str, str, str]:
            return entry.scope.account, entry.scope.region, entry.group, entry.stream

        for _, of_stream in itertools.groupby(sorted(entries, key=stream), stream):
            some = list(of_stream)
            for subscription in self._known.get((some[0].scope, some[0].group), ()):
                found = [entry for entry in some if subscription.matches(entry.message)]
                for piece in _pieces(found):
                    yield self._trigger(subscription, piece)

    def _trigger(self, subscription: _Subscription, entries: list[Entry]) -> Trigger:
        first = entries[0]
        data = {
            "messageType": "DATA_MESSAGE",
            "owner": first.scope.account,
            "logGroup": first.group,
            "logStream": first.stream,
            "subscriptionFilters": [subscription.name],
            "logEvents": [
                {
                    "id": f"{entry.time:028d}{next(self._numbers):028d}",
                    "timestamp": entry.time,
                    "message": entry.message,
                }
                for entry in entries
            ],
        }
        packed = base64.b64encode(gzip.compress(json.dumps(data).encode(), 1)).decode()
        source = first.scope.log_group_arn(first.group) + ":*"
        return _trigger(
            subscription.destination, source, first.scope, json.dumps({"awslogs": {"data": packed}}).encode()
        )


def _trigger(function: str, source: str, scope: Scope, payload: bytes) -> Trigger:
    return Trigger(function, PRINCIPAL, source, scope.account, payload)


def _pieces(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Of at most PIECE characters each, one entry at least."""
    piece: list[Entry] = []
    size = 0
    for entry in entries:
        if piece and size + len(entry.message) > PIECE:
            yield piece
            piece, size = [], 0
        piece.append(entry)
        size += len(entry.message)
    if piece:
        yield piece


def _describe(store: LogStore, scope: Scope, parameters: Parameters) -> dict[str, Any]:
    group = find_group(store, scope, parameters)
    after, prefix = read_token(parameters), parameters.get("filterNamePrefix", "")
    rows = [row for row in store.subscriptions(group["id"]) if row["name"] > after and row["name"].startswith(prefix)]
    limit = parameters.get("limit", 50)
    shown = [
        {
            "filterName": row["name"],
            "logGroupName": group["name"],
            "filterPattern": row["pattern"],
            "destinationArn": row["destination"],
            "distribution": row["distribution"],
            "creationTime": row["created"],
        }
        for row in rows[:limit]
    ]
    return {
        "subscriptionFilters": shown,
        "nextToken": write_token(rows[limit - 1]["name"]) if len(rows) > limit else None,
    }
