"""A stack's parameters: what a request gives, checked against what its template asks for. Pure.

Source: CloudFormation User Guide, "Parameters".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lading.service.stacks.refusal import invalid, template_error

_SSM = re.compile(r"AWS::SSM::Parameter::Value<(.+)>")
_SIMPLE = re.compile(
    r"(String|Number|CommaDelimitedList|List<Number>|AWS::SSM::Parameter::Name|(List<)?AWS::[\w:]+(::Id|Name|Value)?>?)"
)
HIDDEN = "****"
LONGEST = 4_096
"""Characters of a value (CloudFormation User Guide, quotas)."""
PATIENCE = 0.5
"""Seconds for a pattern."""
Given = dict[str, str]


def read_given(parameters: list[Mapping[str, Any]], before: Mapping[str, str]) -> Given:
    """Of a request; `before`: the stack's own, for UsePreviousValue. Raises ApiError."""
    found: Given = {}
    for one in parameters:
        key = one.get("ParameterKey", "")
        if one.get("UsePreviousValue"):
            if key not in before:
                why = "Cannot specify usePreviousValue as true for a parameter key not in the previous template"
                raise invalid(f"Invalid input for parameter key {key}. {why}")
            found[key] = before[key]
        elif one.get("ParameterValue") is None:
            raise invalid(f"Parameter {key} must have a value or UsePreviousValue")
        else:
            found[key] = one["ParameterValue"]
    return found


def resolve(declared: Mapping[str, Any], given: Given, ssm: Callable[[str], str]) -> tuple[Given, dict[str, Any]]:
    """(texts by name, values as `Ref` gives them). `ssm`: the value of a parameter of SSM. Raises ApiError."""
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise invalid(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    missing = [name for name, one in declared.items() if name not in given and "Default" not in one]
    if missing:
        raise invalid(f"Parameters: [{', '.join(missing)}] must have values")
    texts = {name: given[name] if name in given else _default(one) for name, one in declared.items()}
    return texts, {name: _value(name, one, texts[name], ssm) for name, one in declared.items()}


def shown(declared: Mapping[str, Any], texts: Given) -> list[dict[str, str]]:
    """As DescribeStacks shows them."""
    return [
        {"ParameterKey": name, "ParameterValue": HIDDEN if _is_true(declared.get(name, {}).get("NoEcho")) else text}
        for name, text in texts.items()
    ]


def summary(declared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As GetTemplateSummary describes them."""
    return [
        {
            "ParameterKey": name,
            "ParameterType": one.get("Type", "String"),
            "DefaultValue": _default(one) if "Default" in one else None,
            "NoEcho": _is_true(one.get("NoEcho")),
            "Description": one.get("Description"),
            "ParameterConstraints": {"AllowedValues": [str(each) for each in one.get("AllowedValues", [])]},
        }
        for name, one in declared.items()
    ]


def _default(declared: Mapping[str, Any]) -> str:
    value = declared["Default"]
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


def _value(name: str, declared: Mapping[str, Any], text: str, ssm: Callable[[str], str]) -> Any:
    kind = str(declared.get("Type", "String"))
    try:
        _check(name, declared, kind, text)
    except (TypeError, ValueError):
        raise template_error(f"a constraint of parameter {name} is malformed") from None
    if match := _SSM.fullmatch(kind):
        return _typed(match[1], ssm(text))
    if not _SIMPLE.fullmatch(kind):
        raise template_error(f"Unrecognized parameter type: {kind}")
    return _typed(kind, text)


def _typed(kind: str, text: str) -> Any:
    if kind == "CommaDelimitedList" or kind.startswith("List<"):
        return [item.strip() for item in text.split(",")] if text else []
    return text


def _check(name: str, declared: Mapping[str, Any], kind: str, text: str) -> None:
    reason = declared.get("ConstraintDescription")

    def refuse(why: str) -> None:
        raise invalid(
            f"Parameter {name} failed to satisfy constraint: {reason}" if reason else f"Parameter '{name}' {why}"
        )

    if len(text) > LONGEST:
        refuse(f"must contain at most {LONGEST} characters")
    allowed = declared.get("AllowedValues")
    parts = [part.strip() for part in text.split(",")] if kind == "CommaDelimitedList" else [text]
    if allowed is not None and any(part not in [_default({"Default": one}) for one in allowed] for part in parts):
        refuse(f"must be one of AllowedValues: [{', '.join(str(one) for one in allowed)}]")
    if kind == "Number":
        try:
            number = float(text)
        except ValueError:
            raise invalid(f"Parameter '{name}' must be a number.") from None
        if number < float(declared.get("MinValue", number)):
            refuse(f"must be a number not less than {declared['MinValue']}")
        if number > float(declared.get("MaxValue", number)):
            refuse(f"must be a number not greater than {declared['MaxValue']}")
        return
    pattern = declared.get("AllowedPattern")
    if pattern and any(not _matches(name, str(pattern), part) for part in parts):
        refuse(f"must match pattern {pattern}")
    if len(text) < int(declared.get("MinLength", 0)):
        refuse(f"must contain at least {declared['MinLength']} characters")
    if len(text) > int(declared.get("MaxLength", len(text))):
        refuse(f"must contain at most {declared['MaxLength']} characters")


def _matches(name: str, pattern: str, text: str) -> bool:
    """By a matcher that can be stopped: patterns come with requests, and some take longer than anybody lives."""
    import regex

    try:
        return regex.fullmatch(pattern, text, timeout=PATIENCE, concurrent=True) is not None
    except regex.error as error:
        raise template_error(f"AllowedPattern of parameter {name} is no pattern: {error}") from None
    except TimeoutError:
        raise template_error(f"AllowedPattern of parameter {name} takes longer than {PATIENCE:g} s to match") from None
