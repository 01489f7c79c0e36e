"""What an operation works with: whose call it is, the state, the packages, and the moments. No operation in here."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from lading.service.control.images import Images
from lading.service.control.names import LATEST, FunctionReference, Scope, is_version, read_reference
from lading.service.control.packages import Packages
from lading.service.control.refusal import function_not_found, invalid, stale_revision
from lading.service.state import Key, Record, State

Parameters = dict[str, Any]
Result = dict[str, Any]
LOCATION_LIFETIME = 600
"""Seconds a code location can be used (GetFunction, "The link is valid for 10 minutes")."""


class Outside(Protocol):
    """What operations ask of other AWS services. Methods block and raise ApiError in AWS's words."""

    def fetch_object(self, scope: Scope, bucket: str, key: str, version: str | None) -> bytes: ...

    def check_role(self, scope: Scope, arn: str) -> None:
        """Raises unless Lambda can assume the role."""
        ...

    def check_source(self, scope: Scope, arn: str, timeout: int) -> None:
        """Raises unless the queue or stream is there and fits a function with so many seconds of timeout."""
        ...


@dataclass(frozen=True)
class Call:
    """One request to the control plane."""

    scope: Scope
    state: State
    packages: Packages
    endpoint: str
    """Where the client reached the service ("http://127.0.0.1:4566"), for links in answers."""
    later: Callable[[Key], None]
    """Asks for a version's preparation once the transaction is over."""
    now: Callable[[], float] = field(default=time.time)
    outside: Outside | None = None
    """None: there are no other services; every role is taken, and no code comes from S3."""
    images: Images | None = None
    """None: there is no registry, and no function is an image."""

    def key(self, kind: str, parent: str = "", name: str = "") -> Key:
        return Key(self.scope.account, self.scope.region, kind, parent, name)

    def reference(self, parameters: Parameters, *, action: str = "GetFunction") -> FunctionReference:
        """The function that `FunctionName` and `Qualifier` name."""
        return read_reference(self.scope, parameters["FunctionName"], parameters.get("Qualifier"), action=action)

    def function(self, name: str) -> Result:
        """The function's own record. Raises ApiError when there is none."""
        found = self.state.get(self.key("function", name=name))
        if found is None:
            raise function_not_found(self.scope.function_arn(name))
        return found

    def version(self, name: str, version: str) -> Result | None:
        """A version's configuration ("$LATEST" or a number)."""
        return self.state.get(self.key("version", name, version))

    def resolve(self, reference: FunctionReference) -> tuple[str, Result]:
        """(version, its configuration) that a qualifier means today. Raises ApiError naming the qualified function."""
        qualifier = reference.qualifier or LATEST
        version = qualifier
        if qualifier != LATEST and not is_version(qualifier):
            alias = self.state.get(self.key("alias", reference.name, qualifier))
            version = alias["FunctionVersion"] if alias else ""
        found = self.version(reference.name, version)
        if found is None:
            raise function_not_found(self.scope.function_arn(reference.name, reference.qualifier))
        return version, found

    def put_version(self, configuration: Result) -> None:
        name, version = configuration["FunctionName"], configuration["Version"]
        position = 0 if version == LATEST else int(version)
        self.state.put(self.key("version", name, version), configuration, position=position)

    def timestamp(self) -> str:
        """Now, as function configurations have it: "2026-11-24T00:00:00.000+0000"."""
        moment = dt.datetime.fromtimestamp(self.now(), dt.UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"

    def location(self, digest: str) -> str:
        """A link to a package's very bytes that works without credentials for ten minutes."""
        expires = int(self.now()) + LOCATION_LIFETIME
        signature = sign_location(self.state, digest, expires)
        return f"{self.endpoint}/_lading/code/{digest}?{urlencode({'expires': expires, 'signature': signature})}"


def sign_location(state: State, digest: str, expires: int) -> str:
    return hmac.new(state.secret("locations"), f"{digest}:{expires}".encode(), hashlib.sha256).hexdigest()


def new_revision() -> str:
    return str(uuid.uuid4())


def check_revision(given: str | None, current: str, *, where: str = "GetFunction/GetAlias") -> None:
    """Raises PreconditionFailedException unless the revision is the current one or none was given."""
    if given and given != current:
        raise stale_revision(where)


def given(parameters: Parameters, *names: str) -> Result:
    """Those of the names that the request has."""
    return {name: parameters[name] for name in names if name in parameters}


def page(records: list[Record], limit: int, marker: Callable[[Record], str]) -> tuple[list[Record], str | None]:
    """The first `limit` of records that were asked for with one more, and the marker of the next page."""
    if len(records) <= limit:
        return records, None
    return records[:limit], encode_marker(marker(records[limit - 1]))


def encode_marker(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_marker(parameters: Parameters) -> str:
    """What a marker of ours says, "" for none. Raises ApiError for one that isn't ours."""
    marker = parameters.get("Marker")
    if not marker:
        return ""
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise invalid(f"Invalid marker: {marker[:100]}") from None


def marker_number(parameters: Parameters, default: int) -> int:
    text = read_marker(parameters)
    if not text:
        return default
    if not text.lstrip("-").isdigit():
        raise invalid(f"Invalid marker: {parameters['Marker'][:100]}")
    return int(text)


def limit_of(parameters: Parameters, most: int) -> int:
    return min(int(parameters.get("MaxItems", most)), most)


Operation = Callable[[Call, Parameters], Result]
