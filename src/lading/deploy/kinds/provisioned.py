"""Provisioned concurrency of an alias. Key: provisioned:ALIAS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import find_qualified
from lading.deploy.instruction import Change, Verb
from lading.deploy.kinds.kind import Pen, Step, Wanted
from lading.deploy.unit import Subject, Unit, qualified, qualifier_of


def wanted(unit: Unit) -> Wanted:
    number = unit.wish.provisioned_concurrency
    return {} if number is None else {qualified("provisioned", unit.wish.alias): number}


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    found = {}
    for key in keys:
        seen = find_qualified(account, "GetProvisionedConcurrencyConfig", subject.name, qualifier_of(key))
        if seen is not None:
            found[key] = seen["RequestedProvisionedConcurrentExecutions"]
    return found


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    alias = qualifier_of(key)
    name = {"FunctionName": subject.name, "Qualifier": alias}
    pen = Pen(subject, key, f"provisioned concurrency of {subject.name}:{alias}")
    changes = (Change("provisioned-concurrency", seen, want),)
    if want is None:
        if seen is not None:
            yield pen("delete", Verb.DELETE, "DeleteProvisionedConcurrencyConfig", name, changes=changes)
    elif want != seen:
        verb = Verb.CREATE if seen is None else Verb.UPDATE
        parameters = name | {"ProvisionedConcurrentExecutions": want}
        after = (subject.ref(f"alias:{alias}"), subject.ref("function"))
        yield pen(
            "put", verb, "PutProvisionedConcurrencyConfig", parameters,
            changes=changes, after=after, wait="provisioned-ready",
        )  # fmt: skip
