"""moto in this process: requests at the same time, as parallel deployments make them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lading.service.control.names import Scope
from lading.service.neighbours.neighbours import Neighbours

SCOPE = Scope("111122223333", "eu-west-1")


@pytest.fixture
def eager() -> Iterator[None]:
    """Threads take turns a hundred times as often as usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 100)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def neighbours() -> Iterator[Neighbours]:
    made = Neighbours()
    asyncio.run(made.start())
    yield made
    asyncio.run(made.close())


def test_roles_are_made_and_listed_at_the_same_time(neighbours: Neighbours, eager: None) -> None:
    iam = neighbours.client("iam", SCOPE)

    def work(number: int) -> int:
        for step in range(12):
            iam.create_role(RoleName=f"together-{number}-{step}", AssumeRolePolicyDocument="{}")
        return sum(
            role["RoleName"].startswith(f"together-{number}-") for role in iam.list_roles(MaxItems=1000)["Roles"]
        )

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [12] * 8
