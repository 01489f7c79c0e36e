"""What a plan is made of: frozen instructions, each one call of AWS's API with its reason, and JSON as plain values.

Parameters may hold placeholders, tables with one key: `$output` ([instruction, dotted field]: known when that is carried out),
`$file` (path and digest of an artifact), `$hidden` (a secret, by its label).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from lading.errors import DeployError

PLAN_VERSION = 1
OUTPUT, FILE, HIDDEN = "$output", "$file", "$hidden"
HIDDEN_TEXT = "(hidden)"


class PlanFormatError(DeployError):
    """A file is not a plan of this version."""


class Verb(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True)
class Change:
    """One field: what it was and what it will be, as JSON; None where there was or will be nothing."""

    name: str
    was: Any = field(default=None, hash=False)
    will: Any = field(default=None, hash=False)


@dataclass(frozen=True)
class Problem:
    """Why a deployment can't be, known before anything is changed."""

    text: str
    hint: str = ""


@dataclass(frozen=True)
class Instruction:
    """`scope` is the function in the project, or empty; `key` what of it ("role", "rule:nightly"); `step` which call."""

    scope: str
    key: str
    step: str
    verb: Verb
    subject: str
    """What it is on AWS, for people: "function shop-orders"."""
    service: str
    operation: str
    """Of the service's API; "rollout" and "push" are lading's own."""
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    changes: tuple[Change, ...] = ()
    after: tuple[str, ...] = ()
    """Ids (SCOPE/KEY or SCOPE/KEY#STEP) that must be done before, where they are in the plan."""
    wait: str = ""
    """What has to come true before it is done, by name in `waits`."""
    patience: int = 0
    """Seconds to try again while a fresh role isn't known everywhere."""

    @property
    def id(self) -> str:
        return f"{self.scope}/{self.key}#{self.step}"


@dataclass(frozen=True)
class Plan:
    """Instructions in an order in which they can be carried out, for one account and region."""

    account: str
    region: str
    project: str
    stage: str
    instructions: tuple[Instruction, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def make_order(instructions: Iterable[Instruction]) -> tuple[Instruction, ...]:
    """Sorted so that each comes after what it needs, `after` narrowed to what is in the plan. Stable."""
    given = list(instructions)
    ids = [instruction.id for instruction in given]
    needs = {
        one.id: [other for other in ids if other != one.id and any(_means(name, other) for name in one.after)]
        for one in given
    }
    done: dict[str, Instruction] = {}
    waiting = {one.id: one for one in given}
    while waiting:
        ready = [one for one in waiting.values() if all(name in done for name in needs[one.id])]
        if not ready:
            raise AssertionError(f"instructions wait for each other: {sorted(waiting)}")
        for one in ready:
            done[one.id] = replace(one, after=tuple(needs[one.id]))
            del waiting[one.id]
    return tuple(done.values())


def _means(name: str, identity: str) -> bool:
    """`*/KEY` means that key of every function, `KEY#STEP*` all steps that begin so."""
    if name.startswith("*/"):
        identity = f"*/{identity.partition('/')[2]}"
    if name.endswith("*"):
        return identity.startswith(name[:-1])
    return identity == name or identity.startswith(f"{name}#")


def fill(value: Any, put: Callable[[str, Any], Any]) -> Any:
    """A copy with each placeholder replaced by what `put(kind, content)` gives."""
    if isinstance(value, Mapping):
        if len(value) == 1:
            kind = next(iter(value))
            if kind in (OUTPUT, FILE, HIDDEN):
                return put(kind, value[kind])
        return {key: fill(inner, put) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fill(inner, put) for inner in value]
    return value


def output(instruction: str, name: str) -> dict[str, Any]:
    """What another instruction's answer will hold; `name` is dotted for what lies deeper."""
    return {OUTPUT: [instruction, name]}


def write_plans(plans: Iterable[Plan]) -> str:
    """The file that `lading plan --json` prints and `lading deploy --plan` takes."""
    document = {"version": PLAN_VERSION, "plans": [plan.to_json() for plan in plans]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_plans(text: str) -> tuple[Plan, ...]:
    """The inverse. Raises PlanFormatError."""
    try:
        document = json.loads(text)
        if document["version"] != PLAN_VERSION:
            raise PlanFormatError(f"the plan has version {document['version']!r}", hint="make it anew: lading plan")
        return tuple(_read_plan(plan) for plan in document["plans"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PlanFormatError(f"not a plan: {error}", hint="make one: lading plan --json > plan.json") from error


def _read_plan(data: Mapping[str, Any]) -> Plan:
    return Plan(**{**data, "instructions": tuple(_read_instructions(data)), "notes": tuple(data["notes"])})


def _read_instructions(data: Mapping[str, Any]) -> Iterator[Instruction]:
    for one in data["instructions"]:
        changes = tuple(Change(**change) for change in one["changes"])
        yield Instruction(**{**one, "verb": Verb(one["verb"]), "changes": changes, "after": tuple(one["after"])})
