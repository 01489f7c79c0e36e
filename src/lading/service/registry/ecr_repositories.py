"""ECR's operations on repositories: made, listed, changed, deleted; their policies and tags. They block."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.registry.catalog import Document
from lading.service.registry.ecr_call import EcrCall, Operation, Parameters, Result, moment, page
from lading.service.registry.names import Place
from lading.service.registry.refusals import invalid, no_lifecycle_policy, no_repository_policy

MOST_TAGS = 50
_ARN = re.compile(r"arn:[\w-]+:ecr:(?P<region>[^:]+):(?P<account>\d{12}):repository/(?P<name>.+)")
_EXCLUDING = ("IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION")
_COUNTS = ("imageCountMoreThan", "sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned")


def create_repository(call: EcrCall, parameters: Parameters) -> Result:
    place = call.place(parameters)
    settings: Document = {
        **_mutability(parameters),
        "imageScanningConfiguration": {"scanOnPush": False} | parameters.get("imageScanningConfiguration", {}),
        "encryptionConfiguration": parameters.get("encryptionConfiguration", {"encryptionType": "AES256"}),
        "tags": _tags({}, parameters.get("tags", [])),
    }
    return {"repository": _shown(call, place, call.catalog.create(place, settings))}


def _mutability(parameters: Parameters) -> Document:
    mutability = parameters.get("imageTagMutability", "MUTABLE")
    filters = parameters.get("imageTagMutabilityExclusionFilters")
    if bool(filters) != (mutability in _EXCLUDING):
        need = "must be given" if mutability in _EXCLUDING else "can't be given"
        raise invalid(
            "Invalid parameter at 'imageTagMutabilityExclusionFilters' failed to satisfy constraint: "
            f"'{need} when imageTagMutability is {mutability}'"
        )
    return {"imageTagMutability": mutability, "imageTagMutabilityExclusionFilters": filters}


def _shown(call: EcrCall, place: Place, document: Document) -> Result:
    return {
        "repositoryArn": place.arn,
        **call.named(place),
        "repositoryUri": f"{call.host}/{place.name}",
        "createdAt": moment(document["created"]),
        "imageTagMutability": document["imageTagMutability"],
        "imageTagMutabilityExclusionFilters": document.get("imageTagMutabilityExclusionFilters"),
        "imageScanningConfiguration": document["imageScanningConfiguration"],
        "encryptionConfiguration": document["encryptionConfiguration"],
    }


def describe_repositories(call: EcrCall, parameters: Parameters) -> Result:
    call.own(parameters)
    names = parameters.get("repositoryNames")
    if names:
        places = [Place(call.scope, name) for name in names]
        found = [(place, call.catalog.repository(place)) for place in places]
    else:
        records = call.catalog.repositories(call.scope, limit=2**62)
        found = [(Place(call.scope, record.key.name), record.document) for record in records]
    shown, token = page(parameters, found)
    return {"repositories": [_shown(call, place, document) for place, document in shown], "nextToken": token}


def delete_repository(call: EcrCall, parameters: Parameters) -> Result:
    place = call.place(parameters)
    document = call.catalog.delete(place, force=parameters.get("force", False))
    return {"repository": _shown(call, place, document)}


def put_image_tag_mutability(call: EcrCall, parameters: Parameters) -> Result:
    place = call.place(parameters)
    document = call.catalog.change(place, **_mutability(parameters))
    shown = _shown(call, place, document)
    members = ("imageTagMutability", "imageTagMutabilityExclusionFilters")
    return {**call.named(place), **{name: shown[name] for name in members}}


def put_image_scanning_configuration(call: EcrCall, parameters: Parameters) -> Result:
    """Kept; nothing here scans."""
    place = call.place(parameters)
    configuration = {"scanOnPush": False} | parameters["imageScanningConfiguration"]
    call.catalog.change(place, imageScanningConfiguration=configuration)
    return {**call.named(place), "imageScanningConfiguration": configuration}


# Policies


def set_repository_policy(call: EcrCall, parameters: Parameters) -> Result:
    place = call.place(parameters)
    text = parameters["policyText"]
    statements = _json(text, "PolicyText").get("Statement")
    if not isinstance(statements, (list, dict)) or not statements:
        raise invalid(
            "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'"
        )
    call.catalog.change(place, policy=text)
    return {**call.named(place), "policyText": text}


def get_repository_policy(call: EcrCall, parameters: Parameters) -> Result:
    place, document = call.repository(parameters)
    if "policy" not in document:
        raise no_repository_policy(place)
    return {**call.named(place), "policyText": document["policy"]}


def delete_repository_policy(call: EcrCall, parameters: Parameters) -> Result:
    gone = get_repository_policy(call, parameters)
    call.catalog.change(call.place(parameters), policy=None)
    return gone


def put_lifecycle_policy(call: EcrCall, parameters: Parameters) -> Result:
    """Checked and kept; nothing here expires images."""
    place = call.place(parameters)
    text = parameters["lifecyclePolicyText"]
    _check_lifecycle(_json(text, "LifecyclePolicyText"))
    call.catalog.change(place, lifecycle=text, lifecycleEvaluated=call.catalog.now())
    return {**call.named(place), "lifecyclePolicyText": text}


def get_lifecycle_policy(call: EcrCall, parameters: Parameters) -> Result:
    place, document = call.repository(parameters)
    if "lifecycle" not in document:
        raise no_lifecycle_policy(place)
    evaluated = moment(document["lifecycleEvaluated"])
    return {**call.named(place), "lifecyclePolicyText": document["lifecycle"], "lastEvaluatedAt": evaluated}


def delete_lifecycle_policy(call: EcrCall, parameters: Parameters) -> Result:
    gone = get_lifecycle_policy(call, parameters)
    call.catalog.change(call.place(parameters), lifecycle=None, lifecycleEvaluated=None)
    return gone


def _json(text: str, member: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise invalid(f"Invalid parameter at '{member}' failed to satisfy constraint: 'must be a JSON object'")
    return document


def _check_lifecycle(policy: dict[str, Any]) -> None:
    rules = policy.get("rules")
    seen: set[int] = set()
    problem = ""
    if not isinstance(rules, list) or not rules:
        problem, rules = "rules must be a list of at least one", []
    for rule in rules:
        problem = problem or _rule_problem(rule, seen)
    if problem:
        raise invalid(
            "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: "
            f"'Lifecycle policy validation failure: {problem}'"
        )


def _rule_problem(rule: Any, seen: set[int]) -> str:
    """Source: ECR user guide, "Lifecycle policy properties"."""
    priority = rule.get("rulePriority") if isinstance(rule, dict) else None
    if not isinstance(priority, int) or priority < 1 or priority in seen:
        return "every rule needs a rulePriority of its own, 1 or more"
    seen.add(priority)
    selection, action = rule.get("selection"), rule.get("action")
    if not isinstance(selection, dict) or selection.get("tagStatus") not in ("tagged", "untagged", "any"):
        return "a rule's selection needs a tagStatus of tagged, untagged or any"
    if selection["tagStatus"] == "tagged" and not (selection.get("tagPrefixList") or selection.get("tagPatternList")):
        return "a selection of tagged images needs a tagPrefixList or tagPatternList"
    if selection.get("countType") not in _COUNTS or not isinstance(selection.get("countNumber"), int):
        return f"a selection needs a countNumber and a countType of {', '.join(_COUNTS)}"
    if not isinstance(action, dict) or action.get("type") not in ("expire", "transition"):
        return "a rule's action needs the type expire or transition"
    return ""


# Tags of repositories


def _tags(known: dict[str, str], given: list[dict[str, str]]) -> dict[str, str]:
    added = {tag["Key"]: tag.get("Value", "") for tag in given}
    if any(key.lower().startswith("aws:") for key in added):
        raise ApiError("InvalidTagParameterException", "Tag keys that begin with aws: are reserved.")
    if len(known | added) > MOST_TAGS:
        raise ApiError("TooManyTagsException", f"A repository has at most {MOST_TAGS} tags.")
    return known | added


def _tagged(call: EcrCall, arn: str) -> tuple[Place, Document]:
    match = _ARN.fullmatch(arn)
    if match is None or match["region"] != call.scope.region:
        raise invalid(f"Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN': {arn[:200]}")
    return call.repository({"registryId": match["account"], "repositoryName": match["name"]})


def tag_resource(call: EcrCall, parameters: Parameters) -> Result:
    place, document = _tagged(call, parameters["resourceArn"])
    call.catalog.change(place, tags=_tags(document["tags"], parameters["tags"]))
    return {}


def untag_resource(call: EcrCall, parameters: Parameters) -> Result:
    place, document = _tagged(call, parameters["resourceArn"])
    gone = set(parameters["tagKeys"])
    call.catalog.change(place, tags={key: value for key, value in document["tags"].items() if key not in gone})
    return {}


def list_tags_for_resource(call: EcrCall, parameters: Parameters) -> Result:
    _, document = _tagged(call, parameters["resourceArn"])
    return {"tags": [{"Key": key, "Value": value} for key, value in document["tags"].items()]}


# The registry


def describe_registry(call: EcrCall, parameters: Parameters) -> Result:
    return {"registryId": call.scope.account, "replicationConfiguration": {"rules": []}}


def get_authorization_token(call: EcrCall, parameters: Parameters) -> Result:
    password, expires = call.logins.password(call.scope)
    data = {
        "authorizationToken": base64.b64encode(f"AWS:{password}".encode()).decode(),
        "expiresAt": moment(expires),
        "proxyEndpoint": call.endpoint,
    }
    for account in parameters.get("registryIds", ()):
        call.own({"registryId": account})
    return {"authorizationData": [data]}


OPERATIONS: dict[str, Operation] = {
    "CreateRepository": create_repository,
    "DescribeRepositories": describe_repositories,
    "DeleteRepository": delete_repository,
    "PutImageTagMutability": put_image_tag_mutability,
    "PutImageScanningConfiguration": put_image_scanning_configuration,
    "SetRepositoryPolicy": set_repository_policy,
    "GetRepositoryPolicy": get_repository_policy,
    "DeleteRepositoryPolicy": delete_repository_policy,
    "PutLifecyclePolicy": put_lifecycle_policy,
    "GetLifecyclePolicy": get_lifecycle_policy,
    "DeleteLifecyclePolicy": delete_lifecycle_policy,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
    "DescribeRegistry": describe_registry,
    "GetAuthorizationToken": get_authorization_token,
}
