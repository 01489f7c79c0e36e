"""Values that Parameter Store and Secrets Manager keep, with the version that each is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from lading.aws.account import Account
from lading.errors import DeployError

AT_ONCE = 10
"""Names that one GetParameters takes."""


class ValueMissingError(DeployError):
    """A parameter or secret that the project refers to isn't there, or has no such field."""


@dataclass(frozen=True)
class Kept:
    """A value, never shown, and the version it has."""

    value: str = field(repr=False)
    version: str = ""


def read_parameters(account: Account, names: Sequence[str]) -> dict[str, Kept]:
    """By the name that was asked for; what isn't there is missing."""
    found: dict[str, Kept] = {}
    wanted = sorted(set(names))
    for start in range(0, len(wanted), AT_ONCE):
        part = wanted[start : start + AT_ONCE]
        answer = account.call("ssm", "GetParameters", Names=part, WithDecryption=True)
        for one in answer["Parameters"]:
            kept = Kept(one["Value"], str(one.get("Version", "")))
            found |= {name: kept for name in (one.get("Name"), one.get("ARN")) if name in part}
    return found


def read_secret(account: Account, name: str) -> Kept | None:
    """The current version's text; None where there is no such secret."""
    found = account.find("secretsmanager", "GetSecretValue", SecretId=name)
    if found is None or "SecretString" not in found:
        return None
    return Kept(found["SecretString"], found.get("VersionId", ""))


def field_of(secret: Kept, name: str, key: str) -> Kept:
    """One key of a secret that is a JSON object. Raises ValueMissingError."""
    try:
        value = json.loads(secret.value)[key]
    except (ValueError, KeyError, TypeError):
        raise ValueMissingError(
            f"the secret {name!r} has no field {key!r}", hint="it must be a JSON object with that key"
        ) from None
    return Kept(value if isinstance(value, str) else json.dumps(value), secret.version)
