"""Answers of the distribution API: its headers, and errors in its form.

Source: OCI distribution specification 1.1, "Error Codes".
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lading.errors import LadingError
from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpResponse

VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}


class RefusedError(LadingError):
    """What a client of the registry gets in place of what it asked for."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


_CODES = {
    "RepositoryNotFoundException": (404, "NAME_UNKNOWN"),
    "ImageNotFoundException": (404, "MANIFEST_UNKNOWN"),
    "UploadNotFoundException": (404, "BLOB_UPLOAD_UNKNOWN"),
    "LayersNotFoundException": (400, "MANIFEST_BLOB_UNKNOWN"),
    "ReferencedImagesNotFoundException": (400, "MANIFEST_BLOB_UNKNOWN"),
    "ImageTagAlreadyExistsException": (400, "TAG_INVALID"),
    "UnsupportedImageTypeException": (400, "MANIFEST_INVALID"),
    "AccessDeniedException": (403, "DENIED"),
}


def translate(error: ApiError) -> RefusedError:
    """An error that is ECR's too, as the registry words it."""
    status, code = _CODES.get(error.code, (error.status, "UNKNOWN"))
    message = "Requested image not found" if code == "MANIFEST_UNKNOWN" else error.message
    return RefusedError(status, code, message)


def refused(refusal: RefusedError) -> HttpResponse:
    body = {"errors": [{"code": refusal.code, "message": refusal.message}]}
    return document(body, refusal.headers, status=refusal.status)


def document(
    value: object, headers: Mapping[str, str] | None = None, *, status: int = 200, media_type: str = "application/json"
) -> HttpResponse:
    """JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return HttpResponse(status, {**VERSION, "Content-Type": media_type, **(headers or {})}, body)


def empty(status: int, headers: Mapping[str, str]) -> HttpResponse:
    """Without a body; a HEAD's answer states its own Content-Length."""
    return HttpResponse(status, {**VERSION, **headers})


def digest_invalid(text: str) -> RefusedError:
    known = "sha256 and 64 hex digits, or sha512 and 128"
    return RefusedError(400, "DIGEST_INVALID", f"{text[:200]!r} is no digest that this registry keeps: {known}")


def blob_unknown(digest: str) -> RefusedError:
    return RefusedError(404, "BLOB_UNKNOWN", f"the repository has no blob {digest}")
