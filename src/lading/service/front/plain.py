"""Answers that belong to no API: JSON, and errors before it is known whose they are, in the words of the protocol asked in."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, HttpResponse
from lading.service.contract.serialize import ERROR_TYPE

_FORM = "application/x-www-form-urlencoded"
_S3 = "<Error><Code>{code}</Code><Message>{message}</Message></Error>"
_EC2 = "<Response><Errors>" + _S3 + "</Errors></Response>"
_QUERY = "<ErrorResponse>" + _S3.replace("<Error>", "<Error><Type>{fault}</Type>") + "</ErrorResponse>"
"""Error responses of the rest-xml, ec2 and query protocols (Smithy's specifications of AWS's protocols)."""
_XML_CODES = {"InvalidSignatureException": "SignatureDoesNotMatch"}
"""What these protocols call it (S3 and STS API references, error codes)."""


def json_answer(value: Any, *, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def plain_error(error: ApiError, request: HttpRequest | None = None, service: str = "") -> HttpResponse:
    """An error as a client understands it that asked like this, for this service; JSON where that isn't known."""
    form = request is not None and (
        (request.header("content-type") or "").startswith(_FORM) or "Action=" in request.raw_query
    )
    template = _S3 if service == "s3" else "" if not form else _EC2 if service == "ec2" else _QUERY
    kind = "text/xml" if template else "application/json"
    headers = {"Content-Type": kind, ERROR_TYPE: error.code}
    if template:
        fault = "Sender" if error.status < 500 else "Receiver"
        text = template.format(
            code=escape(_XML_CODES.get(error.code, error.code)), message=escape(error.message), fault=fault
        )
    else:
        text = json.dumps({"__type": error.code, "message": error.message})
    return HttpResponse(error.status, headers, text.encode())
