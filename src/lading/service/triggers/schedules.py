"""Scheduled rules and EventBridge Scheduler's schedules, fired by the service's clock: moto keeps both and fires neither.

Sources: EventBridge user guide, "Creating a rule that runs on a schedule"; Scheduler user guide, "Schedule types", "Adding
context attributes", "Managing a schedule" (deletion after completion).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lading.model.schedule import schedule_problem
from lading.service.clock import Clock
from lading.service.queue.event import Delivery
from lading.service.triggers import rules
from lading.service.triggers.handover import gathering, hand_over
from lading.service.triggers.trigger import Taker, Trigger

if TYPE_CHECKING:
    from lading.model.timetable import Timetable

SERVICES = frozenset({"events", "scheduler"})
"""Whose requests may change what is due."""
MOST = 100
"""Times that one schedule fires at one look: of a long step of the clock the first ones count, then it goes on from now."""
LOOK = 3600.0
"""Seconds at most between looks."""
_OWNER = "_lading_taker"
log = logging.getLogger("lading.service")


@dataclass
class _Kept:
    """A schedule since it was first seen."""

    timetable: Timetable | None
    """None: it can't be read."""
    fired: float
    """Up to which moment."""


@dataclass(frozen=True)
class _Entry:
    """A rule or schedule as it is now in moto, whose own object is `thing`."""

    arn: str
    thing: Any
    expression: str
    fire: Callable[[float], None]
    zone: str = "UTC"
    begin: float | None = None
    end: float | None = None
    eager: bool = False
    """Whether a rate fires at once."""

    @property
    def identity(self) -> tuple[Any, ...]:
        return self.arn, self.expression, self.zone, self.begin


class Schedules:
    """`start` on the service's loop; `see` from any other thread, when something may have changed."""

    def __init__(self, clock: Clock, taker: Taker, turn: AbstractContextManager[Any]) -> None:
        """turn: held while moto's state is read."""
        self._clock = clock
        self._taker = taker
        self._turn = turn
        self._kept: dict[tuple[Any, ...], _Kept] = {}
        """Changed in the turn only."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        self._loop = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def see(self, service: str) -> None:
        """What was made or changed counts from now on, whatever the clock does next."""
        if service in SERVICES and (loop := self._loop) is not None:
            with self._turn:
                new = [entry for entry in self._own() if entry.identity not in self._kept]
                for entry in new:
                    self._keep(entry, self._clock.now())
            if new:
                loop.call_soon_threadsafe(self._wake.set)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                soonest = await asyncio.to_thread(self._look)
            except Exception:
                log.exception("schedules could not be looked at")
                soonest = self._clock.now() + 60.0
            await self._clock.wait_for(self._wake, soonest)

    def _look(self) -> float:
        """Fire what is due; when the next one is. Blocks."""
        now = self._clock.now()
        soonest, seen = now + LOOK, set[tuple[Any, ...]]()
        with self._turn, gathering(self._taker) as triggers:
            for entry in self._own():
                seen.add(entry.identity)
                following = self._fire(entry, now)
                if following is not None:
                    soonest = min(soonest, following)
            self._kept = {identity: kept for identity, kept in self._kept.items() if identity in seen}
        if triggers:
            self._taker.take(triggers)
        return soonest

    def _own(self) -> Iterator[_Entry]:
        """But for those that another service of this process saw first."""
        return (one for one in _entries() if vars(one.thing).setdefault(_OWNER, self._taker) is self._taker)

    def _keep(self, entry: _Entry, now: float) -> _Kept:
        kept = self._kept.get(entry.identity)
        if kept is None:
            kept = self._kept[entry.identity] = _begin(entry, now)
        return kept

    def _fire(self, entry: _Entry, now: float) -> float | None:
        """All its times up to now; the next one."""
        kept = self._keep(entry, now)
        if kept.timetable is None:
            return None
        for _ in range(MOST):
            following = kept.timetable.after(kept.fired)
            if following is None or (entry.end is not None and following > entry.end):
                return None
            if following > now:
                return following
            kept.fired = following
            if entry.thing.state != "DISABLED":
                try:
                    entry.fire(following)
                except Exception:
                    log.exception("%s could not be fired", entry.arn)
        kept.fired = now
        return now


def _begin(entry: _Entry, now: float) -> _Kept:
    from lading.model.timetable import read_timetable  # time zones take long to import

    begin = now if entry.begin is None else entry.begin
    try:
        timetable = read_timetable(entry.expression, begin, entry.zone)
    except (ValueError, LookupError, OSError) as error:
        log.warning("the schedule %s never fires: %s", entry.arn, error)
        return _Kept(None, now)
    if entry.begin is None:
        return _Kept(timetable, now - 0.001 if entry.eager else now)
    return _Kept(timetable, max(now, begin - 0.001))


def _entries() -> Iterator[_Entry]:
    """Of moto's services that this process has loaded."""
    if (events := sys.modules.get("moto.events.models")) is not None:
        for backend in _backends(events.events_backends):
            for rule in list(backend.event_buses["default"].rules.values()):
                expression = rule.scheduled_expression
                if expression and not schedule_problem(expression):
                    yield _Entry(rule.arn, rule, expression, partial(_fire_rule, rule))
    if (scheduler := sys.modules.get("moto.scheduler.models")) is not None:
        for backend in _backends(scheduler.scheduler_backends):
            for group in list(backend.schedule_groups.values()):
                for one in list(group.schedules.values()):
                    if not schedule_problem(one.schedule_expression, once=True):
                        yield _schedule_entry(backend, group, one)


def _backends(all_of_them: Any) -> Iterator[Any]:
    for account in list(all_of_them.values()):
        yield from list(account.values())


def _schedule_entry(backend: Any, group: Any, one: Any) -> _Entry:
    return _Entry(
        arn=one.arn,
        thing=one,
        expression=one.schedule_expression,
        fire=partial(_fire_schedule, backend, group, one),
        zone=one.schedule_expression_timezone,
        begin=_seconds(one.start_date),
        end=_seconds(one.end_date),
        eager=one.schedule_expression.startswith("rate"),
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _fire_rule(rule: Any, moment: float) -> None:
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": rule.account_id,
        "time": moment,
        "region": rule.region_name,
        "resources": [rule.arn],
        "detail": {},
        "ingestion-time": moment,
    }
    try:
        rules.deliver(rule, event, transform=True)
    except NotImplementedError as error:
        log.warning("%s", error)


def _fire_schedule(backend: Any, group: Any, one: Any, moment: float) -> None:
    target, identity = one.target, str(uuid.uuid4())
    time = f"{dt.datetime.fromtimestamp(moment, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    event = {
        "version": "0",
        "id": identity,
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": backend.account_id,
        "time": time,
        "region": backend.region_name,
        "resources": [one.arn],
        "detail": "{}",
    }
    payload = str(target.get("Input") or json.dumps(event))
    named = {"schedule-arn": one.arn, "scheduled-time": time, "execution-id": identity, "attempt-number": "1"}
    for name, value in named.items():
        payload = payload.replace(f"<aws.scheduler.{name}>", value)
    _send(one, backend.account_id, payload)
    if one.action_after_completion == "DELETE" and one.schedule_expression.startswith("at"):
        group.schedules.pop(one.name, None)


def _send(one: Any, account: str, payload: str) -> None:
    arn = one.target["Arn"]
    service = rules.service_of(arn)
    if service == "lambda":
        queue = (one.target.get("DeadLetterConfig") or {}).get("Arn")
        attributes = {"SCHEDULE_ARN": one.arn, "TARGET_ARN": arn}
        letter = Delivery(queue, "event", payload, attributes) if queue else None
        hand_over(Trigger(arn, "", one.arn, account, payload.encode(), dead_letter=letter))
    elif service in ("sqs", "sns"):
        rules.send_plain(arn, payload, one.target.get("SqsParameters") or {})
    else:
        log.warning("the schedule %s reaches functions, queues and topics here, not %s", one.arn, arn)


def replace() -> None:
    """Refuses expressions and zones that never come, as AWS does and moto doesn't."""
    from zoneinfo import available_timezones

    from moto.scheduler.exceptions import ValidationException
    from moto.scheduler.models import EventBridgeSchedulerBackend

    backend: Any = EventBridgeSchedulerBackend

    def checked(change: Callable[..., Any]) -> Callable[..., Any]:
        def checked_change(self: Any, **named: Any) -> Any:
            expression, zone = named["schedule_expression"], named["schedule_expression_timezone"] or "UTC"
            if schedule_problem(expression, once=True):
                raise ValidationException(f"Invalid Schedule Expression {expression}.")
            if zone != "UTC" and zone not in available_timezones():
                raise ValidationException(f"Invalid Schedule Expression Timezone {zone}.")
            return change(self, **named)

        return checked_change

    backend.create_schedule, backend.update_schedule = (
        checked(backend.create_schedule),
        checked(backend.update_schedule),
    )
