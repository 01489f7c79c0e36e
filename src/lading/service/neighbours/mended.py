"""Requests that moto would take otherwise than AWS, mended on their way to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

from lading.service.contract.http import HttpRequest


def mend(service: str, request: HttpRequest, account: str) -> HttpRequest:
    """The request as moto is to have it. `service`: as it is signed for."""
    if service == "iam" and b"Action=UpdateRole&" in request.body + b"&":
        return _whole_role(request, account)
    return request


def _whole_role(request: HttpRequest, account: str) -> HttpRequest:
    """UpdateRole leaves what it isn't given as it is; moto resets it."""
    from moto.iam.models import iam_backends

    given = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
    backends = list(iam_backends[account].values()) if account in iam_backends else []
    roles = [role for backend in backends for role in list(backend.roles.values())]
    role = next((role for role in roles if role.name == given.get("RoleName")), None)
    if role is None:
        return request
    kept: dict[str, Callable[[], object]] = {
        "Description": lambda: role.description,
        "MaxSessionDuration": lambda: role.max_session_duration,
    }
    for name, current in kept.items():
        if name not in given and (value := current()) is not None:
            given[name] = str(value)
    return replace(request, body=urlencode(given).encode())
