"""The forms in which S3 tells of an object: its own record, and EventBridge's event.

Sources: S3 user guide, "Event message structure", "Event message structure" of Amazon EventBridge.
"""

from __future__ import annotations

import time
import uuid
from typing import Any
from urllib.parse import quote_plus

from lading.service.moment import iso
from lading.service.triggers.handover import request_at_work

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


def make_bridge_event(account: str, bucket: Any, event_name: str, key: Any, detail_type: Any) -> dict[str, Any]:
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


def _etag(key: Any) -> str:
    return str(getattr(key, "etag", "") or "d41d8cd98f00b204e9800998ecf8427e").replace('"', "")


def _sequencer() -> str:
    """Hexadecimal, later ones greater."""
    return f"{time.time_ns():018X}"
