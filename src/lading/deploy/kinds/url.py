"""A function URL, of the function or of its alias. Key: url or url:ALIAS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import find_qualified
from lading.deploy.instruction import Verb
from lading.deploy.kinds.kind import Pen, Step, Wanted, changes_between
from lading.deploy.unit import Subject, Unit, qualified, qualifier_of
from lading.model.deployment import Cors

NAMES = {"AuthType": "auth", "InvokeMode": "invoke-mode", "Cors": "cors"}


def wanted(unit: Unit) -> Wanted:
    url = unit.wish.url
    if url is None:
        return {}
    specification = {
        "AuthType": "NONE" if url.auth == "none" else "AWS_IAM",
        "InvokeMode": "RESPONSE_STREAM" if url.invoke_mode == "stream" else "BUFFERED",
        "Cors": _cors(url.cors) if url.cors else {},
    }
    return {qualified("url", unit.wish.alias): specification}


def _cors(cors: Cors) -> dict[str, Any]:
    stated = {
        "AllowOrigins": list(cors.origins),
        "AllowMethods": list(cors.methods),
        "AllowHeaders": list(cors.headers),
        "ExposeHeaders": list(cors.expose),
        "MaxAge": cors.max_age,
        "AllowCredentials": cors.credentials,
    }
    return {key: value for key, value in stated.items() if value}


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    found = {}
    for key in keys:
        seen = find_qualified(account, "GetFunctionUrlConfig", subject.name, qualifier_of(key))
        if seen is not None:
            cors = {name: value for name, value in (seen.get("Cors") or {}).items() if value}
            found[key] = {**seen, "InvokeMode": seen.get("InvokeMode", "BUFFERED"), "Cors": cors}
    return found


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    alias = qualifier_of(key)
    pen = Pen(subject, key, f"URL of {subject.name}{':' if alias else ''}{alias}")
    name = {"FunctionName": subject.name} | ({"Qualifier": alias} if alias else {})
    after = (subject.ref("function"), subject.ref(f"alias:{alias}"))
    if want is None:
        if seen is not None:
            gone = changes_between(NAMES, {field: value for field, value in seen.items() if value}, {})
            yield pen("delete", Verb.DELETE, "DeleteFunctionUrlConfig", name, changes=gone)
    elif seen is None:
        stated = {field: value for field, value in want.items() if value}
        changes = changes_between(NAMES, {}, stated)
        yield pen("create", Verb.CREATE, "CreateFunctionUrlConfig", name | stated, changes=changes, after=after)
    elif changes := changes_between(NAMES, seen, want):
        yield pen("update", Verb.UPDATE, "UpdateFunctionUrlConfig", name | want, changes=changes, after=after)
