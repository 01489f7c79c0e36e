"""AWS::CloudFormation::Stack: a stack of its own, made and ended with the one that it is in.

Source: CloudFormation Template Reference, "AWS::CloudFormation::Stack".
"""

from __future__ import annotations

from typing import Any

from lading.service.control.control import Origin
from lading.service.identity import request_id
from lading.service.stacks.kinds.kind import Properties, ResourceError, Wanted, tag_list
from lading.service.stacks.records import Made
from lading.service.stacks.site import Nested, Nesting, Site

TYPE = "AWS::CloudFormation::Stack"
_CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")
"""What was acknowledged for the stack around it holds for this one."""


class NestedStacks:
    """Identity: the stack's ARN."""

    known = frozenset({"NotificationARNs", "Parameters", "Tags", "TemplateURL", "TimeoutInMinutes"})
    fixed: frozenset[str] = frozenset()

    def create(self, site: Site, wanted: Wanted) -> Made:
        parameters = self._parameters(site, wanted) | {"StackName": wanted.name("", 128)}
        return self._made(
            wanted, _nesting(site).create_nested(parameters, _origin(site), site.stack), "CREATE_COMPLETE"
        )

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        parameters = self._parameters(site, wanted) | {"StackName": made.identity}
        ended = _nesting(site).update_nested(parameters, _origin(site))
        return self._made(wanted, ended, "UPDATE_COMPLETE", "CREATE_COMPLETE")

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        ended = _nesting(site).delete_nested(made.identity, site.scope)
        if ended.status != "DELETE_COMPLETE":
            raise ResourceError(f"Embedded stack {ended.arn} was not successfully deleted: {ended.reason}")

    def _parameters(self, site: Site, wanted: Wanted) -> dict[str, Any]:
        given = wanted.properties.get("Parameters") or {}
        if not isinstance(given, dict):
            raise ResourceError("Parameters of a nested stack are an object")
        values = [{"ParameterKey": key, "ParameterValue": _text(value)} for key, value in given.items()]
        url = wanted.properties.get("TemplateURL")
        return {
            "TemplateURL": url,
            "Parameters": values,
            "Tags": tag_list(site, wanted),
            "Capabilities": list(_CAPABILITIES),
        }

    def _made(self, wanted: Wanted, ended: Nested, *well: str) -> Made:
        found = Made(ended.arn, {f"Outputs.{key}": value for key, value in ended.outputs.items()})
        wanted.begun(found)
        if ended.status not in well:
            verb = "updated" if "UPDATE" in ended.status else "created"
            raise ResourceError(
                f"Embedded stack {ended.arn} was not successfully {verb}: {ended.reason or ended.status}"
            )
        return found


def _nesting(site: Site) -> Nesting:
    assert site.services.nesting is not None, "nobody makes stacks"
    return site.services.nesting


def _origin(site: Site) -> Origin:
    return Origin(site.scope, site.endpoint, request_id())


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
