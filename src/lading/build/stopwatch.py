"""Wall time by step, added up over a build."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """`with watch("resolve"): …`; steps keep the order in which they first ran."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._steps: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._steps[step] = self._steps.get(step, 0.0) + time.perf_counter() - started

    def seconds(self) -> dict[str, float]:
        """Seconds by step, and "total" since the stopwatch was made."""
        return {**self._steps, "total": time.perf_counter() - self._started}
