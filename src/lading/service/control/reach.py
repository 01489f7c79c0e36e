"""Which function a URL's identity leads to, and whether everybody may call it."""

from __future__ import annotations

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
        public=_is_public(state, key),
    )


def _is_public(state: State, key: Key) -> bool:
    policy = state.get(Key(key.account, key.region, "policy", key.parent, key.name))
    return any(_lets_everybody(statement) for statement in (policy or {"Statement": []})["Statement"])


def _lets_everybody(statement: dict[str, Any]) -> bool:
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    auth = statement.get("Condition", {}).get("StringEquals", {}).get("lambda:FunctionUrlAuthType", "NONE")
    return (
        statement["Effect"] == "Allow"
        and statement["Principal"] in ("*", {"AWS": "*"})
        and not _URL_ACTIONS.isdisjoint(actions)
        and auth == "NONE"
    )
