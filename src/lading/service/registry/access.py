"""Logins: passwords that GetAuthorizationToken gives out, and the Bearer tokens they are exchanged for. Signed, kept nowhere.

Source: Amazon ECR user guide, "Private registry authentication" (user AWS, 12 hours); distribution's token authentication.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass

from lading.service.control.names import Scope
from lading.service.registry.answers import RefusedError

USER = "AWS"
LIFETIME = 12 * 3600
"""Seconds (GetAuthorizationToken)."""
LONGEST = 4096
SERVICE = "ecr.amazonaws.com"
PASSWORD, ACCESS = "password", "access"


@dataclass(frozen=True)
class Caller:
    """Who asks; `scope` is None for somebody without a login."""

    scope: Scope | None = None


ANYBODY = Caller()


class Logins:
    """Makes and reads them. `required`: nobody is let in without one."""

    def __init__(self, secret: bytes, now: Callable[[], float], *, required: bool) -> None:
        self._secret = secret
        self._now = now
        self.required = required

    def password(self, scope: Scope) -> tuple[str, float]:
        """For the user AWS, and when it ends (seconds since the epoch)."""
        expires = self._now() + LIFETIME
        return self._sign(PASSWORD, scope, expires), expires

    def token(self, caller: Caller) -> str:
        """For a Bearer header."""
        return self._sign(ACCESS, caller.scope, self._now() + LIFETIME)

    def read(self, authorization: str | None) -> Caller:
        """Whose an Authorization header is. Raises RefusedError for one that is wrong, over, or missing where it is required."""
        if not authorization:
            if self.required:
                raise unauthorized("no basic auth credentials")
            return ANYBODY
        kind, _, value = authorization.partition(" ")
        if kind.lower() == "bearer":
            return self._verify(ACCESS, value.strip())
        if kind.lower() == "basic":
            return self.log_in(*_basic(value.strip()))
        raise unauthorized("the Authorization header is neither Basic nor Bearer")

    def log_in(self, user: str, password: str) -> Caller:
        if not (user or password or self.required):
            return ANYBODY  # some clients send an empty login where they have none
        if user != USER:
            raise unauthorized(f"the user is {user[:50]!r}: log in as {USER}, with GetAuthorizationToken's password")
        return self._verify(PASSWORD, password)

    def _sign(self, kind: str, scope: Scope | None, expires: float) -> str:
        whose = [scope.account, scope.region] if scope else []
        payload = base64.urlsafe_b64encode(json.dumps([kind, int(expires), whose]).encode()).decode()
        return f"{payload}.{self._signature(payload)}"

    def _signature(self, payload: str) -> str:
        return hmac.new(self._secret, payload.encode(), hashlib.sha256).hexdigest()

    def _verify(self, wanted: str, text: str) -> Caller:
        payload, _, signature = text.partition(".")
        right = len(text) <= LONGEST and text.isascii() and hmac.compare_digest(signature, self._signature(payload))
        if not right:
            raise unauthorized("the login is not one that this service gave out: log in again")
        kind, expires, whose = json.loads(base64.urlsafe_b64decode(payload))
        if kind != wanted:
            raise unauthorized("the login is of another kind: log in again")
        if expires < self._now():
            raise unauthorized("Your authorization token has expired. Reauthenticate and try again.")
        caller = Caller(Scope(*whose)) if whose else ANYBODY
        if self.required and caller.scope is None:
            raise unauthorized("no basic auth credentials")
        return caller


def unauthorized(message: str) -> RefusedError:
    return RefusedError(401, "UNAUTHORIZED", message)


def _basic(value: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise unauthorized("the Basic login is not base64") from None
    return user, password
