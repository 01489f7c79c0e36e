"""S3: buckets and their policies.

Source: CloudFormation Template Reference, the types of AWS::S3; the API's names where they differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lading.service.stacks.kinds.kind import (
    Properties,
    ResourceError,
    Wanted,
    arguments,
    changed,
    gone_is_well,
    tag_list,
)
from lading.service.stacks.records import Made
from lading.service.stacks.site import Site

S3 = "s3"


def _cors(given: Any) -> Any:
    names = {"ExposedHeaders": "ExposeHeaders", "Id": "ID", "MaxAge": "MaxAgeSeconds"}
    return {"CORSRules": [_renamed(rule, names) for rule in given["CorsRules"]]}


def _encryption(given: Any) -> Any:
    rules = []
    for rule in given["ServerSideEncryptionConfiguration"]:
        one = _renamed(rule, {"ServerSideEncryptionByDefault": "ApplyServerSideEncryptionByDefault"})
        rules.append(one)
    return {"Rules": rules}


def _lifecycle(given: Any) -> Any:
    return {"Rules": [_lifecycle_rule(rule) for rule in given["Rules"]]}


def _lifecycle_rule(rule: Any) -> Any:
    found = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Id" in rule:
        found["ID"] = rule["Id"]
    days = {
        "ExpirationInDays": "Days",
        "ExpirationDate": "Date",
        "ExpiredObjectDeleteMarker": "ExpiredObjectDeleteMarker",
    }
    if expiration := {days[name]: value for name, value in rule.items() if name in days}:
        found["Expiration"] = expiration
    if "NoncurrentVersionExpirationInDays" in rule:
        found["NoncurrentVersionExpiration"] = {"NoncurrentDays": rule["NoncurrentVersionExpirationInDays"]}
    for name in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"):
        if name in rule:
            found[name] = rule[name]
    moves = [*rule.get("Transitions", []), *([rule["Transition"]] if "Transition" in rule else [])]
    if moves:
        names = {"TransitionInDays": "Days", "TransitionDate": "Date"}
        found["Transitions"] = [_renamed(move, names) for move in moves]
    known = {"Id", "Status", "Prefix", *days, "NoncurrentVersionExpirationInDays", "NoncurrentVersionExpiration"}
    if wrong := sorted(set(rule) - known - {"AbortIncompleteMultipartUpload", "Transitions", "Transition"}):
        raise ResourceError(f"lading's local service does not set {wrong[0]} of a bucket's lifecycle rule")
    return found


_TARGETS = {
    "LambdaConfigurations": ("LambdaFunctionConfigurations", "Function", "LambdaFunctionArn"),
    "QueueConfigurations": ("QueueConfigurations", "Queue", "QueueArn"),
    "TopicConfigurations": ("TopicConfigurations", "Topic", "TopicArn"),
}


def _notifications(given: Any) -> Any:
    found: dict[str, Any] = {}
    for name, (api, target, arn) in _TARGETS.items():
        for one in given.get(name, []):
            configuration = {arn: one[target], "Events": [one["Event"]]}
            if rules := (one.get("Filter") or {}).get("S3Key", {}).get("Rules"):
                configuration["Filter"] = {"Key": {"FilterRules": rules}}
            found.setdefault(api, []).append(configuration)
    if given.get("EventBridgeConfiguration"):
        found["EventBridgeConfiguration"] = {}
    return found


def _website(given: Any) -> Any:
    found = dict(given)
    for name, key in (("IndexDocument", "Suffix"), ("ErrorDocument", "Key")):
        if name in found:
            found[name] = {key: found[name]}
    return found


def _logging(given: Any) -> Any:
    names = {"DestinationBucketName": "TargetBucket", "LogFilePrefix": "TargetPrefix"}
    return {"LoggingEnabled": {"TargetPrefix": "", **_renamed(given, names)}}


def _as_it_is(given: Any) -> Any:
    return given


def _renamed(given: Any, names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in given.items()}


@dataclass(frozen=True)
class _Part:
    """One property of a bucket that is an operation of its own."""

    operation: str
    """As the API names it."""
    parameter: str
    convert: Callable[[Any], Any]
    clear: str = ""
    """Operation that takes it away; else it is set to `empty`."""
    empty: Any = None


_PARTS = {
    "VersioningConfiguration": _Part(
        "PutBucketVersioning", "VersioningConfiguration", _as_it_is, empty={"Status": "Suspended"}
    ),
    "BucketEncryption": _Part(
        "PutBucketEncryption", "ServerSideEncryptionConfiguration", _encryption, "delete_bucket_encryption"
    ),
    "PublicAccessBlockConfiguration": _Part(
        "PutPublicAccessBlock", "PublicAccessBlockConfiguration", _as_it_is, "delete_public_access_block"
    ),
    "OwnershipControls": _Part(
        "PutBucketOwnershipControls", "OwnershipControls", _as_it_is, "delete_bucket_ownership_controls"
    ),
    "CorsConfiguration": _Part("PutBucketCors", "CORSConfiguration", _cors, "delete_bucket_cors"),
    "LifecycleConfiguration": _Part(
        "PutBucketLifecycleConfiguration", "LifecycleConfiguration", _lifecycle, "delete_bucket_lifecycle"
    ),
    "NotificationConfiguration": _Part(
        "PutBucketNotificationConfiguration", "NotificationConfiguration", _notifications, empty={}
    ),
    "WebsiteConfiguration": _Part("PutBucketWebsite", "WebsiteConfiguration", _website, "delete_bucket_website"),
    "LoggingConfiguration": _Part("PutBucketLogging", "BucketLoggingStatus", _logging, empty={}),
}


class Buckets:
    """Identity: the bucket's name."""

    known = frozenset({"BucketName", "AccessControl", "Tags", *_PARTS})
    fixed = frozenset({"BucketName"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        name, region = wanted.name("BucketName", 63, lower=True), site.scope.region
        place = None if region == "us-east-1" else {"LocationConstraint": region}
        try:
            site.call(S3, "head_bucket", Bucket=name)
        except Exception as error:
            if "404" not in str(error):
                raise
        else:
            raise ResourceError(f"{name} already exists")
        site.call(S3, "create_bucket", Bucket=name, CreateBucketConfiguration=place)
        made = Made(name, _addresses(site, name))
        wanted.begun(made)
        self._set(site, name, {}, wanted)
        return made

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        self._set(site, made.identity, old, wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call(S3, "delete_bucket", Bucket=made.identity))

    def _set(self, site: Site, name: str, old: Properties, wanted: Wanted) -> None:
        new = wanted.properties
        for key, part in _PARTS.items():
            if not changed(old, new, key):
                continue
            if key not in new and part.clear:
                site.call(S3, part.clear, Bucket=name)
                continue
            value = part.convert(new[key]) if key in new else part.empty
            api = wanted.with_properties({part.parameter: value})
            site.call(
                S3, _method(part.operation), Bucket=name, **arguments(site, S3, part.operation, api, [part.parameter])
            )
        if changed(old, new, "AccessControl"):
            words = re.sub(r"(?<!^)([A-Z])", r"-\1", str(new.get("AccessControl", "Private"))).lower()
            site.call(S3, "put_bucket_acl", Bucket=name, ACL=words)
        if tags := tag_list(site, wanted):
            site.call(S3, "put_bucket_tagging", Bucket=name, Tagging={"TagSet": tags})
        elif old:
            site.call(S3, "delete_bucket_tagging", Bucket=name)


def _method(operation: str) -> str:
    from botocore import xform_name

    return str(xform_name(operation))


def _addresses(site: Site, name: str) -> dict[str, str]:
    region = site.scope.region
    return {
        "Arn": f"arn:{site.scope.partition}:s3:::{name}",
        "DomainName": f"{name}.s3.amazonaws.com",
        "RegionalDomainName": f"{name}.s3.{region}.amazonaws.com",
        "DualStackDomainName": f"{name}.s3.dualstack.{region}.amazonaws.com",
        "WebsiteURL": f"http://{name}.s3-website-{region}.amazonaws.com",
    }


class BucketPolicies:
    """Identity: the bucket's name."""

    known = frozenset({"Bucket", "PolicyDocument"})
    fixed = frozenset({"Bucket"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        self._put(site, wanted)
        return Made(str(wanted.properties["Bucket"]))

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        self._put(site, wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call(S3, "delete_bucket_policy", Bucket=made.identity))

    def _put(self, site: Site, wanted: Wanted) -> None:
        document = json.dumps(wanted.properties.get("PolicyDocument"))
        site.call(S3, "put_bucket_policy", Bucket=wanted.properties["Bucket"], Policy=document)
