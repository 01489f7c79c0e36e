"""The secrets that belong to access keys: configured ones, the customary test ones, and those the service gave out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lading.service.pool.variables import CREDENTIALS

DEFAULT_ACCOUNT = "000000000000"
TEST = "test"
"""Access key id and secret that clients use against local endpoints; an account's number has the same secret."""
Issued = Callable[[str], str | None]


class Keyring:
    """`configured` None: keys are not asked for, and the customary ones are known. `issued`: what IAM and STS made here."""

    def __init__(self, configured: Mapping[str, str] | None, issued: Issued | None = None) -> None:
        self._configured = configured
        self._issued = issued

    def get(self, access_key: str) -> str | None:
        """The secret; None for a key that nobody here gave out."""
        known = self._customary(access_key) if self._configured is None else self._configured.get(access_key)
        if known is None and self._issued is not None:
            return self._issued(access_key)
        return known

    def _customary(self, access_key: str) -> str | None:
        if access_key == CREDENTIALS["AWS_ACCESS_KEY_ID"]:
            return CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
        return TEST if access_key == TEST or is_account(access_key) else None


def is_account(text: str) -> bool:
    return len(text) == 12 and text.isascii() and text.isdigit()


def account_of(access_key: str) -> str:
    """An access key id of 12 digits is an account; the others are of the one that everything is in by default."""
    return access_key if is_account(access_key) else DEFAULT_ACCOUNT
