"""A plan for people: one line for each instruction, field by field below it. Pure: lines of text with a style each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lading.deploy.instruction import FILE, HIDDEN, HIDDEN_TEXT, OUTPUT, Change, Plan, Verb, fill

SIGNS = {Verb.CREATE: "+", Verb.UPDATE: "~", Verb.DELETE: "-"}
LONGEST = 100
"""Characters of a value."""
Line = tuple[str, str]
"""A style ("create", "update", "delete", "field", "plain") and a text."""


def show_plan(plan: Plan) -> Iterator[Line]:
    """Lines in the order of the plan."""
    where = f"{plan.project}, stage {plan.stage}: account {plan.account}, {plan.region}"
    yield "plain", where
    for note in plan.notes:
        yield "plain", f"note: {note}"
    for one in plan.instructions:
        yield one.verb.value, f"{SIGNS[one.verb]} {one.subject}: {one.operation}"
        for change in one.changes:
            yield "field", f"    {show_change(change)}"
    yield "plain", summary(plan)


def summary(plan: Plan) -> str:
    """ "nothing to do", or how many of each."""
    if not plan.instructions:
        return "nothing to do: AWS is as the project wants it"
    counts = {verb: sum(one.verb is verb for one in plan.instructions) for verb in Verb}
    names = {Verb.CREATE: "to make", Verb.UPDATE: "to change", Verb.DELETE: "to remove"}
    return ", ".join(f"{count} {names[verb]}" for verb, count in counts.items() if count)


def show_change(change: Change) -> str:
    was, will = (_text(value) for value in (change.was, change.will))
    if change.was is None:
        return f"{change.name}: {will}"
    if change.was == HIDDEN_TEXT == change.will:
        return f"{change.name}: {HIDDEN_TEXT}, changed"
    return f"{change.name}: {was} → {will}"


def _text(value: Any) -> str:
    if value is None:
        return "(none)"
    plain = fill(value, _stand_in)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _stand_in(kind: str, content: Any) -> str:
    return {HIDDEN: HIDDEN_TEXT, OUTPUT: "(known later)", FILE: "(artifact)"}[kind]
