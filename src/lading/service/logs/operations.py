"""CloudWatch Logs' operations over the store. They block."""

from __future__ import annotations

import base64
import binascii
import itertools
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.control.call import Parameters, Result
from lading.service.control.names import Scope
from lading.service.logs.pattern import compile_pattern
from lading.service.logs.store import Entry, LogStore, Span

MOST_EVENTS = 10_000
RETENTIONS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
"""Days (PutRetentionPolicy)."""
_SCANNED = 100_000
"""Events that one call looks at for a pattern."""
END = (2**62, 2**62)


def milliseconds() -> int:
    return int(time.time() * 1000)


def _name(parameters: Parameters) -> str:
    text = str(parameters.get("logGroupName") or parameters.get("logGroupIdentifier") or "")
    if text.startswith("arn:"):
        text = text.split(":", 6)[6].removesuffix(":*")
    if not text:
        raise ApiError("InvalidParameterException", "Either logGroupName or logGroupIdentifier must be given.")
    return text


def find_group(store: LogStore, scope: Scope, parameters: Parameters) -> sqlite3.Row:
    found = store.group(scope, _name(parameters))
    if found is None:
        raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
    return found


def _stream(store: LogStore, group: sqlite3.Row, name: str) -> sqlite3.Row:
    found = next((row for row in store.streams(group["id"], prefix=name) if row["name"] == name), None)
    if found is None:
        raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
    return found


def create_log_group(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    if not store.add_group(scope, parameters["logGroupName"], milliseconds()):
        raise ApiError("ResourceAlreadyExistsException", "The specified log group already exists")
    store.set_tags(find_group(store, scope, parameters)["id"], parameters.get("tags") or {})
    return {}


def _tagged(store: LogStore, scope: Scope, parameters: Parameters) -> sqlite3.Row:
    """The group of a resourceArn. Only groups have tags here."""
    parts = str(parameters["resourceArn"]).split(":", 6)
    if len(parts) < 7 or parts[5] != "log-group":
        raise ApiError("ResourceNotFoundException", "The specified resource does not exist.")
    return find_group(store, scope, {"logGroupName": parts[6]})


def list_tags_for_resource(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    return {"tags": store.tags(_tagged(store, scope, parameters)["id"])}


def tag_resource(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    store.set_tags(_tagged(store, scope, parameters)["id"], parameters["tags"])
    return {}


def untag_resource(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    store.remove_tags(_tagged(store, scope, parameters)["id"], parameters["tagKeys"])
    return {}


def delete_log_group(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    find_group(store, scope, parameters)
    store.delete_group(scope, parameters["logGroupName"])
    return {}


def describe_log_groups(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    limit = parameters.get("limit", 50)
    after = read_token(parameters)
    prefix = parameters.get("logGroupNamePrefix", "")
    rows = store.groups(scope, prefix=prefix, after=after, limit=limit + 1)
    if pattern := parameters.get("logGroupNamePattern"):
        rows = [row for row in rows if pattern.lower() in row["name"].lower()]
    more = len(rows) > limit
    shown = [_shown_group(scope, row) for row in rows[:limit]]
    return {"logGroups": shown, "nextToken": write_token(rows[limit - 1]["name"]) if more else None}


def _shown_group(scope: Scope, row: sqlite3.Row) -> Result:
    return {
        "logGroupName": row["name"],
        "creationTime": row["created"],
        "retentionInDays": row["retention"],
        "metricFilterCount": 0,
        "arn": scope.log_group_arn(row["name"]) + ":*",
        "logGroupArn": scope.log_group_arn(row["name"]),
        "storedBytes": row["bytes"],
        "logGroupClass": "STANDARD",
    }


def put_retention_policy(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    days = parameters["retentionInDays"]
    if days not in RETENTIONS:
        raise ApiError("InvalidParameterException", f"Invalid retention value. Valid values are: {list(RETENTIONS)}")
    find_group(store, scope, parameters)
    store.set_retention(scope, parameters["logGroupName"], days)
    return {}


def delete_retention_policy(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    find_group(store, scope, parameters)
    store.set_retention(scope, parameters["logGroupName"], None)
    return {}


def create_log_stream(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    group = find_group(store, scope, parameters)
    if not store.add_stream(group["id"], parameters["logStreamName"], milliseconds()):
        raise ApiError("ResourceAlreadyExistsException", "The specified log stream already exists")
    return {}


def delete_log_stream(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    group = find_group(store, scope, parameters)
    _stream(store, group, parameters["logStreamName"])
    store.delete_stream(group["id"], parameters["logStreamName"])
    return {}


def describe_log_streams(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    group = find_group(store, scope, parameters)
    by_time = parameters.get("orderBy") == "LastEventTime"
    prefix = parameters.get("logStreamNamePrefix", "")
    if by_time and prefix:
        raise ApiError("InvalidParameterException", "Cannot order by LastEventTime with a logStreamNamePrefix.")
    rows = store.streams(group["id"], prefix=prefix)
    if by_time:
        rows.sort(key=lambda row: (row["last"] or 0, row["name"]))
    if parameters.get("descending"):
        rows.reverse()
    start, limit = _read_number(parameters), parameters.get("limit", 50)
    following = start + limit
    return {
        "logStreams": [_shown_stream(scope, group["name"], row) for row in rows[start:following]],
        "nextToken": write_token(str(following)) if following < len(rows) else None,
    }


def _shown_stream(scope: Scope, group: str, row: sqlite3.Row) -> Result:
    return {
        "logStreamName": row["name"],
        "creationTime": row["created"],
        "firstEventTimestamp": row["first"],
        "lastEventTimestamp": row["last"],
        "lastIngestionTime": row["ingested"],
        "arn": f"{scope.log_group_arn(group)}:log-stream:{row['name']}",
        "storedBytes": 0,
    }


def put_log_events(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    group = find_group(store, scope, parameters)
    stream = _stream(store, group, parameters["logStreamName"])
    events = parameters["logEvents"]
    if any(a["timestamp"] > b["timestamp"] for a, b in itertools.pairwise(events)):
        raise ApiError(
            "InvalidParameterException", "Log events in a single PutLogEvents request must be in chronological order."
        )
    entries = [Entry(scope, group["name"], stream["name"], event["timestamp"], event["message"]) for event in events]
    store.append(entries, milliseconds())
    return {"nextSequenceToken": f"{milliseconds():056d}"}


def get_log_events(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    """A page, and tokens that lead on in both directions; at an end the token given comes back."""
    group = find_group(store, scope, parameters)
    stream = _stream(store, group, parameters["logStreamName"])
    limit = parameters.get("limit", MOST_EVENTS)
    token = parameters.get("nextToken", "")
    direction, place = token[:2], _read_place(token[2:]) if token else (-1, -1)
    forward = direction == "f/" or (not token and parameters.get("startFromHead", False))
    span = Span(parameters.get("startTime", 0), parameters.get("endTime", END[0]), place, (stream["id"],))
    if forward:
        rows = store.events(group["id"], span, limit)
    else:
        before = Span(span.start, span.end, place if token else END)
        rows = store.newest(stream["id"], before, limit)
    first = (rows[0]["time"], rows[0]["id"]) if rows else place if token else END
    last = (rows[-1]["time"], rows[-1]["id"]) if rows else place
    return {
        "events": [{"timestamp": r["time"], "message": r["message"], "ingestionTime": r["ingested"]} for r in rows],
        "nextForwardToken": token if direction == "f/" and not rows else f"f/{_place(last)}",
        "nextBackwardToken": token if direction == "b/" and not rows else f"b/{_place(first)}",
    }


def filter_log_events(store: LogStore, scope: Scope, parameters: Parameters) -> Result:
    group = find_group(store, scope, parameters)
    matches = compile_pattern(parameters.get("filterPattern", ""))
    streams = _chosen_streams(store, group, parameters)
    if streams is not None and not streams:
        return {"events": [], "searchedLogStreams": []}
    limit = parameters.get("limit", MOST_EVENTS)
    after = _read_place(parameters["nextToken"]) if parameters.get("nextToken") else (-1, -1)
    end = parameters.get("endTime")
    found: list[Result] = []
    scanned = 0
    while True:
        span = Span(parameters.get("startTime", 0), END[0] if end is None else end + 1, after, streams or ())
        rows = store.events(group["id"], span, limit)
        for row in rows:
            after = row["time"], row["id"]
            scanned += 1
            if matches(row["message"]):
                found.append(_shown_event(row))
            if len(found) == limit:
                return {"events": found, "searchedLogStreams": [], "nextToken": _place(after)}
        if len(rows) < limit:
            return {"events": found, "searchedLogStreams": []}
        if scanned >= _SCANNED:
            return {"events": found, "searchedLogStreams": [], "nextToken": _place(after)}


def _chosen_streams(store: LogStore, group: sqlite3.Row, parameters: Parameters) -> tuple[int, ...] | None:
    names, prefix = parameters.get("logStreamNames"), parameters.get("logStreamNamePrefix")
    if names and prefix:
        raise ApiError("InvalidParameterException", "logStreamNames and logStreamNamePrefix exclude each other.")
    if not names and not prefix:
        return None
    rows = store.streams(group["id"], prefix=prefix or "")
    return tuple(row["id"] for row in rows if not names or row["name"] in names)


def _shown_event(row: sqlite3.Row) -> Result:
    return {
        "logStreamName": row["stream"],
        "timestamp": row["time"],
        "message": row["message"],
        "ingestionTime": row["ingested"],
        "eventId": f"{row['id']:056d}",
    }


def write_token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def _place(place: tuple[int, int]) -> str:
    return write_token(f"{place[0]} {place[1]}")


def _decode(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise ApiError("InvalidParameterException", "The specified nextToken is invalid.") from None


def read_token(parameters: Parameters) -> str:
    return _decode(parameters["nextToken"]) if parameters.get("nextToken") else ""


def _read_number(parameters: Parameters) -> int:
    text = read_token(parameters) or "0"
    if not text.isascii() or not text.isdigit():
        raise ApiError("InvalidParameterException", "The specified nextToken is invalid.")
    return int(text)


def _read_place(token: str) -> tuple[int, int]:
    try:
        moment, number = map(int, _decode(token).split(" "))
    except ValueError:
        raise ApiError("InvalidParameterException", "The specified nextToken is invalid.") from None
    return min(moment, END[0]), min(number, END[0])


OPERATIONS: dict[str, Callable[[LogStore, Scope, Parameters], dict[str, Any]]] = {
    "CreateLogGroup": create_log_group,
    "DeleteLogGroup": delete_log_group,
    "DescribeLogGroups": describe_log_groups,
    "PutRetentionPolicy": put_retention_policy,
    "DeleteRetentionPolicy": delete_retention_policy,
    "CreateLogStream": create_log_stream,
    "DeleteLogStream": delete_log_stream,
    "DescribeLogStreams": describe_log_streams,
    "PutLogEvents": put_log_events,
    "GetLogEvents": get_log_events,
    "FilterLogEvents": filter_log_events,
    "ListTagsForResource": list_tags_for_resource,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
}
