"""An account in a region, as the caller may use it: one way to call any operation, checked, retried, counted."""

from __future__ import annotations

import functools
import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lading.aws.refusal import MISSING, AwsError, CredentialsError, no_credentials, translate
from lading.aws.resources import Where, resources_of
from lading.errors import DeployError
from lading.model.suggest import did_you_mean

CONNECTIONS = 32
ATTEMPTS = 8
"""Of one request, throttled ones included; botocore pauses between them, ever longer."""


class RegionError(DeployError):
    """No region is stated, or there is none of that name."""


@dataclass(frozen=True)
class Access:
    """How to reach AWS, as boto3 would without these. Empty text: what boto3 finds itself."""

    region: str = ""
    profile: str = ""
    endpoint_url: str = ""
    assume_role: str = ""


@dataclass(frozen=True)
class Identity:
    """Who calls."""

    account: str
    arn: str

    @property
    def partition(self) -> str:
        return self.arn.split(":")[1]

    @property
    def is_unlimited(self) -> bool:
        """The account's own user, whom no policy limits; or somebody of an endpoint that isn't AWS (moto's, and the local
        service's), where IAM would tell of a `user` and not STS."""
        return self.arn.endswith(":root") or (":sts:" in self.arn and ":user/" in self.arn)


class Account:
    """Thread-safe. `calls` counts requests by (service, operation)."""

    def __init__(self, session: Any, access: Access, region: str) -> None:
        self._session = session
        self._access = access
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.region = region
        self.endpoint_url = access.endpoint_url or session._session.get_config_variable("endpoint_url") or ""
        self.calls: Counter[tuple[str, str]] = Counter()
        self._where = Where("aws", region, "*")
        self.identity = self._identity()
        self._where = Where(self.identity.partition, region, self.identity.account)

    def call(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """One request. Raises AwsError and what is below it."""
        client = self.client(service)
        with self._lock:
            self.calls[service, operation] += 1
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            response: dict[str, Any] = getattr(client, xform_name(operation))(**parameters)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            raise self._translated(error, service, operation, parameters) from error
        response.pop("ResponseMetadata", None)
        return response

    def find(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any] | None:
        """The same; None where there is no such thing."""
        try:
            return self.call(service, operation, **parameters)
        except AwsError as error:
            if error.code in MISSING:
                return None
            raise

    def pages(self, service: str, operation: str, result: str, /, **parameters: Any) -> list[Any]:
        """All items of a paged answer."""
        client = self.client(service)
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        found: list[Any] = []
        try:
            for page in client.get_paginator(xform_name(operation)).paginate(**parameters):
                with self._lock:
                    self.calls[service, operation] += 1
                found += page.get(result, [])
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            raise self._translated(error, service, operation, parameters) from error
        return found

    def _translated(self, error: Exception, service: str, operation: str, parameters: Mapping[str, Any]) -> AwsError:
        return translate(error, service, operation, resources_of(service, operation, parameters, self._where))

    def problems(self, service: str, operation: str, parameters: Mapping[str, Any]) -> str:
        """What botocore's model says against parameters, before anything is sent; empty when nothing."""
        from botocore.validate import ParamValidator

        model = self.client(service).meta.service_model.operation_model(operation)
        if model.input_shape is None:
            return "it takes no parameters" if parameters else ""
        report = ParamValidator().validate(dict(parameters), model.input_shape)
        return str(report.generate_report()) if report.has_errors() else ""

    def client(self, service: str) -> Any:
        """boto3's client, made once."""
        with self._lock:
            if service not in self._clients:
                from botocore.config import Config

                config = Config(
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                    max_pool_connections=CONNECTIONS,
                    read_timeout=120,
                    user_agent_extra="lading",
                    s3={"addressing_style": "path"} if self.endpoint_url else {},
                )
                options = {"endpoint_url": self._access.endpoint_url} if self._access.endpoint_url else {}
                self._clients[service] = self._session.client(
                    service, region_name=self.region, config=config, **options
                )
            return self._clients[service]

    def _identity(self) -> Identity:
        found = self.call("sts", "GetCallerIdentity")
        return Identity(found["Account"], found["Arn"])


def open_account(access: Access) -> Account:
    """The account that boto3's settings and `access` lead to. Raises RegionError, CredentialsError, AwsError."""
    import boto3
    import botocore.session
    from botocore.exceptions import BotoCoreError, ProfileNotFound

    try:
        session = boto3.session.Session(botocore_session=_core_session(access.profile))
    except ProfileNotFound as error:
        # AWS_PROFILE may be what names it: a session would look for it again.
        known = botocore.session.Session().available_profiles
        name = access.profile or os.environ.get("AWS_PROFILE", "")
        hint = did_you_mean(name, known) if known else "there are no profiles: aws configure"
        raise CredentialsError(f"no profile {name!r} in AWS's configuration files", hint=hint) from error
    region = access.region or session.region_name or ""
    _check_region(session, region, access)
    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise translate(error, "sts", "GetCallerIdentity") from error
    if credentials is None:
        raise no_credentials()
    account = Account(session, access, region)
    return _assume(account, access) if access.assume_role else account


def _core_session(profile: str = "") -> Any:
    """AWS's models take a third of a second to read, and are the same for every account and region: they are read once."""
    import botocore.session

    core = botocore.session.Session(profile=profile or None)
    core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
    return core


@functools.cache
def _loader(path: str | None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(path)


def _check_region(session: Any, region: str, access: Access) -> None:
    known = [
        name
        for partition in session.get_available_partitions()
        for name in session.get_available_regions("lambda", partition)
    ]
    if not region:
        raise RegionError("no region is stated", hint="--region eu-west-1, or `regions` in [tool.lading.deploy]")
    if region not in known and not access.endpoint_url:
        raise RegionError(f"there is no region {region!r}", hint=did_you_mean(region, known))


def _assume(account: Account, access: Access) -> Account:
    """The account as seen by the role to deploy as. Its keys are renewed before they end, however long a roll-out takes."""
    import boto3
    from botocore.credentials import RefreshableCredentials

    def keys() -> dict[str, str]:
        more = {"RoleArn": access.assume_role, "RoleSessionName": "lading"}
        found = account.call("sts", "AssumeRole", **more)["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }

    core = _core_session()
    credentials = RefreshableCredentials.create_from_metadata(
        metadata=keys(), refresh_using=keys, method="sts-assume-role"
    )
    core._credentials = credentials
    return Account(boto3.session.Session(botocore_session=core), access, account.region)
