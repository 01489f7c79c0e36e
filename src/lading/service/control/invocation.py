"""Between an invoke request and whoever runs functions: which version is meant, whether it can be invoked, what it is.

`Invoker` is what the pool's side implements; nothing here knows of environments.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lading.model.value import value
from lading.service.contract.errors import ApiError
from lading.service.control.names import LATEST, FunctionReference, Scope, is_version
from lading.service.control.refusal import conflict, function_not_found
from lading.service.state import Key, State

ENVIRONMENTAL = (
    "Runtime", "Handler", "MemorySize", "Timeout", "EphemeralStorage", "Environment", "LoggingConfig", "Architectures",
    "Role", "PackageType", "ImageConfigResponse",
)  # fmt: skip
"""Members of a configuration that an environment is made of."""


@dataclass(frozen=True)
class Target:
    """A function version as it is to be run. `configuration` is the API's FunctionConfiguration; treat it as read-only."""

    scope: Scope
    name: str
    version: str
    configuration: Mapping[str, Any] = field(hash=False)
    package: str
    """sha256 of the code's zip."""
    layers: tuple[str, ...]
    """The same of the layers', in order."""
    reserved: int | None = None
    """The function's reserved concurrency."""

    @functools.cached_property
    def arn(self) -> str:
        """Without qualifier."""
        return self.scope.function_arn(self.name)

    @functools.cached_property
    def identity(self) -> str:
        """A digest of all that environments are made of: those of targets that have it in common are interchangeable."""
        made_of = {name: self.configuration.get(name) for name in ENVIRONMENTAL}
        whole = json.dumps((made_of, self.package, self.layers), sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()


@value
class InvokeRequest:
    """One call of a target."""

    target: Target
    request_id: str
    event: bytes
    invoked_arn: str
    log_tail: bool = False
    trace_id: str = ""
    client_context: str = ""
    """Decoded from the header's base64: JSON."""
    asynchronous: bool = False
    """Its event waited in a queue."""


@value
class InvokeResult:
    """What the caller gets. `log` is the last 4 KB where it was asked for."""

    payload: bytes
    function_error: str = ""
    log: str = ""
    content_type: str = "application/json"


@dataclass(frozen=True)
class StreamedResult:
    """A response as it comes: its content type at once, then the pieces, then how it ended (the payload is empty)."""

    content_type: str
    pieces: AsyncIterator[bytes]
    end: Callable[[], Awaitable[InvokeResult]]
    failed: bool = False
    """True where it is known before the first piece that there will be none but an error."""


class Invoker(Protocol):
    """Runs functions. Raises ApiError (TooManyRequestsException, …) for what it can't."""

    async def invoke(self, request: InvokeRequest) -> InvokeResult: ...

    async def stream(self, request: InvokeRequest) -> StreamedResult:
        """Returns when the response begins."""
        ...

    async def close(self) -> None:
        """Ends when what is under way is through."""
        ...


@dataclass(frozen=True)
class Choice:
    """What a qualifier means: versions with their weights, the first taking what the others leave."""

    targets: tuple[tuple[Target, float], ...]

    def pick(self) -> Target:
        first, *others = self.targets
        point = random.random()
        for target, weight in others:
            point -= weight
            if point < 0:
                return target
        return first[0]


def find_choice(state: State, scope: Scope, reference: FunctionReference) -> Choice:
    """Raises ApiError for a function, version or alias that isn't there."""
    name, qualifier = reference.name, reference.qualifier or LATEST

    def key(kind: str, own: str, parent: str = name) -> Key:
        return Key(scope.account, scope.region, kind, parent, own)

    missing = function_not_found(scope.function_arn(name, qualifier))
    function = state.get(key("function", name, ""))
    if function is None:
        raise missing
    weights = {qualifier: 1.0}
    if qualifier != LATEST and not is_version(qualifier):
        alias = state.get(key("alias", qualifier))
        if alias is None:
            raise missing
        weights = {alias["FunctionVersion"]: 1.0, **alias["_weights"]}
    targets = []
    for version, weight in weights.items():
        found = state.get(key("version", version))
        if found is None:
            raise missing
        targets.append((_target(scope, found, function.get("reserved")), weight))
    return Choice(tuple(targets))


def _target(scope: Scope, version: dict[str, Any], reserved: int | None) -> Target:
    """What runs of a version: until its update is successful, what it was before."""
    version = version.get("_serving", version)
    layers = tuple(layer["digest"] for layer in version.get("_layers", ()))
    return Target(scope, version["FunctionName"], version["Version"], version, version["_digest"], layers, reserved)


def check_invocable(target: Target) -> None:
    """Raises ApiError in the states in which AWS doesn't invoke."""
    state = target.configuration["State"]
    if state != "Active":
        raise conflict(
            f"The operation cannot be performed at this time. The function is currently in the following state: {state}"
        )
    if target.reserved == 0:
        raise throttled("ReservedFunctionConcurrentInvocationLimitExceeded")


def throttled(reason: str) -> ApiError:
    """AWS's answer to a call for which there is no room now."""
    return ApiError("TooManyRequestsException", "Rate Exceeded.", fields={"Reason": reason, "retryAfterSeconds": "1"})
