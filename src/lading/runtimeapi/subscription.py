"""Telemetry and Logs API subscriptions: what an extension may ask for, checked, as a value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lading.runtimeapi.records import LOGS_SCHEMAS, TELEMETRY_SCHEMAS

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
class Destination:
    """Where batches go, inside the environment."""

    protocol: str
    """ "HTTP" or "TCP"."""
    port: int
    path: str = ""
    """With the query, of HTTP."""
    method: str = "POST"
    """ "POST", or "PUT" where a subscriber of the Logs API wants it."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Where batches of records go and when: after `maximum_items`, `maximum_bytes` or `timeout` (seconds)."""

    types: tuple[str, ...]
    schema: str
    destination: Destination
    maximum_items: int
    maximum_bytes: int
    timeout: float

    @property
    def logs(self) -> bool:
        """Of the Logs API."""
        return self.schema in LOGS_SCHEMAS


def parse_subscription(body: bytes, *, logs: bool) -> Subscription:
    """A subscription of the Telemetry API, or (`logs`) of the older Logs API. Raises InvalidSubscriptionError."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidSubscriptionError(f"body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidSubscriptionError("body must be an object")
    destination = _destination(data.get("destination"), logs=logs)
    buffering = data.get("buffering", {})
    if not isinstance(buffering, dict):
        raise InvalidSubscriptionError("buffering must be an object")
    items, size, milliseconds = (_bounded(buffering, key) for key in LIMITS)
    return Subscription(
        types=_types(data.get("types")),
        schema=_schema(data.get("schemaVersion"), logs=logs),
        destination=destination,
        maximum_items=items,
        maximum_bytes=size,
        timeout=milliseconds / 1000,
    )


def _types(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not given:
        raise InvalidSubscriptionError("types should not be empty")
    if any(entry not in TYPES for entry in given):
        raise InvalidSubscriptionError(f"types must be of {', '.join(TYPES)}")
    return tuple(dict.fromkeys(given))


def _schema(given: Any, *, logs: bool) -> str:
    """Required by the Telemetry API; the Logs API has a default."""
    allowed = LOGS_SCHEMAS if logs else TELEMETRY_SCHEMAS
    if given is None and logs:
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


def _destination(given: Any, *, logs: bool) -> Destination:
    if not isinstance(given, dict) or given.get("protocol") not in ("HTTP", "TCP"):
        raise InvalidSubscriptionError("destination.protocol must be HTTP or TCP")
    if given["protocol"] == "TCP":
        return Destination("TCP", _port(given.get("port")))
    method = given.get("method", "POST")
    if method != "POST" and not (logs and method == "PUT"):
        raise InvalidSubscriptionError("destination.method must be POST" + (" or PUT" if logs else ""))
    try:
        address = urlsplit(str(given.get("URI", "")))
        port, host = address.port, address.hostname
    except ValueError:
        raise InvalidSubscriptionError("destination.URI is not a URI") from None
    if address.scheme != "http" or host not in HOSTS:
        raise InvalidSubscriptionError(f"destination.URI must be http://{HOSTS[0]}:PORT/PATH")
    if port is None:
        raise InvalidSubscriptionError("URI port is not provided")
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise InvalidSubscriptionError("destination.URI is not a URI")
    return Destination("HTTP", _port(port), path, method)


def _port(port: Any) -> int:
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535 or port == 9001:
        raise InvalidSubscriptionError("the destination's port must be from 1 to 65535, and not 9001")
    return port
