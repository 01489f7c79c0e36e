"""AWS's event stream encoding of streamed responses (application/vnd.amazon.eventstream).

Source: Amazon Transcribe Developer Guide, "Event stream encoding"; the model names the events.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

MEDIA_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7


def encode_message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message: prelude, its checksum, headers, payload, checksum of all."""
    encoded = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", _STRING, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + encoded + payload
    return message + struct.pack("!I", zlib.crc32(message))


def encode_event(shape: Any, name: str, value: dict[str, Any]) -> bytes:
    """An event of an event stream shape: its blob payload as it is, or its members as JSON."""
    event = shape.members[name]
    payload = next((member for member, inner in event.members.items() if inner.serialization.get("eventpayload")), None)
    headers = {":message-type": "event", ":event-type": name}
    if payload is not None:
        return encode_message({**headers, ":content-type": "application/octet-stream"}, value.get(payload, b""))
    body = {member: item for member, item in value.items() if item is not None}
    return encode_message({**headers, ":content-type": "application/json"}, json.dumps(body).encode())


def encode_initial(result: dict[str, Any]) -> bytes:
    """The first message of a stream over the json protocol: the operation's result but for the stream."""
    headers = {":message-type": "event", ":event-type": "initial-response", ":content-type": "application/json"}
    return encode_message(headers, json.dumps(result).encode())


def encode_exception(name: str, message: str) -> bytes:
    """A modelled error that ends a stream."""
    headers = {":message-type": "exception", ":exception-type": name, ":content-type": "application/json"}
    return encode_message(headers, json.dumps({"message": message}).encode())
