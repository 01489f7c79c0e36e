"""Types that are written down and not made, because what they are of isn't here; the stack's events say so of each."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lading.service.stacks.kinds.kind import ANYTHING, Properties, Wanted, random_text
from lading.service.stacks.records import Made
from lading.service.stacks.site import Site

_WRITTEN_DOWN = "Not made, only written down: lading's local service has no"
_NOTES = {
    "AWS::ApiGateway": f"{_WRITTEN_DOWN} API Gateway, and no request comes through this. A function URL does.",
    "AWS::ApiGatewayV2": f"{_WRITTEN_DOWN} API Gateway, and no request comes through this. A function URL does.",
    "AWS::ApplicationAutoScaling": f"{_WRITTEN_DOWN} scaling by schedule or metric: provisioned concurrency stays as it is.",
    "AWS::CDK": "Nothing to make, as on AWS.",
    "AWS::CloudWatch": f"{_WRITTEN_DOWN} CloudWatch metrics and alarms.",
    "AWS::CodeDeploy": f"{_WRITTEN_DOWN} CodeDeploy: aliases are shifted at once.",
}
"""By the types' service."""


@dataclass(frozen=True)
class Noted:
    """The Kind of all types of a service that isn't here."""

    note: str
    known: frozenset[str] = frozenset({ANYTHING})
    fixed: frozenset[str] = frozenset()

    def create(self, site: Site, wanted: Wanted) -> Made:
        named = wanted.properties.get("StageName") if wanted.type.endswith("::Stage") else None
        identity = str(named) if named else random_text(10).lower()
        return Made(identity, _Invented(identity))

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        return


class _Invented(Mapping[str, str]):
    """Any attribute: nobody knows which there would be."""

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def __getitem__(self, name: str) -> str:
        return f"{self._identity}-{name}"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@functools.cache
def _noted(service: str) -> Noted | None:
    note = _NOTES.get(service)
    return Noted(note) if note is not None else None


def find_noted(name: str) -> Noted | None:
    service, _, rest = name.rpartition("::")
    return _noted(service) if service in _NOTES and rest else None
