"""The OCI distribution API: which handler a request is for, who may have it answered, and errors in the API's form.

Source: OCI distribution specification 1.1; what ECR does beyond it: repositories are made with CreateRepository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, Response
from lading.service.control.names import Scope
from lading.service.front.app import DEFAULT_REGION
from lading.service.front.body import Receive
from lading.service.front.keyring import DEFAULT_ACCOUNT
from lading.service.registry import pulling, pushing
from lading.service.registry.access import SERVICE, Caller, Logins
from lading.service.registry.answers import RefusedError, document, refused, translate
from lading.service.registry.names import Place, host_scope, is_repository
from lading.service.registry.registry import LocalRegistry
from lading.service.registry.request import Ask, Handler

TOKEN = "/_lading/registry/token"


@dataclass(frozen=True)
class Route:
    """Paths of a form, with the repository's name and a label where there are some."""

    path: re.Pattern[str]
    handlers: Mapping[str, Handler]


def _route(path: str, **handlers: Handler) -> Route:
    return Route(re.compile(path), handlers)


ROUTES = (
    _route(r"/v2/?", GET=pulling.greet, HEAD=pulling.greet),
    _route(r"/v2/_catalog", GET=pulling.list_repositories),
    _route(r"/v2/(?P<name>.+)/tags/list", GET=pulling.list_tags),
    _route(r"/v2/(?P<name>.+)/referrers/(?P<label>[^/]+)", GET=pulling.list_referrers),
    _route(
        r"/v2/(?P<name>.+)/manifests/(?P<label>[^/]+)",
        GET=pulling.get_manifest,
        HEAD=pulling.get_manifest,
        PUT=pushing.put_manifest,
        DELETE=pushing.delete_manifest,
    ),
    _route(r"/v2/(?P<name>.+)/blobs/uploads/?", POST=pushing.begin_upload),
    _route(
        r"/v2/(?P<name>.+)/blobs/uploads/(?P<label>[^/]+)",
        GET=pushing.upload_status,
        PATCH=pushing.write_part,
        PUT=pushing.finish_upload,
        DELETE=pushing.cancel_upload,
    ),
    _route(
        r"/v2/(?P<name>.+)/blobs/(?P<label>[^/]+)",
        GET=pulling.get_blob,
        HEAD=pulling.get_blob,
        DELETE=pushing.delete_blob,
    ),
)


class Distribution:
    """Answers requests below /v2/, and gives tokens for logins."""

    def __init__(self, registry: LocalRegistry, logins: Logins) -> None:
        self._registry = registry
        self._logins = logins

    async def answer(self, head: HttpRequest, receive: Receive, scheme: str) -> Response:
        """`scheme` is that of the URL under which the client reached the service. Raises DisconnectedError."""
        try:
            if head.path == TOKEN:
                return await self._token(Ask(self._registry, head, receive, Place(_home(None), "")))
            if head.path.startswith(pulling.LAYERS):
                label = unquote(head.path.removeprefix(pulling.LAYERS))
                return await self._linked(Ask(self._registry, head, receive, Place(_home(None), ""), label))
            return await self._answer(head, receive)
        except ApiError as error:
            return refused(translate(error))
        except RefusedError as refusal:
            if refusal.status == 401:
                refusal.headers["WWW-Authenticate"] = self._challenge(head, scheme)
            return refused(refusal)

    async def _answer(self, head: HttpRequest, receive: Receive) -> Response:
        caller = self._logins.read(head.header("authorization"))
        route, match = _find(head.path)
        handler = route.handlers.get(head.method)
        if handler is None:
            allowed = ", ".join(route.handlers)
            raise RefusedError(405, "UNSUPPORTED", f"{head.method} is not allowed here", headers={"Allow": allowed})
        if handler is pulling.greet and not head.header("authorization"):
            # Clients send their login only when asked for one. Whoever has none is given a token all the same.
            raise RefusedError(401, "UNAUTHORIZED", "ask for a token: no login is needed")
        labels = match.groupdict()
        name = unquote(labels.get("name") or "")
        if name and not is_repository(name):
            raise RefusedError(400, "NAME_INVALID", f"{name[:300]!r} is no name of a repository")
        place = Place(await self._scope(head, caller, name), name)
        return await handler(Ask(self._registry, head, receive, place, unquote(labels.get("label") or "")))

    async def _linked(self, ask: Ask) -> Response:
        if ask.head.method not in ("GET", "HEAD"):
            message = f"{ask.head.method} is not allowed here"
            raise RefusedError(405, "UNSUPPORTED", message, headers={"Allow": "GET, HEAD"})
        return await pulling.get_linked_layer(ask)

    async def _scope(self, head: HttpRequest, caller: Caller, name: str) -> Scope:
        """Whose registry is meant: the host's, else the login's, else the usual account's, in the region that has such a
        repository. Raises RefusedError for a login of another account."""
        named = host_scope(head.header("host") or "")
        if named is None and caller.scope is None and name:
            home = Scope(DEFAULT_ACCOUNT, DEFAULT_REGION)
            return await self._registry.run(lambda: self._registry.catalog.nearest(home, name))
        if named is None:
            return _home(caller)
        if caller.scope is not None and caller.scope.account != named.account:
            arn = f"arn:{named.partition}:ecr:{named.region}:{named.account}:repository/*"
            message = f"User: arn:{named.partition}:iam::{caller.scope.account}:root is not authorized to use {arn}"
            raise RefusedError(403, "DENIED", message)
        return named

    def _challenge(self, head: HttpRequest, scheme: str) -> str:
        base = f"{scheme}{head.header('host')}"
        if self._logins.required:
            return f'Basic realm="{base}/",service="{SERVICE}"'
        return f'Bearer realm="{base}{TOKEN}",service="{SERVICE}"'

    async def _token(self, ask: Ask) -> Response:
        """A Bearer token for a login in the Basic header, or in an OAuth 2 form; for anybody where no login is required."""
        if ask.head.method == "POST":
            caller = await self._from_form(ask)
        elif ask.head.method == "GET":
            caller = self._logins.read(ask.head.header("authorization"))
        else:
            raise RefusedError(
                405, "UNSUPPORTED", f"{ask.head.method} is not allowed here", headers={"Allow": "GET, POST"}
            )
        token = self._logins.token(caller)
        return document({"token": token, "access_token": token, "expires_in": 3600})

    async def _from_form(self, ask: Ask) -> Caller:
        from urllib.parse import parse_qs

        form = parse_qs((await ask.whole_body(1 << 16)).decode("utf-8", "replace"))
        if form.get("grant_type") != ["password"]:
            raise RefusedError(400, "UNSUPPORTED", "the grant type is not password")
        return self._logins.log_in(*(form.get(name, [""])[0] for name in ("username", "password")))


def _find(path: str) -> tuple[Route, re.Match[str]]:
    for route in ROUTES:
        match = route.path.fullmatch(path)
        if match is not None:
            return route, match
    raise RefusedError(404, "NAME_UNKNOWN", f"nothing at {path[:300]}")


def _home(caller: Caller | None) -> Scope:
    known = caller.scope if caller else None
    return known or Scope(DEFAULT_ACCOUNT, DEFAULT_REGION)
