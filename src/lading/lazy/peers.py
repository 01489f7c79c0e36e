"""The tier of peers: each chunk in five shards on five nodes, the first four answers win, whoever is dead or slow is passed over.

No retries: where fewer than four answer in time, the store does. What the store gave is offered to the peers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from urllib.parse import urlsplit

from lading.errors import UsageError
from lading.lazy.chunk import ChunkRecord
from lading.lazy.erasure import DATA, LARGEST_SHARD, SHARDS, Shard, join, read_shard, split
from lading.lazy.fault import ObjectMissingError

PATIENCE = 0.5
"""Seconds for four answers, after which the store is asked."""
_REQUEST_SECONDS = 5.0
_MOST_REQUESTS = 64
"""Under way to one node; a slow one fills up, and is passed over from then on."""
_MOST_OFFERS = 32
_FAILURES = 3
_LONGEST_REST = 30.0


class Node:
    """One peer and its kept connections. Lives in the tier's loop."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
            raise UsageError(f"{url!r} is not the address of a peer", hint="write it as http://HOST:PORT")
        self.url = url
        self._address = (parts.hostname, parts.port or 80)
        self._head = f"Host: {parts.netloc}\r\n" + (f"Authorization: Bearer {token}\r\n" if token else "")
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._busy = 0
        self._failures = 0
        self._rests_until = 0.0

    @property
    def usable(self) -> bool:
        return self._busy < _MOST_REQUESTS and time.monotonic() >= self._rests_until

    async def request(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """(status, content). Raises OSError; a node that fails again and again rests for a while."""
        self._busy += 1
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                answer = await self._exchange(method, target, body)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            self._failures += 1
            if self._failures >= _FAILURES:
                rest = min(_LONGEST_REST, 0.5 * 2 ** (self._failures - _FAILURES))
                self._rests_until = time.monotonic() + rest
            raise OSError(f"{self.url}: {error or type(error).__name__}") from error
        finally:
            self._busy -= 1
        self._failures = 0
        return answer

    async def _exchange(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        reused = bool(self._idle)
        reader, writer = self._idle.pop() if reused else await asyncio.open_connection(*self._address)
        try:
            writer.write(
                f"{method} {target} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            )
            answer = await _read_answer(reader)
        except BaseException:
            writer.close()
            if reused and not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                for _, other in self._idle:
                    other.close()
                self._idle.clear()  # the node was restarted: its old connections are all gone
                return await self._exchange(method, target, body)
            raise
        self._idle.append((reader, writer))
        return answer

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


class PeersTier:
    """Safe between threads; asks its nodes from a thread of its own."""

    name = "peers"

    def __init__(self, urls: Sequence[str], token: str = "", patience: float = PATIENCE) -> None:
        """`patience` in seconds, for four answers. Raises UsageError for fewer than five peers."""
        if len(set(urls)) < SHARDS:
            raise UsageError(f"{len(set(urls))} peers are too few", hint=f"give at least {SHARDS}: --peer URL for each")
        self._nodes = [Node(url, token) for url in dict.fromkeys(urls)]
        self._patience = patience
        self._loop = asyncio.new_event_loop()
        self._offers = 0
        self._background: set[asyncio.Task[object]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lazy-peers", daemon=True)
        self._thread.start()

    def get(self, record: ChunkRecord, place: str, seconds: float) -> bytes:
        asked = asyncio.run_coroutine_threadsafe(self._gather(record), self._loop)
        try:
            return asked.result(seconds)
        except FutureTimeoutError:
            asked.cancel()
            raise ObjectMissingError("the peers did not answer", hint="check that they run") from None

    def offer(self, record: ChunkRecord, stored: bytes) -> None:
        if self._offers < _MOST_OFFERS:
            self._offers += 1
            asyncio.run_coroutine_threadsafe(self._spread(record, stored), self._loop)

    def close(self) -> None:
        """What is under way is given up."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_REQUEST_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for node in self._nodes:
            node.close()

    async def _gather(self, record: ChunkRecord) -> bytes:
        """The first four shards that are whole. What is asked and not needed any more is read to its end elsewhere."""
        places = [(index, node) for index, node in enumerate(place_shards(record.name, self._nodes)) if node.usable]
        tasks = {asyncio.create_task(self._ask(record, index, node)) for index, node in places}
        found: dict[int, Shard] = {}
        deadline = self._loop.time() + self._patience
        waiting = set(tasks)
        while waiting and len(found) + len(waiting) >= DATA and len(found) < DATA:
            left = deadline - self._loop.time()
            done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                shard = task.result()
                if shard is not None and shard.length == record.stored:
                    found[shard.index] = shard
        for task in waiting:
            self._keep(task)
        if len(found) < DATA:
            raise ObjectMissingError(
                f"{len(found)} of {SHARDS} shards were found at the peers", hint="they are filled as chunks are fetched"
            )
        return join(dict(list(found.items())[:DATA]))

    async def _ask(self, record: ChunkRecord, index: int, node: Node) -> Shard | None:
        with contextlib.suppress(OSError):
            status, content = await node.request("GET", f"/shards/{record.hex}/{index}")
            if status == 200:
                return read_shard(record.name, index, content)
        return None

    async def _spread(self, record: ChunkRecord, stored: bytes) -> None:
        try:
            nodes = place_shards(record.name, self._nodes)
            for index, (node, shard) in enumerate(zip(nodes, split(record.name, stored), strict=True)):
                if node.usable:
                    self._keep(asyncio.create_task(self._send(node, f"/shards/{record.hex}/{index}", shard)))
        finally:
            self._offers -= 1

    async def _send(self, node: Node, target: str, shard: bytes) -> None:
        with contextlib.suppress(OSError):
            await node.request("PUT", target, shard)

    def _keep(self, task: asyncio.Task[object]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def place_shards(name: bytes, nodes: Sequence[Node]) -> list[Node]:
    """Which node has which shard, the same for every reader; a node more or less moves few (rendezvous hashing)."""
    return sorted(nodes, key=lambda node: hashlib.sha256(name + node.url.encode()).digest())[:SHARDS]


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.lower().split("\r\n")
    lengths = [field.partition(":")[2].strip() for field in fields if field.startswith("content-length:")]
    words = line.split(" ")
    if len(words) < 2 or not words[1].isdecimal() or len(lengths) != 1 or not lengths[0].isdecimal():
        raise ValueError("not an answer of a peer")
    if int(lengths[0]) > LARGEST_SHARD:
        raise ValueError(f"an answer of {lengths[0]} bytes")
    return int(words[1]), await reader.readexactly(int(lengths[0]))
