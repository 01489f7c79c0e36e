"""What a plan would change of a stack, as change sets list it. Reads, and changes nothing."""

from __future__ import annotations

import functools
from typing import Any

from lading.service.stacks.deployment import needs_replacement, properties_of
from lading.service.stacks.expressions import Evaluator, text_of
from lading.service.stacks.kinds.known import find_kind
from lading.service.stacks.records import Plan, Resource, Shelf, Stack
from lading.service.stacks.template import in_order

UNCHANGED = "The submitted information didn't contain changes. Submit different information to create a change set."


class Preview:
    """A plan against a stack."""

    def __init__(self, shelf: Shelf, stack: Stack, plan: Plan) -> None:
        self._shelf = shelf
        self._stack = stack
        self._plan = plan
        self._open: set[str] = set()
        """Resources of which nobody knows yet what they will be."""
        template = plan.template
        self._evaluator = Evaluator(
            template.resources, template.section("Mappings"), template.section("Conditions"), plan.values, self
        )

    @functools.cached_property
    def changes(self) -> list[dict[str, Any]]:
        """Raises ApiError."""
        found = []
        wanted = self._wanted()
        for name in in_order(self._plan.template):
            if name not in wanted:
                continue
            definition, present = self._plan.template.resources[name], self._stack.resources.get(name)
            if present is None or present.made is None:
                self._open.add(name)
                found.append(_change("Add", name, str(definition["Type"])))
            elif change := self._modified(present, definition):
                found.append(change)
        gone = [one for name, one in self._stack.resources.items() if name not in wanted]
        return found + [_change("Remove", one.name, one.type, one.identity) for one in gone]

    def same(self) -> bool:
        """Whether nothing at all would be another: no resource, output or tag."""
        before = self._stack.plan
        if before is None or self.changes or before.tags != self._plan.tags:
            return False
        return (
            before.template.document.get("Outputs") == self._plan.template.document.get("Outputs") and not self._moved()
        )

    def _moved(self) -> bool:
        """Whether an output's value is another."""
        known = {one["OutputKey"]: one["OutputValue"] for one in self._stack.outputs}
        outputs = self._plan.template.section("Outputs")
        shown = {
            name: text_of(self._evaluator.evaluate(one["Value"]))
            for name, one in outputs.items()
            if self._evaluator.applies(one)
        }
        return shown != known

    def _wanted(self) -> set[str]:
        return {name for name, one in self._plan.template.resources.items() if self._evaluator.applies(one)}

    def _modified(self, present: Resource, definition: Any) -> dict[str, Any] | None:
        kind, type_name = find_kind(str(definition["Type"])), str(definition["Type"])
        properties = properties_of(self._evaluator, definition)
        before = self._stack.plan
        retagged = before is not None and before.tags != self._plan.tags and kind is not None and "Tags" in kind.known
        if properties == present.properties and type_name == present.type and not retagged:
            return None
        replaced = kind is not None and needs_replacement(kind, present, type_name, properties)
        if replaced:
            self._open.add(present.name)
        names = {*properties, *present.properties}
        changed = sorted(name for name in names if properties.get(name) != present.properties.get(name))
        details = [
            {
                "Target": {
                    "Attribute": "Properties",
                    "Name": name,
                    "RequiresRecreation": "Always" if kind is not None and name in kind.fixed else "Never",
                },
                "Evaluation": "Static",
                "ChangeSource": "DirectModification",
            }
            for name in changed
        ]
        change = _change("Modify", present.name, type_name, present.identity)
        more = {
            "Replacement": "True" if replaced else "False",
            "Scope": ["Properties"] if changed else ["Tags"],
            "Details": details,
        }
        change["ResourceChange"] |= more
        return change

    # Lookup

    def identity(self, resource: str) -> Any:
        return self._stack.made(resource).ref if resource not in self._open else _later(resource)

    def attribute(self, resource: str, name: str) -> Any:
        if resource in self._open:
            return _later(f"{resource}.{name}")
        return self._stack.attribute(resource, name)

    def imported(self, name: str) -> str:
        return self._shelf.exported(self._stack.scope, name)

    def dynamic(self, service: str, reference: str) -> str:
        return f"{{{{resolve:{service}:{reference}}}}}"


def _later(what: str) -> str:
    return f"{{{{changeSet:KNOWN_AFTER_APPLY:{what}}}}}"


def _change(action: str, name: str, type_name: str, identity: str | None = None) -> dict[str, Any]:
    change: dict[str, Any] = {"Action": action, "LogicalResourceId": name, "ResourceType": type_name}
    if identity:
        change["PhysicalResourceId"] = identity
    return {"Type": "Resource", "ResourceChange": change | ({"Scope": [], "Details": []} if action != "Modify" else {})}
