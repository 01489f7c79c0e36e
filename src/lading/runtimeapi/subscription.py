"""Telemetry and Logs API subscriptions: what an extension may ask for, checked, as a value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TELEMETRY_SCHEMAS = ("2022-07-01", "2022-12-13", "2025-01-29")
LOGS_SCHEMAS = ("2020-08-15", "2021-03-18")
TYPES = ("platform", "function", "extension")
LIMITS = {
    "maxItems": (1000, 10_000, 10_000),
    "maxBytes": (262_144, 1_048_576, 262_144),
    "timeoutMs": (25, 30_000, 1000),
}
"""Smallest, largest and default of each buffering value (Telemetry API reference)."""
HOSTS = ("sandbox.localdomain", "sandbox")


class InvalidSubscriptionError(ValueError):
    """The message is AWS's `errorMessage`."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Where batches of records go and when: after `maximum_items`, `maximum_bytes` or `timeout` (seconds)."""

    types: tuple[str, ...]
    schema: str
    protocol: str
    """ "HTTP" or "TCP"."""
    port: int
    path: str
    maximum_items: int
    maximum_bytes: int
    timeout: float


def parse_subscription(body: bytes, *, logs: bool) -> Subscription:
    """A subscription of the Telemetry API, or (`logs`) of the older Logs API. Raises InvalidSubscriptionError."""
    try:
        data = json.loads(body)
    except ValueError as error:
        raise InvalidSubscriptionError(f"body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidSubscriptionError("body must be an object")
    protocol, port, path = _destination(data.get("destination"))
    buffering = data.get("buffering", {})
    if not isinstance(buffering, dict):
        raise InvalidSubscriptionError("buffering must be an object")
    items, size, milliseconds = (_bounded(buffering, key) for key in LIMITS)
    return Subscription(
        types=_types(data.get("types")),
        schema=_schema(data.get("schemaVersion"), logs=logs),
        protocol=protocol,
        port=port,
        path=path,
        maximum_items=items,
        maximum_bytes=size,
        timeout=milliseconds / 1000,
    )


def _types(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or any(entry not in TYPES for entry in given):
        raise InvalidSubscriptionError(f"types must be a non-empty list of {', '.join(TYPES)}")
    return tuple(dict.fromkeys(given))


def _schema(given: Any, *, logs: bool) -> str:
    allowed = LOGS_SCHEMAS if logs else TELEMETRY_SCHEMAS
    if given is None:
        return allowed[0]
    if given not in allowed:
        raise InvalidSubscriptionError(f"schemaVersion must be one of {', '.join(allowed)}")
    return str(given)


def _bounded(buffering: dict[str, Any], key: str) -> int:
    smallest, largest, default = LIMITS[key]
    value = buffering.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
        raise InvalidSubscriptionError(f"buffering.{key} must be from {smallest} to {largest}")
    return value


def _destination(given: Any) -> tuple[str, int, str]:
    if not isinstance(given, dict) or given.get("protocol") not in ("HTTP", "TCP"):
        raise InvalidSubscriptionError("destination.protocol must be HTTP or TCP")
    if given["protocol"] == "TCP":
        port, path = given.get("port"), ""
    else:
        try:
            address = urlsplit(str(given.get("URI", "")))
            port, path, host = address.port or 80, address.path or "/", address.hostname
        except ValueError:
            raise InvalidSubscriptionError("destination.URI is not a URI") from None
        if host not in HOSTS:
            raise InvalidSubscriptionError(f"destination.URI must be on {HOSTS[0]}")
    if not isinstance(port, int) or isinstance(port, bool) or not 1024 <= port <= 65535 or port == 9001:
        raise InvalidSubscriptionError("the destination's port must be from 1024 to 65535, and not 9001")
    return given["protocol"], port, path
