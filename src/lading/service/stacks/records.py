"""Stacks, their resources, events and change sets as the service remembers them; none of it knows how a resource is made."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.control.names import Scope
from lading.service.stacks.refusal import invalid
from lading.service.stacks.template import Template

MOST_EVENTS = 5_000
"""Of a stack; the oldest go."""
MOST_DELETED = 200
"""Deleted stacks that are remembered, of an account and region."""
MOST_CHANGE_SETS = 100
MOST_STACKS = 2_000
"""Living ones, of an account and region (CloudFormation User Guide, quotas)."""
STACK = "AWS::CloudFormation::Stack"


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Made:
    """A resource that is there: its physical id, what `Ref` gives (the same unless said) and its attributes."""

    identity: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None

    @property
    def ref(self) -> str:
        return self.identity if self.reference is None else self.reference


@dataclass
class Resource:
    """One resource of a stack. `properties`: evaluated, as it was last made or updated."""

    name: str
    type: str
    properties: dict[str, Any]
    definition: Mapping[str, Any]
    made: Made | None = None
    status: str = "CREATE_IN_PROGRESS"
    reason: str | None = None
    changed: dt.datetime = field(default_factory=now)

    @property
    def identity(self) -> str:
        return self.made.identity if self.made is not None else ""


@dataclass(frozen=True)
class Event:
    """What DescribeStackEvents tells."""

    name: str
    identity: str
    type: str
    status: str
    reason: str | None
    properties: str | None
    token: str | None
    time: dt.datetime = field(default_factory=now)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Plan:
    """What a stack is to be: a checked template whose transforms are done, and what was sent with it."""

    template: Template
    sent: Template
    parameters: Mapping[str, str]
    """As texts."""
    values: Mapping[str, Any]
    """Parameters and pseudo parameters as Ref gives them."""
    tags: Mapping[str, str]
    capabilities: tuple[str, ...] = ()
    notifications: tuple[str, ...] = ()
    role: str | None = None
    endpoint: str = ""
    """Where the client reached the service."""
    rollback: bool = True
    token: str | None = None


@dataclass
class ChangeSet:
    """What would change, and whether it has been done."""

    name: str
    arn: str
    kind: str
    plan: Plan
    description: str | None
    status: str = "CREATE_PENDING"
    execution: str = "UNAVAILABLE"
    reason: str | None = None
    changes: list[dict[str, Any]] = field(default_factory=list)
    created: dt.datetime = field(default_factory=now)
    on_failure: str | None = None


@dataclass
class Stack:
    """One stack. Its operation's thread alone writes to it while `busy`; readers see whole values."""

    scope: Scope
    name: str
    arn: str
    status: str = "REVIEW_IN_PROGRESS"
    reason: str | None = None
    plan: Plan | None = None
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    exports: dict[str, str] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=MOST_EVENTS))
    change_sets: dict[str, ChangeSet] = field(default_factory=dict)
    created: dt.datetime = field(default_factory=now)
    updated: dt.datetime | None = None
    deleted: dt.datetime | None = None
    protected: bool = False
    parent: str | None = None
    leftovers: list[Resource] = field(default_factory=list)
    """Replaced or removed and still to be deleted."""

    @property
    def busy(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    def made(self, name: str) -> Made:
        """A resource that is there, as references to it find it. Raises ApiError."""
        found = self.resources.get(name)
        if found is None or found.made is None:
            raise invalid(f"Unresolved resource dependencies [{name}] in the Resources block of the template")
        return found.made

    def attribute(self, resource: str, name: str) -> Any:
        """Raises ApiError."""
        attributes = self.made(resource).attributes
        if name not in attributes:
            raise invalid(f"Template error: resource {resource} does not support attribute type {name} in Fn::GetAtt")
        return attributes[name]

    def tell(self, status: str, reason: str | None = None) -> None:
        """The stack's own status and its event."""
        self.status, self.reason = status, reason
        token = self.plan.token if self.plan is not None else None
        self.events.append(Event(self.name, self.arn, STACK, status, reason, None, token))

    def tell_of(
        self, resource: Resource, status: str, reason: str | None = None, properties: str | None = None
    ) -> None:
        resource.status, resource.reason, resource.changed = status, reason, now()
        token = self.plan.token if self.plan is not None else None
        self.events.append(Event(resource.name, resource.identity, resource.type, status, reason, properties, token))


class Shelf:
    """All stacks of a service, by whose they are. Safe between threads."""

    def __init__(self) -> None:
        self._stacks: dict[Scope, dict[str, Stack]] = {}
        self.lock = threading.RLock()

    def all_of(self, scope: Scope) -> list[Stack]:
        """The newest first, the deleted among them."""
        with self.lock:
            return list(self._stacks.get(scope, {}).values())[::-1]

    def find(self, scope: Scope, name: str) -> Stack | None:
        """By ARN, or a living one by name."""
        with self.lock:
            known = self._stacks.get(scope, {})
            if name in known:
                return known[name]
            return next((one for one in known.values() if one.name == name and one.deleted is None), None)

    def add(self, scope: Scope, name: str) -> Stack:
        """Raises ApiError when there are too many."""
        arn = f"arn:{scope.partition}:cloudformation:{scope.region}:{scope.account}:stack/{name}/{uuid.uuid4()}"
        with self.lock:
            known = self._stacks.setdefault(scope, {})
            if sum(one.deleted is None for one in known.values()) >= MOST_STACKS:
                raise ApiError("LimitExceededException", f"Limit for stack has been exceeded: {MOST_STACKS}")
            gone = [one.arn for one in known.values() if one.deleted is not None]
            for old in gone[: max(0, len(gone) - MOST_DELETED)]:
                del known[old]
            stack = known[arn] = Stack(scope, name, arn)
            return stack

    def drop(self, stack: Stack) -> None:
        with self.lock:
            self._stacks.get(stack.scope, {}).pop(stack.arn, None)

    def exporter(self, scope: Scope, export: str) -> Stack | None:
        return next((one for one in self.all_of(scope) if one.deleted is None and export in one.exports), None)

    def exported(self, scope: Scope, export: str) -> str:
        """The value. Raises ApiError."""
        exporter = self.exporter(scope, export)
        if exporter is None:
            raise invalid(f"No export named {export} found.")
        return exporter.exports[export]

    def importers(self, scope: Scope, export: str) -> list[Stack]:
        return [one for one in self.all_of(scope) if one.deleted is None and export in one.imports]
