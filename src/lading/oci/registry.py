"""A registry over HTTP: authorised requests with retries. One repository's blobs, manifests and uploads; no images here.

Source: OCI distribution specification 1.1; Docker registry "token authentication" for Bearer challenges.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lading.errors import DownloadError
from lading.oci import media
from lading.oci.client import make_client
from lading.oci.credentials import Login, find_login
from lading.oci.reference import DOCKER_HUB, Reference

if TYPE_CHECKING:
    import httpx

TRIES = 5
FIRST_PAUSE = 0.25
"""Seconds before the second try; doubled each time."""
LONGEST_PAUSE = 30.0
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
ACCEPT = ", ".join(sorted(media.MANIFESTS | media.INDEXES))
LARGEST_TOKEN = 1 << 20


class RegistryError(DownloadError):
    """A registry refused, is not there, or answered what no registry should."""


class NotInRegistryError(RegistryError):
    """The repository or the manifest does not exist (or is hidden from this login)."""


class UnauthorizedError(RegistryError):
    """The registry wants a login, or another one."""

    exit_code = 4


class Registry:
    """Requests to one repository. Thread-safe. `access` is "pull" or "pull,push"."""

    def __init__(self, reference: Reference, access: str = "pull", login: Login | None = None) -> None:
        self.reference = reference
        self._access = access
        self._authorization = ""
        self._lock = threading.Lock()
        self._login = login
        self._looked = login is not None
        self._client = make_client()
        self._mounts: set[str] = set()
        self.base = f"{scheme(reference.registry)}://{host(reference.registry)}/v2/{reference.repository}"

    def close(self) -> None:
        self._client.close()

    def also_pull(self, repository: str) -> None:
        """Ask the next token to allow reading another repository as well, for mounts."""
        if repository not in self._mounts:
            self._mounts.add(repository)
            self._authorization = ""

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: Any = None
    ) -> httpx.Response:
        """A whole answer, after retries and at most one renewal of the login. Raises RegistryError."""
        with self.stream(method, url, headers=headers, content=content) as response:
            response.read()
            return response

    @contextmanager
    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: Any = None
    ) -> Iterator[httpx.Response]:
        """An answer whose body is still to be read. `content`: bytes, or a function that makes a fresh iterator."""
        response = self._send(method, url, dict(headers or {}), content)
        try:
            yield response
        finally:
            response.close()

    def _send(self, method: str, url: str, headers: dict[str, str], content: Any) -> httpx.Response:
        renewed = False
        pause = FIRST_PAUSE
        for attempt in range(1, TRIES + 1):
            response = self._attempt(method, url, headers, content, last=attempt == TRIES)
            if response is not None and response.status_code == 401 and not renewed and self._is_ours(response):
                renewed = True
                response.read()
                self._authorize(response.headers.get_list("WWW-Authenticate"))
                response = self._attempt(method, url, headers, content, last=attempt == TRIES)
            if response is not None and (response.status_code not in RETRIED or attempt == TRIES):
                return response
            if response is not None:
                pause = _wanted_pause(response, pause)
                response.close()
            time.sleep(min(pause, LONGEST_PAUSE))
            pause *= 2
        raise AssertionError("unreachable")

    def _attempt(
        self, method: str, url: str, headers: dict[str, str], content: Any, *, last: bool
    ) -> httpx.Response | None:
        """One try; None where the connection failed and another try may help."""
        import httpx

        body = content() if callable(content) else content
        full = url if "://" in url else f"{self.base}{url}"
        own = dict(headers)
        if self._authorization and self._same_host(full):
            own["Authorization"] = self._authorization
        request = self._client.build_request(method, full, headers=own, content=body)
        try:
            return self._follow(self._client.send(request, stream=True), own)
        except httpx.TransportError as error:
            if not last and not isinstance(error, httpx.UnsupportedProtocol):
                return None
            raise RegistryError(
                f"can't reach {self.reference.registry}: {error or type(error).__name__}",
                hint="check the name and the network; a registry without TLS must be on localhost",
            ) from None

    def _follow(self, response: httpx.Response, headers: Mapping[str, str]) -> httpx.Response:
        """Redirects of reads go to object stores, which must not see the login."""
        for _ in range(5):
            if response.status_code not in (301, 302, 303, 307, 308) or response.request.method not in ("GET", "HEAD"):
                return response
            following = response.next_request
            response.close()
            if following is None:
                return response
            own = {key: value for key, value in headers.items() if key != "Authorization"}
            if self._same_host(str(following.url)):
                own = dict(headers)
            request = self._client.build_request(following.method, following.url, headers=own)
            response = self._client.send(request, stream=True)
        raise RegistryError(f"{self.reference.registry} redirects without end", hint="try again later")

    def _same_host(self, url: str) -> bool:
        return url.startswith(f"{scheme(self.reference.registry)}://{host(self.reference.registry)}/")

    def _is_ours(self, response: httpx.Response) -> bool:
        return self._same_host(str(response.request.url))

    def _authorize(self, challenges: list[str]) -> None:
        """Answer a challenge: Basic with the login, Bearer with a token fetched for it. Raises UnauthorizedError."""
        with self._lock:
            if not self._looked:
                self._login = find_login(self.reference.registry, self.reference.repository)
                self._looked = True
            for challenge in challenges:
                kind, _, rest = challenge.partition(" ")
                if kind.lower() == "bearer":
                    self._authorization = f"Bearer {self._token(dict(_PARAMETER.findall(rest)))}"
                    return
                if kind.lower() == "basic" and self._login and not self._login.token:
                    self._authorization = self._login.basic
                    return
        raise self._unauthorized("it wants a login")

    def _token(self, challenge: Mapping[str, str]) -> str:
        import httpx

        realm = challenge.get("realm", "")
        if not realm.startswith(("https://", "http://")) or not self._may_hear(realm):
            raise self._unauthorized(f"its token server is {realm[:200]!r}")
        scopes = [f"repository:{self.reference.repository}:{self._access}"]
        scopes += [f"repository:{repository}:pull" for repository in sorted(self._mounts)]
        service = challenge.get("service", "")
        try:
            if self._login and self._login.token:
                form = {"grant_type": "refresh_token", "service": service, "scope": " ".join(scopes),
                        "client_id": "lading", "refresh_token": self._login.token}  # fmt: skip
                response = self._client.post(realm, data=form)
            else:
                parameters = {"scope": scopes, **({"service": service} if service else {})}
                headers = {"Authorization": self._login.basic} if self._login else {}
                response = self._client.get(realm, params=parameters, headers=headers)
            document = response.json() if len(response.content) <= LARGEST_TOKEN else {}
        except (httpx.TransportError, ValueError) as error:
            raise self._unauthorized(f"its token server failed: {error}") from None
        token = document.get("token") or document.get("access_token") if isinstance(document, Mapping) else None
        if response.status_code != 200 or not isinstance(token, str):
            raise self._unauthorized(f"its token server answered {response.status_code}")
        return token

    def _may_hear(self, realm: str) -> bool:
        """A token server may be elsewhere, but never without TLS when the registry has it."""
        return realm.startswith("https://") or scheme(self.reference.registry) == "http"

    def _unauthorized(self, why: str) -> UnauthorizedError:
        known = f" as {self._login.user or 'the stored token'}" if self._login else ""
        return UnauthorizedError(
            f"{self.reference.registry} does not let in {self.reference.repository}{known}: {why}",
            hint=f"log in: podman login {self.reference.registry} (or docker login, aws ecr get-login-password)",
        )

    def refuse(self, response: httpx.Response, what: str) -> RegistryError:
        """The error for an answer that isn't the hoped-for one."""
        status = response.status_code
        details = _registry_says(response)
        where = self.reference.name
        if status in (401, 403):
            raise UnauthorizedError(
                f"{where}: {what} is refused ({status})",
                details=details,
                hint=f"log in with a user who may: podman login {self.reference.registry}",
            )
        if status == 404:
            return NotInRegistryError(f"{where} has no {what}", details=details, hint="check the name; was it pushed?")
        return RegistryError(f"{where}: {what} failed with {status}", details=details, hint="try again later")


_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def host(registry: str) -> str:
    """Docker Hub answers under another name than its references have."""
    return "registry-1.docker.io" if registry == DOCKER_HUB else registry


def scheme(registry: str) -> str:
    """Plain HTTP on this machine only, as docker does it."""
    name = registry.rpartition(":")[0] if registry.rpartition(":")[2].isdigit() else registry
    local = (
        name in ("localhost", "[::1]")
        or name.endswith(".localhost")
        or re.fullmatch(r"127(?:\.\d{1,3}){3}", name) is not None
    )
    return "http" if local else "https"


def _wanted_pause(response: httpx.Response, pause: float) -> float:
    """Retry-After in seconds where the registry says it."""
    text = response.headers.get("Retry-After", "")
    return max(float(text), pause) if text.isdigit() else pause


def _registry_says(response: httpx.Response) -> tuple[str, ...]:
    """The messages of the error body that the specification describes, bounded."""
    try:
        errors = response.json()["errors"][:5]
        return tuple(f"{error.get('code', '')}: {str(error.get('message', ''))[:300]}" for error in errors)
    except Exception:  # any body at all may come with an error; then its status says enough
        return ()
