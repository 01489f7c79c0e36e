"""What a request wants a stack to be: its template fetched, expanded and checked, its parameters and capabilities with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from lading.service.contract.errors import ApiError
from lading.service.control.call import Parameters
from lading.service.control.control import Origin
from lading.service.control.refusal import not_here
from lading.service.stacks.expressions import Evaluator
from lading.service.stacks.kinds.known import unknown
from lading.service.stacks.parameters import Given, read_given, resolve
from lading.service.stacks.records import Plan, Stack
from lading.service.stacks.refusal import invalid, template_error
from lading.service.stacks.site import Services, Site
from lading.service.stacks.template import LONGEST, Template, check_template, checked_sections, policy, read_template

LONGEST_BODY = 51_200
"""Bytes of a template in a request itself; longer ones come from S3 (TemplateBody, "maximum length")."""
MOST_TAGS = 50
SERVERLESS, EXTENSIONS = "AWS::Serverless-2016-10-31", "AWS::LanguageExtensions"
_HOSTED = re.compile(r"(?!s3\.)(.+?)\.(?:s3[.-]|localhost$)")
"""A host that begins with a bucket."""
_IAM = ("AccessKey", "Group", "InstanceProfile", "ManagedPolicy", "Policy", "Role", "User", "UserToGroupAddition")
_NAMES = {"RoleName", "UserName", "GroupName", "ManagedPolicyName", "InstanceProfileName"}


def make_plan(services: Services, parameters: Parameters, origin: Origin, stack: Stack) -> Plan:
    """Blocks. Raises ApiError."""
    _refuse_unheard(parameters)
    before = stack.plan
    sent = sent_template(services, parameters, origin, stack)
    given = read_given(parameters.get("Parameters", []), before.parameters if before is not None else {})
    site = Site(services, origin.scope, origin.endpoint, {})
    texts, values = resolve(sent.section("Parameters"), given, lambda name: _parameter_of_ssm(site, name))
    scope = origin.scope
    values |= {
        "AWS::AccountId": scope.account,
        "AWS::Region": scope.region,
        "AWS::Partition": scope.partition,
        "AWS::URLSuffix": "amazonaws.com.cn" if scope.partition == "aws-cn" else "amazonaws.com",
        "AWS::StackId": stack.arn,
        "AWS::StackName": stack.name,
        "AWS::NotificationARNs": list(parameters.get("NotificationARNs", [])),
    }
    template = expand(site, sent, {**values, **texts})
    check_template(template)
    if missing := unknown(str(one["Type"]) for one in template.resources.values()):
        raise template_error(
            f"Unrecognized resource types: [{', '.join(missing)}]: lading's local service does not make them"
        )
    template_values = Evaluator({}, template.section("Mappings"), template.section("Conditions"), values, _Nothing())
    template_values.check_rules(template.section("Rules"))
    for one in template.resources.values():
        policy(one, "DeletionPolicy")
        policy(one, "UpdateReplacePolicy")
    tags = {tag["Key"]: tag["Value"] for tag in parameters.get("Tags", [])}
    if "Tags" not in parameters and before is not None:
        tags = dict(before.tags)
    if len(tags) > MOST_TAGS:
        raise invalid(f"Number of tags exceeds the limit of {MOST_TAGS}")
    return Plan(
        template,
        sent,
        texts,
        values,
        tags,
        tuple(parameters.get("Capabilities", [])),
        tuple(parameters.get("NotificationARNs", [])),
        parameters.get("RoleARN"),
        origin.endpoint,
        not parameters.get("DisableRollback", False),
        parameters.get("ClientRequestToken"),
    )


def _refuse_unheard(parameters: Parameters) -> None:
    """What a request asks for and nobody here would do."""
    if parameters.get("NotificationARNs"):
        raise not_here("NotificationARNs", "no topic is told of a stack's events")
    if parameters.get("StackPolicyBody") or parameters.get("StackPolicyURL"):
        raise not_here("StackPolicyBody", "nothing would keep to a stack's policy")
    if (parameters.get("RollbackConfiguration") or {}).get("RollbackTriggers"):
        raise not_here("RollbackTriggers", "there are no alarms")


class _Nothing:
    """A Lookup for what is to be said by parameters alone."""

    def identity(self, resource: str) -> Any:
        raise invalid(f"Template error: resource {resource} can't be referred to here")

    def attribute(self, resource: str, name: str) -> Any:
        raise invalid(f"Template error: resource {resource} can't be referred to here")

    def imported(self, name: str) -> str:
        raise invalid(f"Template error: {name} can't be imported here")

    def dynamic(self, service: str, reference: str) -> str:
        raise invalid(f"Template error: {service}:{reference} can't be resolved here")


def sent_template(services: Services, parameters: Parameters, origin: Origin, stack: Stack | None) -> Template:
    """Of TemplateBody, TemplateURL, or the stack's own. Raises ApiError."""
    body, url = parameters.get("TemplateBody"), parameters.get("TemplateURL")
    if parameters.get("UsePreviousTemplate") or (
        body is None and url is None and "StackName" in parameters and stack and stack.plan
    ):
        if body or url:
            raise invalid("You cannot specify both usePreviousTemplate and Template Body/Template URL.")
        if stack is None or stack.plan is None:
            raise invalid("There is no previous template to use.")
        return stack.plan.sent
    if body and url:
        raise invalid("You cannot specify both Template URL and Template Body.")
    if body:
        if len(body.encode()) > LONGEST_BODY:
            raise invalid(
                f"1 validation error detected: Value at 'templateBody' failed to satisfy constraint: "
                f"Member must have length less than or equal to {LONGEST_BODY}"
            )
        return read_template(body)
    if url:
        return read_template(_fetch(Site(services, origin.scope, origin.endpoint, {}), url))
    raise invalid("Either Template URL or Template Body must be specified.")


def _fetch(site: Site, url: str) -> str:
    """An object of S3, however its URL is written: https://BUCKET.s3.REGION…/KEY, or with the bucket in the path."""
    from botocore.exceptions import ClientError

    try:
        parts = urlsplit(url)
        hosted = _HOSTED.match(parts.hostname or "")
    except ValueError:
        raise invalid(f"TemplateURL is no URL: {url[:300]}") from None
    path = unquote(parts.path.lstrip("/"))
    bucket, key = (hosted[1], path) if hosted else path.partition("/")[::2]
    if not bucket or not key:
        raise invalid(f"TemplateURL must reference a valid S3 object to which you have access: {url[:300]}")
    version = next(
        (text for name, _, text in (pair.partition("=") for pair in parts.query.split("&")) if name == "versionId"),
        None,
    )
    try:
        answer = site.call("s3", "get_object", Bucket=bucket, Key=key, VersionId=version)
        text = answer["Body"].read(LONGEST + 1)
        if len(text) > LONGEST:
            raise invalid(f"Template may not exceed {LONGEST} bytes in size.")
        return str(text.decode())
    except (ClientError, UnicodeDecodeError) as error:
        raise invalid(
            f"S3 error: {error}\nTemplateURL must reference a valid S3 object to which you have access."
        ) from None


def _parameter_of_ssm(site: Site, name: str) -> str:
    from botocore.exceptions import ClientError

    try:
        return str(site.call("ssm", "get_parameter", Name=name)["Parameter"]["Value"])
    except ClientError:
        raise invalid(f"Unable to fetch parameters [{name}] from parameter store for this account.") from None


def expand(site: Site, sent: Template, values: Given | Mapping[str, Any]) -> Template:
    """The template after its transforms. Raises ApiError for one that isn't known."""
    document = dict(sent.document)
    for name in sent.transforms:
        if name == SERVERLESS:
            from lading.service.stacks.serverless import expand_serverless

            document = expand_serverless(site, document, values)
        elif name != EXTENSIONS:
            raise invalid(f"No transform named {str(name)[:200]} found.")
    if macro := next(_macros(document), None):
        raise template_error(f"lading's local service does not evaluate {macro}")
    document.pop("Transform", None)
    return checked_sections(Template(sent.text, document))


def _macros(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "Fn::Transform" or key.startswith("Fn::ForEach::"):
                yield key[:100]
            yield from _macros(item)
    elif isinstance(value, list):
        for item in value:
            yield from _macros(item)


def required_capabilities(template: Template) -> list[str]:
    """CAPABILITY_NAMED_IAM where something of IAM has a name of its own, CAPABILITY_IAM where something of IAM is made."""
    made = [
        one for one in template.resources.values() if str(one.get("Type")) in {f"AWS::IAM::{name}" for name in _IAM}
    ]
    if any(_NAMES & set(one.get("Properties") or ()) for one in made if isinstance(one.get("Properties"), dict)):
        return ["CAPABILITY_NAMED_IAM"]
    return ["CAPABILITY_IAM"] if made else []


def check_capabilities(plan: Plan, *, expanding: bool) -> None:
    """Raises ApiError for what the client didn't acknowledge. expanding: without a change set to look at first."""
    missing = [
        name
        for name in required_capabilities(plan.template)
        if name not in plan.capabilities and "CAPABILITY_NAMED_IAM" not in plan.capabilities
    ]
    if expanding and plan.sent.transforms and "CAPABILITY_AUTO_EXPAND" not in plan.capabilities:
        missing.append("CAPABILITY_AUTO_EXPAND")
    if missing:
        raise ApiError("InsufficientCapabilitiesException", f"Requires capabilities : [{', '.join(missing)}]")
