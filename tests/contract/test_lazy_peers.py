"""Peers that really listen: any four of five give a chunk, whoever of them is dead, slow or lying; strangers get nothing."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lazy_chunks import PLACE, content, keep

from lading.errors import UsageError
from lading.lazy.chunk import ChunkRecord, decode_chunk
from lading.lazy.disk_cache import DiskCache
from lading.lazy.erasure import LARGEST_SHARD, join, read_shard, split
from lading.lazy.fault import ObjectMissingError
from lading.lazy.peer_server import PeerServer, bind, read_token
from lading.lazy.peers import PeersTier

SOON = 20.0
TOKEN = "t" * 32


class Peer:
    """A node in a thread of its own, that can be stopped."""

    def __init__(self, folder: Path, token: str = "") -> None:
        self.folder = folder
        self.listener = bind("127.0.0.1", 0, token)
        self.port: int = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = PeerServer(DiskCache(folder, 1 << 30), token)
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self.server.serve(self.listener))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(SOON)

    def ask(self, method: str, target: str, body: bytes = b"", token: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SOON)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[list[Peer]]:
    made = [Peer(tmp_path / f"peer{number}") for number in range(5)]
    yield made
    for peer in made:
        peer.stop()


@pytest.fixture
def tier(peers: list[Peer]) -> Iterator[PeersTier]:
    made = PeersTier([peer.url for peer in peers], patience=SOON)
    yield made
    made.close()


def eventually(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def stored_at(folder: Path) -> list[Path]:
    return [file for file in (folder / "entries").rglob("*") if file.is_file()]


def fill(tier: PeersTier, peers: list[Peer], store: Path, count: int = 1) -> list[tuple[ChunkRecord, bytes]]:
    made = []
    for number in range(count):
        record = keep(store, content(number))
        stored = next(file for file in store.rglob(record.hex) if file.is_file()).read_bytes()
        tier.offer(record, stored)
        assert eventually(lambda number=number: all(len(stored_at(peer.folder)) > number for peer in peers))
        made.append((record, stored))
    return made


@pytest.mark.parametrize("length", [1, 3, 4, 5, 100_003, 4 << 20])
def test_any_four_shards_are_the_chunk(length: int):
    stored, name = random.Random(length).randbytes(length), bytes(range(32))
    shards = [read_shard(name, index, data) for index, data in enumerate(split(name, stored))]
    whole = {shard.index: shard for shard in shards if shard}
    assert len(whole) == 5
    for lost in range(5):
        assert join({index: shard for index, shard in whole.items() if index != lost}) == stored
    with pytest.raises(ValueError, match="3 shards"):
        join(dict(list(whole.items())[:3]))


def test_a_damaged_shard_is_none():
    name = bytes(range(32))
    data = split(name, content(1))[2]
    assert read_shard(name, 2, data) is not None
    assert read_shard(name, 3, data) is None
    assert read_shard(bytes(32), 2, data) is None
    chance = random.Random(1)
    for _ in range(200):
        damaged = bytearray(data)
        place = chance.choice([chance.randrange(len(data)), chance.randrange(41), chance.randrange(44, 52)])
        damaged[place] ^= 1 << chance.randrange(8)
        assert read_shard(name, 2, bytes(damaged)) is None, place
    assert read_shard(name, 2, data[:-1]) is None
    assert read_shard(name, 2, b"") is None


def test_what_was_offered_comes_back(tier: PeersTier, peers: list[Peer], tmp_path: Path):
    record = keep(tmp_path / "store", content(9))
    with pytest.raises(ObjectMissingError):
        tier.get(record, PLACE, SOON)
    [(record, stored)] = fill(tier, peers, tmp_path / "store")
    assert tier.get(record, PLACE, SOON) == stored
    assert decode_chunk(record, tier.get(record, PLACE, SOON)) == content(0)
    assert all(len(stored_at(peer.folder)) == 1 for peer in peers), "a fifth of it on each"


def test_one_dead_node_costs_nothing_and_two_are_too_many(tier: PeersTier, peers: list[Peer], tmp_path: Path):
    chunks = fill(tier, peers, tmp_path / "store", 8)
    peers[2].stop()
    for record, stored in chunks:
        assert tier.get(record, PLACE, SOON) == stored
    peers[4].stop()
    for record, _ in chunks:
        with pytest.raises(ObjectMissingError):
            tier.get(record, PLACE, SOON)


def test_one_slow_node_is_not_waited_for(tier: PeersTier, peers: list[Peer], tmp_path: Path):
    chunks = fill(tier, peers, tmp_path / "store", 8)
    peers[1].server.delay = 60.0
    for _ in range(12):  # more than one node may have under way
        for record, stored in chunks:
            assert tier.get(record, PLACE, SOON) == stored


def test_a_lying_node_is_outvoted(tier: PeersTier, peers: list[Peer], tmp_path: Path):
    [(record, stored)] = fill(tier, peers, tmp_path / "store")
    [path] = stored_at(peers[3].folder)
    other = split(record.name, content(5))[0]
    path.unlink()
    peers[3].server._cache.put(bytes.fromhex(path.name), other, 0)
    assert tier.get(record, PLACE, SOON) == stored


def test_a_node_that_comes_back_is_used_again(tmp_path: Path):
    peers = [Peer(tmp_path / f"peer{number}") for number in range(4)]
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    tier = PeersTier([*(peer.url for peer in peers), f"http://127.0.0.1:{port}"], patience=SOON)
    try:
        chunks = fill(tier, peers, tmp_path / "store", 6)
        assert all(tier.get(record, PLACE, SOON) == stored for record, stored in chunks)
        late = PeerServer(DiskCache(tmp_path / "late", 1 << 30))
        loop = asyncio.new_event_loop()
        task = loop.create_task(late.serve(socket.create_server(("127.0.0.1", port))))
        threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])), daemon=True).start()

        def arrived() -> bool:
            for record, stored in chunks:
                tier.offer(record, stored)
            return len(stored_at(tmp_path / "late")) == len(chunks)

        assert eventually(arrived)
        loop.call_soon_threadsafe(task.cancel)
    finally:
        tier.close()
        for peer in peers:
            peer.stop()


def test_strangers_and_nonsense_are_refused(tmp_path: Path):
    peer = Peer(tmp_path / "peer", TOKEN)
    name = "ab" * 32
    shard = split(bytes.fromhex(name), content(1, 10_000))[2]
    try:
        assert peer.ask("GET", f"/shards/{name}/2")[0] == 401
        assert peer.ask("PUT", f"/shards/{name}/2", shard, "wrong")[0] == 401
        assert peer.ask("GET", f"/shards/{name}/2", token=TOKEN)[0] == 404
        assert peer.ask("PUT", f"/shards/{name}/2", shard, TOKEN)[0] == 201
        assert peer.ask("GET", f"/shards/{name}/2", token=TOKEN) == (200, shard)
        assert peer.ask("PUT", f"/shards/{name}/3", shard, TOKEN)[0] == 400, "not the third"
        assert peer.ask("PUT", f"/shards/{name}/2", b"x", TOKEN)[0] == 400
        assert peer.ask("DELETE", f"/shards/{name}/2", token=TOKEN)[0] == 405
        for target in ("/", "/shards/../../etc/passwd/0", f"/shards/{name}/5", f"/shards/{name[:-2]}/1"):
            assert peer.ask("GET", target, token=TOKEN)[0] == 404
        assert peer.ask("PUT", f"/shards/{name}/2", bytes(LARGEST_SHARD + 1), TOKEN)[0] == 413
        for raw in (b"\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"x" * 10_000):
            with socket.create_connection(("127.0.0.1", peer.port), SOON) as client:
                client.sendall(raw)
                client.shutdown(socket.SHUT_WR)
                assert b" 200 " not in client.recv(1_000)
        assert peer.ask("GET", f"/shards/{name}/2", token=TOKEN)[0] == 200, "it goes on"
    finally:
        peer.stop()


def test_what_cant_be_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match="4 peers are too few"):
        PeersTier([f"http://127.0.0.1:{port}" for port in range(4)])
    with pytest.raises(UsageError, match="not the address of a peer"):
        PeersTier(["ftp://x", *(f"http://127.0.0.1:{port}" for port in range(4))])
    with pytest.raises(UsageError, match="without a token"):
        bind("0.0.0.0", 0, "")
    with pytest.raises(UsageError, match="can't read"):
        read_token(tmp_path / "none")
    (tmp_path / "short").write_text("abc")
    with pytest.raises(UsageError, match="too short"):
        read_token(tmp_path / "short")
    (tmp_path / "good").write_text(TOKEN + "\n")
    assert read_token(tmp_path / "good") == TOKEN
