"""Temporary credentials of functions' roles, from STS: this process's, or the endpoint that stands for it. Blocks."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from lading.service.contract.errors import ApiError
from lading.service.control.names import Scope
from lading.service.front.keyring import IssuedKey
from lading.service.neighbours.moto import assume_role, issued_key
from lading.service.neighbours.neighbours import Neighbours

LIFETIME = 3600
"""Seconds: what every role allows (IAM, "MaxSessionDuration")."""


@dataclass(frozen=True)
class Credentials:
    """What an environment signs with."""

    access_key: str
    secret: str
    token: str

    def variables(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_SESSION_TOKEN": self.token,
        }


class RoleCredentials:
    """Gives credentials out and knows whose they are until they expire. Safe between threads."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._given: dict[str, IssuedKey] = {}
        """The soonest to expire first."""
        self._lock = threading.Lock()

    def issue(self, scope: Scope, role: str, session: str) -> Credentials:
        """Raises ApiError where STS refuses."""
        if "sts" in self._neighbours.elsewhere:
            made = self._ask(scope, role, session)
        else:
            made = Credentials(*assume_role(scope, role, session, LIFETIME))
        now = time.time()
        with self._lock:
            while self._given and (expires := next(iter(self._given.values())).expires) and expires < now:
                del self._given[next(iter(self._given))]
            self._given[made.access_key] = IssuedKey(made.secret, role.split(":")[4], now + LIFETIME)
        return made

    def find(self, access_key: str) -> IssuedKey | None:
        """A key that was given out here, or that somebody asked IAM or STS for in this process."""
        return self._given.get(access_key) or issued_key(access_key)

    def _ask(self, scope: Scope, role: str, session: str) -> Credentials:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._neighbours.client("sts", scope)
        try:
            found = client.assume_role(RoleArn=role, RoleSessionName=session, DurationSeconds=LIFETIME)["Credentials"]
        except (BotoCoreError, ClientError) as error:
            raise ApiError("ServiceException", f"no credentials for {role}: {error}") from error
        return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
