"""Reads through all tiers: once per chunk however many wait, what is waited for first, verified, and never for ever."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from lazy_chunks import CHUNK, PLACE, chunk_path, content, keep, keep_file
from test_lazy_peers import Peer, stored_at

from lading.errors import LadingError
from lading.lazy import behind, fetch
from lading.lazy.chunk import ChunkRecord
from lading.lazy.disk_cache import DiskCache
from lading.lazy.fault import ObjectMissingError, ObjectStoreError
from lading.lazy.fetch import AHEAD_THREADS, Fetcher, Origin, Tier
from lading.lazy.manifest import make_table
from lading.lazy.metrics import Metrics
from lading.lazy.objects import FolderObjects
from lading.lazy.peers import PeersTier
from lading.lazy.reader import Reader, Space
from lading.lazy.tiers import SlowedObjects, StoreTier

ORIGIN = Origin(PLACE, 1)
Found = TypeVar("Found")
SOON = 20


class FolderTier:
    """A store in a folder that can be held up, switched off, and asked what it was asked."""

    def __init__(self, store: Path, name: str = "store") -> None:
        self.name = name
        self._store = store
        self.asked: list[bytes] = []
        self.offered: list[bytes] = []
        self.down = False
        self.gate = threading.Event()
        self.gate.set()

    def get(self, record: ChunkRecord, place: str, seconds: float) -> bytes:
        self.asked.append(record.name)
        self.gate.wait()
        if self.down:
            raise ObjectStoreError("the store is switched off")
        try:
            return chunk_path(self._store, record.name).read_bytes()
        except FileNotFoundError:
            raise ObjectMissingError("no such chunk") from None

    def offer(self, record: ChunkRecord, stored: bytes) -> None:
        self.offered.append(record.name)


class Answers:
    """What came back of reads, to be waited for."""

    def __init__(self) -> None:
        self.content: dict[int, bytes] = {}
        self.errors: dict[int, int] = {}
        self._changed = threading.Condition()

    def take(self, key: int) -> Callable[..., None]:
        def answer(pieces: Sequence[bytes | memoryview], /, *, error: int = 0) -> None:
            with self._changed:
                assert key not in self.content, "answered twice"
                self.content[key] = b"".join(pieces)
                self.errors[key] = error
                self._changed.notify_all()

        return answer

    def wait(self, count: int, seconds: float = SOON) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.content) >= count, seconds), "no answer"


class Bench:
    """A reader over a folder of chunks."""

    def __init__(self, folder: Path, tiers: Sequence[Tier] = (), patience: float = 5.0) -> None:
        self.store = folder / "store"
        self.tier = FolderTier(self.store)
        self.metrics = Metrics()
        self.cache = DiskCache(folder / "cache", 1 << 30)
        self.fetcher = Fetcher(self.cache, [*tiers, self.tier], self.metrics, patience)
        self.reader = Reader(self.cache, self.fetcher, self.metrics)
        self.answers = Answers()
        self._keys = iter(range(1_000_000))

    def serve(self, data: bytes, together: Sequence[tuple[int, int]] = (), *, ahead: bool = False) -> Space:
        self.reader.spaces[3] = space = Space(ORIGIN, keep_file(self.store, data), together, ahead=ahead)
        return space

    def read(self, offset: int, size: int) -> bytes | int:
        """The content, or the errno."""
        key = next(self._keys)
        self.reader.read(3, offset, size, self.answers.take(key))
        self.answers.wait(key + 1)
        return self.answers.errors[key] or self.answers.content[key]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.tier.gate.set()
    made.fetcher.close()


def test_any_read_is_the_image(bench: Bench):
    image = content(1, 3 * CHUNK) + bytes(2 * CHUNK) + content(2, CHUNK + 12_345)
    bench.serve(image)
    padded = image + bytes(-len(image) % 4_096)
    chance = random.Random(3)
    for _ in range(200):
        offset = chance.randrange(len(padded) // 4_096) * 4_096
        size = chance.choice([4_096, 131_072, 1 << 20])
        assert bench.read(offset, size) == padded[offset : offset + size]
    assert bench.read(len(padded), 4_096) == b""
    assert len(bench.tier.asked) == len(set(bench.tier.asked)), "each chunk was fetched once"


def test_many_readers_of_a_chunk_are_one_request(bench: Bench):
    bench.serve(content(1))
    bench.tier.gate.clear()
    for key in range(50):
        bench.reader.read(3, key * 4_096, 4_096, bench.answers.take(key))
    bench.tier.gate.set()
    bench.answers.wait(50)
    assert len(bench.tier.asked) == 1
    assert all(bench.answers.content[key] == content(1)[key * 4_096 :][:4_096] for key in range(50))


def test_what_is_waited_for_comes_before_what_is_fetched_ahead(bench: Bench):
    space = bench.serve(b"".join(content(number) for number in range(80)))
    bench.tier.gate.clear()
    bench.reader.prefetch(3, range(70))
    bench.reader.read(3, 75 * CHUNK, 4_096, bench.answers.take(0))
    bench.reader.read(3, 60 * CHUNK, 4_096, bench.answers.take(1))  # stands in the queue already
    deadline = time.monotonic() + SOON
    wanted = {space.table[75].name, space.table[60].name}
    while not wanted <= set(bench.tier.asked):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert len(bench.tier.asked) <= AHEAD_THREADS + 2, "the others wait their turn"
    bench.tier.gate.set()
    bench.answers.wait(2)


def test_a_reader_in_order_is_read_ahead_for(bench: Bench):
    space = bench.serve(b"".join(content(number) for number in range(20)), ahead=True)
    for index in range(6):
        bench.read(index * CHUNK, 4_096)
    deadline = time.monotonic() + SOON
    while space.table[12].name not in bench.tier.asked:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert space.order == [0, 1, 2, 3, 4, 5], "what nobody touched is no part of a trace"


def test_a_piece_that_belongs_together_is_fetched_whole_once_some_of_it_is_read(bench: Bench):
    data = b"".join(content(number) for number in range(12))
    space = bench.serve(data, [(3 * CHUNK, 9 * CHUNK - 5_000), (10 * CHUNK, 99 * CHUNK)])
    bench.read(5 * CHUNK, 4_096)
    piece = {space.table[index].name for index in range(3, 9)}
    deadline = time.monotonic() + SOON
    while not piece <= set(bench.tier.asked):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert bench.tier.asked[0] == space.table[5].name, "what is waited for comes first"
    bench.read(0, 4_096)
    assert len(bench.tier.asked) == 7, "nothing else was fetched, and nothing twice"
    assert space.order == [5, 0]
    bench.read(11 * CHUNK, 4_096)  # a piece that ends behind the data ends with it
    while space.table[10].name not in bench.tier.asked:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_second_start_asks_the_store_for_nothing(tmp_path: Path):
    image = b"".join(content(number) for number in range(3))
    first = Bench(tmp_path)
    first.serve(image)
    assert first.read(0, 1 << 20) == image[: 1 << 20]
    assert first.read(1 << 20, 1 << 20) == image[1 << 20 :]
    first.fetcher.close()
    deadline = time.monotonic() + SOON
    while first.cache.counts.written < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    second = Bench(tmp_path)
    second.serve(image)
    assert second.read(0, 1 << 20) == image[: 1 << 20]
    assert second.tier.asked == []
    second.fetcher.close()


def test_chunks_are_written_behind_those_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(behind, "QUIET", 3600.0)
    monkeypatch.setattr(behind, "LARGEST", 2 * CHUNK)
    monkeypatch.setattr(fetch, "RECENT_BYTES", 0)
    made = Bench(tmp_path)
    data = b"".join(content(number) for number in range(3))
    space = made.serve(data)
    assert [made.read(index * CHUNK, 4_096) for index in range(3)] == [
        data[at : at + 4_096] for at in (0, CHUNK, 2 * CHUNK)
    ]
    deadline = time.monotonic() + SOON
    while not made.cache.has(space.table[2].name):
        assert time.monotonic() < deadline, "what has no room in memory is written at once"
        time.sleep(0.005)
    assert not made.cache.has(space.table[0].name)
    assert made.read(0, 4_096) == data[:4_096]
    made.reader.prefetch(3, [0, 1])
    assert len(made.tier.asked) == 3, "memory has the others"
    made.fetcher.flush()
    assert all(made.cache.read(space.table[index].name, 0, CHUNK) == content(index) for index in range(3))
    assert made.fetcher.recent(space.table[0].name) is None, "it is held no longer"
    made.fetcher.close()


def test_a_damaged_cache_entry_is_fetched_again(tmp_path: Path):
    image = content(1)
    first = Bench(tmp_path)
    first.serve(image)
    first.read(0, 4_096)
    first.fetcher.close()
    [path] = wait_for(lambda: [file for file in (tmp_path / "cache/entries").rglob("*") if file.is_file()])
    damaged = bytearray(path.read_bytes())
    damaged[1_000] ^= 4
    path.unlink()
    path.write_bytes(damaged)
    second = Bench(tmp_path)
    second.serve(image)
    assert second.read(0, 4_096) == image[:4_096]
    assert len(second.tier.asked) == 1
    second.fetcher.close()


def test_a_damaged_or_missing_chunk_of_a_nearer_tier_comes_from_the_next(tmp_path: Path):
    near = FolderTier(tmp_path / "near", "peers")
    bench = Bench(tmp_path, [near])
    image = content(1) + content(2)
    space = bench.serve(image)
    damaged = chunk_path(tmp_path / "near", space.table[0].name)
    damaged.parent.mkdir(parents=True)
    raw = bytearray(chunk_path(bench.store, space.table[0].name).read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged.write_bytes(raw)
    assert bench.read(0, 1 << 20) == image
    assert bench.metrics.tier("peers").corrupt == 1
    assert bench.metrics.tier("peers").misses == 1
    assert set(near.offered) == {space.table[0].name, space.table[1].name}, "the nearer tier gets what it lacked"
    bench.fetcher.close()


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "missing"])
def test_what_no_tier_has_whole_is_an_error_and_never_wrong_bytes(bench: Bench, damage: str):
    image = content(1) + content(2)
    space = bench.serve(image)
    path = chunk_path(bench.store, space.table[1].name)
    raw = path.read_bytes()
    flipped = bytearray(raw)
    flipped[77] ^= 8
    match damage:
        case "flipped":
            path.write_bytes(flipped)
        case "cut":
            path.write_bytes(raw[:-1])
        case "longer":
            path.write_bytes(raw + b"\0")
        case _:
            path.unlink()
    assert bench.read(CHUNK, 4_096) == errno.EIO
    assert bench.read(0, 4_096) == image[:4_096], "others go on"
    path.write_bytes(raw)
    assert bench.read(CHUNK, 4_096) == image[CHUNK:][:4_096], "and it is asked again"


def test_a_short_outage_is_a_delay(bench: Bench):
    image = content(1)
    bench.serve(image)
    bench.tier.down = True
    threading.Timer(0.5, lambda: setattr(bench.tier, "down", False)).start()
    assert bench.read(0, 4_096) == image[:4_096]
    assert bench.metrics.tier("store").failures >= 1


def test_a_long_outage_is_an_error_after_the_patience_and_then_at_once(tmp_path: Path):
    bench = Bench(tmp_path, patience=0.5)
    image = content(1) + content(2)
    bench.serve(image)
    bench.tier.down = True
    assert bench.read(0, 4_096) == errno.EIO
    asked = len(bench.tier.asked)
    assert bench.read(CHUNK, 4_096) == errno.EIO
    assert len(bench.tier.asked) <= asked + 2, "later ones in the same outage don't wait again"
    bench.tier.down = False
    assert bench.read(0, 4_096) == image[:4_096]
    bench.fetcher.close()


def test_a_store_that_says_nothing_keeps_nobody_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lading.lazy.fetch.ATTEMPT_SECONDS", 0.5)
    bench = Bench(tmp_path, patience=0.5)
    bench.serve(content(1))
    bench.tier.gate.clear()
    assert bench.read(0, 4_096) == errno.EIO
    bench.tier.gate.set()
    bench.fetcher.close()


def test_close_answers_those_who_wait(bench: Bench):
    bench.serve(content(1))
    bench.tier.gate.clear()
    bench.reader.read(3, 0, 4_096, bench.answers.take(0))
    bench.fetcher.close()
    bench.answers.wait(1)
    assert bench.answers.errors[0] == errno.EIO


def test_random_damage_everywhere_is_never_read(tmp_path: Path):
    image = b"".join(content(number) for number in range(12))
    chance = random.Random(11)
    for round_number in range(6):
        bench = Bench(tmp_path)
        bench.serve(image)
        for offset in range(0, len(image), 1 << 20):
            found = bench.read(offset, 1 << 20)
            assert found in (errno.EIO, image[offset : offset + (1 << 20)])
        assert round_number or not bench.answers.errors[0]
        bench.fetcher.close()
        files = [file for name in ("store", "cache/entries") for file in (tmp_path / name).rglob("*") if file.is_file()]
        flip(chance, chance.sample(files, len(files) // 3))


def test_random_damage_in_disk_and_peers_costs_a_fetch_and_in_the_store_too_an_error(tmp_path: Path):
    image, chance = b"".join(content(number) for number in range(8)), random.Random(17)
    nodes = [Peer(tmp_path / f"peer{number}") for number in range(5)]
    places = [tmp_path / "cache/entries", *(node.folder / "entries" for node in nodes)]
    try:
        for turn in range(4):
            near = PeersTier([node.url for node in nodes], patience=SOON)
            bench = Bench(tmp_path, [near])
            bench.serve(image)
            found = b"".join(
                known for at in range(0, len(image), 1 << 20) if isinstance(known := bench.read(at, 1 << 20), bytes)
            )
            assert found == image
            # what is written behind the reads must not be written over the damage
            wait_for(lambda: bench.cache.counts.hits + bench.cache.counts.written >= 8)  # noqa: B023 -- called at once
            if turn == 0:
                wait_for(lambda: all(len(stored_at(node.folder)) == 8 for node in nodes))
            bench.fetcher.close()
            near.close()
            for place in places:
                files = [file for file in place.rglob("*") if file.is_file()]
                flip(chance, files if turn == 3 else chance.sample(files, len(files) * 2 // 3))
        damaged = Bench(tmp_path, [near := PeersTier([node.url for node in nodes], patience=SOON)])
        space = damaged.serve(image)
        flip(chance, [chunk_path(damaged.store, space.table[number].name) for number in range(4)])
        outcomes = [damaged.read(number * CHUNK, CHUNK) for number in range(6)]
        assert outcomes == [*[errno.EIO] * 4, *(image[number * CHUNK :][:CHUNK] for number in (4, 5))]
        damaged.fetcher.close()
        near.close()
    finally:
        for node in nodes:
            node.stop()


def flip(chance: random.Random, files: Sequence[Path]) -> None:
    """A bit in each, also for who has the file open."""
    for path in files:
        place = chance.randrange(path.stat().st_size)
        with path.open("r+b") as file:
            file.seek(place)
            [byte] = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ (1 << chance.randrange(8))]))


def test_the_store_can_be_slowed_down(tmp_path: Path):
    record = keep(tmp_path, content(1))
    tier = StoreTier(SlowedObjects(FolderObjects(tmp_path), 0.05, record.stored / 0.1))
    began = time.monotonic()
    threads = [threading.Thread(target=tier.get, args=(record, PLACE, 5.0)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began > 0.34, "one latency, three times the bytes"


def test_an_unknown_file_is_an_error(bench: Bench):
    assert bench.read(0, 4_096) == errno.EIO


def test_an_empty_space_reads_as_zeros(bench: Bench):
    bench.reader.spaces[3] = Space(ORIGIN, make_table(10_000, []))
    assert bench.read(0, 1 << 20) == bytes(12_288)


def test_why_is_said(bench: Bench):
    record = keep(bench.store, content(1))
    chunk_path(bench.store, record.name).unlink()
    told: list[LadingError | None] = []
    done = threading.Event()
    bench.fetcher.fetch(record, ORIGIN, lambda _, error: (told.append(error), done.set())[1])
    assert done.wait(SOON)
    assert told[0] is not None
    assert record.hex[:16] in told[0].message
    assert "no such chunk" in told[0].details[0]
    assert told[0].hint


def wait_for(look: Callable[[], Found]) -> Found:
    deadline = time.monotonic() + SOON
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found
