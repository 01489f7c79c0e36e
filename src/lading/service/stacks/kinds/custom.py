"""Custom resources: a function is told what is wanted, and tells by an object in S3 what became of it.

Source: CloudFormation User Guide, "Custom resource reference": requests, responses, the time that they may take.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from lading.service.stacks.kinds.kind import ANYTHING, Properties, ResourceError, Wanted, code_of
from lading.service.stacks.records import Made
from lading.service.stacks.site import Site

TYPE, PREFIX = "AWS::CloudFormation::CustomResource", "Custom::"
PATIENCE = 3600
"""Seconds for an answer where ServiceTimeout says nothing; the most that it may say."""
LONGEST = 65_536
"""Bytes of an answer; AWS takes 4,096."""
_SHORTEST, _LONGEST = 0.05, 1.0


class CustomResources:
    """The Kind of all of them. Identity: what the function says, else one of its request's."""

    known = frozenset({ANYTHING})
    fixed: frozenset[str] = frozenset()

    def create(self, site: Site, wanted: Wanted) -> Made:
        return self._ask(site, wanted.begun, _request("Create", wanted.logical, wanted.type, wanted.properties))

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        request = _request("Update", wanted.logical, wanted.type, wanted.properties)
        more = {"PhysicalResourceId": made.identity, "OldResourceProperties": texts(old)}
        return self._ask(site, wanted.begun, request | more)

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        logical, kind = str(made.attributes.get(_LOGICAL, "")), str(made.attributes.get(_TYPE, TYPE))
        request = _request("Delete", logical, kind, properties) | {"PhysicalResourceId": made.identity}
        self._ask(site, lambda made: None, request)

    def _ask(self, site: Site, begun: Any, request: dict[str, Any]) -> Made:
        function, patience = request["ServiceToken"], _patience(request)
        if not isinstance(function, str) or ":lambda:" not in function:
            raise ResourceError(f"ServiceToken has to be the ARN of a function here, not {str(function)[:200]!r}")
        identity = str(uuid.uuid4())
        bucket, key, link = site.answer_link(identity, patience)
        message = {**request, "RequestId": identity, "ResponseURL": link, "StackId": site.stack}
        answer = site.call("lambda", "invoke", FunctionName=function, Payload=json.dumps(message).encode())
        failed = json.loads(answer["Payload"].read() or b"null") if answer.get("FunctionError") else None
        found = self._wait(site, bucket, key, 0.0 if failed is not None else float(patience))
        if found is None:
            why = (
                f"its function failed: {json.dumps(failed)[:1000]}"
                if failed is not None
                else f"no answer came in {patience} s"
            )
            raise ResourceError(f"CloudFormation did not receive a response from your Custom Resource: {why}")
        data = found.get("Data") if isinstance(found.get("Data"), dict) else {}
        own = {_LOGICAL: request["LogicalResourceId"], _TYPE: request["ResourceType"]}
        given = str(found.get("PhysicalResourceId") or request.get("PhysicalResourceId") or "")
        made = Made(given or identity, {**(data or {}), **own})
        if found.get("Status") != "SUCCESS":
            if given:
                begun(made)  # it may be there: it is deleted when the stack goes back
            raise ResourceError(
                f"Received response status [FAILED] from custom resource. Message returned: {found.get('Reason', '')}"
            )
        return made

    def _wait(self, site: Site, bucket: str, key: str, patience: float) -> dict[str, Any] | None:
        """The answer; None where none came."""
        waited, pause = 0.0, _SHORTEST
        while True:
            found = _read(site, bucket, key)
            if found is not None or waited >= patience:
                return found
            site.pause(pause)
            waited, pause = waited + pause, min(pause * 1.5, _LONGEST)


_LOGICAL, _TYPE = "\0logical", "\0type"
"""Attributes that no template can ask for: what a deletion has to name."""


def _request(kind: str, logical: str, type_name: str, properties: Properties) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ServiceToken": properties.get("ServiceToken"),
        "LogicalResourceId": logical,
        "ResourceType": type_name,
        "ResourceProperties": texts(properties),
    }


def texts(value: Any) -> Any:
    """Properties as functions get them: every scalar is text."""
    if isinstance(value, dict):
        return {key: texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [texts(item) for item in value]
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _patience(request: dict[str, Any]) -> int:
    text = str(request["ResourceProperties"].get("ServiceTimeout", PATIENCE))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= PATIENCE):
        raise ResourceError(f"ServiceTimeout has to be a number from 1 to {PATIENCE}, not {text[:100]!r}")
    return int(text)


def _read(site: Site, bucket: str, key: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        body = site.call("s3", "get_object", Bucket=bucket, Key=key)["Body"].read(LONGEST + 1)
    except ClientError as error:
        if code_of(error) == "NoSuchKey":
            return None
        raise
    site.call("s3", "delete_object", Bucket=bucket, Key=key)
    try:
        found = json.loads(body) if len(body) <= LONGEST else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ResourceError("Invalid response: a custom resource answers with an object of JSON, of 64 KiB at most")
    return found
