"""Finding what carries tags: by the tagging API, or one by one on endpoints that don't have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lading.aws.account import Account
from lading.aws.functions import list_functions
from lading.aws.logs import list_log_groups
from lading.aws.refusal import UnservedError


@dataclass(frozen=True)
class Tagged:
    """Names in the account's region. Without the tagging API `log_groups` are all that there are, whatever their tags."""

    functions: tuple[str, ...] = ()
    log_groups: tuple[str, ...] = ()


def find_tagged(account: Account, tags: Mapping[str, str]) -> Tagged:
    """Functions and log groups that have all of these tags."""
    filters = [{"Key": key, "Values": [value]} for key, value in tags.items()]
    try:
        found = account.pages(
            "resourcegroupstaggingapi",
            "GetResources",
            "ResourceTagMappingList",
            TagFilters=filters,
            ResourceTypeFilters=["lambda:function", "logs:log-group"],
        )
    except UnservedError:
        return Tagged(tuple(_one_by_one(account, tags)), tuple(list_log_groups(account)))
    arns = [str(resource["ResourceARN"]).split(":", 6) for resource in found]
    functions = {arn[6].partition(":")[0] for arn in arns if arn[5] == "function"}
    groups = {arn[6].removesuffix(":*") for arn in arns if arn[5] == "log-group"}
    return Tagged(tuple(sorted(functions)), tuple(sorted(groups)))


def _one_by_one(account: Account, tags: Mapping[str, str]) -> list[str]:
    names = []
    for function in list_functions(account):
        found = account.find("lambda", "ListTags", Resource=function["FunctionArn"])
        own = found["Tags"] if found else {}
        if tags.items() <= own.items():
            names.append(str(function["FunctionName"]))
    return names
