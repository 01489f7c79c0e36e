"""Event source mappings: create, get, list, update, delete. What reads the sources is told by their states.

Messages and fields are AWS's where a recorded answer is public; sources that nothing here reads are refused by name.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from lading.service.contract.errors import ApiError, ConstraintError
from lading.service.control.call import Call, Operation, Parameters, Result, given, limit_of, marker_number, page
from lading.service.control.event_invoke import destination_text
from lading.service.control.names import LATEST, FunctionReference, is_version, read_reference
from lading.service.control.refusal import conflict, invalid, no_resource, not_here
from lading.service.control.tags import check_tags
from lading.service.sources.pattern import Filters, PatternError

KIND = "event-source"
POSITION = "event-source-position"
"""Kind of the records that say how far a mapping is in a shard."""
_COMMON = ("BatchSize", "MaximumBatchingWindowInSeconds", "FilterCriteria", "FunctionResponseTypes", "KMSKeyArn")
_OF_STREAMS = (
    "ParallelizationFactor", "StartingPosition", "StartingPositionTimestamp", "DestinationConfig",
    "MaximumRecordAgeInSeconds", "BisectBatchOnFunctionError", "MaximumRetryAttempts", "TumblingWindowInSeconds",
)  # fmt: skip
_OF_OTHERS = (
    "Topics", "Queues", "SourceAccessConfigurations", "SelfManagedEventSource", "AmazonManagedKafkaEventSourceConfig",
    "SelfManagedKafkaEventSourceConfig", "DocumentDBEventSourceConfig",
)  # fmt: skip
_DESTINATIONS = ("sqs", "sns", "s3")
LEAST_AGE = 60
"""Of MaximumRecordAgeInSeconds, where it isn't -1 (API reference, CreateEventSourceMapping)."""
_NOT_HERE = ("ProvisionedPollerConfig", "MetricsConfig", "LoggingConfig")
_UNDER_WAY = ("Creating", "Enabling", "Disabling", "Updating", "Deleting")


@dataclass(frozen=True)
class SourceKind:
    """What differs between sources. `reason` is AWS's StateTransitionReason."""

    name: str
    batch: int
    most: int
    reason: str

    @property
    def settings(self) -> tuple[str, ...]:
        return (*_COMMON, "ScalingConfig") if self.name == "SQS" else (*_COMMON, *_OF_STREAMS)


_QUEUE = SourceKind("SQS", 10, 10_000, "USER_INITIATED")
_FIFO = SourceKind("SQS", 10, 10, "USER_INITIATED")
_KINESIS = SourceKind("Kinesis", 100, 10_000, "User action")
_DYNAMODB = SourceKind("DynamoDB", 100, 10_000, "User action")
_OTHERS = {"kafka": "Amazon MSK", "mq": "Amazon MQ", "rds": "Amazon DocumentDB"}
_STREAM_DEFAULTS: Result = {
    "ParallelizationFactor": 1,
    "DestinationConfig": {"OnFailure": {}},
    "MaximumRecordAgeInSeconds": -1,
    "BisectBatchOnFunctionError": False,
    "MaximumRetryAttempts": -1,
    "TumblingWindowInSeconds": 0,
}


def source_kind(arn: str) -> SourceKind:
    """Raises ApiError for what can't be a source, or can't be one here."""
    _, _, service, _, _, resource = arn.split(":", 5)
    if service == "sqs":
        return _FIFO if resource.endswith(".fifo") else _QUEUE
    if service == "kinesis" and resource.startswith("stream/") and "/consumer/" not in resource:
        return _KINESIS
    if service == "dynamodb" and "/stream/" in resource:
        return _DYNAMODB
    name = "a Kinesis consumer with enhanced fan-out" if service == "kinesis" else _OTHERS.get(service)
    if name:
        raise not_here(f"an event source mapping for {name}", "SQS queues, Kinesis and DynamoDB streams are read")
    raise invalid("Unrecognized event source.")


def create_event_source_mapping(call: Call, parameters: Parameters) -> Result:
    if "SelfManagedEventSource" in parameters:
        raise not_here("an event source mapping for self-managed Apache Kafka")
    if "EventSourceArn" not in parameters:
        raise invalid("Unrecognized event source.")
    arn = parameters["EventSourceArn"]
    kind = source_kind(arn)
    if call.outside is None:
        raise not_here("an event source mapping", "this service was started without neighbours")
    _check_settings(kind, parameters)
    _check_start(kind, parameters)
    reference = _function(call, parameters["FunctionName"])
    _check_new(call, kind, arn, reference)
    check_tags(parameters.get("Tags", {}))
    configuration: Result = {"BatchSize": kind.batch, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": []}
    if kind.name != "SQS":
        configuration |= _STREAM_DEFAULTS | {"LastProcessingResult": "No records processed"}
    configuration |= given(parameters, *kind.settings)
    _check_batch(kind, configuration)
    call.outside.check_source(call.scope, arn, _timeout(call, reference))
    identity = str(uuid.uuid4())
    document = {
        **_plain(configuration),
        "UUID": identity,
        "EventSourceArn": arn,
        "EventSourceMappingArn": call.scope.arn(f"event-source-mapping:{identity}"),
        "FunctionArn": call.scope.function_arn(reference.name, reference.qualifier),
        "tags": parameters.get("Tags", {}),
        "_enabled": parameters.get("Enabled", True),
        "_position": int(call.now() * 1_000_000),
    }
    return _put(call, document, "Creating", kind.reason)


def get_event_source_mapping(call: Call, parameters: Parameters) -> Result:
    return _shown(_found(call, parameters))


def list_event_source_mappings(call: Call, parameters: Parameters) -> Result:
    limit, after = limit_of(parameters, 100), marker_number(parameters, -1)
    wanted: Result = {}
    if "EventSourceArn" in parameters:
        wanted["EventSourceArn"] = parameters["EventSourceArn"]
    if "FunctionName" in parameters:
        reference = read_reference(call.scope, parameters["FunctionName"], action="ListEventSourceMappings")
        wanted["FunctionArn"] = call.scope.function_arn(reference.name, reference.qualifier)
    records = [
        record
        for record in call.state.list_by_position(call.key(KIND), after=after)
        if all(record.document[name] == value for name, value in wanted.items())
    ]
    found, marker = page(records[: limit + 1], limit, lambda record: str(record.position))
    return {"EventSourceMappings": [_shown(record.document) for record in found], "NextMarker": marker}


def update_event_source_mapping(call: Call, parameters: Parameters) -> Result:
    old = _found(call, parameters)
    if old["State"] in _UNDER_WAY:
        raise _in_use("update")
    kind = source_kind(old["EventSourceArn"])
    _check_settings(kind, {name: value for name, value in parameters.items() if name != "UUID"})
    new = old | _plain(given(parameters, *kind.settings))
    for emptied in ("FilterCriteria", "ScalingConfig"):
        if new.get(emptied) in ({}, {"Filters": []}):
            del new[emptied]
    if "FunctionName" in parameters:
        reference = _function(call, parameters["FunctionName"])
        new["FunctionArn"] = call.scope.function_arn(reference.name, reference.qualifier)
    _check_batch(kind, new)
    state = "Updating"
    if "Enabled" in parameters and parameters["Enabled"] != old["_enabled"]:
        new["_enabled"] = parameters["Enabled"]
        state = "Enabling" if parameters["Enabled"] else "Disabling"
    return _put(call, new, state, kind.reason)


def delete_event_source_mapping(call: Call, parameters: Parameters) -> Result:
    old = _found(call, parameters)
    if old["State"] in _UNDER_WAY:
        raise _in_use("delete")
    return _put(call, old, "Deleting", source_kind(old["EventSourceArn"]).reason)


def _found(call: Call, parameters: Parameters) -> Result:
    found = call.state.get(call.key(KIND, name=parameters["UUID"]))
    if found is None:
        raise no_resource()
    return found


def _put(call: Call, document: Result, state: str, reason: str) -> Result:
    new = document | {"State": state, "StateTransitionReason": reason, "LastModified": call.now()}
    key = call.key(KIND, name=document["UUID"])
    call.state.put(key, new, position=document["_position"])
    call.later(key)
    return _shown(new)


def _shown(document: Result) -> Result:
    moment = {"LastModified": dt.datetime.fromtimestamp(document["LastModified"], dt.UTC)}
    if "StartingPositionTimestamp" in document:
        start = dt.datetime.fromtimestamp(document["StartingPositionTimestamp"], dt.UTC)
        moment["StartingPositionTimestamp"] = start
    return document | moment


def _plain(settings: Result) -> Result:
    """Times as seconds, as the state keeps them."""
    return {name: value.timestamp() if isinstance(value, dt.datetime) else value for name, value in settings.items()}


def _function(call: Call, name: str) -> FunctionReference:
    """Raises ApiError unless the function, version or alias is there."""
    reference = read_reference(call.scope, name, action="CreateEventSourceMapping")
    qualifier = reference.qualifier or LATEST
    if call.version(reference.name, LATEST) is None:
        raise invalid("Function does not exist")
    kind = "version" if qualifier == LATEST or is_version(qualifier) else "alias"
    if call.state.get(call.key(kind, reference.name, qualifier)) is None:
        raise invalid("Function does not exist")
    return reference


def _timeout(call: Call, reference: FunctionReference) -> int:
    return int(call.resolve(reference)[1]["Timeout"])


def _check_new(call: Call, kind: SourceKind, arn: str, reference: FunctionReference) -> None:
    """Raises ApiError when the function has the source already."""
    function = call.scope.function_arn(reference.name, reference.qualifier)
    for record in call.state.list_by_position(call.key(KIND)):
        if (record.document["EventSourceArn"], record.document["FunctionArn"]) == (arn, function):
            end = f"already exists. Please update or delete the existing mapping with UUID {record.key.name}"
            if kind.name == "SQS":
                what = f'An event source mapping with SQS arn (" {arn} ") and function (" {reference.name} ")'
                raise conflict(f"{what} {end}")
            what = f'The event source arn (" {arn} ") and function (" {reference.name} ") provided mapping'
            raise conflict(f"{what} {end}")


def _check_settings(kind: SourceKind, parameters: Parameters) -> None:
    for name in _NOT_HERE:
        if parameters.get(name):
            raise not_here(name)
    others = set(_OF_STREAMS) | {"ScalingConfig"} | set(_OF_OTHERS)
    for name in sorted((others - set(kind.settings)) & parameters.keys()):
        if parameters[name] not in ([], {}, None):
            raise invalid(f"Unsupported {name} parameter for given event source mapping type.")
    if parameters.get("DestinationConfig", {}).get("OnSuccess"):
        raise invalid("Unsupported DestinationConfig parameter for given event source mapping type.")
    _check_failures(parameters)
    try:
        Filters(patterns(parameters))
    except PatternError:
        raise invalid("Invalid filter pattern definition.") from None


def _check_failures(parameters: Parameters) -> None:
    """Where a stream's discarded records go, and when they are: raises ApiError for what can't be."""
    config = parameters.get("DestinationConfig", {})
    arn = config.get("OnFailure", {}).get("Destination")
    if arn and (not arn.startswith("arn:") or arn.split(":")[2] not in _DESTINATIONS or arn.endswith(".fifo")):
        raise invalid(f"The provided destination config {destination_text(config)} is invalid.")
    if 0 <= parameters.get("MaximumRecordAgeInSeconds", -1) < LEAST_AGE:
        raise invalid(f"MaximumRecordAgeInSeconds must be -1 or at least {LEAST_AGE}.")


def patterns(settings: Result) -> list[str]:
    """The patterns of a mapping's filter criteria."""
    return [one.get("Pattern", "") for one in settings.get("FilterCriteria", {}).get("Filters", [])]


def _check_start(kind: SourceKind, parameters: Parameters) -> None:
    if kind.name == "SQS":
        return
    position = parameters.get("StartingPosition")
    if position is None:
        constraint = "Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."
        raise ConstraintError([constraint], code="InvalidParameterValueException")
    if position == "AT_TIMESTAMP" and kind.name == "DynamoDB":
        raise invalid(f"Unsupported starting position for arn type: {parameters['EventSourceArn']}")
    if (position == "AT_TIMESTAMP") != ("StartingPositionTimestamp" in parameters):
        raise invalid("StartingPositionTimestamp goes with the StartingPosition AT_TIMESTAMP, and only with it.")


def _check_batch(kind: SourceKind, configuration: Result) -> None:
    size, window = configuration["BatchSize"], configuration["MaximumBatchingWindowInSeconds"]
    if configuration.get("TumblingWindowInSeconds") and configuration["ParallelizationFactor"] > 1:
        raise invalid("TumblingWindowInSeconds keeps one state for a shard: it needs a ParallelizationFactor of 1.")
    if size > kind.most:
        raise invalid(f"BatchSize {size} is greater than the maximum of {kind.most} of this event source.")
    if kind is _FIFO and window:
        raise invalid("Batching window is not supported for FIFO queues.")
    if kind.name == "SQS" and size > 10 and not window:
        raise invalid("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")


def _in_use(action: str) -> ApiError:
    return ApiError("ResourceInUseException", f"Cannot {action} the event source mapping because it is in use.")


OPERATIONS: dict[str, Operation] = {
    "CreateEventSourceMapping": create_event_source_mapping,
    "GetEventSourceMapping": get_event_source_mapping,
    "ListEventSourceMappings": list_event_source_mappings,
    "UpdateEventSourceMapping": update_event_source_mapping,
    "DeleteEventSourceMapping": delete_event_source_mapping,
}
