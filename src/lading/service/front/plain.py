"""Answers that belong to no API: JSON, and errors before it is known whose they are."""

from __future__ import annotations

import json
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpResponse
from lading.service.contract.serialize import ERROR_TYPE


def json_answer(value: Any, *, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def plain_error(error: ApiError) -> HttpResponse:
    headers = {"Content-Type": "application/json", ERROR_TYPE: error.code}
    return HttpResponse(error.status, headers, json.dumps({"__type": error.code, "message": error.message}).encode())
