"""What is sent when an event has ended: records for destinations, messages for dead-letter queues. Pure.

Sources: Lambda Developer Guide, "Capturing records of Lambda asynchronous invocations", "Dead-letter queues".
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from lading.service.moment import iso
from lading.service.queue.event import Config, Delivery, QueuedEvent
from lading.service.queue.rules import SUCCESS, Ended

MAXIMUM_MESSAGE = 1024
"""Bytes of a dead-letter message's ErrorMessage ("the first 1 KB")."""


def deliveries(event: QueuedEvent, ended: Ended, config: Config, dead_letters: str, now: float) -> tuple[Delivery, ...]:
    """Everything an ended event is to send; nothing where nothing is configured."""
    succeeded = ended.condition == SUCCESS
    side = "OnSuccess" if succeeded else "OnFailure"
    destination = config.get("DestinationConfig", {}).get(side, {}).get("Destination")
    found = []
    if destination:
        message = json.dumps(record(event, ended, now), separators=(",", ":"))
        found.append(Delivery(destination, "record", message, succeeded=succeeded))
    if dead_letters and not succeeded:
        text = event.event.decode("utf-8", "replace") or "{}"
        found.append(Delivery(dead_letters, "event", text, dead_letter_attributes(event, ended)))
    return tuple(found)


def record(event: QueuedEvent, ended: Ended, now: float) -> dict[str, Any]:
    """Version 1.0 of an invocation record."""
    whole: dict[str, Any] = {
        "version": "1.0",
        "timestamp": iso(now),
        "requestContext": {
            "requestId": event.id,
            "functionArn": event.arn,
            "condition": ended.condition,
            "approximateInvokeCount": ended.attempts,
        },
        "requestPayload": _json(event.event),
    }
    if ended.result is not None:
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": ended.result.version}
        if ended.result.function_error:
            context["functionError"] = ended.result.function_error
        whole["responseContext"] = context
        whole["responsePayload"] = _json(ended.result.payload)
    return whole


def dead_letter_attributes(event: QueuedEvent, ended: Ended) -> dict[str, str]:
    """RequestID, ErrorCode (an HTTP status) and ErrorMessage of a dead-letter message."""
    if ended.result is None:
        return {"RequestID": event.id, "ErrorCode": "429", "ErrorMessage": ended.condition}
    payload = _json(ended.result.payload)
    message = payload.get("errorMessage", "") if isinstance(payload, dict) else ""
    text = str(message).encode()[:MAXIMUM_MESSAGE].decode("utf-8", "ignore")
    return {"RequestID": event.id, "ErrorCode": "200", "ErrorMessage": text or "Unhandled"}


def object_key(event: QueuedEvent, identity: str, now: float) -> str:
    """Of a record in a bucket: aws/lambda/async/NAME/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-UUID."""
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return f"aws/lambda/async/{event.name}/{moment:%Y/%m/%d}/{moment:%Y-%m-%dT%H.%M.%S}-{identity}"


def _json(body: bytes) -> Any:
    """A payload as it stands in a record; what isn't JSON stands there as text."""
    try:
        return json.loads(body) if body else {}
    except ValueError:
        return body.decode("utf-8", "replace")
