"""The Resource Groups Tagging API over what Lambda and Logs have here, and over the neighbours' own where a request wants more.

Source: Resource Groups Tagging API Reference, GetResources: tags are matched as (key is one of) AND (value is one of).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.contract.http import Response
from lading.service.contract.serialize import serialize_error
from lading.service.contract.service import load_service
from lading.service.control.call import Parameters, Result, encode_marker, marker_number
from lading.service.control.control import Control, Origin
from lading.service.control.names import Scope
from lading.service.control.refusal import not_here
from lading.service.front.described import DescribedApi
from lading.service.logs.store import LogStore
from lading.service.neighbours.neighbours import Neighbours
from lading.service.state import Key

SERVICE = "resourcegroupstaggingapi"
BODY_LIMIT = 1_048_576
MOST = 100
"""Resources of a page."""
_KINDS = {"function": "function", "code-signing-config": "code-signing-config", "event-source": "event-source-mapping"}
"""Kind of records → type in ARNs and ResourceTypeFilters."""
Tags = dict[str, str]


class TaggingApi(DescribedApi):
    """The front's `Api` for requests that are signed for `tagging`."""

    def __init__(self, control: Control, logs: LogStore, neighbours: Neighbours | None) -> None:
        super().__init__(SERVICE, BODY_LIMIT)
        self._control = control
        self._logs = logs
        self._neighbours = neighbours
        self._operations: dict[str, Callable[[Origin, Parameters], Result]] = {
            "GetResources": self._get_resources,
            "GetTagKeys": self._get_keys,
            "GetTagValues": self._get_values,
            "TagResources": self._tag,
            "UntagResources": self._untag,
        }

    async def _run(self, operation: str, parameters: Parameters, origin: Origin) -> Response:
        run = self._operations.get(operation)
        if run is None:
            raise not_here(operation)
        return self._write(operation, await asyncio.to_thread(run, origin, parameters))

    def _get_resources(self, origin: Origin, parameters: Parameters) -> Result:
        wanted = set(parameters.get("ResourceARNList", ()))
        types = parameters.get("ResourceTypeFilters", [])
        if wanted and (types or "TagFilters" in parameters):
            raise _invalid("ResourceARNList can't be combined with ResourceTypeFilters or TagFilters.")
        filters = parameters.get("TagFilters", [])
        found = [
            {"ResourceARN": arn, "Tags": _listed(tags)}
            for arn, tags in self._all(origin.scope, types)
            if (not wanted or arn in wanted) and all(_passes(tags, one) for one in filters)
        ]
        size = min(parameters.get("ResourcesPerPage", MOST), MOST)
        begin = _number(parameters)
        following = encode_marker(str(begin + size)) if len(found) > begin + size else ""
        return {"ResourceTagMappingList": found[begin : begin + size], "PaginationToken": following}

    def _get_keys(self, origin: Origin, parameters: Parameters) -> Result:
        keys = {key for _, tags in self._all(origin.scope, []) for key in tags}
        return {"TagKeys": sorted(keys), "PaginationToken": ""}

    def _get_values(self, origin: Origin, parameters: Parameters) -> Result:
        key = parameters["Key"]
        values = {tags[key] for _, tags in self._all(origin.scope, []) if key in tags}
        return {"TagValues": sorted(values), "PaginationToken": ""}

    def _tag(self, origin: Origin, parameters: Parameters) -> Result:
        return self._each(origin, parameters, "TagResource", Tags=parameters["Tags"])

    def _untag(self, origin: Origin, parameters: Parameters) -> Result:
        return self._each(origin, parameters, "UntagResource", TagKeys=parameters["TagKeys"])

    def _each(self, origin: Origin, parameters: Parameters, operation: str, **more: Any) -> Result:
        """Lambda's operation for each ARN; those that fail are told of."""
        failed: Result = {}
        for arn in parameters["ResourceARNList"]:
            try:
                if arn.split(":")[2:3] != ["lambda"]:
                    raise not_here(f"{operation} of {arn}", "use the service's own operation")
                self._control.run(operation, {"Resource": arn, **more}, origin)
            except ApiError as error:
                status = serialize_error(load_service("lambda"), error).status
                code = "InvalidParameterException" if status < 500 else "InternalServiceException"
                failed[arn] = {"StatusCode": status, "ErrorCode": code, "ErrorMessage": error.message}
        return {"FailedResourcesMap": failed}

    def _all(self, scope: Scope, types: list[str]) -> Iterator[tuple[str, Tags]]:
        """Every tagged resource of these types ("lambda", "lambda:function", "s3"; none: all)."""
        for kind, name in _KINDS.items():
            if not types or {"lambda", f"lambda:{name}"} & set(types):
                for record in self._control.state.list_by_name(Key(scope.account, scope.region, kind)):
                    if tags := record.document.get("tags"):
                        yield scope.arn(f"{name}:{record.key.name}"), tags
        if not types or {"logs", "logs:log-group"} & set(types):
            for group, tags in self._logs.tagged(scope).items():
                yield scope.log_group_arn(group), tags
        others = [one for one in types if one.partition(":")[0] not in ("lambda", "logs")]
        if self._neighbours is not None and (others or not types):
            yield from self._neighbours_tags(scope, others)

    def _neighbours_tags(self, scope: Scope, types: list[str]) -> Iterator[tuple[str, Tags]]:
        assert self._neighbours is not None
        client = self._neighbours.client(SERVICE, scope)
        for page in client.get_paginator("get_resources").paginate(ResourceTypeFilters=types):
            for found in page["ResourceTagMappingList"]:
                yield found["ResourceARN"], {tag["Key"]: tag["Value"] for tag in found["Tags"]}


def _passes(tags: Tags, wanted: Parameters) -> bool:
    key, values = wanted.get("Key", ""), wanted.get("Values", [])
    return key in tags and (not values or tags[key] in values)


def _listed(tags: Tags) -> list[Tags]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _number(parameters: Parameters) -> int:
    try:
        return max(0, marker_number({"Marker": parameters.get("PaginationToken")}, 0))
    except ApiError:
        raise _invalid("The specified pagination token is invalid.") from None


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)
