"""Typed parameters against the model's constraints, every violation in AWS's wording.

The model's bounds are a superset of what is in force: `Bounds` (from data) replace them by shape name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lading.service.contract.errors import ConstraintError
from lading.service.contract.layout import Member, layout
from lading.service.contract.patterns import matches

LONGEST_MATCHED = 20_480
"""Characters of a string that is still held against a pattern: the longest that any model allows."""
LONGEST_SHOWN = 2_048
"""Characters of a value that a message repeats."""
MOST_VIOLATIONS = 50


@dataclass(frozen=True)
class Bounds:
    """Inclusive bounds of a number, or of a length; None leaves the model's own."""

    minimum: float | None = None
    maximum: float | None = None


_NO_BOUNDS = Bounds()


@dataclass
class _Walk:
    bounds: Mapping[str, Bounds]
    violations: list[str] = field(default_factory=list)

    def add(self, shape: Any, value: Any, path: str, constraint: str) -> None:
        if len(self.violations) < MOST_VIOLATIONS:
            shown = "" if shape.metadata.get("sensitive") else f" {_quoted(value)}"
            self.violations.append(f"Value{shown} at '{path}' failed to satisfy constraint: {constraint}")


def validate(
    shape: Any,
    parameters: Mapping[str, Any],
    bounds: Mapping[str, Bounds] | None = None,
    *,
    unchecked: frozenset[str] = frozenset(),
) -> None:
    """Raises ConstraintError with all violations. `shape` is an operation's input shape, or None for one without input;
    the values of `unchecked` members are left to others."""
    if shape is None:
        return
    walk = _Walk(bounds or {})
    if unchecked:
        parameters = {name: value for name, value in parameters.items() if name not in unchecked}
    _structure(walk, shape, parameters, "")
    if walk.violations:
        raise ConstraintError(walk.violations)


def _structure(walk: _Walk, shape: Any, value: Mapping[str, Any], path: str) -> None:
    for member in layout(shape).members:
        if member.name in value:
            _value(walk, member.shape, value[member.name], _below(path, member))
        elif member.required:
            here = _below(path, member)
            walk.violations.append(f"Value null at '{here}' failed to satisfy constraint: Member must not be null")


def _below(path: str, member: Member) -> str:
    return f"{path}.{member.spelled}" if path else member.spelled


def _value(walk: _Walk, shape: Any, value: Any, path: str) -> None:
    if shape.type_name == "structure":
        _structure(walk, shape, value, path)
        return
    for constraint in broken(shape, value, walk.bounds):
        walk.add(shape, value, path, constraint)
    if shape.type_name == "list":
        _list(walk, shape, value, path)
    elif shape.type_name == "map":
        _map(walk, shape, value, path)


def _list(walk: _Walk, shape: Any, value: list[Any], path: str) -> None:
    if shape.member.type_name in ("structure", "list", "map"):
        for number, item in enumerate(value, 1):
            if item is not None:
                _value(walk, shape.member, item, f"{path}.{number}.member")
    elif any(item is None or broken(shape.member, item, walk.bounds) for item in value):
        every = [*all_constraints(shape.member, walk.bounds), "Member must not be null"]
        walk.add(shape, value, path, f"Member must satisfy constraint: [{', '.join(every)}]")


def _map(walk: _Walk, shape: Any, value: dict[str, Any], path: str) -> None:
    if any(broken(shape.key, key, walk.bounds) for key in value):
        constraints = ", ".join(all_constraints(shape.key, walk.bounds))
        walk.add(shape, value, path, f"Map keys must satisfy constraint: [{constraints}]")
    if shape.value.type_name in ("structure", "list", "map"):
        for key, item in value.items():
            if item is not None:
                _value(walk, shape.value, item, f"{path}.{key}.member")
    elif any(item is None or broken(shape.value, item, walk.bounds) for item in value.values()):
        every = [*all_constraints(shape.value, walk.bounds), "Member must not be null"]
        walk.add(shape, value, path, f"Map value must satisfy constraint: [{', '.join(every)}]")


def limits(shape: Any, bounds: Mapping[str, Bounds]) -> tuple[float | None, float | None]:
    """(minimum, maximum) in force for a shape."""
    own = bounds.get(shape.name, _NO_BOUNDS)
    low = shape.metadata.get("min") if own.minimum is None else own.minimum
    high = shape.metadata.get("max") if own.maximum is None else own.maximum
    return low, high


def all_constraints(shape: Any, bounds: Mapping[str, Bounds]) -> list[str]:
    """Every constraint of a shape, the way AWS lists them for members."""
    low, high = limits(shape, bounds)
    found = []
    if high is not None:
        found.append(_at_most(shape, high))
    if low is not None:
        found.append(_at_least(shape, low))
    if "pattern" in shape.metadata:
        found.append(_pattern(shape))
    if getattr(shape, "enum", None):
        found.append(_enumerated(shape))
    return found


def broken(shape: Any, value: Any, bounds: Mapping[str, Bounds]) -> list[str]:
    """The constraints of one shape that a value breaks; members of collections apart."""
    low, high = limits(shape, bounds)
    found = []
    size = _size(shape, value)
    if size is not None and high is not None and size > high:
        found.append(_at_most(shape, high))
    if size is not None and low is not None and size < low:
        found.append(_at_least(shape, low))
    pattern = shape.metadata.get("pattern")
    if pattern and isinstance(value, str) and (len(value) > LONGEST_MATCHED or not matches(pattern, value)):
        found.append(_pattern(shape))
    enum = getattr(shape, "enum", None)
    if enum and value not in enum:
        found.append(_enumerated(shape))
    return found


def _size(shape: Any, value: Any) -> float | None:
    """The number or length that a shape's min and max speak of."""
    if shape.type_name in _NUMBERS:
        return float(value) if shape.type_name in ("float", "double") else int(value)
    return len(value) if shape.type_name in ("string", "blob", "list", "map") else None


_NUMBERS = ("integer", "long", "float", "double")


def _at_most(shape: Any, bound: float) -> str:
    return f"Member must have {_measure(shape)} less than or equal to {bound}"


def _at_least(shape: Any, bound: float) -> str:
    return f"Member must have {_measure(shape)} greater than or equal to {bound}"


def _measure(shape: Any) -> str:
    return "value" if shape.type_name in _NUMBERS else "length"


def _pattern(shape: Any) -> str:
    return f"Member must satisfy regular expression pattern: {shape.metadata['pattern']}"


def _enumerated(shape: Any) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _quoted(value: Any) -> str:
    text = shown(value)
    return f"'{text[:LONGEST_SHOWN]}…'" if len(text) > LONGEST_SHOWN else f"'{text}'"


def shown(value: Any) -> str:
    """A value as Java prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}={shown(item)}' for key, item in value.items())}}}"
    return "null" if value is None else str(value)
