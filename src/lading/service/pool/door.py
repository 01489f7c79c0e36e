"""How an environment reaches the services beside it: what answers its connections, and the variables that lead there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from lading.service.pool.function import FunctionVersion


class Door(Protocol):
    """One for all environments."""

    def connect(self) -> asyncio.BaseProtocol:
        """Answers a connection that comes from inside."""
        ...

    async def variables(self, function: FunctionVersion) -> Mapping[str, str]:
        """For one environment: where the services are, and its role's credentials. Raises LadingError for none."""
        ...

    async def credentials(self, function: FunctionVersion) -> Mapping[str, str]:
        """New ones of its role, in the container credentials protocol's members. Raises LadingError for none."""
        ...
