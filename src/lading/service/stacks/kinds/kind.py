"""What a type of resource has to know, and what the types have in common."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lading.service.stacks.records import Made
from lading.service.stacks.site import Site

Properties = dict[str, Any]
ANYTHING = "*"
"""Among what a Kind knows: it takes any property."""
_LETTERS = string.ascii_letters + string.digits
_SCALARS = {
    "string": "String",
    "integer": "Integer",
    "long": "Integer",
    "float": "Number",
    "double": "Number",
    "boolean": "Boolean",
}


class ResourceError(Exception):
    """A resource can't be as it is wanted. The text is the reason that the stack's events show."""


@dataclass(frozen=True)
class Wanted:
    """One resource as it is to be."""

    stack: str
    """Name of its stack."""
    logical: str
    type: str
    properties: Properties
    begun: Callable[[Made], None]
    """Is to be told of what is there as soon as it is, before all of it succeeded."""

    def with_properties(self, properties: Properties) -> Wanted:
        """The same with its properties as an API spells them."""
        return replace(self, properties=properties)

    def name(self, given: str, longest: int = 64, *, lower: bool = False) -> str:
        """The name in a property, or one of the stack's as CloudFormation makes them: STACK-LOGICAL-RANDOM."""
        named = self.properties.get(given)
        if named:
            return str(named)
        tail = f"-{random_text(12)}"
        logical = self.logical[: longest // 2]
        text = f"{self.stack[: longest - len(tail) - len(logical) - 1]}-{logical}{tail}"
        return text.lower() if lower else text


class Kind(Protocol):
    """One type. Methods block and raise ResourceError, or ClientError as an API answered."""

    @property
    def known(self) -> frozenset[str]:
        """Properties that it has."""
        ...

    @property
    def fixed(self) -> frozenset[str]:
        """Those of them whose change needs another resource."""
        ...

    def create(self, site: Site, wanted: Wanted) -> Made: ...

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made: ...

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        """What is gone already is well."""
        ...


def random_text(length: int) -> str:
    return "".join(random.choices(_LETTERS, k=length))


def check_properties(kind: Kind, wanted: Wanted) -> None:
    """Raises ResourceError for a property that the type doesn't have here."""
    wrong = [] if ANYTHING in kind.known else sorted(set(wanted.properties) - kind.known)
    if wrong:
        keys = "; ".join(f"#: extraneous key [{name}] is not permitted" for name in wrong)
        raise ResourceError(f"Properties validation failed for resource {wanted.logical} with message: {keys}")


def fit(shape: Any, value: Any, wanted: Wanted, path: str = "#") -> Any:
    """A property's value as an API's shape wants it: templates may write numbers and booleans as text, and text as numbers."""

    def refuse(why: str) -> ResourceError:
        return ResourceError(f"Properties validation failed for resource {wanted.logical} with message: {path}: {why}")

    kind, found = shape.type_name, _json_type(value)
    if kind == "structure":
        if not isinstance(value, Mapping):
            raise refuse(f"expected type: JSONObject, found: {found}")
        wrong = sorted(set(value) - set(shape.members))
        if wrong:
            raise refuse(f"extraneous key [{wrong[0]}] is not permitted")
        return {name: fit(shape.members[name], item, wanted, f"{path}/{name}") for name, item in value.items()}
    if kind == "list":
        if not isinstance(value, list):
            raise refuse(f"expected type: JSONArray, found: {found}")
        return [fit(shape.member, item, wanted, f"{path}/{number}") for number, item in enumerate(value)]
    if kind == "map":
        if not isinstance(value, Mapping):
            raise refuse(f"expected type: JSONObject, found: {found}")
        return {name: fit(shape.value, item, wanted, f"{path}/{name}") for name, item in value.items()}
    try:
        return _scalar(kind, value)
    except (KeyError, OverflowError, TypeError, ValueError):
        raise refuse(f"expected type: {_SCALARS.get(kind, 'String')}, found: {found}") from None


def _scalar(kind: str, value: Any) -> Any:
    if isinstance(value, list | dict) or value is None:
        raise TypeError
    if kind == "boolean":
        return {"true": True, "false": False}[str(value).lower()]
    if kind in ("integer", "long"):
        if isinstance(value, bool) or float(value) != int(float(value)):
            raise ValueError
        return int(float(value))
    if kind in ("float", "double", "timestamp"):
        return float(value)
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _json_type(value: Any) -> str:
    names = {dict: "JSONObject", list: "JSONArray", bool: "Boolean", int: "Integer", float: "Number", str: "String"}
    return names.get(type(value), "Null")


def arguments(site: Site, service: str, operation: str, wanted: Wanted, names: Iterable[str]) -> dict[str, Any]:
    """Those of the properties, as parameters of an operation (as the API names it)."""
    client = site.services.client(service, site)
    members = client.meta.service_model.operation_model(operation).input_shape.members
    given = {name: wanted.properties[name] for name in names if name in wanted.properties}
    if wrong := sorted(set(given) - set(members)):
        key = f"#: extraneous key [{wrong[0]}] is not permitted"
        raise ResourceError(f"Properties validation failed for resource {wanted.logical} with message: {key}")
    return {name: fit(members[name], value, wanted, f"#/{name}") for name, value in given.items()}


def tag_map(site: Site, wanted: Wanted) -> dict[str, str]:
    """A resource's tags over its stack's."""
    return {**site.tags, **_given_tags(wanted.properties.get("Tags"))}


def tag_list(site: Site, wanted: Wanted) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tag_map(site, wanted).items()]


def _given_tags(tags: Any) -> dict[str, str]:
    if isinstance(tags, Mapping):
        return {str(key): str(value) for key, value in tags.items()}
    try:
        return {str(tag["Key"]): str(tag["Value"]) for tag in tags or []}
    except (TypeError, KeyError):
        raise ResourceError("Tags are a list of objects with Key and Value") from None


def changed(old: Properties, new: Properties, *names: str) -> bool:
    """Whether any of these properties is another one now."""
    return any(old.get(name) != new.get(name) for name in names)


def code_of(error: Exception) -> str:
    """The code of what an API answered; "" for other errors."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


_GONE = re.compile(r"NotFound|NoSuch|NonExistent|DoesNotExist", re.IGNORECASE)


def gone_is_well(delete: Callable[[], object]) -> None:
    """Runs a deletion; that there was nothing to delete is no error."""
    from botocore.exceptions import ClientError

    try:
        delete()
    except ClientError as error:
        if not _GONE.search(code_of(error)):
            raise
