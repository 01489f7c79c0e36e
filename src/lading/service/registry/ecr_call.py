"""What an operation of ECR's API works with. No operation in here."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lading.service.contract.errors import ApiError
from lading.service.control.names import Scope
from lading.service.registry.access import Logins
from lading.service.registry.catalog import Catalog, Document
from lading.service.registry.content import Content
from lading.service.registry.names import Place
from lading.service.registry.refusals import invalid
from lading.service.registry.registry import LocalRegistry

Parameters = dict[str, Any]
Result = dict[str, Any]
PAGE = 100
"""Entries of a page where the request doesn't say."""
T = TypeVar("T")


@dataclass(frozen=True)
class EcrCall:
    """One request. `endpoint` is where the client reached the service."""

    scope: Scope
    registry: LocalRegistry
    logins: Logins
    endpoint: str

    @property
    def catalog(self) -> Catalog:
        return self.registry.catalog

    @property
    def content(self) -> Content:
        return self.registry.content

    @property
    def host(self) -> str:
        """Where the client finds the registry: where it found this API."""
        return urlsplit(self.endpoint).netloc

    def place(self, parameters: Parameters) -> Place:
        """The repository that a request names, there or not. Raises AccessDeniedException for another account's."""
        self.own(parameters)
        return Place(self.scope, parameters["repositoryName"])

    def own(self, parameters: Parameters) -> None:
        account = parameters.get("registryId", self.scope.account)
        if account != self.scope.account:
            caller = f"arn:{self.scope.partition}:iam::{self.scope.account}:root"
            resource = f"arn:{self.scope.partition}:ecr:{self.scope.region}:{account}:repository/*"
            raise ApiError(
                "AccessDeniedException",
                f"User: {caller} is not authorized to use {resource} because no resource-based policy allows it",
            )

    def repository(self, parameters: Parameters) -> tuple[Place, Document]:
        """Raises RepositoryNotFoundException."""
        place = self.place(parameters)
        return place, self.catalog.repository(place)

    def named(self, place: Place) -> Result:
        """The members that most answers begin with."""
        return {"registryId": place.scope.account, "repositoryName": place.name}


Operation = Callable[[EcrCall, Parameters], Result]


def moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def page(parameters: Parameters, entries: list[T]) -> tuple[list[T], str | None]:
    """The entries of the page that a request asks for, and the next page's token."""
    start = _start(parameters)
    limit = parameters.get("maxResults", PAGE)
    more = len(entries) > start + limit
    token = base64.urlsafe_b64encode(f"from {start + limit}".encode()).decode() if more else None
    return entries[start : start + limit], token


def _start(parameters: Parameters) -> int:
    token = parameters.get("nextToken")
    if not token:
        return 0
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    number = text.removeprefix("from ")
    if not number.isdigit() or len(number) > 12:
        raise invalid("Invalid parameter at 'nextToken' failed to satisfy constraint: 'must be a token of an answer'")
    return int(number)
