"""Which function a URL's identity leads to, and whether everybody may call it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lading.service.control.names import LATEST, FunctionReference, Scope
from lading.service.state import Key, State

_URL_ACTIONS = frozenset({"lambda:InvokeFunctionUrl", "lambda:*", "*"})


@dataclass(frozen=True)
class UrlTarget:
    """A function URL. `public` is True where the resource policy lets everybody call it without a signature."""

    scope: Scope
    reference: FunctionReference
    auth: str
    streams: bool
    cors: dict[str, Any] | None
    public: bool
    admits: frozenset[str] = frozenset()
    """Other accounts that the policy lets call it with a signature; "*" for all."""


def find_url(state: State, identity: str) -> UrlTarget | None:
    """None for an identity that no function has."""
    found = state.find_everywhere("url", "$._id", identity)
    if not found:
        return None
    key, config = found[0].key, found[0].document
    return UrlTarget(
        scope=Scope(key.account, key.region),
        reference=FunctionReference(key.parent, None if key.name == LATEST else key.name),
        auth=config["AuthType"],
        streams=config["InvokeMode"] == "RESPONSE_STREAM",
        cors=config.get("Cors"),
        public="*" in _let_in(state, key, "NONE"),
        admits=_let_in(state, key, "AWS_IAM"),
    )


def _let_in(state: State, key: Key, auth: str) -> frozenset[str]:
    """The accounts that a URL's policy lets call it with that authorization; "*" for everybody."""
    policy = state.get(Key(key.account, key.region, "policy", key.parent, key.name))
    statements = (policy or {"Statement": []})["Statement"]
    return frozenset(account for one in statements if _is_for_url(one, auth) for account in _accounts(one["Principal"]))


def _is_for_url(statement: dict[str, Any], auth: str) -> bool:
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    wanted = statement.get("Condition", {}).get("StringEquals", {}).get("lambda:FunctionUrlAuthType", auth)
    return statement["Effect"] == "Allow" and not _URL_ACTIONS.isdisjoint(actions) and wanted == auth


def _accounts(principal: Any) -> list[str]:
    """The accounts of a statement's principal: those of its AWS principals, whole ones only."""
    named = principal.get("AWS", []) if isinstance(principal, dict) else principal
    found = []
    for one in named if isinstance(named, list) else [named]:
        match = re.fullmatch(r"\*|(?:arn:aws[a-z-]*:iam::)?(\d{12})(?::root)?", str(one))
        if match is not None:
            found.append(match[1] or "*")
    return found
