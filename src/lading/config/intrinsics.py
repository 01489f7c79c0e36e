"""CloudFormation's intrinsic functions, as far as a template alone decides them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DEEPEST = 50
_VARIABLE = re.compile(r"\$\{(!?)([^${}]+)\}")


class Unresolvable(Exception):  # noqa: N818 - a verdict for the caller, who names resource and field
    """What only a deployment knows, such as an attribute of a resource or the region."""


class Resolver:
    """Parameters by their defaults, and mappings."""

    def __init__(self, template: Mapping[str, Any]) -> None:
        self._parameters = _table(template, "Parameters")
        self._mappings = _table(template, "Mappings")

    def resolve(self, value: object, depth: int = 0) -> Any:
        """The value without intrinsics. Raises Unresolvable, naming the one that isn't decided here."""
        if depth > DEEPEST:
            raise Unresolvable("intrinsics nested too deeply")
        if isinstance(value, list):
            return [self.resolve(item, depth + 1) for item in value]
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1:
            name, argument = next(iter(value.items()))
            if name == "Ref":
                return self._reference(argument)
            if isinstance(name, str) and name.startswith("Fn::"):
                return self._call(name, argument, depth + 1)
        return {key: self.resolve(item, depth + 1) for key, item in value.items()}

    def _reference(self, name: object) -> Any:
        parameter = self._parameters.get(name) if isinstance(name, str) else None
        if not isinstance(parameter, Mapping) or "Default" not in parameter:
            raise Unresolvable(f"!Ref {name}")
        default = parameter["Default"]
        is_list = parameter.get("Type") == "CommaDelimitedList" and isinstance(default, str)
        return [item.strip() for item in default.split(",")] if is_list else default

    def _call(self, name: str, argument: object, depth: int) -> Any:
        match name, argument:
            case "Fn::Sub", str(text):
                return self._substitute(text, {})
            case "Fn::Sub", [str(text), dict(variables)]:
                return self._substitute(text, {key: self.resolve(item, depth) for key, item in variables.items()})
            case "Fn::Join", [str(separator), items]:
                parts = self.resolve(items, depth)
                if isinstance(parts, list):
                    return separator.join(map(as_text, parts))
            case "Fn::FindInMap", [first, second, third]:
                return self._find([self.resolve(key, depth) for key in (first, second, third)])
            case "Fn::Select", [index, items]:
                number, parts = self.resolve(index, depth), self.resolve(items, depth)
                if isinstance(parts, list) and str(number).isdigit() and int(number) < len(parts):
                    return parts[int(number)]
            case "Fn::Split", [str(separator), text] if separator:
                return as_text(self.resolve(text, depth)).split(separator)
        raise Unresolvable(f"!{name.removeprefix('Fn::')}")

    def _find(self, keys: list[Any]) -> Any:
        found: Any = self._mappings
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) and isinstance(key, str) else None
        if found is None:
            raise Unresolvable(f"!FindInMap {keys}")
        return found

    def _substitute(self, text: str, variables: Mapping[str, Any]) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[2].strip()
            if match[1]:
                return f"${{{name}}}"
            if name in variables:
                return as_text(variables[name])
            if name.startswith("AWS::") or "." in name:
                raise Unresolvable(f"${{{name}}}")
            return as_text(self._reference(name))

        return _VARIABLE.sub(value, text)


def as_text(value: object) -> str:
    """A scalar as CloudFormation makes a string of it. Raises Unresolvable for lists and maps."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise Unresolvable(f"{value!r} where a text is needed")


def _table(template: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = template.get(key)
    return table if isinstance(table, Mapping) else {}
