"""How an init phase went."""

from __future__ import annotations

from dataclasses import dataclass

from lading.runtimeapi import effects
from lading.service.pool.faults import Fault
from lading.service.pool.function import Answer


@dataclass(frozen=True)
class Init:
    """`answer` is what a caller gets where it failed. Milliseconds."""

    duration: float
    fault: Fault | None = None
    answer: Answer | None = None


def judge(result: object, duration: float) -> Init:
    """By what ended the phase: an effect, or a fault."""
    if isinstance(result, effects.InitDone):
        return Init(duration)
    if isinstance(result, effects.InitFailed):
        fault = Fault(result.error_type, "the runtime reported an init error", reported=True)
        return Init(duration, fault, Answer(result.body, error_type=result.error_type))
    assert isinstance(result, Fault)
    return Init(duration, result)
