"""The secrets that belong to access keys: configured ones, the customary test ones, and those the service gave out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lading.service.pool.variables import CREDENTIALS

DEFAULT_ACCOUNT = "000000000000"
TEST = "test"
"""Access key id and secret that clients use against local endpoints; an account's number has the same secret."""


@dataclass(frozen=True)
class IssuedKey:
    """An access key that IAM or STS made. `expires`: seconds since the epoch; None for never."""

    secret: str
    account: str
    expires: float | None = None


Issued = Callable[[str], IssuedKey | None]


class Keyring:
    """`configured` None: keys are not asked for, and the customary ones are known. `issued`: what IAM and STS made here."""

    def __init__(self, configured: Mapping[str, str] | None, issued: Issued | None = None) -> None:
        self._configured = configured
        self._issued = issued or (lambda access_key: None)

    def get(self, access_key: str) -> IssuedKey | None:
        """None for a key that nobody here gave out."""
        secret = self._customary(access_key) if self._configured is None else self._configured.get(access_key)
        if secret is not None:
            return IssuedKey(secret, access_key if is_account(access_key) else DEFAULT_ACCOUNT)
        return self._issued(access_key)

    def account_of(self, access_key: str) -> str:
        """An access key id of 12 digits is an account; one that was given out here is its account's; others are the default's."""
        if is_account(access_key):
            return access_key
        if access_key == TEST or len(access_key) != 20:
            return DEFAULT_ACCOUNT
        known = self._issued(access_key)
        return known.account if known is not None else DEFAULT_ACCOUNT

    def signer(self, account: str) -> tuple[str, str]:
        """An access key and its secret that stand for an account; its number and no secret where there is none."""
        if self._configured is None:
            return account, TEST
        found = ((key, secret) for key, secret in self._configured.items() if self.account_of(key) == account)
        return next(found, (account, ""))

    def _customary(self, access_key: str) -> str | None:
        if access_key == CREDENTIALS["AWS_ACCESS_KEY_ID"]:
            return CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
        return TEST if access_key == TEST or is_account(access_key) else None


def is_account(text: str) -> bool:
    return len(text) == 12 and text.isascii() and text.isdigit()
