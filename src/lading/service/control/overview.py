"""All functions of a state, whoever they belong to: what `lading ps` shows. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from lading.service.control.names import LATEST, Scope
from lading.service.state import State


@dataclass(frozen=True)
class FunctionLine:
    """A function as it is now. `function`: ARN without qualifier."""

    function: str
    state: str
    update: str
    """LastUpdateStatus."""
    runtime: str
    """"" of an image."""
    memory: int
    timeout: int


def list_everything(state: State) -> list[FunctionLine]:
    """By ARN."""
    lines = []
    for record in state.find_everywhere("version", "$.Version", LATEST):
        found, key = record.document, record.key
        lines.append(
            FunctionLine(
                Scope(key.account, key.region).function_arn(key.parent),
                found["State"],
                found.get("LastUpdateStatus", ""),
                found.get("Runtime", ""),
                found["MemorySize"],
                found["Timeout"],
            )
        )
    return sorted(lines, key=lambda line: line.function)
