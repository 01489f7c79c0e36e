"""Messages in moto's SQS keep the trace header of whoever caused them: by SendMessage, by SendMessageBatch, through a
topic, a bucket or a rule. Source: SQS API reference, "MessageSystemAttributeValue"; Lambda guide, "Use Lambda recursive loop
detection"."""

from __future__ import annotations

from typing import Any

from lading.service.lineage import TRACE
from lading.service.triggers.handover import trace_at_work


def replace() -> None:
    from moto.sqs.models import SQSBackend

    send, send_batch = SQSBackend.send_message, SQSBackend.send_message_batch

    def send_message(backend: Any, queue_name: str, message_body: str, *args: Any, **named: Any) -> Any:
        given = getattr(message_body, "attributes", None) or named.get("system_attributes") or {}
        trace = trace_at_work()
        if trace and isinstance(given, dict):  # moto says what is wrong with anything else
            given = {TRACE: {"DataType": "String", "StringValue": trace}, **given}
        return send(backend, queue_name, str(message_body), *args, **named | {"system_attributes": given})

    def send_message_batch(backend: Any, queue_name: str, entries: dict[str, dict[str, Any]]) -> Any:
        """moto passes an entry's body on and drops its system attributes: the body brings them."""
        for entry in entries.values():
            if isinstance(entry.get("MessageSystemAttributes"), dict) and isinstance(entry.get("MessageBody"), str):
                entry["MessageBody"] = _Body(entry["MessageBody"], entry["MessageSystemAttributes"])
        return send_batch(backend, queue_name, entries)

    kind: Any = SQSBackend
    kind.send_message, kind.send_message_batch = send_message, send_message_batch


class _Body(str):
    """A message's body with its system attributes."""

    attributes: dict[str, Any]

    def __new__(cls, text: str, attributes: dict[str, Any]) -> _Body:
        body = super().__new__(cls, text)
        body.attributes = attributes
        return body
