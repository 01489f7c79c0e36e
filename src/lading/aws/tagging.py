"""Finding the functions that carry tags: by the tagging API, or one by one on endpoints that don't have it."""

from __future__ import annotations

from collections.abc import Mapping

from lading.aws.account import Account
from lading.aws.functions import list_functions
from lading.aws.refusal import UnservedError


def functions_tagged(account: Account, tags: Mapping[str, str]) -> list[str]:
    """Names of functions in the account's region that have all of these tags."""
    filters = [{"Key": key, "Values": [value]} for key, value in tags.items()]
    try:
        found = account.pages(
            "resourcegroupstaggingapi",
            "GetResources",
            "ResourceTagMappingList",
            TagFilters=filters,
            ResourceTypeFilters=["lambda:function"],
        )
    except UnservedError:
        return _one_by_one(account, tags)
    arns = [str(resource["ResourceARN"]) for resource in found]
    return sorted({arn.split(":")[6] for arn in arns if arn.split(":")[5] == "function"})


def _one_by_one(account: Account, tags: Mapping[str, str]) -> list[str]:
    names = []
    for function in list_functions(account):
        found = account.find("lambda", "ListTags", Resource=function["FunctionArn"])
        own = found["Tags"] if found else {}
        if tags.items() <= own.items():
            names.append(str(function["FunctionName"]))
    return names
