"""A structure's members as parsing, checking and serializing ask for them: taken from the model once, not with every request."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Member:
    """One member. `shape` is botocore's."""

    name: str
    shape: Any
    wire: str
    """Its name in JSON, as a header, in the query or as a label of the path."""
    header: str
    """The same in lower case."""
    location: str | None
    """"uri", "header", "querystring", "statusCode", …; None: in the body."""
    spelled: str
    """Its name as AWS's messages spell it ("functionName", "kMSKeyArn")."""
    required: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """A structure's members: all, those outside the body, those in it, and the one that is the body."""

    members: tuple[Member, ...]
    located: tuple[Member, ...]
    in_body: tuple[Member, ...]
    payload: Member | None


@functools.cache
def layout(shape: Any) -> Layout:
    """Of a structure of a service's model; models are loaded once, so there are no more of them than shapes."""
    required = frozenset(shape.required_members)
    members = tuple(_member(name, inner, required) for name, inner in shape.members.items())
    payload = shape.serialization.get("payload")
    return Layout(
        members,
        tuple(member for member in members if member.location is not None),
        tuple(member for member in members if member.location is None),
        next((member for member in members if member.name == payload), None),
    )


def _member(name: str, shape: Any, required: frozenset[str]) -> Member:
    wire = shape.serialization.get("name", name)
    location = shape.serialization.get("location")
    return Member(name, shape, wire, wire.lower(), location, name[:1].lower() + name[1:], name in required)
