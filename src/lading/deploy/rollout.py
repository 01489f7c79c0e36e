"""Moves an alias to a version: after a smoke test, at once or step by step, watched; back by itself when it goes wrong."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import invoke
from lading.aws.logs import failures_since
from lading.aws.metrics import alarms_ringing, errors_since
from lading.aws.refusal import UnservedError
from lading.errors import DeployError
from lading.model.progress import Progress

LOOK = 15.0
"""Seconds between looks at CloudWatch, which counts by the minute."""


class RolloutError(DeployError):
    """The new version failed its test or made errors; the alias is where it was."""


@dataclass(frozen=True)
class _Move:
    account: Account
    parameters: Mapping[str, Any]
    progress: Progress

    @property
    def name(self) -> str:
        return str(self.parameters["FunctionName"])

    @property
    def alias(self) -> str:
        return str(self.parameters["Name"])

    @property
    def version(self) -> str:
        return str(self.parameters["FunctionVersion"])

    def point(self, version: str, weights: Mapping[str, float]) -> dict[str, Any]:
        """The alias at a version, with shares of traffic for others."""
        return self.account.call(
            "lambda",
            "UpdateAlias",
            FunctionName=self.name,
            Name=self.alias,
            FunctionVersion=version,
            RoutingConfig={"AdditionalVersionWeights": dict(weights)},
        )


def roll_out(
    account: Account, parameters: Mapping[str, Any], progress: Progress, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """1. smoke test 2. a new alias, or all at once 3. step by step, looking between. Raises RolloutError."""
    move = _Move(account, parameters, progress)
    _smoke(move)
    was = parameters["Was"]
    if was is None:
        return account.call(
            "lambda", "CreateAlias", FunctionName=move.name, Name=move.alias, FunctionVersion=move.version
        )
    if was == move.version or parameters["Strategy"] == "all-at-once":
        return move.point(move.version, {})
    watch = _Watch(move, dt.datetime.now(dt.UTC))
    for percent in _steps(parameters["Strategy"], parameters["Step"]):
        move.point(was, {move.version: percent / 100})
        progress.note(f"{move.name}:{move.alias}: {percent} % at version {move.version}")
        try:
            watch.look(parameters["Interval"], sleep)
        except DeployError:
            move.point(was, {})
            progress.note(f"{move.name}:{move.alias}: back at version {was}")
            raise
    return move.point(move.version, {})


def _steps(strategy: str, step: int) -> list[int]:
    """Percentages that the new version gets before all."""
    return [step] if strategy == "canary" else list(range(step, 100, step))


def _smoke(move: _Move) -> None:
    event = move.parameters["SmokeEvent"]
    if event is None:
        return
    failure, payload = invoke(move.account, move.name, move.version, json.dumps(event))
    if failure:
        where = (
            f"the alias {move.alias} stays at {move.parameters['Was']}"
            if move.parameters["Was"]
            else "no alias was made"
        )
        raise RolloutError(
            f"{move.name}: version {move.version} failed its smoke test ({failure}); {where}",
            details=[payload[:500]],
            hint="correct the function, and deploy again",
        )


@dataclass
class _Watch:
    """Of the new version, while it takes traffic. Where there is no CloudWatch, its log is read instead; alarms need one."""

    move: _Move
    begin: dt.datetime
    by_log: bool = False

    def look(self, seconds: float, sleep: Callable[[float], None]) -> None:
        """Raises RolloutError for too many errors of the new version, or an alarm."""
        end = time.monotonic() + seconds
        while True:
            sleep(max(0.0, min(LOOK, end - time.monotonic())))
            move = self.move
            ringing = alarms_ringing(move.account, move.parameters["Alarms"])
            errors = self._errors()
            if ringing or errors > move.parameters["MaxErrors"]:
                why = f"alarm {', '.join(ringing)}" if ringing else f"{errors} errors"
                raise RolloutError(
                    f"{move.name}: version {move.version} was taken back: {why}",
                    hint=f"see its log; the alias {move.alias} is at {move.parameters['Was']} again",
                )
            if time.monotonic() >= end:
                return

    def _errors(self) -> int:
        move = self.move
        if not self.by_log:
            try:
                return errors_since(move.account, move.name, move.alias, move.version, self.begin)
            except UnservedError:
                self.by_log = True
                move.progress.note(f"{move.name}: no CloudWatch here, so errors are counted in the log")
        group = str(move.parameters["LogGroup"])
        return failures_since(move.account, group, move.version, int(self.begin.timestamp() * 1000))
