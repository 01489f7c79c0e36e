"""One request and its answer, from the hand-over of the event to the last byte: held back where the caller is slow, measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from lading.runtimeapi import calls, effects
from lading.service.moment import iso
from lading.service.pool.function import Answer, InvokeRequest
from lading.service.pool.streams import Pace


class Exchange:
    """One request and the answer to it, which comes whole or piece by piece. The first answer counts."""

    def __init__(
        self, request: InvokeRequest, answered: Callable[[Answer], None] | None, accepted: float, *, first: bool
    ) -> None:
        """`accepted`: monotonic seconds. `first`: no other was here before."""
        self.request = request
        self.accepted = accepted
        self.first = first
        self.answer: Answer | None = None
        self.dispatched = self.begun = self.completed = 0.0
        """Monotonic seconds: when the event was handed over, the response began, and was there."""
        self.streamed = 0
        self.told = False
        """Whether its record says already that the runtime is through."""
        self._answered = answered
        self._collected = bytearray()
        self.held = False
        """No more of a streamed response is read for now."""
        self._pace = Pace(time.monotonic())

    def respond(self, answer: Answer) -> None:
        if self.answer is not None:
            return
        self.answer = answer
        if self._answered is not None:
            self._answered(answer)

    def add(self, data: bytes) -> None:
        """A piece of a streamed response."""
        self.begun = self.begun or time.monotonic()
        self.streamed += len(data)
        if self.streamed > calls.MAXIMUM_STREAM:
            return
        self._pace.take(len(data), time.monotonic())
        if self.request.sink is not None:
            self.request.sink.chunk(data)
        elif len(self._collected) <= calls.MAXIMUM_PAYLOAD:
            self._collected += data

    def hold(self, resume: Callable[[], None]) -> bool:
        """Whether time has to go by or the caller to catch up first; then `resume` is called."""
        seconds = self._pace.wait(time.monotonic())
        if seconds:
            asyncio.get_running_loop().call_later(seconds, resume)
            return True
        return self.request.sink is not None and self.request.sink.hold(resume)

    def complete(self, step: effects.Responded) -> None:
        self.completed = time.monotonic()
        self.begun = self.begun or self.completed
        body = step.body
        if step.streamed and self.request.sink is None:
            body = bytes(self._collected)
            if len(body) > calls.MAXIMUM_PAYLOAD:
                self.respond(Answer(calls.response_too_large(), error_type="Function.ResponseSizeTooLarge"))
                return
        self.respond(Answer(body, step.content_type or "application/json", step.error_type, step.streamed))

    def done_record(self, status: str, error_type: str) -> dict[str, Any]:
        """What platform.runtimeDone says, now that the runtime is through."""
        self.told = True
        now, clock = time.monotonic(), time.time()
        produced = self.streamed or (len(self.answer.payload) if self.answer is not None and self.completed else 0)
        record: dict[str, Any] = {
            "requestId": self.request.request_id,
            "status": status,
            "metrics": {"durationMs": _milliseconds(now - self.dispatched), "producedBytes": produced},
        }
        if error_type:
            record["errorType"] = error_type
        times = (
            ("responseLatency", self.dispatched, self.begun),
            ("responseDuration", self.begun, self.completed),
            ("runtimeOverhead", self.completed, now),
        )
        spans = [
            {"name": name, "start": iso(clock - (now - start)), "durationMs": _milliseconds(end - start)}
            for name, start, end in times
            if start and end
        ]
        return {**record, "spans": spans} if spans else record


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
