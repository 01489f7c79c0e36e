"""S3's event notifications: to functions, and in S3's form to queues, topics and EventBridge as well.

Sources: S3 user guide, "Event message structure", "Granting permissions to publish event notification messages to a destination",
"Event message structure" of Amazon EventBridge.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import Any
from urllib.parse import quote_plus

from lading.service.moment import iso
from lading.service.triggers.handover import hand_over, is_ours, refusal, request_at_work, trace_at_work
from lading.service.triggers.trigger import Refusal, Trigger

log = logging.getLogger("lading.service")
PRINCIPAL = "s3.amazonaws.com"
UNABLE = "Unable to validate the following destination configurations"
_DETAILS = {
    "ObjectCreated": "Object Created",
    "ObjectRemoved": "Object Deleted",
    "LifecycleExpiration": "Object Deleted",
}
"""Types of events → their detail-type in EventBridge; moto knows the rest."""
_REASONS = {
    "Put": "PutObject", "Post": "POST Object", "Copy": "CopyObject", "CompleteMultipartUpload": "CompleteMultipartUpload",
    "Delete": "DeleteObject", "DeleteMarkerCreated": "DeleteObject",
}  # fmt: skip


def replace() -> None:
    from moto.s3 import notifications
    from moto.s3.exceptions import InvalidArgumentError
    from moto.s3.models import S3Backend

    put_configuration, set_marker = S3Backend.put_bucket_notification_configuration, S3Backend._set_delete_marker
    invoke_moto_s = notifications._invoke_awslambda

    def invoke(account_id: str, event_body: dict[str, Any], fn_arn: str, region_name: str) -> None:
        if is_ours():
            source = event_body["Records"][0]["s3"]["bucket"]["arn"]
            hand_over(Trigger(fn_arn, PRINCIPAL, source, account_id, json.dumps(event_body).encode(), trace_at_work()))
        else:
            invoke_moto_s(account_id, event_body, fn_arn, region_name)

    def put_checked(backend: Any, bucket_name: str, notification_config: dict[str, Any]) -> None:
        bucket = backend.get_bucket(bucket_name)
        wrong = _unreachable(backend.account_id, bucket.arn, notification_config) if is_ours() else None
        if wrong:
            raise InvalidArgumentError(UNABLE, *wrong)
        put_configuration(backend, bucket_name, notification_config)

    def set_marker_noted(backend: Any, bucket_name: str, key_name: str) -> Any:
        marker = set_marker(backend, bucket_name, key_name)
        event = notifications.S3NotificationEvent.OBJECT_REMOVED_DELETE_MARKER_CREATED_EVENT
        notifications.send_event(backend.account_id, event, backend.get_bucket(bucket_name), marker)
        return marker

    def send_event_bridge_message(account_id: str, bucket: Any, event_name: str, key: Any) -> None:
        from moto.events.models import events_backends

        event: Any = _bridge_event(account_id, bucket, event_name, key, notifications._detail_type)
        for bus in events_backends[account_id][bucket.region_name].event_buses.values():
            for rule in list(bus.rules.values()):
                try:
                    rule.send_to_targets(event)
                except NotImplementedError as error:  # who puts an object isn't told
                    log.warning("the event of an object in %s: %s", bucket.name, error)

    backends: Any = S3Backend
    backends.put_bucket_notification_configuration = put_checked
    backends._set_delete_marker = set_marker_noted
    notifications._get_s3_event = make_event
    notifications._invoke_awslambda = invoke
    notifications._send_event_bridge_message = send_event_bridge_message


def make_event(event_name: str, bucket: Any, key: Any, notification_id: str) -> dict[str, Any]:
    """One record, as S3 sends it."""
    name = str(getattr(event_name, "value", event_name)).removeprefix("s3:")
    described: dict[str, Any] = {"key": quote_plus(key.name, safe="/")}
    if name != "ObjectRemoved:Delete":
        if name != "ObjectRemoved:DeleteMarkerCreated":
            described["size"] = key.size
        described["eTag"] = _etag(key)
    if bucket.is_versioned:
        described["versionId"] = key.version_id
    described["sequencer"] = _sequencer()
    request = request_at_work()
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": bucket.region_name,
        "eventTime": iso(time.time()),
        "eventName": name,
        "userIdentity": {"principalId": f"AWS:{bucket.account_id}"},
        "requestParameters": {"sourceIPAddress": (request.client if request is not None else "") or "127.0.0.1"},
        "responseElements": {"x-amz-request-id": uuid.uuid4().hex[:16].upper(), "x-amz-id-2": uuid.uuid4().hex},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": notification_id,
            "bucket": {
                "name": bucket.name,
                "ownerIdentity": {"principalId": bucket.account_id},
                "arn": bucket.arn,
            },
            "object": described,
        },
    }
    return {"Records": [record]}


def _bridge_event(account: str, bucket: Any, event_name: str, key: Any, detail_type: Any) -> dict[str, Any]:
    """As EventBridge gets it; its rules match and deliver it."""
    kind, _, action = str(getattr(event_name, "value", event_name)).removeprefix("s3:").partition(":")
    request = request_at_work()
    described: dict[str, Any] = {"key": key.name, "sequencer": _sequencer()}
    if kind != "ObjectRemoved":
        described |= {"size": key.size, "etag": _etag(key)}
    if bucket.is_versioned:
        described["version-id"] = key.version_id
    detail: dict[str, Any] = {
        "version": "0",
        "bucket": {"name": bucket.name},
        "object": described,
        "request-id": uuid.uuid4().hex[:16].upper(),
        "requester": account,
        "source-ip-address": (request.client if request is not None else "") or "127.0.0.1",
    }
    if reason := _REASONS.get(action):
        detail["reason"] = reason
    if kind == "ObjectRemoved":
        detail["deletion-type"] = "Delete Marker Created" if action == "DeleteMarkerCreated" else "Permanently Deleted"
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": _DETAILS.get(kind) or detail_type(event_name),
        "source": "aws.s3",
        "account": account,
        "time": time.time(),
        "region": bucket.region_name,
        "resources": [bucket.arn],
        "detail": detail,
        "ingestion-time": time.time(),
    }


def _unreachable(account: str, bucket: str, configuration: dict[str, Any]) -> tuple[str, str] | None:
    """(argument, value) of a function that couldn't be invoked, as S3's refusal has them."""
    request = request_at_work()
    if request is not None and (request.header("x-amz-skip-destination-validation") or "").lower() == "true":
        return None
    for one in configuration.get("CloudFunctionConfiguration") or ():
        arn = one["CloudFunction"]
        why = refusal(Trigger(arn, PRINCIPAL, bucket, account, b""))
        if why is Refusal.NO_FUNCTION:
            return arn, "The destination Lambda does not exist"
        if why is Refusal.NO_PERMISSION:
            return arn, f"Not authorized to invoke function [{arn}]"
    return None


def _etag(key: Any) -> str:
    return str(getattr(key, "etag", "") or "d41d8cd98f00b204e9800998ecf8427e").replace('"', "")


def _sequencer() -> str:
    """Hexadecimal, later ones greater."""
    return f"{time.time_ns():018X}"
