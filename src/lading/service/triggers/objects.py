"""S3's event notifications: to functions, and in S3's form to queues, topics and EventBridge as well; and which events there are.

Source: S3 user guide, "Granting permissions to publish event notification messages to a destination".
"""

from __future__ import annotations

import json
import logging
from typing import Any

from lading.service.triggers.handover import hand_over, is_ours, refusal, request_at_work, trace_at_work
from lading.service.triggers.object_events import make_bridge_event, make_event
from lading.service.triggers.trigger import Refusal, Trigger

log = logging.getLogger("lading.service")
PRINCIPAL = "s3.amazonaws.com"
UNABLE = "Unable to validate the following destination configurations"


def replace() -> None:
    _replace_configuration()
    _replace_delivery()
    _replace_removal()


def _replace_configuration() -> None:
    from moto.s3.exceptions import InvalidArgumentError
    from moto.s3.models import S3Backend

    put = S3Backend.put_bucket_notification_configuration

    def put_checked(backend: Any, bucket_name: str, notification_config: dict[str, Any]) -> None:
        bucket = backend.get_bucket(bucket_name)
        wrong = _unreachable(backend.account_id, bucket.arn, notification_config) if is_ours() else None
        if wrong:
            raise InvalidArgumentError(UNABLE, *wrong)
        put(backend, bucket_name, notification_config)

    kind: Any = S3Backend
    kind.put_bucket_notification_configuration = put_checked


def _replace_delivery() -> None:
    from moto.s3 import notifications

    send_event, invoke_moto_s = notifications.send_event, notifications._invoke_awslambda
    moto_s_event, send_moto_s = notifications._get_s3_event, notifications._send_event_bridge_message

    def get_event(event_name: str, bucket: Any, key: Any, notification_id: str) -> dict[str, Any]:
        return (make_event if is_ours() else moto_s_event)(event_name, bucket, key, notification_id)

    def send_event_meant(account_id: str, event_name: Any, bucket: Any, key: Any) -> None:
        if not is_ours() or _is_meant(str(event_name.value)):
            send_event(account_id, event_name, bucket, key)

    def invoke(account_id: str, event_body: dict[str, Any], fn_arn: str, region_name: str) -> None:
        if is_ours():
            source = event_body["Records"][0]["s3"]["bucket"]["arn"]
            hand_over(Trigger(fn_arn, PRINCIPAL, source, account_id, json.dumps(event_body).encode(), trace_at_work()))
        else:
            invoke_moto_s(account_id, event_body, fn_arn, region_name)

    def send_event_bridge_message(account_id: str, bucket: Any, event_name: str, key: Any) -> None:
        from moto.events.models import events_backends

        if not is_ours():
            send_moto_s(account_id, bucket, event_name, key)
            return
        event: Any = make_bridge_event(account_id, bucket, event_name, key, notifications._detail_type)
        for bus in events_backends[account_id][bucket.region_name].event_buses.values():
            for rule in list(bus.rules.values()):
                try:
                    rule.send_to_targets(event)
                except NotImplementedError as error:  # who puts an object isn't told
                    log.warning("the event of an object in %s: %s", bucket.name, error)

    notifications.send_event = send_event_meant
    notifications._get_s3_event = get_event
    notifications._invoke_awslambda = invoke
    notifications._send_event_bridge_message = send_event_bridge_message


def _replace_removal() -> None:
    """moto tells neither of delete markers nor of one of several versions."""
    from moto.s3 import notifications
    from moto.s3.models import S3Backend

    set_marker, delete = S3Backend._set_delete_marker, S3Backend.delete_object
    events = notifications.S3NotificationEvent

    def set_marker_noted(backend: Any, bucket_name: str, key_name: str) -> Any:
        marker, bucket = set_marker(backend, bucket_name, key_name), backend.get_bucket(bucket_name)
        if is_ours():
            event = events.OBJECT_REMOVED_DELETE_MARKER_CREATED_EVENT
            notifications.send_event(backend.account_id, event, bucket, marker)
        return marker

    def delete_noted(backend: Any, bucket_name: str, key_name: str, version_id: str | None = None, **named: Any) -> Any:
        bucket = backend.get_bucket(bucket_name)
        before = bucket.keys.getlist(key_name, [])
        gone = next((key for key in before if version_id and str(key.version_id) == str(version_id)), None)
        answer = delete(backend, bucket_name, key_name, version_id, **named)
        if (
            gone is not None
            and is_ours()
            and bucket.is_versioned
            and 0 < len(bucket.keys.getlist(key_name, [])) < len(before)
        ):
            notifications.send_event(backend.account_id, events.OBJECT_REMOVED_DELETE_EVENT, bucket, gone)
        return answer

    kind: Any = S3Backend
    kind._set_delete_marker, kind.delete_object = set_marker_noted, delete_noted


def _is_meant(event: str) -> bool:
    """Whether S3 tells of this as well: moto completes an upload of parts by putting an object, and each object gets its tags."""
    request = request_at_work()
    asked = {name for name, _ in request.query} if request is not None else set()
    if event == "s3:ObjectTagging:Put":
        return "tagging" in asked
    return "uploadId" not in asked or event == "s3:ObjectCreated:CompleteMultipartUpload"


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
