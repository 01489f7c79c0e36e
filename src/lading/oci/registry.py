"""A registry over HTTP: authorised requests with retries. One repository's blobs, manifests and uploads; no images here.

Source: OCI distribution specification 1.1; Docker registry "token authentication" for Bearer challenges.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from urllib.parse import urlencode, urljoin

from lading.errors import DownloadError
from lading.oci import media
from lading.oci.client import Answer, BadUrlError, Body, Client, TransportError
from lading.oci.credentials import Login, find_login
from lading.oci.reference import DOCKER_HUB, Reference

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
        self._client = Client()
        self._mounts: set[str] = set()
        self.base = f"{scheme(reference.registry)}://{host(reference.registry)}/v2/{reference.repository}"

    def close(self) -> None:
        self._client.close()

    def also_pull(self, repository: str) -> None:
        """Ask the next token to allow reading another repository as well, for mounts."""
        if repository not in self._mounts:
            self._mounts.add(repository)
            self._authorization = ""

    def request(self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Body = None) -> Answer:
        """A whole answer, after retries and at most one renewal of the login in each. Raises RegistryError."""

        def once() -> Answer:
            answer = self._authorized(method, url, dict(headers or {}), body)
            with closing(answer):
                answer.read()
            return answer

        return self._answered(once)

    @contextmanager
    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Body = None
    ) -> Iterator[Answer]:
        """An answer whose body is still to be read; reading it may raise TransportError."""
        with closing(self._answered(lambda: self._authorized(method, url, dict(headers or {}), body))) as answer:
            yield answer

    def _answered(self, once: Callable[[], Answer]) -> Answer:
        try:
            return _patiently(once)
        except TransportError as error:
            raise self._unreachable(error) from None

    def _authorized(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        """One try, and where the registry asks for a login, or for a fresh token, another with it."""
        full = url if "://" in url else f"{self.base}{url}"
        used = self._authorization
        answer = self._once(method, full, headers, body)
        if answer.status != 401 or not self._same_host(answer.asked.url):
            return answer
        challenges = answer.headers.get_all("WWW-Authenticate") or []
        answer.close()
        self._authorize(challenges, used)
        return self._once(method, full, headers, body)

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> Answer:
        return self._follow(self._client.send(method, url, self._own(headers, url), body), headers)

    def _own(self, headers: Mapping[str, str], url: str) -> dict[str, str]:
        """With the login, for the registry itself and nobody else."""
        known = self._authorization if self._same_host(url) else ""
        return {**headers, **({"Authorization": known} if known else {})}

    def _unreachable(self, error: TransportError) -> RegistryError:
        return RegistryError(
            f"can't reach {self.reference.registry}: {error}",
            hint="check the name and the network; a registry without TLS must be on localhost",
        )

    def _follow(self, answer: Answer, headers: Mapping[str, str]) -> Answer:
        """Redirects of reads go to object stores, which must not see the login."""
        for _ in range(5):
            location = answer.headers.get("Location", "")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            if answer.asked.method not in ("GET", "HEAD"):
                return answer
            answer.close()
            url = urljoin(answer.asked.url, location)
            answer = self._client.send(answer.asked.method, url, self._own(headers, url))
        answer.close()
        raise RegistryError(f"{self.reference.registry} redirects without end", hint="try again later")

    def _same_host(self, url: str) -> bool:
        return url.startswith(f"{scheme(self.reference.registry)}://{host(self.reference.registry)}/")

    def _authorize(self, challenges: list[str], refused: str) -> None:
        """Answer a challenge: Basic with the login, Bearer with a token fetched for it. Raises UnauthorizedError.

        `refused` is what the request had: where it has been renewed since, by another thread, that counts.
        """
        with self._lock:
            if self._authorization != refused:
                return
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
        realm = challenge.get("realm", "")
        if not realm.startswith(("https://", "http://")) or not self._may_hear(realm):
            raise self._unauthorized(f"its token server is {realm[:200]!r}")
        scopes = [f"repository:{self.reference.repository}:{self._access}"]
        scopes += [f"repository:{repository}:pull" for repository in sorted(self._mounts)]
        where = f"the token server of {self.reference.registry}"
        try:
            answer = _patiently(lambda: self._ask_for_token(realm, challenge.get("service", ""), scopes))
            content = answer.read()
            document = json.loads(content) if len(content) <= LARGEST_TOKEN else {}
        except TransportError as error:
            raise RegistryError(f"can't reach {where}: {error}", hint="check the network; try again later") from None
        except ValueError:
            document = {}
        if answer.status in (400, 401, 403):
            raise self._unauthorized(f"its token server answered {answer.status}")
        token = document.get("token") or document.get("access_token") if isinstance(document, Mapping) else None
        if answer.status != 200 or not isinstance(token, str):
            details = _registry_says(answer)
            raise RegistryError(f"{where} failed with {answer.status}", details=details, hint="try again later")
        return token

    def _ask_for_token(self, realm: str, service: str, scopes: list[str]) -> Answer:
        if self._login and self._login.token:
            form = {"grant_type": "refresh_token", "service": service, "scope": " ".join(scopes),
                    "client_id": "lading", "refresh_token": self._login.token}  # fmt: skip
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._client.send("POST", realm, headers, urlencode(form).encode())
        query = urlencode([*(("scope", scope) for scope in scopes), *([("service", service)] if service else [])])
        headers = {"Authorization": self._login.basic} if self._login else {}
        return self._client.send("GET", f"{realm}{'&' if '?' in realm else '?'}{query}", headers)

    def _may_hear(self, realm: str) -> bool:
        """A token server may be elsewhere, but never without TLS when the registry has it."""
        return realm.startswith("https://") or scheme(self.reference.registry) == "http"

    def _unauthorized(self, why: str) -> UnauthorizedError:
        known = f" as {self._login.user or 'the stored token'}" if self._login else ""
        return UnauthorizedError(
            f"{self.reference.registry} does not let in {self.reference.repository}{known}: {why}",
            hint=f"log in: podman login {self.reference.registry} (or docker login, aws ecr get-login-password)",
        )

    def refuse(self, answer: Answer, what: str) -> RegistryError:
        """The error for an answer that isn't the hoped-for one."""
        status = answer.status
        details = _registry_says(answer)
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


def _patiently(once: Callable[[], Answer]) -> Answer:
    """The answer, asked for again while what comes in its place may pass. Raises TransportError where it does not."""
    pause = FIRST_PAUSE
    for attempt in range(1, TRIES + 1):
        try:
            answer = once()
        except TransportError as error:
            if attempt == TRIES or isinstance(error, BadUrlError):
                raise
        else:
            if attempt == TRIES or answer.status not in RETRIED:
                return answer
            pause = _wanted_pause(answer, pause)
            answer.close()
        time.sleep(min(pause, LONGEST_PAUSE))
        pause *= 2
    raise AssertionError("unreachable")


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


def _wanted_pause(answer: Answer, pause: float) -> float:
    """Retry-After in seconds where the registry says it."""
    text = answer.headers.get("Retry-After", "")
    return max(float(text), pause) if text.isascii() and text.isdigit() and len(text) < 10 else pause


def _registry_says(answer: Answer) -> tuple[str, ...]:
    """The messages of the error body that the specification describes, bounded."""
    try:
        errors = answer.json()["errors"][:5]
        return tuple(f"{error.get('code', '')}: {str(error.get('message', ''))[:300]}" for error in errors)
    except Exception:  # any body at all may come with an error; then its status says enough
        return ()
