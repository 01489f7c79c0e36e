"""The service as triggers find it: its functions' policies, and its queue of asynchronous events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lading.service.clock import Clock
from lading.service.contract.errors import ApiError
from lading.service.control.control import Control
from lading.service.control.invocation import find_choice
from lading.service.control.names import LATEST, FunctionReference, Scope, read_reference
from lading.service.events import DeliveryFailed, EventStream
from lading.service.identity import new_trace, request_id
from lading.service.lineage import read_lineage
from lading.service.queue.dispatch import Queue
from lading.service.queue.event import Delivery, QueuedEvent
from lading.service.state import Key
from lading.service.triggers.trigger import Refusal, Standing, Trigger

PATIENCE = 60.0
"""Seconds for events to be committed."""
Put = Callable[[Scope, Delivery, str], None]
log = logging.getLogger("lading.service")


class Triggers:
    """The `Taker` of a service. `start` on its loop."""

    def __init__(self, control: Control, queue: Queue | None, events: EventStream, clock: Clock, put: Put) -> None:
        """queue: None where functions are kept and not run. put: sends a dead letter."""
        self._control = control
        self._queue = queue
        self._events = events
        self._clock = clock
        self._put = put
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        self._loop = None

    def standing(self, function: str) -> Standing:
        state = self._control.state
        try:
            scope, reference = _read(function)
            find_choice(state, scope, reference)
        except ApiError:
            return Standing(exists=False)
        policy = state.get(Key(scope.account, scope.region, "policy", reference.name, reference.qualifier or LATEST))
        statements = tuple((policy or {}).get("Statement", ()))
        return Standing(exists=True, runs=self._queue is not None, statements=statements, region=scope.region)

    def take(self, triggers: Sequence[Trigger]) -> None:
        loop = self._loop
        if loop is None:
            log.warning("the service ends: %d events for functions are lost", len(triggers))
            return
        accepted, refused = [], []
        for trigger in triggers:
            why = self.standing(trigger.function).refusal(trigger)
            if why is None:
                accepted.append(self._event(trigger))
            else:
                refused.append((trigger, why))
        try:
            asyncio.run_coroutine_threadsafe(self._keep(accepted, refused), loop).result(PATIENCE)
            for trigger, why in refused:
                self._bury(trigger, why)
        except Exception:
            log.exception("events for functions could not be kept")

    async def _keep(self, accepted: list[QueuedEvent], refused: list[tuple[Trigger, Refusal]]) -> None:
        for trigger, why in refused:
            self._events.append(DeliveryFailed(time.time(), trigger.function, trigger.source, why.value))
        if self._queue is not None:
            await asyncio.gather(*map(self._queue.accept, accepted))

    def _bury(self, trigger: Trigger, why: Refusal) -> None:
        letter = trigger.dead_letter
        if letter is None:
            return
        if letter.attributes:
            message = f"{trigger.function} could not be invoked by {trigger.principal}: {why.name}"
            letter = replace(
                letter, attributes={**letter.attributes, "ERROR_CODE": why.value, "ERROR_MESSAGE": message}
            )
        try:
            _, _, _, region, account, _ = letter.arn.split(":", 5)
            self._put(Scope(account, region), letter, "")
        except Exception as error:
            log.error("the event for %s is given up: its dead-letter queue: %s", trigger.function, error)

    def _event(self, trigger: Trigger) -> QueuedEvent:
        scope, reference = _read(trigger.function)
        trace, moment = trigger.trace or new_trace(), self._clock.now()
        return QueuedEvent(
            id=request_id(),
            scope=scope,
            name=reference.name,
            qualifier=reference.qualifier,
            event=trigger.payload,
            accepted=moment,
            due=moment,
            trace_id=trace,
            lineage=read_lineage(trace),
        )


def _read(arn: str) -> tuple[Scope, FunctionReference]:
    """Raises ApiError for what isn't a function's ARN."""
    parts = arn.split(":")
    if len(parts) < 7 or parts[2] != "lambda":
        raise ApiError("ResourceNotFoundException", f"not a function's ARN: {arn[:200]}")
    scope = Scope(parts[4], parts[3])
    return scope, read_reference(scope, arn)
