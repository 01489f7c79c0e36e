"""Resource policies of functions, versions, aliases and layer versions: statements added and removed, or set whole."""

from __future__ import annotations

import json
import re
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.control.call import Call, Operation, Parameters, Result, check_revision, new_revision
from lading.service.control.facts import facts
from lading.service.control.layers import version_number
from lading.service.control.names import LATEST, is_version, layer_name, read_reference
from lading.service.control.refusal import (
    alias_not_found,
    conflict,
    function_not_found,
    invalid,
    no_resource,
    not_found,
    not_here,
)
from lading.service.state import Key

_CONDITIONS = (
    ("StringEquals", "AWS:SourceAccount", "SourceAccount"),
    ("StringEquals", "lambda:FunctionUrlAuthType", "FunctionUrlAuthType"),
    ("StringEquals", "aws:PrincipalOrgID", "PrincipalOrgID"),
    ("StringEquals", "lambda:EventSourceToken", "EventSourceToken"),
    ("Bool", "lambda:InvokedViaFunctionUrl", "InvokedViaFunctionUrl"),
    ("ArnLike", "AWS:SourceArn", "SourceArn"),
)
"""Operator, condition key, and the request's member that gives its value."""
_PRINCIPAL_ARN = re.compile(r"arn:[\w-]+:(iam|sts)::(\d{12}|cloudfront):.+")


def _subject(call: Call, name: str, qualifier: str | None) -> Result:
    """The version or alias that a policy belongs to, for its revision. Raises ApiError when there is none."""
    if qualifier is None or qualifier == LATEST or is_version(qualifier):
        found = call.version(name, qualifier or LATEST)
    else:
        found = call.state.get(call.key("alias", name, qualifier))
        if found is None and not qualifier.startswith("$") and "$" not in qualifier:
            raise alias_not_found(call.scope.function_arn(name, qualifier))
    if found is None:
        raise function_not_found(call.scope.function_arn(name, qualifier))
    return found


def _renew(call: Call, name: str, qualifier: str | None, subject: Result) -> str:
    """Give what the policy belongs to a new revision: a policy has none of its own."""
    changed = subject | {"RevisionId": new_revision()}
    if "AliasArn" in subject:
        call.state.put(call.key("alias", name, qualifier or ""), changed)
    else:
        call.put_version(changed)
    return str(changed["RevisionId"])


def _key(call: Call, name: str, qualifier: str | None) -> Key:
    return call.key("policy", name, qualifier or LATEST)


def add_permission(call: Call, parameters: Parameters) -> Result:
    reference = call.reference(parameters, action="AddPermission")
    name, qualifier = reference.name, reference.qualifier
    if qualifier == LATEST:
        raise invalid("We currently do not support adding policies for $LATEST.")
    subject = _subject(call, name, qualifier)
    check_revision(parameters.get("RevisionId"), subject["RevisionId"], where="GetPolicy")
    key = _key(call, name, qualifier)
    statement = {
        "Sid": parameters["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(call, parameters["Principal"]),
        "Action": parameters["Action"],
        "Resource": call.scope.function_arn(name, qualifier),
    }
    conditions: dict[str, dict[str, Any]] = {}
    for operator, condition, member in _CONDITIONS:
        if member in parameters:
            value = parameters[member]
            conditions.setdefault(operator, {})[condition] = str(value).lower() if isinstance(value, bool) else value
    if conditions:
        statement["Condition"] = conditions
    _append(call, key, statement)
    _renew(call, name, qualifier, subject)
    return {"Statement": _json(statement)}


def _principal(call: Call, text: str) -> Any:
    """A statement's Principal. Raises ApiError for one that isn't an account, an ARN, a service or everybody."""
    if text == "*":
        return "*"
    if len(text) == 12 and text.isdigit():
        return {"AWS": f"arn:{call.scope.partition}:iam::{text}:root"}
    if _PRINCIPAL_ARN.fullmatch(text):
        return {"AWS": text}
    if re.fullmatch(r"[a-z0-9.-]+\.amazon(aws)?\.com(\.cn)?", text):
        return {"Service": text}
    raise invalid("The provided principal was invalid. Please check the principal and try again.")


def _append(call: Call, key: Key, statement: Result) -> None:
    statements = _statements(call, key)
    if any(one["Sid"] == statement["Sid"] for one in statements):
        raise conflict(
            f"The statement id ({statement['Sid']}) provided already exists. Please provide a new statement id, "
            "or remove the existing statement."
        )
    _store(call, key, [*statements, statement])


def _store(call: Call, key: Key, statements: list[Result]) -> None:
    size, most = len(_document(statements).encode()), facts()["policy_bytes"]
    if size > most:
        raise ApiError(
            "PolicyLengthExceededException", f"The final policy size ({size}) is bigger than the limit ({most})."
        )
    if statements:
        call.state.put(key, {"Statement": statements})
    else:
        call.state.delete(key)


def _statements(call: Call, key: Key) -> list[Result]:
    found = call.state.get(key)
    return list(found["Statement"]) if found else []


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _document(statements: list[Result]) -> str:
    return _json({"Version": "2012-10-17", "Id": "default", "Statement": statements})


def remove_permission(call: Call, parameters: Parameters) -> Result:
    reference = call.reference(parameters, action="RemovePermission")
    name, qualifier = reference.name, reference.qualifier
    if call.version(name, LATEST) is None:
        raise not_found(f"No policy found for: {call.scope.function_arn(name, qualifier)}")
    subject = _subject(call, name, qualifier)
    _remove(call, _key(call, name, qualifier), parameters, subject["RevisionId"], "GetPolicy")
    _renew(call, name, qualifier, subject)
    return {}


def _remove(call: Call, key: Key, parameters: Parameters, revision: str, where: str) -> None:
    statements = _statements(call, key)
    if not statements:
        raise not_found("No policy is associated with the given resource.")
    sid = parameters["StatementId"]
    if all(statement["Sid"] != sid for statement in statements):
        raise not_found(f"Statement {sid} is not found in resource policy.")
    check_revision(parameters.get("RevisionId"), revision, where=where)
    _store(call, key, [statement for statement in statements if statement["Sid"] != sid])


def get_policy(call: Call, parameters: Parameters) -> Result:
    reference = call.reference(parameters, action="GetPolicy")
    statements = _statements(call, _key(call, reference.name, reference.qualifier))
    if not statements:
        raise no_resource()
    subject = _subject(call, reference.name, reference.qualifier)
    return {"Policy": _document(statements), "RevisionId": subject["RevisionId"]}


def _layer_version(call: Call, parameters: Parameters, action: str) -> tuple[Key, str]:
    """The key of a layer version's policy, and its ARN. Raises ApiError when there is no such version."""
    number = version_number(parameters)
    name = layer_name(call.scope, parameters["LayerName"], action=action)
    arn = call.scope.arn(f"layer:{name}:{number}")
    if call.state.get(call.key("layer-version", name, str(number))) is None:
        raise not_found(f"Layer version {arn} does not exist.")
    return call.key("layer-policy", name, str(number)), arn


def _layer_revision(call: Call, key: Key) -> str:
    found = call.state.get(key)
    return str(found["RevisionId"]) if found else ""


def _renew_layer(call: Call, key: Key) -> str:
    revision = new_revision()
    found = call.state.get(key)
    if found is not None:
        call.state.put(key, found | {"RevisionId": revision})
    return revision


def add_layer_version_permission(call: Call, parameters: Parameters) -> Result:
    key, arn = _layer_version(call, parameters, "AddLayerVersionPermission")
    check_revision(parameters.get("RevisionId"), _layer_revision(call, key), where="GetLayerPolicy")
    principal = parameters["Principal"]
    statement: Result = {
        "Sid": parameters["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(call, principal),
        "Action": parameters["Action"],
        "Resource": arn,
    }
    if "OrganizationId" in parameters:
        statement["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": parameters["OrganizationId"]}}
    _append(call, key, statement)
    return {"Statement": _json(statement), "RevisionId": _renew_layer(call, key)}


def remove_layer_version_permission(call: Call, parameters: Parameters) -> Result:
    key, _ = _layer_version(call, parameters, "RemoveLayerVersionPermission")
    _remove(call, key, parameters, _layer_revision(call, key), "GetLayerPolicy")
    _renew_layer(call, key)
    return {}


def get_layer_version_policy(call: Call, parameters: Parameters) -> Result:
    key, _ = _layer_version(call, parameters, "GetLayerVersionPolicy")
    statements = _statements(call, key)
    if not statements:
        raise not_found("No policy is associated with the given resource.")
    return {"Policy": _document(statements), "RevisionId": _layer_revision(call, key)}


def _resource(call: Call, parameters: Parameters, action: str) -> tuple[str, str | None, Result]:
    """(function, qualifier, what the policy belongs to) of a resource's ARN."""
    arn = parameters["ResourceArn"]
    if ":function:" not in arn:
        raise not_here(f"{action} for {arn.split(':')[5].partition('/')[0]}")
    reference = read_reference(call.scope, arn, action=action)
    return reference.name, reference.qualifier, _subject(call, reference.name, reference.qualifier)


def put_resource_policy(call: Call, parameters: Parameters) -> Result:
    name, qualifier, subject = _resource(call, parameters, "PutResourcePolicy")
    check_revision(parameters.get("RevisionId"), subject["RevisionId"], where="GetResourcePolicy")
    try:
        statements = json.loads(parameters["Policy"])["Statement"]
        statements = statements if isinstance(statements, list) else [statements]
        complete = all({"Effect", "Principal", "Action"} <= set(statement) for statement in statements)
    except (ValueError, KeyError, TypeError, RecursionError):
        complete = False
    if not complete or not statements:
        raise invalid("The policy is not a valid resource policy document.")
    numbered = [{"Sid": f"statement-{number}"} | statement for number, statement in enumerate(statements, 1)]
    _store(call, _key(call, name, qualifier), numbered)
    return {"Policy": _document(numbered), "RevisionId": _renew(call, name, qualifier, subject)}


def get_resource_policy(call: Call, parameters: Parameters) -> Result:
    name, qualifier, subject = _resource(call, parameters, "GetResourcePolicy")
    statements = _statements(call, _key(call, name, qualifier))
    if not statements:
        raise no_resource()
    return {"Policy": _document(statements), "RevisionId": subject["RevisionId"]}


def delete_resource_policy(call: Call, parameters: Parameters) -> Result:
    name, qualifier, subject = _resource(call, parameters, "DeleteResourcePolicy")
    check_revision(parameters.get("RevisionId"), subject["RevisionId"], where="GetResourcePolicy")
    call.state.delete(_key(call, name, qualifier))
    _renew(call, name, qualifier, subject)
    return {}


OPERATIONS: dict[str, Operation] = {
    "AddPermission": add_permission,
    "RemovePermission": remove_permission,
    "GetPolicy": get_policy,
    "AddLayerVersionPermission": add_layer_version_permission,
    "RemoveLayerVersionPermission": remove_layer_version_permission,
    "GetLayerVersionPolicy": get_layer_version_policy,
    "PutResourcePolicy": put_resource_policy,
    "GetResourcePolicy": get_resource_policy,
    "DeleteResourcePolicy": delete_resource_policy,
}
