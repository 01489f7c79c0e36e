"""What every kind of resource offers. A key is NAME or NAME:REST; NAME is the kind's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lading.aws.account import Account
from lading.deploy.instruction import Change, Instruction, Problem, Verb
from lading.deploy.unit import Subject, Unit

Wanted = Mapping[str, Any]
"""Key → what it is to be, in the kind's own form."""
Step = Instruction | Problem


class Kind(Protocol):
    """A module of this package."""

    def wanted(self, unit: Unit) -> Wanted:
        """What a function's wish asks of this kind."""
        ...

    def observe(self, account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
        """What is there, by key; missing where nothing is. The value of `keys` tells whether it is wanted."""
        ...

    def diff(self, subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
        """From what is there (None: nothing) to what is wanted (None: nothing). Both None is nothing to do."""
        ...


class ProjectKind(Kind, Protocol):
    """A kind whose things functions may have in common: it is planned once for all of them."""

    def join(self, users: Sequence[tuple[str, Any]]) -> Any:
        """The common wish of (function, its wish)."""
        ...


def kind_of(key: str) -> str:
    return key.partition(":")[0]


def rest_of(key: str) -> str:
    return key.partition(":")[2]


def canonical(text: str) -> str:
    """JSON in the form that lading writes it; what isn't JSON as it is."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text


def taken(subject: str) -> Problem:
    """Of something that carries the name and isn't the project's."""
    return Problem(f"{subject} is there and isn't this project's", "take another name, or take it over with --adopt")


@dataclass(frozen=True)
class Pen:
    """Writes the instructions of one thing. `text` is what it is, for people."""

    subject: Subject
    key: str
    text: str
    service: str = "lambda"

    def __call__(
        self, step: str, verb: Verb, operation: str, parameters: Mapping[str, Any], **more: Any
    ) -> Instruction:
        """`more` are the instruction's own fields: changes, after, wait."""
        return Instruction(
            self.subject.scope, self.key, step, verb, self.text, self.service, operation, parameters, **more
        )


def changes_between(names: Mapping[str, str], was: Mapping[str, Any], will: Mapping[str, Any]) -> tuple[Change, ...]:
    """By field of the API; `names` says what people call it."""
    return tuple(
        Change(name, was.get(field), will.get(field))
        for field, name in names.items()
        if was.get(field) != will.get(field)
    )
