"""Names and ARNs of functions and layers: what clients write, taken apart, and what the service answers with.

The contract's patterns have let a reference through before it comes here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lading.model.value import value
from lading.service.contract.errors import ApiError
from lading.service.control.refusal import invalid, not_found

LATEST = "$LATEST"
_REFERENCE = re.compile(
    r"(?:arn:[a-zA-Z-]*:lambda:)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):)?(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)(?::(?P<qualifier>[$a-zA-Z0-9-_.]+))?"
)
_LAYER = re.compile(
    r"arn:[a-zA-Z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:(?P<name>[\w-]+)(?::(?P<version>\d+))?"
)


@value
class Scope:
    """Whose resources a request is about."""

    account: str
    region: str

    @property
    def partition(self) -> str:
        """AWS's partition of the region."""
        if self.region.startswith("cn-"):
            return "aws-cn"
        return "aws-us-gov" if self.region.startswith("us-gov-") else "aws"

    def arn(self, resource: str) -> str:
        """ "function:orders" → the ARN of it here."""
        return f"arn:{self.partition}:lambda:{self.region}:{self.account}:{resource}"

    def log_group_arn(self, name: str) -> str:
        """Without the ":*" that some of CloudWatch's answers end it with."""
        return f"arn:{self.partition}:logs:{self.region}:{self.account}:log-group:{name}"

    def function_arn(self, name: str, qualifier: str | None = None) -> str:
        return self.arn(f"function:{name}:{qualifier}" if qualifier else f"function:{name}")


@value
class FunctionReference:
    """A function as a request names it; `qualifier` is None where none was given."""

    name: str
    qualifier: str | None = None


def read_reference(
    scope: Scope, text: str, qualifier: str | None = None, *, action: str = "GetFunction"
) -> FunctionReference:
    """A name, partial or full ARN, and the separate qualifier, as one. Raises ApiError for another region or account and for
    qualifiers that contradict each other."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise invalid(f"Invalid function name: {text[:200]}")
    if match["region"] and match["region"] != scope.region:
        raise not_found(f"Functions from '{match['region']}' are not reachable in this region ('{scope.region}')")
    if match["account"] and match["account"] != scope.account:
        raise other_account(scope, action, text)
    if qualifier and match["qualifier"] and qualifier != match["qualifier"]:
        raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
    return FunctionReference(match["name"], qualifier or match["qualifier"])


def other_account(scope: Scope, action: str, resource: str) -> ApiError:
    """What a request for another account's resource gets: nothing here crosses accounts."""
    caller = f"arn:{scope.partition}:iam::{scope.account}:root"
    message = f"User: {caller} is not authorized to perform: lambda:{action} on resource: {resource}"
    return ApiError(
        "AccessDeniedException",
        f"{message} because no resource-based policy allows the lambda:{action} action",
        status=403,
    )


def is_version(qualifier: str) -> bool:
    return qualifier.isascii() and qualifier.isdigit()


@dataclass(frozen=True)
class LayerReference:
    """A layer version's ARN, taken apart."""

    region: str
    account: str
    name: str
    version: int | None


def read_layer_arn(arn: str) -> LayerReference:
    """Raises ApiError for what isn't the ARN of a layer or layer version."""
    match = _LAYER.fullmatch(arn)
    if match is None:
        raise invalid(f"Invalid layer ARN: {arn[:200]}")
    version = int(match["version"]) if match["version"] else None
    return LayerReference(match["region"], match["account"], match["name"], version)


def layer_name(scope: Scope, text: str, *, action: str) -> str:
    """The name in a layer's name or ARN. Raises ApiError for another account's or region's."""
    if not text.startswith("arn:"):
        return text
    reference = read_layer_arn(text)
    if reference.account != scope.account:
        raise other_account(scope, action, text)
    if reference.region != scope.region:
        raise not_found(f"Layers from '{reference.region}' are not reachable in this region ('{scope.region}')")
    return reference.name
