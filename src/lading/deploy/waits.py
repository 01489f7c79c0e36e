"""What has to come true before an instruction is done: states that AWS reaches in its own time. Polls, ever slower."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import find_qualified, read_configuration
from lading.deploy.instruction import Instruction
from lading.errors import DeployError

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 3.0
DEADLINE = 900.0
"""Seconds. SnapStart and large images take minutes."""


class StateError(DeployError):
    """AWS took a change and then failed to carry it out, or takes too long."""


def wait_for(account: Account, instruction: Instruction, response: Mapping[str, Any]) -> None:
    """Blocks until it is so. Raises StateError with AWS's reason."""
    name = str(instruction.parameters.get("FunctionName", ""))
    deadline, pause = time.monotonic() + DEADLINE, FIRST_PAUSE
    while not _reached(account, instruction, name, response):
        if time.monotonic() > deadline:
            raise StateError(
                f"{instruction.subject}: not done after {DEADLINE:.0f} s", hint="run it again: it goes on from there"
            )
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _reached(account: Account, instruction: Instruction, name: str, response: Mapping[str, Any]) -> bool:
    match instruction.wait:
        case "":
            return True
        case "function-active":
            return _state(instruction, read_configuration(account, name), "State", "Active")
        case "function-updated":
            return _state(instruction, read_configuration(account, name), "LastUpdateStatus", "Successful")
        case "version-active":
            return _state(instruction, read_configuration(account, name, response["Version"]), "State", "Active")
        case "provisioned-ready":
            alias = str(instruction.parameters["Qualifier"])
            found = find_qualified(account, "GetProvisionedConcurrencyConfig", name, alias)
            return _state(instruction, found or {}, "Status", "READY")
        case unknown:
            raise AssertionError(f"no such state: {unknown}")


def _state(instruction: Instruction, found: Mapping[str, Any], field: str, goal: str) -> bool:
    # Endpoints that do everything at once leave the state out.
    state = found.get(field, goal)
    if state in ("Failed", "FAILED"):
        reason = (
            found.get(f"{field}Reason") or found.get("StateReason") or found.get("StatusReason") or "no reason given"
        )
        raise StateError(f"{instruction.subject}: {reason}", hint="correct it, and run it again")
    return bool(state == goal)
