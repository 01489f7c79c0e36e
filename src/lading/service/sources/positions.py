"""How far mappings are in their streams, in the service's state: what is put is kept over a kill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from lading.service.control.event_sources import POSITION
from lading.service.sources.stream_source import Position
from lading.service.state import Key, State

_T = TypeVar("_T")


@dataclass(frozen=True)
class StatePositions:
    """The `Positions` of one mapping, by its key."""

    state: State
    mapping: Key
    threads: Executor

    async def all(self) -> dict[str, Position]:
        records = await self._ask(lambda: self.state.list_by_name(self._key("")))
        return {record.key.name: record.document for record in records}

    async def put(self, shard: str, position: Position) -> None:
        await self._ask(lambda: self.state.put(self._key(shard), position))

    async def forget(self) -> None:
        await self._ask(lambda: self.state.delete_children(self._key("")))

    def _key(self, shard: str) -> Key:
        return Key(self.mapping.account, self.mapping.region, POSITION, self.mapping.name, shard)

    async def _ask(self, question: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, question)
