"""Calls of AWS's APIs for a stack, from its thread: Lambda, Logs and ECR of this service, the neighbours for all else."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lading.service.contract.http import HttpRequest, HttpResponse, Response
from lading.service.control.call import Parameters
from lading.service.control.control import Origin
from lading.service.control.names import Scope
from lading.service.identity import request_id
from lading.service.neighbours.neighbours import Neighbours
from lading.service.neighbours.raw import InProcess
from lading.service.stacks.refusal import invalid

PATIENCE = 900.0
"""Seconds that something of this service may take until it is ready, an image's conversion among them."""


class OwnApi(Protocol):
    """An API of this service, as the front has it."""

    async def answer(self, request: HttpRequest, origin: Origin) -> Response: ...


class Nesting(Protocol):
    """Stacks within stacks. Each is through when the call returns. Raises ApiError."""

    def create_nested(self, parameters: Parameters, origin: Origin, parent: str) -> Nested: ...

    def update_nested(self, parameters: Parameters, origin: Origin) -> Nested: ...

    def delete_nested(self, arn: str, scope: Scope) -> Nested: ...


@dataclass(frozen=True)
class Nested:
    """What became of a stack within a stack."""

    arn: str
    status: str
    reason: str
    outputs: Mapping[str, str]


class StoppedError(Exception):
    """The service ends; what is under way is left as it is."""


@dataclass
class Services:
    """Who answers calls. `loop`: the service's."""

    own: Mapping[str, OwnApi]
    neighbours: Neighbours
    signer: Callable[[str], tuple[str, str]]
    """An account → an access key and secret that this service lets in for it."""
    loop: asyncio.AbstractEventLoop
    inside: str = ""
    """Where functions reach this service, if not where clients do."""
    nesting: Nesting | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    _clients: dict[str, Any] = field(default_factory=dict)
    _calling: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, service: str, site: Site) -> Any:
        """A botocore client for the next call of this thread. Blocks."""
        if service not in self.own:
            return self.neighbours.client(service, site.scope)
        self._calling.site = site
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def _make(self, service: str) -> Any:
        """One for all stacks: whose call it is, the thread knows that calls."""
        import botocore.session
        from botocore.config import Config

        config = Config(retries={"max_attempts": 0}, parameter_validation=False, inject_host_prefix=False)
        client = botocore.session.get_session().create_client(
            service,
            region_name="us-east-1",
            aws_access_key_id="lading",
            aws_secret_access_key="lading",
            endpoint_url="http://127.0.0.1",
            config=config,
        )
        client.meta.events.register("before-send", InProcess(functools.partial(self._ask, service)))
        return client

    def _ask(self, service: str, request: HttpRequest) -> HttpResponse:
        site: Site = self._calling.site
        origin = Origin(site.scope, site.endpoint, request_id())
        found = asyncio.run_coroutine_threadsafe(self.own[service].answer(request, origin), self.loop).result(PATIENCE)
        assert isinstance(found, HttpResponse), f"{service} streams"
        return replace(found, headers={"x-amzn-RequestId": origin.request_id, **found.headers})


@dataclass(frozen=True)
class Site:
    """Where a stack's resources are made: whose they are, and who is called."""

    services: Services
    scope: Scope
    endpoint: str
    tags: Mapping[str, str]
    """The stack's own, for every resource that has any."""
    stack: str = ""
    """Its ARN."""

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """`operation` as botocore's method. Raises ClientError."""
        from botocore.exceptions import ClientError

        client = self.services.client(service, self)
        given = {name: value for name, value in parameters.items() if value is not None}
        try:
            answer: dict[str, Any] = getattr(client, operation)(**given)
        except ClientError as error:
            error.response["Error"]["Service"] = client.meta.service_model.service_id
            raise
        answer.pop("ResponseMetadata", None)
        return answer

    def answer_link(self, name: str, seconds: int) -> tuple[str, str, str]:
        """(bucket, key, link) of an object that a function may put for so long. Raises ClientError; ApiError without a key."""
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import ClientError

        bucket = f"cloudformation-custom-resource-response-{self.scope.region.replace('-', '')}"
        place = None if self.scope.region == "us-east-1" else {"LocationConstraint": self.scope.region}
        try:
            self.call("s3", "head_bucket", Bucket=bucket)
        except ClientError:
            self.call("s3", "create_bucket", Bucket=bucket, CreateBucketConfiguration=place)
        access_key, secret = self.services.signer(self.scope.account)
        if not secret:
            raise invalid(
                f"no key of this service stands for account {self.scope.account}, so no function could answer"
            )
        client = botocore.session.get_session().create_client(
            "s3",
            region_name=self.scope.region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            endpoint_url=self.services.neighbours.elsewhere.get("s3") or self.services.inside or self.endpoint,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        key = f"{self.stack.rpartition('/')[2]}/{name}"
        link = client.generate_presigned_url("put_object", {"Bucket": bucket, "Key": key}, ExpiresIn=seconds)
        return bucket, key, str(link)

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.scope.partition}:{service}:{self.scope.region}:{self.scope.account}:{resource}"

    def pause(self, seconds: float) -> None:
        """Before something is asked once more. Raises StoppedError when the service ends."""
        if self.services.stopping.wait(seconds):
            raise StoppedError
