"""AWS Signature Version 4: whose request it is, and whether the signature holds.

Source: IAM User Guide, "Create a signed AWS API request". In headers or, presigned, in the query. Chunks of a streamed
body aren't verified, only what they begin with.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, unquote

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest
from lading.service.front.keyring import IssuedKey

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
LONGEST = 604_800
"""Seconds that a presigned request can hold."""
SKEW = 15 * 60
"""Seconds a request's date may differ from the clock."""
REMEMBERED = 256
"""Characters of a credential that is remembered: hostile ones may be long."""
_CREDENTIAL = re.compile(r"([^/\s,=]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")


@dataclass(frozen=True)
class Credential:
    """What a request says of itself, unverified."""

    access_key: str
    date: str
    region: str
    service: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True)
class Signed:
    """How a request is signed: by whom, when ("20261126T094000Z"), over which headers, with what result."""

    credential: Credential
    moment: str
    headers: tuple[str, ...]
    signature: str
    lifetime: int
    """Seconds from its moment that it holds."""
    presigned: bool = False


def read_credential(request: HttpRequest) -> Credential | None:
    """None where the request names none (that is readable)."""
    header = request.header("authorization")
    if header:
        text = header.partition("Credential=")[2].partition(",")[0]
    else:
        text = dict(request.query).get("X-Amz-Credential", "") if request.query else ""
    return _credential(text) if len(text) <= REMEMBERED else _credential.__wrapped__(text)


@functools.lru_cache(256)
def _credential(text: str) -> Credential | None:
    """A client's is the same all day."""
    match = _CREDENTIAL.match(text)
    return Credential(*match.groups()) if match else None


def read_signature(request: HttpRequest) -> Signed | None:
    """None where the request isn't signed, or not readably."""
    credential, header = read_credential(request), request.header("authorization")
    if credential is None:
        return None
    if header is not None:
        names = re.search(r"SignedHeaders=([a-z0-9;-]+)", header)
        signature = re.search(r"Signature=([0-9a-f]{64})", header)
        if names is None or signature is None or not header.startswith(ALGORITHM):
            return None
        moment = request.header("x-amz-date") or ""
        return Signed(credential, moment, tuple(names[1].split(";")), signature[1], SKEW)
    query = dict(request.query)
    lifetime = query.get("X-Amz-Expires", "")
    if query.get("X-Amz-Algorithm") != ALGORITHM or not lifetime.isdecimal() or int(lifetime) > LONGEST:
        return None
    headers = tuple(query.get("X-Amz-SignedHeaders", "").split(";"))
    signature_of = query.get("X-Amz-Signature", "")
    return Signed(credential, query.get("X-Amz-Date", ""), headers, signature_of, int(lifetime), presigned=True)


class Keys(Protocol):
    """Access key id → what is known of it."""

    def get(self, access_key: str, /) -> IssuedKey | None: ...


def verify(request: HttpRequest, keys: Keys, now: float) -> None:
    """Raises ApiError (403) unless the request is signed with one of the keys."""
    signed = read_signature(request)
    if signed is None:
        raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token", status=403)
    key = keys.get(signed.credential.access_key)
    if key is None:
        raise ApiError(
            "UnrecognizedClientException", "The security token included in the request is invalid.", status=403
        )
    if key.expires is not None and key.expires < now:
        raise ApiError("ExpiredTokenException", "The security token included in the request is expired", status=403)
    _check_date(signed, now)
    if "host" not in signed.headers or not hmac.compare_digest(signed.signature, sign(request, signed, key.secret)):
        raise ApiError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
            "Key and signing method. Consult the service documentation for details.",
            status=403,
        )


def _check_date(signed: Signed, now: float) -> None:
    try:
        moment = dt.datetime.strptime(signed.moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        moment = now - signed.lifetime - 1
    if not moment - SKEW <= now <= moment + signed.lifetime or not signed.moment.startswith(signed.credential.date):
        message = f"Signature expired or not yet valid: {signed.moment[:40]}"
        raise ApiError("InvalidSignatureException", message, status=403)


def sign(request: HttpRequest, signed: Signed, secret: str) -> str:
    """The signature a request that is signed in this way must have."""
    canonical = hashlib.sha256(canonical_request(request, signed).encode()).hexdigest()
    text = "\n".join([ALGORITHM, signed.moment, signed.credential.scope, canonical])
    key = b"AWS4" + secret.encode()
    for part in signed.credential.scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def canonical_request(request: HttpRequest, signed: Signed) -> str:
    """Every service but S3 encodes the path as sent once more."""
    pairs = [pair for pair in request.query if not (signed.presigned and pair[0] == "X-Amz-Signature")]
    query = "&".join(sorted(f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}" for key, value in pairs))
    headers = "".join(f"{name}:{' '.join((request.header(name) or '').split())}\n" for name in signed.headers)
    s3 = signed.credential.service == "s3"
    path = quote(unquote(request.path) if s3 else request.path, safe="/-_.~")
    names = ";".join(signed.headers)
    return "\n".join([request.method, path, query, headers, names, _payload(request, unsigned=s3 and signed.presigned)])


def _payload(request: HttpRequest, *, unsigned: bool) -> str:
    """The digest of the body, or the word that says why there is none."""
    said = request.header("x-amz-content-sha256")
    if said is None and unsigned:
        return UNSIGNED
    if said is not None and (said == UNSIGNED or said.startswith("STREAMING-")):
        return said
    return hashlib.sha256(request.body).hexdigest()
