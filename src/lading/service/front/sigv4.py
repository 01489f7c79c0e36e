"""AWS Signature Version 4: whose request it is, and whether the signature holds.

Source: IAM User Guide, "Create a signed AWS API request". Headers only, no presigned queries.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = 15 * 60
"""Seconds a request's date may differ from the clock."""
_CREDENTIAL = re.compile(r"Credential=([^/\s,]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")


@dataclass(frozen=True)
class Credential:
    """What a request says of itself in its Authorization header, unverified."""

    access_key: str
    date: str
    region: str
    service: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def read_credential(request: HttpRequest) -> Credential | None:
    """None where the request has no (readable) Authorization header."""
    match = _CREDENTIAL.search(request.header("authorization") or "")
    return Credential(*match.groups()) if match else None


class Secrets(Protocol):
    """Access key id → secret: a keyring, or a mapping."""

    def get(self, access_key: str, /) -> str | None: ...


def verify(request: HttpRequest, keys: Secrets, now: float) -> None:
    """Raises ApiError (403) unless the request is signed with one of the keys."""
    credential = read_credential(request)
    header = request.header("authorization") or ""
    signed = re.search(r"SignedHeaders=([a-z0-9;-]+)", header)
    signature = re.search(r"Signature=([0-9a-f]{64})", header)
    if credential is None or signed is None or signature is None or not header.startswith(ALGORITHM):
        raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token", status=403)
    secret = keys.get(credential.access_key)
    if secret is None:
        raise ApiError(
            "UnrecognizedClientException", "The security token included in the request is invalid.", status=403
        )
    _check_date(request, credential, now)
    names = signed[1].split(";")
    if "host" not in names or not hmac.compare_digest(signature[1], sign(request, credential, names, secret)):
        raise ApiError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
            "Key and signing method. Consult the service documentation for details.",
            status=403,
        )


def _check_date(request: HttpRequest, credential: Credential, now: float) -> None:
    stamp = request.header("x-amz-date") or ""
    try:
        moment = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        moment = -SKEW
    if abs(moment - now) > SKEW or not stamp.startswith(credential.date):
        raise ApiError("InvalidSignatureException", f"Signature expired or not yet valid: {stamp[:40]}", status=403)


def sign(request: HttpRequest, credential: Credential, names: list[str], secret: str) -> str:
    """The signature a request with these signed headers must have."""
    canonical = hashlib.sha256(canonical_request(request, names).encode()).hexdigest()
    text = "\n".join([ALGORITHM, request.header("x-amz-date") or "", credential.scope, canonical])
    key = b"AWS4" + secret.encode()
    for part in credential.scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def canonical_request(request: HttpRequest, names: list[str]) -> str:
    """Every service but S3: the path as sent is encoded once more."""
    query = "&".join(sorted(f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}" for key, value in request.query))
    headers = "".join(f"{name}:{' '.join((request.header(name) or '').split())}\n" for name in names)
    payload = request.header("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest()
    if request.header("x-amz-content-sha256") not in (None, "UNSIGNED-PAYLOAD"):
        payload = hashlib.sha256(request.body).hexdigest()
    path = quote(request.path, safe="/-_.~")
    return "\n".join([request.method, path, query, headers, ";".join(names), payload])
