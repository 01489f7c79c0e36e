"""A template: its text read, its sections checked, what each resource refers to. Pure.

Source: CloudFormation User Guide, "Template anatomy" and "Understand CloudFormation quotas".
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lading.service.stacks.refusal import invalid, template_error

MOST_RESOURCES = 500
LONGEST = 1_048_576
"""Characters; what is in a request itself may have 51,200 bytes."""
SECTIONS = (
    "AWSTemplateFormatVersion", "Conditions", "Description", "Mappings", "Metadata", "Outputs", "Parameters", "Resources",
    "Rules", "Transform", "Hooks",
)  # fmt: skip
_LOGICAL = re.compile(r"[A-Za-z0-9]{1,255}")
_VARIABLE = re.compile(r"\$\{([^!${}][^${}]*)\}")
_MEMBERS = frozenset(
    {
        "Type", "Properties", "DependsOn", "Condition", "Metadata", "DeletionPolicy", "UpdatePolicy",
        "UpdateReplacePolicy", "CreationPolicy", "Version",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Template:
    """Checked as far as the text alone allows."""

    text: str
    document: Mapping[str, Any]

    def section(self, name: str) -> Mapping[str, Any]:
        found = self.document.get(name)
        return found if isinstance(found, Mapping) else {}

    @property
    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        return self.section("Resources")

    @property
    def transforms(self) -> list[str]:
        found = self.document.get("Transform") or []
        return [found] if isinstance(found, str) else list(found)

    @property
    def description(self) -> str | None:
        return self.document.get("Description")


def read_template(text: str) -> Template:
    """Raises ApiError for what is none."""
    from lading.config.problems import (
        BrokenFileError,
    )  # configuration and YAML take long to import: a service starts without
    from lading.config.template_file import parse_template

    if len(text) > LONGEST:
        raise invalid(f"Template may not exceed {LONGEST} bytes in size.")
    try:
        document = parse_template(text, "the template", json_text=text.lstrip()[:1] == "{")
    except BrokenFileError as error:
        raise template_error(error.message) from None
    if not isinstance(document, dict):
        raise template_error("unsupported structure.")
    return checked_sections(Template(text, _plain(document)))


def _plain(value: Any) -> Any:
    """YAML's dates as the texts that they were: a template has no other types than JSON's."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, dt.date) else value


def checked_sections(template: Template) -> Template:
    """The same, whose sections are objects of objects. Raises ApiError."""
    for name in SECTIONS:
        given = template.document.get(name)
        if name not in ("AWSTemplateFormatVersion", "Description", "Transform") and not isinstance(given, dict | None):
            raise template_error(f"[/{name}] must be an object.")
    for section in ("Resources", "Parameters", "Outputs", "Mappings"):
        for name, given in template.section(section).items():
            if not isinstance(given, dict):
                raise template_error(f"Every {section} member must be an object: [{name}]")
    transforms = template.document.get("Transform") or []
    listed = [transforms] if isinstance(transforms, str) else transforms
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise template_error("lading's local service takes transforms by their names alone")
    if not isinstance(template.document.get("Description"), str | None):
        raise template_error("every Description member must be a string.")
    return template


def check_template(template: Template) -> None:
    """Of a template whose transforms are done. Raises ApiError."""
    wrong = [name for name in template.document if name not in SECTIONS]
    if wrong:
        raise template_error(f"Invalid template property or properties [{', '.join(wrong)}]")
    if not template.resources:
        raise template_error("At least one Resources member must be defined.")
    if len(template.resources) > MOST_RESOURCES:
        raise template_error(
            f"Number of resources, {len(template.resources)}, is greater than maximum allowed, {MOST_RESOURCES}"
        )
    for name, resource in template.resources.items():
        _check_resource(name, resource)
    for name, given in template.section("Outputs").items():
        if given.get("Value") is None:
            raise template_error(
                f"Output {name} is malformed. The Value field of every Outputs member must be specified"
            )
    _check_references(template)
    in_order(template)


def _check_resource(name: str, resource: Any) -> None:
    if not _LOGICAL.fullmatch(name):
        raise template_error(f"Resource name {name[:255]} is non alphanumeric.")
    if not isinstance(resource.get("Type"), str):
        raise template_error(f"[/Resources/{name}] Every Resources object must contain a Type member.")
    wrong = sorted(set(resource) - _MEMBERS)
    if wrong:
        raise invalid(f"Invalid template resource property '{wrong[0]}'")
    depends = resource.get("DependsOn") or []
    if not isinstance(depends, str) and not (
        isinstance(depends, list) and all(isinstance(one, str) for one in depends)
    ):
        raise template_error(f"[/Resources/{name}/DependsOn] Every DependsOn value must be a string or list of strings")
    if not isinstance(resource.get("Properties"), dict | None):
        raise template_error(f"[/Resources/{name}/Properties] 'Properties' must be an object")


def _check_references(template: Template) -> None:
    known = set(template.resources) | set(template.section("Parameters"))
    missing = {
        name
        for owner in ({"Resources": template.resources}, {"Outputs": template.section("Outputs")})
        for name in references(owner)
        if name not in known and not name.startswith("AWS::")
    }
    if missing:
        raise template_error(
            f"Unresolved resource dependencies [{', '.join(sorted(missing))}] in the Resources block of the template"
        )
    conditions = template.section("Conditions")
    for section in ("Resources", "Outputs"):
        for name, given in template.section(section).items():
            condition = given.get("Condition")
            if condition is not None and (not isinstance(condition, str) or condition not in conditions):
                raise template_error(
                    f"Unresolved condition dependency {condition} in the {section} block of the template, {name}"
                )


def references(value: Any) -> Iterator[str]:
    """Names of what a value refers to: parameters, resources, pseudo parameters."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
        return
    if not isinstance(value, Mapping):
        return
    for key, item in value.items():
        if key == "Ref" and isinstance(item, str):
            yield item
        elif key == "Fn::GetAtt":
            name = item.split(".")[0] if isinstance(item, str) else item[0] if isinstance(item, list) and item else None
            if isinstance(name, str):
                yield name
            yield from references(item)
        elif key == "Fn::Sub":
            yield from _variables(item)
        else:
            yield from references(item)


def _variables(given: Any) -> Iterator[str]:
    text, own = (given[0], given[1]) if isinstance(given, list) and len(given) == 2 else (given, {})
    if isinstance(own, Mapping):
        for item in own.values():
            yield from references(item)
    if isinstance(text, str) and isinstance(own, Mapping):
        for match in _VARIABLE.finditer(text):
            name = match[1].strip()
            if name not in own:
                yield name.split(".")[0]


def dependencies(template: Template, name: str) -> set[str]:
    """Resources that have to be there before this one."""
    resource = template.resources[name]
    wanted = resource.get("DependsOn") or []
    named = {wanted} if isinstance(wanted, str) else set(wanted)
    for one in named - set(template.resources):
        raise template_error(f"Unresolved resource dependencies [{one}] in the Resources block of the template")
    found = set(references(resource.get("Properties") or {})) & set(template.resources)
    return found | named


def in_order(template: Template) -> list[str]:
    """Resources, each after those that it depends on, otherwise as they stand in the template. Raises ApiError for circles."""
    waiting = {name: dependencies(template, name) for name in template.resources}
    order: list[str] = []
    while waiting:
        ready = [name for name, needs in waiting.items() if not needs & waiting.keys()]
        if not ready:
            raise invalid(f"Circular dependency between resources: [{', '.join(sorted(waiting))}]")
        order += ready
        for name in ready:
            del waiting[name]
    return order


def policy(resource: Mapping[str, Any], name: str) -> str:
    """A resource's DeletionPolicy or UpdateReplacePolicy. Raises ApiError for one that there isn't."""
    found = resource.get(name, "Delete")
    if not isinstance(found, str) or found not in ("Delete", "Retain", "Snapshot", "RetainExceptOnCreate"):
        raise template_error(f"Unrecognized {name} {found}")
    return str(found)
