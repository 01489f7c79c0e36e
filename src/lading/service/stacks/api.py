"""CloudFormation's API over the stacks. Answers to what changes a stack wait a moment for its end, so that clients who poll
every half minute find it."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from lading.service.contract.errors import ApiError, ConstraintError
from lading.service.contract.http import HttpRequest, Response
from lading.service.contract.query import action_of, parse_query, write_query
from lading.service.contract.service import Service, load_service
from lading.service.contract.validate import validate
from lading.service.control.call import Parameters, Result
from lading.service.control.control import Origin
from lading.service.control.refusal import not_here
from lading.service.front.plain import plain_error
from lading.service.stacks.parameters import summary
from lading.service.stacks.plans import required_capabilities, sent_template
from lading.service.stacks.records import Shelf
from lading.service.stacks.refusal import SERVICE, invalid, template_error
from lading.service.stacks.shown import (
    shown_change_set,
    shown_event,
    shown_resource,
    shown_stack,
    shown_summary,
    summarized_change_set,
)
from lading.service.stacks.stacks import Stacks

MOMENT = 15.0
"""Seconds that an answer waits at most; botocore gives a request a minute."""
PAGE = 100
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Begun:
    """The answer to what began something, and its end."""

    result: Result
    ended: Future[None]


class StacksApi:
    """What `StacksDoor` opens on."""

    def __init__(self, stacks: Stacks) -> None:
        self.stacks = stacks
        self._operations: dict[str, Callable[[Parameters, Origin], Result | _Begun]] = {
            "CreateChangeSet": self._create_change_set,
            "CreateStack": self._create,
            "DeleteChangeSet": self._delete_change_set,
            "DeleteStack": self._delete,
            "DescribeChangeSet": self._describe_change_set,
            "DescribeStackEvents": self._events,
            "DescribeStackResource": self._resource,
            "DescribeStackResources": self._resources,
            "DescribeStacks": self._describe,
            "ExecuteChangeSet": self._execute,
            "GetStackPolicy": self._get_policy,
            "GetTemplate": self._template,
            "GetTemplateSummary": self._template_summary,
            "ListChangeSets": self._list_change_sets,
            "ListExports": self._exports,
            "ListImports": self._imports,
            "ListStackResources": self._list_resources,
            "ListStacks": self._list,
            "SetStackPolicy": self._set_policy,
            "UpdateStack": self._update,
            "UpdateTerminationProtection": self._protect,
            "ValidateTemplate": self._validate,
        }

    @functools.cached_property
    def _service(self) -> Service:
        return load_service(SERVICE)

    @property
    def _shelf(self) -> Shelf:
        return self.stacks.shelf

    # The door's side

    def operation_of(self, request: HttpRequest) -> str:
        name = action_of(request)
        return name if name in self._service.operations else ""

    async def answer(self, request: HttpRequest, origin: Origin) -> Response:
        try:
            operation, parameters = await self._aside(self._read, request)
            run = self._operations.get(operation)
            if run is None:
                raise not_here(operation)
            result = await self._aside(run, parameters, origin)
            if isinstance(result, _Begun):
                await asyncio.wait([asyncio.wrap_future(result.ended)], timeout=MOMENT)
                result = result.result
            return write_query(self._service, operation, result, origin.request_id)
        except ApiError as error:
            return plain_error(error, request, SERVICE)
        except RecursionError:
            return plain_error(template_error("it is nested too deeply"), request, SERVICE)

    async def _aside(self, action: Callable[..., _T], *arguments: Any) -> _T:
        """On a thread of the stacks' own: what stacks call uses the loop's, and those must not be waited out here."""
        return await asyncio.get_running_loop().run_in_executor(self.stacks.requests, action, *arguments)

    def _read(self, request: HttpRequest) -> tuple[str, Parameters]:
        operation, parameters = parse_query(self._service, request)
        try:
            validate(self._service.operation(operation).input_shape, parameters, {})
        except ConstraintError as error:
            raise invalid(error.message) from None
        return operation, parameters

    # Changing stacks

    def _create(self, parameters: Parameters, origin: Origin) -> _Begun:
        stack, ended = self.stacks.create(parameters, origin)
        return _Begun({"StackId": stack.arn}, ended)

    def _update(self, parameters: Parameters, origin: Origin) -> _Begun:
        stack, ended = self.stacks.update(parameters, origin)
        return _Begun({"StackId": stack.arn}, ended)

    def _delete(self, parameters: Parameters, origin: Origin) -> Result | _Begun:
        retained = frozenset(parameters.get("RetainResources", ()))
        ended = self.stacks.delete(parameters["StackName"], origin.scope, retained)
        return _Begun({}, ended) if ended is not None else {}

    def _create_change_set(self, parameters: Parameters, origin: Origin) -> Result:
        stack, change_set = self.stacks.add_change_set(parameters, origin)
        return {"Id": change_set.arn, "StackId": stack.arn}

    def _execute(self, parameters: Parameters, origin: Origin) -> _Begun:
        stack, change_set = self._change_set(parameters, origin)
        rollback = not parameters.get("DisableRollback", False)
        token = parameters.get("ClientRequestToken")
        return _Begun({}, self.stacks.execute(stack, change_set, rollback=rollback, token=token))

    def _change_set(self, parameters: Parameters, origin: Origin) -> Any:
        return self.stacks.find_change_set(origin.scope, parameters["ChangeSetName"], parameters.get("StackName"))

    def _delete_change_set(self, parameters: Parameters, origin: Origin) -> Result:
        try:
            stack, change_set = self._change_set(parameters, origin)
        except ApiError as error:
            if error.code == "ChangeSetNotFound":
                return {}
            raise
        stack.change_sets = {name: one for name, one in stack.change_sets.items() if one is not change_set}
        return {}

    def _protect(self, parameters: Parameters, origin: Origin) -> Result:
        stack = self.stacks.living(origin.scope, parameters["StackName"])
        stack.protected = parameters["EnableTerminationProtection"]
        return {"StackId": stack.arn}

    def _set_policy(self, parameters: Parameters, origin: Origin) -> Result:
        stack = self.stacks.living(origin.scope, parameters["StackName"])
        raise not_here("SetStackPolicy", f"nothing would keep to it in {stack.name}")

    def _get_policy(self, parameters: Parameters, origin: Origin) -> Result:
        self.stacks.living(origin.scope, parameters["StackName"])
        return {}

    # Looking

    def _describe(self, parameters: Parameters, origin: Origin) -> Result:
        name = parameters.get("StackName")
        if name:
            return {"Stacks": [shown_stack(self.stacks.living(origin.scope, name))]}
        living = [one for one in self._shelf.all_of(origin.scope) if one.deleted is None]
        shown, token = _page([shown_stack(one) for one in living], parameters)
        return {"Stacks": shown, "NextToken": token}

    def _list(self, parameters: Parameters, origin: Origin) -> Result:
        wanted = set(parameters.get("StackStatusFilter", []))
        found = [one for one in self._shelf.all_of(origin.scope) if not wanted or one.status in wanted]
        shown, token = _page([shown_summary(one) for one in found], parameters)
        return {"StackSummaries": shown, "NextToken": token}

    def _events(self, parameters: Parameters, origin: Origin) -> Result:
        stack = self.stacks.living(origin.scope, parameters["StackName"])
        shown, token = _page([shown_event(stack, one) for one in [*stack.events][::-1]], parameters)
        return {"StackEvents": shown, "NextToken": token}

    def _resource(self, parameters: Parameters, origin: Origin) -> Result:
        stack, name = self.stacks.living(origin.scope, parameters["StackName"]), parameters["LogicalResourceId"]
        found = stack.resources.get(name)
        if found is None:
            raise invalid(f"Resource {name} does not exist for stack {stack.name}")
        return {"StackResourceDetail": shown_resource(stack, found, "LastUpdatedTimestamp")}

    def _resources(self, parameters: Parameters, origin: Origin) -> Result:
        name, identity = parameters.get("StackName"), parameters.get("PhysicalResourceId")
        if bool(name) == bool(identity):
            raise invalid("Either StackName or PhysicalResourceId must be specified, not both")
        if name:
            stack = self.stacks.living(origin.scope, name)
        else:
            owners = (
                one
                for one in self._shelf.all_of(origin.scope)
                if one.deleted is None and any(each.identity == identity for each in list(one.resources.values()))
            )
            owner = next(owners, None)
            if owner is None:
                raise invalid(f"Stack for {identity} does not exist")
            stack = owner
        wanted = parameters.get("LogicalResourceId")
        resources = [one for one in list(stack.resources.values()) if wanted in (None, one.name)]
        return {"StackResources": [shown_resource(stack, one, "Timestamp") for one in resources]}

    def _list_resources(self, parameters: Parameters, origin: Origin) -> Result:
        stack = self.stacks.living(origin.scope, parameters["StackName"])
        resources = [shown_resource(stack, one, "LastUpdatedTimestamp") for one in list(stack.resources.values())]
        shown, token = _page(resources, parameters)
        return {"StackResourceSummaries": shown, "NextToken": token}

    def _describe_change_set(self, parameters: Parameters, origin: Origin) -> Result:
        return shown_change_set(*self._change_set(parameters, origin))

    def _list_change_sets(self, parameters: Parameters, origin: Origin) -> Result:
        stack = self.stacks.living(origin.scope, parameters["StackName"])
        return {"Summaries": [summarized_change_set(stack, one) for one in list(stack.change_sets.values())]}

    def _exports(self, parameters: Parameters, origin: Origin) -> Result:
        found = [
            {"ExportingStackId": stack.arn, "Name": name, "Value": value}
            for stack in self._shelf.all_of(origin.scope)
            for name, value in stack.exports.items()
        ]
        shown, token = _page(found, parameters)
        return {"Exports": shown, "NextToken": token}

    def _imports(self, parameters: Parameters, origin: Origin) -> Result:
        found = self._shelf.importers(origin.scope, parameters["ExportName"])
        if not found:
            raise invalid(f"Export '{parameters['ExportName']}' is not imported by any stack.")
        return {"Imports": [one.name for one in found]}

    # Templates

    def _template(self, parameters: Parameters, origin: Origin) -> Result:
        if parameters.get("ChangeSetName"):
            plan = self._change_set(parameters, origin)[1].plan
        else:
            plan = self.stacks.living(origin.scope, parameters.get("StackName", "")).plan
        if plan is None:  # its first change set is not carried out yet
            return {"TemplateBody": "", "StagesAvailable": ["Original"]}
        processed = parameters.get("TemplateStage") == "Processed"
        body = json.dumps(plan.template.document) if processed else plan.sent.text
        return {"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]}

    def _template_summary(self, parameters: Parameters, origin: Origin) -> Result:
        name = parameters.get("StackName")
        stack = self.stacks.living(origin.scope, name) if name else None
        sent = sent_template(self.stacks.services, parameters, origin, stack)
        needed = required_capabilities(sent)
        return {
            "Parameters": summary(sent.section("Parameters")),
            "Description": sent.description,
            "Capabilities": needed,
            "CapabilitiesReason": _why(needed),
            "ResourceTypes": sorted({str(one.get("Type")) for one in sent.resources.values() if isinstance(one, dict)}),
            "Version": sent.document.get("AWSTemplateFormatVersion"),
            "Metadata": json.dumps(sent.document["Metadata"]) if sent.document.get("Metadata") else None,
            "DeclaredTransforms": sent.transforms,
        }

    def _validate(self, parameters: Parameters, origin: Origin) -> Result:
        sent = sent_template(self.stacks.services, parameters, origin, None)
        if not sent.resources:
            raise invalid("Template format error: At least one Resources member must be defined.")
        needed = required_capabilities(sent) + (["CAPABILITY_AUTO_EXPAND"] if sent.transforms else [])
        described = [
            {name: one[name] for name in ("ParameterKey", "DefaultValue", "NoEcho", "Description")}
            for one in summary(sent.section("Parameters"))
        ]
        return {
            "Parameters": described,
            "Description": sent.description,
            "Capabilities": needed,
            "CapabilitiesReason": _why(needed),
            "DeclaredTransforms": sent.transforms,
        }


def _why(capabilities: list[str]) -> str | None:
    return "The following resource(s) require capabilities: [AWS::IAM]" if capabilities else None


def _page(items: list[Any], parameters: Parameters) -> tuple[list[Any], str | None]:
    text = parameters.get("NextToken") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("The specified NextToken is invalid.")
    begin = int(text)
    end = begin + PAGE
    return items[begin:end], str(end) if len(items) > end else None
