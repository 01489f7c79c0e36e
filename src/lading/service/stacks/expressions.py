"""A template's intrinsic functions and conditions, evaluated for one stack. What resources are is asked of a `Lookup`.

Source: CloudFormation Template Reference, "Intrinsic functions" and "Condition functions".
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lading.service.contract.errors import ApiError
from lading.service.stacks.refusal import invalid, template_error

DEEPEST = 100
LONGEST_TEXT = 1_048_576
MOST_TEXT = 16 * LONGEST_TEXT
MOST_BLOCKS = 256
_VARIABLE = re.compile(r"\$\{(!?)([^{}]+)\}")
_DYNAMIC = re.compile(r"\{\{resolve:(ssm|ssm-secure|secretsmanager):([^{}]+)\}\}")


class _Nothing:
    """AWS::NoValue."""


NOTHING = _Nothing()


class Lookup(Protocol):
    """What other resources and stacks are. Raises ApiError for what isn't there."""

    def identity(self, resource: str) -> Any: ...

    def attribute(self, resource: str, name: str) -> Any: ...

    def imported(self, name: str) -> str: ...

    def dynamic(self, service: str, reference: str) -> str:
        """`{{resolve:SERVICE:REFERENCE}}`."""
        ...


@dataclass
class Evaluator:
    """Of one template with its parameters. Not safe between threads: it remembers conditions."""

    resources: Mapping[str, Any]
    mappings: Mapping[str, Any]
    conditions: Mapping[str, Any]
    values: Mapping[str, Any]
    """Parameters and pseudo parameters."""
    lookup: Lookup
    _known: dict[str, bool] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _spent: int = 0
    """Characters that functions gave for the value being evaluated."""

    def evaluate(self, value: Any, depth: int = 0) -> Any:
        """The value; raises ApiError."""
        if depth > DEEPEST:
            raise template_error("functions are nested too deeply")
        if depth == 0:
            self._spent = 0
        if isinstance(value, list):
            items = [self.evaluate(item, depth + 1) for item in value]
            return [item for item in items if item is not NOTHING]
        if isinstance(value, str):
            return _DYNAMIC.sub(self._dynamic, value)
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1:
            name, argument = next(iter(value.items()))
            if name == "Ref":
                return self._counted(self._reference(argument))
            if name.startswith("Fn::"):
                return self._counted(self._call(name, argument, depth + 1))
        found = {key: self.evaluate(item, depth + 1) for key, item in value.items()}
        return {key: item for key, item in found.items() if item is not NOTHING}

    def _counted(self, value: Any) -> Any:
        """A short template may refer to a long text many times."""
        self._spent += _size(value)
        if self._spent > MOST_TEXT:
            raise invalid(f"Template error: values have more than {MOST_TEXT} characters")
        return value

    def applies(self, definition: Mapping[str, Any]) -> bool:
        """Whether there is a resource or output: the condition that it has holds."""
        condition = definition.get("Condition")
        return condition is None or self.holds(condition)

    def holds(self, name: str) -> bool:
        """Whether a condition does."""
        if not isinstance(name, str):
            raise template_error("Fn::If takes the name of a condition")
        if name not in self._known:
            if name not in self.conditions:
                raise template_error(f"Unresolved condition dependency {name}")
            if name in self._asked:
                raise template_error(f"Circular dependency between conditions: [{name}]")
            self._asked.add(name)
            self._known[name] = self._condition(self.conditions[name])
        return self._known[name]

    def check_rules(self, rules: Mapping[str, Any]) -> None:
        """Raises ApiError for an assertion about the parameters that doesn't hold."""
        for name, rule in rules.items():
            try:
                applies = "RuleCondition" not in rule or self._condition(rule["RuleCondition"])
                broken = [one for one in rule["Assertions"] if applies and not self._condition(one["Assert"])]
            except (KeyError, TypeError, AttributeError, ValueError):
                raise template_error(f"Rule {name} is malformed") from None
            if broken:
                said = broken[0].get("AssertDescription", "an assertion does not hold")
                raise invalid(f"Template validation error: Rule '{name}' failed: {said}")

    def _condition(self, given: Any, depth: int = 0) -> bool:
        if depth > DEEPEST:
            raise template_error("conditions are nested too deeply")
        match given:
            case {"Condition": str(name)}:
                return self.holds(name)
            case {"Fn::Equals": [one, other]}:
                return text_of(self.evaluate(one)) == text_of(self.evaluate(other))
            case {"Fn::Not": [one]}:
                return not self._condition(one, depth + 1)
            case {"Fn::And": [*all_of]}:
                return all(self._condition(one, depth + 1) for one in all_of)
            case {"Fn::Or": [*any_of]}:
                return any(self._condition(one, depth + 1) for one in any_of)
            case {"Fn::Contains": [items, one]}:
                return text_of(self.evaluate(one)) in [text_of(item) for item in _a_list(self.evaluate(items))]
            case bool(known):
                return known
        raise template_error("Conditions can only be boolean operations on parameters and other conditions")

    def _dynamic(self, match: re.Match[str]) -> str:
        return self.lookup.dynamic(match[1], match[2])

    def _reference(self, name: Any) -> Any:
        if not isinstance(name, str):
            raise template_error("Ref takes the name of a resource or parameter")
        if name == "AWS::NoValue":
            return NOTHING
        if name in self.values:
            return self.values[name]
        if name not in self.resources:
            raise template_error(f"Unresolved resource dependencies [{name}] in the Resources block of the template")
        return self.lookup.identity(name)

    def _call(self, name: str, argument: Any, depth: int) -> Any:
        function = _FUNCTIONS.get(name)
        if function is None:
            raise template_error(f"lading's local service does not evaluate {name}")
        try:
            return function(self, argument, depth)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            raise template_error(f"{name} is malformed: {json.dumps(argument, default=str)[:300]}") from None

    def _if(self, argument: Any, depth: int) -> Any:
        name, yes, no = argument
        return self.evaluate(yes if self.holds(name) else no, depth)

    def _attribute(self, argument: Any, depth: int) -> Any:
        resource, name = argument.split(".", 1) if isinstance(argument, str) else (argument[0], argument[1:])
        attribute = name if isinstance(name, str) else ".".join(text_of(self.evaluate(part, depth)) for part in name)
        if resource not in self.resources:
            raise template_error(f"instance of Fn::GetAtt references undefined resource {resource}")
        return self.lookup.attribute(resource, attribute)

    def _join(self, argument: Any, depth: int) -> str:
        separator, items = argument
        texts = [text_of(item) for item in _a_list(self.evaluate(items, depth))]
        if sum(map(len, texts)) + len(texts) * len(str(separator)) > LONGEST_TEXT:
            raise _too_long()
        return str(separator).join(texts)

    def _split(self, argument: Any, depth: int) -> list[str]:
        separator, text = argument
        return text_of(self.evaluate(text, depth)).split(separator)

    def _select(self, argument: Any, depth: int) -> Any:
        index, items = argument
        number, found = int(self.evaluate(index, depth)), _a_list(self.evaluate(items, depth))
        if not 0 <= number < len(found):
            raise template_error(f"Fn::Select cannot select nonexistent value at index {number}")
        return found[number]

    def _substitute(self, argument: Any, depth: int) -> str:
        text, own = (argument, {}) if isinstance(argument, str) else argument
        variables = {name: self.evaluate(item, depth) for name, item in own.items()}

        size = 0

        def found(match: re.Match[str]) -> str:
            nonlocal size
            name = match[2].strip()
            if match[1]:
                return f"${{{name}}}"
            if name in variables:
                made = text_of(variables[name])
            else:
                made = text_of(self._attribute(name, depth) if "." in name else self._reference(name))
            size += len(made)
            if size > LONGEST_TEXT:
                raise _too_long()
            return made

        return _bounded(_DYNAMIC.sub(self._dynamic, _VARIABLE.sub(found, text)))

    def _map(self, argument: Any, depth: int) -> Any:
        keys = [text_of(self.evaluate(key, depth)) for key in argument[:3]]
        found: Any = self.mappings
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None:
            return self.evaluate(found, depth)
        if len(argument) == 4:
            return self.evaluate(argument[3]["DefaultValue"], depth)
        raise template_error(f"Unable to get mapping for {'::'.join(keys)}")

    def _zones(self, argument: Any, depth: int) -> list[str]:
        region = text_of(self.evaluate(argument, depth)) or self.values["AWS::Region"]
        return [f"{region}{letter}" for letter in "abc"]

    def _import(self, argument: Any, depth: int) -> str:
        return self.lookup.imported(text_of(self.evaluate(argument, depth)))

    def _base64(self, argument: Any, depth: int) -> str:
        return base64.b64encode(text_of(self.evaluate(argument, depth)).encode()).decode()

    def _blocks(self, argument: Any, depth: int) -> list[str]:
        block, count, bits = (*(text_of(self.evaluate(item, depth)) for item in argument), "")[:3]
        network = ipaddress.ip_network(block)
        prefix = network.max_prefixlen - int(bits) if bits else network.prefixlen + (int(count) - 1).bit_length()
        if not 1 <= int(count) <= MOST_BLOCKS:
            raise ValueError
        subnets = network.subnets(new_prefix=prefix)
        found = [str(subnet) for subnet, _ in zip(subnets, range(int(count)), strict=False)]
        if len(found) < int(count):
            raise ValueError
        return found

    def _json(self, argument: Any, depth: int) -> str:
        return _bounded(json.dumps(self.evaluate(argument, depth), separators=(",", ":")))

    def _length(self, argument: Any, depth: int) -> int:
        return len(_a_list(self.evaluate(argument, depth)))


_FUNCTIONS: dict[str, Callable[[Evaluator, Any, int], Any]] = {
    "Fn::If": Evaluator._if,
    "Fn::GetAtt": Evaluator._attribute,
    "Fn::Join": Evaluator._join,
    "Fn::Split": Evaluator._split,
    "Fn::Select": Evaluator._select,
    "Fn::Sub": Evaluator._substitute,
    "Fn::FindInMap": Evaluator._map,
    "Fn::GetAZs": Evaluator._zones,
    "Fn::ImportValue": Evaluator._import,
    "Fn::Base64": Evaluator._base64,
    "Fn::Cidr": Evaluator._blocks,
    "Fn::ToJsonString": Evaluator._json,
    "Fn::Length": Evaluator._length,
}


def text_of(value: Any) -> str:
    """A scalar as CloudFormation makes a string of it. Raises ApiError for others."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise invalid(f"Template error: a string was expected, not {json.dumps(value, default=str)[:200]}")


def _a_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("no list")
    return value


def _bounded(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise _too_long()
    return text


def _too_long() -> ApiError:
    return invalid(f"Template error: a value has more than {LONGEST_TEXT} characters")


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _size(item) for key, item in value.items())
    return sum(map(_size, value)) if isinstance(value, list) else 8
