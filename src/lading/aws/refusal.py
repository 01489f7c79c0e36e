"""botocore's exceptions as lading's errors: each names the call and the thing, and what to do next."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lading.aws.actions import action_of
from lading.errors import DeployError

DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AccessDeniedFault",
        "UnauthorizedOperation",
        "AuthorizationError",
        "AuthorizationErrorException",
        "NotAuthorized",
    }
)
MISSING = frozenset(
    {
        "ResourceNotFoundException",
        "NoSuchEntity",
        "NoSuchBucket",
        "NoSuchKey",
        "NoSuchTagSet",
        "404",
        "NotFound",
        "NotFoundException",
        "RepositoryNotFoundException",
        "ImageNotFoundException",
        "ParameterNotFound",
        "ProvisionedConcurrencyConfigNotFoundException",
        "NoSuchLifecycleConfiguration",
    }
)
EXISTS = frozenset(
    {
        "ResourceConflictException",
        "ConflictException",
        "EntityAlreadyExists",
        "ResourceAlreadyExistsException",
        "BucketAlreadyOwnedByYou",
        "RepositoryAlreadyExistsException",
    }
)
UNSERVED = frozenset({"NotImplementedException", "NotImplemented", "UnknownOperationException", "InvalidAction"})
"""Answers of endpoints that aren't AWS and have no such operation."""
BAD_LOGIN = frozenset(
    {
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "AuthFailure",
    }
)
_PERFORM = re.compile(r"not authorized to perform: ([\w-]+:\w+)(?: on resource: (\S+))?")


class AwsError(DeployError):
    """AWS refused a call. `code` is AWS's own; `retried` tells whether the same request had been sent before."""

    def __init__(self, message: str, *, code: str = "", retried: bool = False, hint: str = "", **more: Any) -> None:
        super().__init__(message, hint=hint, **more)
        self.code = code
        self.retried = retried


class DeniedError(AwsError):
    """The caller may not do this; the hint is the policy statement that would allow it."""


class CredentialsError(AwsError):
    """There are no credentials, or AWS doesn't take them."""


class UnreachableError(AwsError):
    """The endpoint does not answer."""


class UnservedError(AwsError):
    """The endpoint isn't AWS and has no such operation."""


def translate(error: Exception, service: str, operation: str, resources: Sequence[str] = ("*",)) -> AwsError:
    """The error for what botocore raised. `resources` are the ARNs that the call is about."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    name = action_of(service, operation)
    if isinstance(error, exceptions.ClientError):
        return _refused(error.response, name, resources)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return no_credentials()
    if isinstance(error, exceptions.TokenRetrievalError | exceptions.CredentialRetrievalError | exceptions.SSOError):
        return CredentialsError(f"can't get credentials: {error}", hint="log in again, such as: aws sso login")
    if isinstance(error, exceptions.ParamValidationError):
        return AwsError(f"{name}: {error}", hint="this is a defect of lading: report it")
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        return UnreachableError(f"{name}: {error}", hint="check the network, --region and --endpoint-url")
    if isinstance(error, ResponseParserError):
        told = " ".join(str(error).split())[:200]
        return AwsError(f"{name}: the answer isn't AWS's: {told}", hint="check --endpoint-url, and what lies before it")
    return AwsError(f"{name}: {error}", hint="check the settings: aws configure list")


def no_credentials() -> CredentialsError:
    return CredentialsError(
        "there are no AWS credentials here",
        details=["looked in the environment, ~/.aws, the container's and the instance's role"],
        hint="name a profile (--profile), log in (aws sso login), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    )


def _refused(response: Mapping[str, Any], name: str, resources: Sequence[str]) -> AwsError:
    found, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, said = str(found.get("Code", "")), str(found.get("Message", ""))
    retried = metadata.get("RetryAttempts", 0) > 0
    if code in DENIED or (metadata.get("HTTPStatusCode") == 403 and code not in BAD_LOGIN and "authorized" in said):
        return _denied(name, said, resources, code)
    if code in BAD_LOGIN:
        return CredentialsError(f"AWS does not take the credentials: {said}", code=code, hint="log in again")
    page = code == "404" and "<html" in said
    if code in UNSERVED or metadata.get("HTTPStatusCode") == 501 or page:
        return UnservedError(
            f"{name}: {'no such path' if page else said}", code=code, hint="this endpoint does not serve it"
        )
    hint = _HINTS.get(code, f"see what AWS says of {name}")
    return AwsError(f"{name}: {said or code} ({code})", code=code, retried=retried, hint=hint)


def _denied(name: str, said: str, resources: Sequence[str], code: str) -> DeniedError:
    """AWS mostly tells the ARN; where it tells a name or nothing, it is that of the call."""
    told = _PERFORM.search(said)
    action = told[1] if told else name
    known = bool(told and told[2] and (told[2] == "*" or told[2].startswith("arn:")))
    covered = [told[2]] if told and known else list(resources) if action == name else ["*"]
    line = json.dumps({"Effect": "Allow", "Action": action, "Resource": covered[0] if len(covered) == 1 else covered})
    more = "; the role's trust policy has to let you in as well" if action == "sts:AssumeRole" else ""
    hint = f"this statement allows it: {line}{more}"
    return DeniedError(f"not allowed: {action} on {covered[0]}", code=code, hint=hint)


_HINTS = {
    "CodeStorageExceededException": "delete old versions: set keep-versions and keep-layers",
    "TooManyRequestsException": "AWS throttles: run it again later",
    "ResourceConflictException": "something else changes it at the same time: run it again",
    "InvalidParameterValueException": "correct the value in the project",
    "ValidationException": "correct the value in the project",
    "LimitExceededException": "a quota of the account is used up: raise it, or remove what isn't needed",
}
