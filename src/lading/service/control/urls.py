"""Function URL configurations. What comes in at a URL is the front's business."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
from urllib.parse import urlsplit

from lading.service.control.call import Call, Operation, Parameters, Result, given, limit_of, page, read_marker
from lading.service.control.names import LATEST, FunctionReference
from lading.service.control.refusal import conflict, no_resource, not_found

SETTINGS = ("AuthType", "Cors", "InvokeMode")


def _own(call: Call, parameters: Parameters, action: str) -> tuple[FunctionReference, str]:
    """The function or alias, and the name its URL is kept under."""
    reference = call.reference(parameters, action=action)
    return reference, reference.qualifier or LATEST


def _check_exists(call: Call, reference: FunctionReference) -> None:
    kind, name = ("version", LATEST) if reference.qualifier is None else ("alias", reference.qualifier)
    if call.state.get(call.key(kind, reference.name, name)) is None:
        raise not_found("Function does not exist")


def url_of(call: Call, identity: str) -> str:
    """Where the function is reached: a host of its own, as on AWS, under the name by which this service is."""
    endpoint = urlsplit(call.endpoint)
    host = endpoint.hostname or "localhost"
    try:
        ipaddress.ip_address(host)
        host = "localhost"
    except ValueError:
        pass
    port = f":{endpoint.port}" if endpoint.port else ""
    return f"{endpoint.scheme}://{identity}.lambda-url.{call.scope.region}.{host}{port}/"


def _moment(call: Call) -> str:
    moment = dt.datetime.fromtimestamp(call.now(), dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


def _shown(call: Call, document: Result) -> Result:
    return document | {"FunctionUrl": url_of(call, document["_id"])}


def create_function_url_config(call: Call, parameters: Parameters) -> Result:
    reference, name = _own(call, parameters, "CreateFunctionUrlConfig")
    _check_exists(call, reference)
    arn = call.scope.function_arn(reference.name, reference.qualifier)
    key = call.key("url", reference.name, name)
    if call.state.get(key) is not None:
        raise conflict(
            f"Failed to create function url config for [functionArn = {arn}]. "
            "Error message:  FunctionUrlConfig exists for this Lambda function"
        )
    now = _moment(call)
    identity = int.from_bytes(hashlib.sha256(call.state.secret("urls") + arn.encode()).digest())
    document = {
        "_id": _base36(identity)[:32],
        "FunctionArn": arn,
        "InvokeMode": "BUFFERED",
        "CreationTime": now,
        "LastModifiedTime": now,
    } | given(parameters, *SETTINGS)
    call.state.put(key, document)
    return _answer(_shown(call, document), parameters, "LastModifiedTime")


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
    return digits


def _answer(shown: Result, parameters: Parameters, *left_out: str) -> Result:
    """Changes are answered without the invoke mode unless they set it."""
    out = {*left_out, *(() if "InvokeMode" in parameters else ("InvokeMode",))}
    return {name: value for name, value in shown.items() if name not in out}


def get_function_url_config(call: Call, parameters: Parameters) -> Result:
    reference, name = _own(call, parameters, "GetFunctionUrlConfig")
    found = call.state.get(call.key("url", reference.name, name))
    if found is None:
        raise no_resource()
    return _shown(call, found)


def update_function_url_config(call: Call, parameters: Parameters) -> Result:
    reference, name = _own(call, parameters, "UpdateFunctionUrlConfig")
    _check_exists(call, reference)
    key = call.key("url", reference.name, name)
    old = call.state.get(key)
    if old is None:
        raise no_resource()
    new = old | given(parameters, *SETTINGS) | {"LastModifiedTime": _moment(call)}
    call.state.put(key, new)
    return _answer(_shown(call, new), parameters)


def delete_function_url_config(call: Call, parameters: Parameters) -> Result:
    reference, name = _own(call, parameters, "DeleteFunctionUrlConfig")
    key = call.key("url", reference.name, name)
    if call.state.get(key) is None:
        raise no_resource()
    call.state.delete(key)
    return {}


def list_function_url_configs(call: Call, parameters: Parameters) -> Result:
    name = call.reference(parameters, action="ListFunctionUrlConfigs").name
    if call.version(name, LATEST) is None:
        raise not_found("Function does not exist")
    limit = limit_of(parameters, 50)
    records = call.state.list_by_name(call.key("url", name), after=read_marker(parameters), limit=limit + 1)
    found, marker = page(records, limit, lambda record: record.key.name)
    return {"FunctionUrlConfigs": [_shown(call, record.document) for record in found], "NextMarker": marker}


OPERATIONS: dict[str, Operation] = {
    "CreateFunctionUrlConfig": create_function_url_config,
    "GetFunctionUrlConfig": get_function_url_config,
    "UpdateFunctionUrlConfig": update_function_url_config,
    "DeleteFunctionUrlConfig": delete_function_url_config,
    "ListFunctionUrlConfigs": list_function_url_configs,
}
