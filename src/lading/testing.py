"""A pytest plugin: `lading_service` gives a test a local AWS of its own, in milliseconds, and leaves nothing behind.

Imports the service only where a test asks for it.
"""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

REGION = "us-east-1"


@dataclass(frozen=True)
class LadingService:
    """A service that runs while the test does."""

    url: str

    def client(self, service: str, *, region: str = REGION, account: str = "000000000000") -> Any:
        """A boto3 client of it ("lambda", "logs", "s3", …)."""
        import boto3

        session = boto3.session.Session(aws_access_key_id=account, aws_secret_access_key="lading", region_name=region)
        return session.client(service, endpoint_url=self.url)

    def step(self, seconds: float) -> None:
        """Let the service's clock go ahead: what waits for a retry is due."""
        self._post("clock", step=str(seconds))

    def accelerate(self, factor: float) -> None:
        """Let the service's clock run so many times as fast."""
        self._post("clock", speed=str(factor))

    def expire(self, function_arn: str) -> None:
        """End a function's environments: its next invoke is a cold start."""
        self._post("expire", function=function_arn)

    def _post(self, route: str, **query: str) -> None:
        request = urllib.request.Request(f"{self.url}/_lading/{route}?{urlencode(query)}", method="POST")
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextlib.contextmanager
def running(*, neighbours: bool = True) -> Iterator[LadingService]:
    """The same outside pytest. `neighbours`: with S3, IAM, SQS, …, and roles checked; their first use loads them once."""
    from lading.service.embed import Settings, serving

    with serving(Settings(port=0, neighbours={} if neighbours else None)) as url:
        yield LadingService(url)


@pytest.fixture
def lading_service() -> Iterator[LadingService]:
    """Lambda and CloudWatch Logs, every role taken. State and environments end with the test."""
    with running(neighbours=False) as service:
        yield service


@pytest.fixture
def lading_aws() -> Iterator[LadingService]:
    """The same with S3, IAM, STS, SQS, SNS, … beside it. Neighbours' state is shared by the tests of one process."""
    with running() as service:
        yield service
