"""The events tables of a function → triggers. Each kind's keys were checked; here is what they mean together."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any
from zoneinfo import available_timezones

from lading.config.problems import Problems
from lading.model.deployment import Trigger
from lading.model.limits import number
from lading.model.schedule import schedule_problem
from lading.model.suggest import did_you_mean

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_SOURCES = {"sqs": "sqs", "kinesis": "kinesis", "dynamodb": "dynamodb", "kafka": "kafka"}
"""Kind → the service in its source's ARN."""
Table = Mapping[str, Any]


def triggers(tables: Mapping[str, Table], where: str, problems: Problems) -> tuple[Trigger, ...]:
    """All of a function, in their order."""
    found = []
    for name, table in tables.items():
        place = f"{where}.{name}"
        if not _NAME.fullmatch(name):
            problems.add(place, f"{name!r} is no name", "letters, digits, - and _; at most 40")
        kind = table.get("type", "")
        if kind in _SOURCES:
            _check_mapping(kind, table, place, problems)
        if kind == "schedule" and (problem := schedule_problem(table.get("schedule", ""))):
            problems.add(f"{place}.schedule", f"{table.get('schedule')!r}: {problem}", "such as cron(0 6 * * ? *)")
        if kind == "scheduler":
            _check_scheduler(table, place, problems)
        if kind == "s3":
            _check_bucket(table, place, problems)
        found.append(Trigger(name, kind, {key: value for key, value in table.items() if key != "type"}))
    return tuple(found)


def _check_mapping(kind: str, table: Table, where: str, problems: Problems) -> None:
    source = table.get("source", "")
    if kind == "kafka":
        if bool(source) == ("bootstrap-servers" in table):
            problems.add(where, "needs one of `source` and `bootstrap-servers`", "an MSK cluster's ARN, or addresses")
        if len(table.get("topics", ())) != 1:
            problems.add(f"{where}.topics", "must be exactly one", 'such as topics = ["orders"]')
    elif not source:
        problems.add(where, "'source' is missing", f"the ARN of the {kind} source")
    if source and source.split(":")[2] != _SOURCES[kind]:
        problems.add(f"{where}.source", f"{source!r} belongs to another service than {kind}", "correct one of the two")
    if kind == "dynamodb" and source and "/stream/" not in source:
        problems.add(f"{where}.source", f"{source!r} is a table", "take the ARN of its stream (…/stream/TIME)")
    if kind == "sqs":
        _check_queue(source, table, where, problems)


def _check_queue(source: str, table: Table, where: str, problems: Problems) -> None:
    """Source: Lambda developer guide, "Creating and configuring an Amazon SQS event source mapping"."""
    size, window, fifo = table.get("batch-size", 10), table.get("window", 0), source.endswith(".fifo")
    most = number("mapping", "fifo-batch-size")
    if fifo and size > most:
        problems.add(f"{where}.batch-size", f"{size} is more than the {most} of FIFO queues", f"at most {most}")
    elif size > 10 and window < 1:
        problems.add(f"{where}.batch-size", f"{size}: above 10 a queue needs a window", "set window = 1")
    if fifo and window:
        problems.add(f"{where}.window", "FIFO queues have none", "remove it")


def _check_scheduler(table: Table, where: str, problems: Problems) -> None:
    """Source: EventBridge Scheduler API reference, CreateSchedule."""
    if problem := schedule_problem(table.get("schedule", ""), once=True):
        problems.add(f"{where}.schedule", f"{table.get('schedule')!r}: {problem}", "such as cron(0 6 * * ? *)")
    zone = table.get("time-zone", "UTC")
    known = available_timezones()
    # A machine without a database of time zones can't tell.
    if known and zone not in known:
        problems.add(f"{where}.time-zone", f"there is no time zone {zone!r}", did_you_mean(zone, known))
    times = {}
    for key in ("start", "end"):
        try:
            times[key] = dt.datetime.fromisoformat(table[key])
        except KeyError:
            continue
        except ValueError as error:
            problems.add(f"{where}.{key}", f"{table[key]!r}: {error}", "such as 2027-01-31T08:00:00Z")
    if len(times) == 2 and times["end"] <= times["start"]:
        problems.add(f"{where}.end", "is not after the start", "correct one of the two")
    letters = table.get("on-failure", "")
    if letters and letters.split(":")[2] != "sqs":
        problems.add(f"{where}.on-failure", f"{letters!r} is no queue", "EventBridge Scheduler sends to SQS only")


def _check_bucket(table: Table, where: str, problems: Problems) -> None:
    for event in table.get("events", ()):
        if not re.fullmatch(r"s3:[A-Za-z]+(:[A-Za-z*]+)?", event):
            problems.add(f"{where}.events", f"{event!r} is no event of S3", "such as s3:ObjectCreated:*")
