"""Lambda's functions as they are read: what a deployment compares with. Everything as the API gives it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lading.aws.account import Account


@dataclass(frozen=True)
class FunctionFound:
    """A function as GetFunction tells it. `reserved` is its reserved concurrency; `signing`, the ARN of its code signing
    configuration, is read apart, where it matters."""

    configuration: Mapping[str, Any] = field(hash=False)
    tags: Mapping[str, str] = field(hash=False)
    reserved: int | None = None
    image: str = ""
    signing: str = ""


def find_function(account: Account, name: str) -> FunctionFound | None:
    found = account.find("lambda", "GetFunction", FunctionName=name)
    if found is None:
        return None
    return FunctionFound(
        found["Configuration"],
        found.get("Tags") or {},
        found.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
        found.get("Code", {}).get("ImageUri", ""),
    )


def find_signing(account: Account, name: str) -> str:
    """The ARN of a function's code signing configuration; empty without one."""
    found = account.find("lambda", "GetFunctionCodeSigningConfig", FunctionName=name)
    return str(found.get("CodeSigningConfigArn") or "") if found else ""


def read_configuration(account: Account, name: str, qualifier: str = "") -> Mapping[str, Any]:
    """State and LastUpdateStatus are in it."""
    more = {"Qualifier": qualifier} if qualifier else {}
    return account.call("lambda", "GetFunctionConfiguration", FunctionName=name, **more)


def list_functions(account: Account) -> list[Mapping[str, Any]]:
    return account.pages("lambda", "ListFunctions", "Functions")


def list_versions(account: Account, name: str) -> list[Mapping[str, Any]]:
    """Published ones, oldest first; empty where the function isn't there."""
    found = account.pages("lambda", "ListVersionsByFunction", "Versions", FunctionName=name)
    numbered = [version for version in found if str(version["Version"]).isdigit()]
    return sorted(numbered, key=lambda version: int(version["Version"]))


def list_aliases(account: Account, name: str) -> list[Mapping[str, Any]]:
    return account.pages("lambda", "ListAliases", "Aliases", FunctionName=name)


def find_alias(account: Account, name: str, alias: str) -> Mapping[str, Any] | None:
    return account.find("lambda", "GetAlias", FunctionName=name, Name=alias)


def find_policy(account: Account, name: str, qualifier: str) -> list[Mapping[str, Any]]:
    """The statements of the policy of a function, or of its alias."""
    more = {"Qualifier": qualifier} if qualifier else {}
    found = account.find("lambda", "GetPolicy", FunctionName=name, **more)
    if found is None:
        return []
    statements: list[Mapping[str, Any]] = json.loads(found["Policy"])["Statement"]
    return statements


def find_qualified(account: Account, operation: str, name: str, qualifier: str) -> dict[str, Any] | None:
    """What a Get operation on a function and an optional qualifier tells."""
    more = {"Qualifier": qualifier} if qualifier else {}
    return account.find("lambda", operation, FunctionName=name, **more)


def list_mappings(account: Account, name: str) -> list[Mapping[str, Any]]:
    """Event source mappings of a function, or of an alias as NAME:ALIAS."""
    return account.pages("lambda", "ListEventSourceMappings", "EventSourceMappings", FunctionName=name)


def list_layers(account: Account) -> list[Mapping[str, Any]]:
    """Every layer with its newest version."""
    return account.pages("lambda", "ListLayers", "Layers")


def list_layer_versions(account: Account, name: str) -> list[Mapping[str, Any]]:
    """Newest first."""
    return account.pages("lambda", "ListLayerVersions", "LayerVersions", LayerName=name)


def invoke(account: Account, name: str, qualifier: str, event: str) -> tuple[str, str]:
    """(function error or empty, payload) of a synchronous invoke."""
    answer = account.call("lambda", "Invoke", FunctionName=name, Qualifier=qualifier, Payload=event.encode())
    return answer.get("FunctionError", ""), answer["Payload"].read().decode("utf-8", "replace")


@dataclass(frozen=True)
class Invoked:
    """A synchronous invoke's outcome. `log` is its tail, as text."""

    payload: bytes
    error: str
    """ "Handled", "Unhandled" or empty."""
    version: str
    log: str


def invoke_with_log(account: Account, name: str, qualifier: str, event: bytes) -> Invoked:
    """The last 4 KB of the log come with the answer."""
    more = {"Qualifier": qualifier} if qualifier else {}
    answer = account.call("lambda", "Invoke", FunctionName=name, Payload=event, LogType="Tail", **more)
    log = base64.b64decode(answer.get("LogResult", "")).decode("utf-8", "replace")
    version = answer.get("ExecutedVersion", "")
    return Invoked(answer["Payload"].read(), answer.get("FunctionError", ""), version, log)
