"""Whether a resource policy lets a service invoke a function. Pure.

Source: IAM user guide, "Policy evaluation logic", "Condition operators"; a key that the request hasn't got meets no condition.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ACTION = "lambda:InvokeFunction"


@dataclass(frozen=True)
class Caller:
    """A service that would invoke: its principal, and for which resource of which account."""

    principal: str
    source: str
    account: str

    def values(self) -> dict[str, str]:
        """Condition keys, which are the same in any case."""
        return {"aws:sourcearn": self.source, "aws:sourceaccount": self.account}


def allows(statements: Iterable[Mapping[str, Any]], caller: Caller) -> bool:
    """An explicit Deny wins; without an Allow nothing is allowed."""
    effects = {statement.get("Effect") for statement in statements if _applies(statement, caller)}
    return "Allow" in effects and "Deny" not in effects


def _applies(statement: Mapping[str, Any], caller: Caller) -> bool:
    actions = _list(statement.get("Action", []))
    if not any(_like(str(action).lower(), ACTION.lower()) for action in actions):
        return False
    principal = statement.get("Principal", {})
    named = [principal] if isinstance(principal, str) else [*_list(principal.get("Service", [])), *_all(principal)]
    if caller.principal not in named and "*" not in named:
        return False
    conditions = statement.get("Condition", {})
    return all(
        _meets(operator, key, _list(wanted), caller.values())
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _all(principal: Mapping[str, Any]) -> list[str]:
    return ["*"] if "*" in _list(principal.get("AWS", [])) else []


def _meets(operator: str, key: str, wanted: list[Any], values: Mapping[str, str]) -> bool:
    """One key of a condition. Operators that compare anything but texts aren't met: nothing here has their keys."""
    optional = operator.endswith("IfExists")
    kind = operator.removesuffix("IfExists")
    value = values.get(key.lower())
    if value is None:
        return optional or kind in ("StringNotEquals", "StringNotLike", "ArnNotEquals", "ArnNotLike")
    test = {"StringEquals": _equal, "StringEqualsIgnoreCase": _alike, "StringLike": _like}.get(kind.replace("Not", ""))
    if kind.startswith("Arn"):
        test = _arn_like
    if test is None:
        return False
    met = any(test(str(one), value) for one in wanted)
    return not met if "Not" in kind else met


def _equal(wanted: str, value: str) -> bool:
    return wanted == value


def _alike(wanted: str, value: str) -> bool:
    return wanted.lower() == value.lower()


def _like(wanted: str, value: str) -> bool:
    """* and ? stand for any; [ is itself."""
    return re.fullmatch(fnmatch.translate(wanted.replace("[", "[[]")), value) is not None


def _arn_like(wanted: str, value: str) -> bool:
    """Each of an ARN's six parts on its own."""
    left, right = wanted.split(":", 5), value.split(":", 5)
    return len(left) == len(right) and all(map(_like, left, right))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
