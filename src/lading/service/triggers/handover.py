"""Where moto hands something to functions: gathered while it answers a request, for the service that the request came through.

moto has no place to hook in, and hands over to functions of its own; so the few of its functions that do are replaced in this
process (`install`), each when its service is first used. One thread works on one request.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType

from lading.service.contract.http import HttpRequest
from lading.service.triggers.trigger import Refusal, Standing, Taker, Trigger

_REPLACED = {"s3": "objects", "sns": "topics", "events": "rules", "sqs": "messages", "scheduler": "schedules"}
"""Service → the module here that replaces what it hands over with."""


class _Work(threading.local):
    """What this thread answers."""

    taker: Taker | None = None
    request: HttpRequest | None = None
    triggers: list[Trigger]
    standings: Mapping[str, Standing]


_WORK = _Work()
_FUNCTION = re.compile(r"arn:[\w-]+:lambda:[\w:$.-]+")
_MOST = 1_000
"""Functions that one request may name."""


def foresee(service: str, request: HttpRequest, taker: Taker | None) -> dict[str, Standing]:
    """How the functions stand that a bucket is to notify: looked at before moto's turn, because the state may be held for it."""
    if taker is None or service != "s3" or request.method != "PUT" or ("notification", "") not in request.query:
        return {}
    return {arn: taker.standing(arn) for arn in set(_FUNCTION.findall(request.body.decode("utf-8", "replace"))[:_MOST])}


@contextlib.contextmanager
def gathering(
    taker: Taker | None, request: HttpRequest | None = None, standings: Mapping[str, Standing] = MappingProxyType({})
) -> Iterator[list[Trigger]]:
    """While it lasts, what this thread has moto do may hand over; what it did is in the list."""
    before = _WORK.taker, _WORK.request
    found: list[Trigger] = []
    _WORK.taker, _WORK.request, _WORK.triggers, _WORK.standings = taker, request, found, standings
    try:
        yield found
    finally:
        _WORK.taker, _WORK.request = before
        _WORK.triggers, _WORK.standings = [], {}


def is_ours() -> bool:
    """Whether somebody takes what is handed over; moto that is used apart from any service does what it did."""
    return _WORK.taker is not None


def hand_over(trigger: Trigger) -> None:
    """For the service at work."""
    _WORK.triggers.append(trigger)


def refusal(trigger: Trigger) -> Refusal | None:
    """Why it would reach no function now; None, too, for one that nobody foresaw."""
    standing = _WORK.standings.get(trigger.function)
    return standing.refusal(trigger) if standing is not None else None


def request_at_work() -> HttpRequest | None:
    """None where the service itself is the cause."""
    return _WORK.request


def trace_at_work() -> str:
    """The trace header of the request that is answered; "" for none."""
    return (_WORK.request.header("x-amzn-trace-id") or "") if _WORK.request is not None else ""


@functools.cache
def install(service: str) -> None:
    """Replace what moto's service hands over with. Once; any service that hands nothing over is let be."""
    if service in _REPLACED:
        import_module(f"lading.service.triggers.{_REPLACED[service]}").replace()
