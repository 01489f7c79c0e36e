"""Records of a stream as a function gets them, and what is said of those that are given up. Pure.

Sources: Lambda Developer Guide, "Using Lambda with Kinesis" and "… with DynamoDB Streams" (example events), "Retain discarded
batch records".
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lading.service.moment import iso
from lading.service.queue.event import Result
from lading.service.sources.mapping import SourceMapping

EXHAUSTED, TOO_OLD = "RetryAttemptsExhausted", "RecordAgeExceeded"
SCHEMA = "1.0"
Raw = dict[str, Any]
"""As GetRecords gives it."""


@dataclass(frozen=True)
class StreamRecord:
    """One record on its way."""

    sequence: str
    key: str
    """Records that have it in common stay in order."""
    created: float
    """Seconds since the epoch, as the stream says."""
    arrived: float
    """The same on the service's clock, which may be ahead."""
    text: bytes
    """The record in the event: JSON."""
    matter: dict[str, Any] = field(hash=False, repr=False)
    """What filters are held against."""


def make_record(raw: Raw, mapping: SourceMapping, shard: str, role: str, ahead: float = 0.0) -> StreamRecord:
    """ahead: seconds that the service's clock is ahead of the stream's. role: ARN of the function's."""
    make = _from_kinesis if mapping.kind == "kinesis" else _from_dynamodb
    return make(raw, mapping, shard, role, ahead)


def _from_kinesis(raw: Raw, mapping: SourceMapping, shard: str, role: str, ahead: float) -> StreamRecord:
    created = raw["ApproximateArrivalTimestamp"].timestamp()
    sequence, data = raw["SequenceNumber"], bytes(raw["Data"])
    inner: dict[str, Any] = {
        "kinesisSchemaVersion": SCHEMA,
        "partitionKey": raw["PartitionKey"],
        "sequenceNumber": sequence,
        "data": base64.b64encode(data).decode(),
        "approximateArrivalTimestamp": round(created, 3),
    }
    if raw.get("EncryptionType", "NONE") != "NONE":
        inner["encryptionType"] = raw["EncryptionType"]
    whole = {
        "kinesis": inner,
        "eventSource": "aws:kinesis",
        "eventVersion": SCHEMA,
        "eventID": f"{shard}:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": role,
        "awsRegion": mapping.source_scope.region,
        "eventSourceARN": mapping.source,
    }
    matter = inner | {"data": _content(data, structured=mapping.filters.wants_structure("data"))}
    return StreamRecord(sequence, raw["PartitionKey"], created, created + ahead, _json(whole), matter)


def _content(data: bytes, *, structured: bool) -> Any:
    """What a filter sees of a Kinesis record's data: None for what isn't text."""
    try:
        text = data.decode()
        return json.loads(text) if structured else text
    except (ValueError, RecursionError):
        return None


def _from_dynamodb(raw: Raw, mapping: SourceMapping, shard: str, role: str, ahead: float) -> StreamRecord:
    inner = raw["dynamodb"]
    created = inner["ApproximateCreationDateTime"].timestamp()
    whole: dict[str, Any] = {
        "eventID": raw["eventID"],
        "eventName": raw["eventName"],
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": mapping.source_scope.region,
        "dynamodb": _plain(inner) | {"ApproximateCreationDateTime": math.floor(created)},
        "eventSourceARN": mapping.source,
    }
    if "userIdentity" in raw:
        identity = raw["userIdentity"]
        whole["userIdentity"] = {"type": identity["Type"], "principalId": identity["PrincipalId"]}
    key = _json(whole["dynamodb"].get("Keys", {})).decode()
    return StreamRecord(inner["SequenceNumber"], key, created, created + ahead, _json(whole), whole)


def _plain(value: Any) -> Any:
    """Attribute values as JSON has them: bytes in base64."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if not isinstance(inner, dt.datetime)}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple | set) else value


def make_event(records: Sequence[StreamRecord]) -> bytes:
    """A batch as the function gets it."""
    return b'{"Records":[' + b",".join(record.text for record in records) + b"]}"


@dataclass(frozen=True)
class Discarded:
    """Records that are given up. `result` is of their last try, None where there was none."""

    records: tuple[StreamRecord, ...]
    condition: str
    tries: int
    result: Result | None = None


def failure_record(
    mapping: SourceMapping, shard: str, discarded: Discarded, request_id: str, now: float
) -> dict[str, Any]:
    """What a destination gets: where the records are, not what they are."""
    first, last = discarded.records[0], discarded.records[-1]
    result = discarded.result
    whole: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": mapping.scope.function_arn(mapping.function.name, mapping.function.qualifier),
            "condition": discarded.condition,
            "approximateInvokeCount": discarded.tries,
        }
    }
    if result is not None and not result.refused:
        context = {"statusCode": 200, "executedVersion": result.version}
        whole["responseContext"] = context | ({"functionError": result.function_error} if result.function_error else {})
    info = "KinesisBatchInfo" if mapping.kind == "kinesis" else "DDBStreamBatchInfo"
    return whole | {
        "version": "1.0",
        "timestamp": iso(now),
        info: {
            "shardId": shard,
            "startSequenceNumber": first.sequence,
            "endSequenceNumber": last.sequence,
            "approximateArrivalOfFirstRecord": iso(first.created),
            "approximateArrivalOfLastRecord": iso(last.created),
            "batchSize": len(discarded.records),
            "streamArn": mapping.source,
        },
    }


def object_key(mapping: SourceMapping, shard: str, identity: str, now: float) -> str:
    """Of a record in a bucket: aws/lambda/UUID/SHARD/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-UUID."""
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return f"aws/lambda/{mapping.uuid}/{shard}/{moment:%Y/%m/%d}/{moment:%Y-%m-%dT%H.%M.%S}-{identity}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
