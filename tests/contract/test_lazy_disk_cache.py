"""The local tier on a real disk: verified, bounded, shared, and never an error to anybody."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lading.lazy.disk_cache import DiskCache
from lading.lazy.eviction import MOST_USES

SIZE = 512 << 10


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def chunk(number: int, size: int = SIZE) -> tuple[bytes, bytes]:
    content = random.Random(number).randbytes(size)
    return hashlib.sha256(content).digest(), content


def stored(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / "entries").rglob("*") if file.is_file())


def uses(cache: DiskCache, name: bytes) -> tuple[bool, int]:
    entry = next(entry for entry in cache.entries() if entry.name == name.hex())
    return entry.main, entry.uses


@pytest.mark.parametrize(("start", "size"), [(0, SIZE), (0, 1), (SIZE - 1, 1), (65_535, 2), (70_000, 300_001)])
def test_any_part_is_read_as_it_was_put(tmp_path: Path, start: int, size: int):
    cache = DiskCache(tmp_path, 1 << 30)
    name, content = chunk(1)
    assert cache.read(name, start, size) is None
    assert cache.put(name, content, 1)
    assert cache.read(name, start, size) == content[start : start + size]
    assert DiskCache(tmp_path, 1 << 30).read(name, start, size) == content[start : start + size]


@pytest.mark.parametrize("size", [1, 4_096, 65_536, 65_537, 4 << 20])
def test_chunks_of_any_length(tmp_path: Path, size: int):
    cache = DiskCache(tmp_path, 1 << 30)
    name, content = chunk(2, size)
    assert cache.put(name, content, 1)
    assert DiskCache(tmp_path, 1 << 30).read(name, 0, size) == content


def test_no_flipped_bit_is_ever_read(tmp_path: Path):
    name, content = chunk(3, 200_000)
    DiskCache(tmp_path, 1 << 30).put(name, content, 1)
    [path] = (file for file in (tmp_path / "entries").rglob("*") if file.is_file())
    whole = path.read_bytes()
    chance = random.Random(7)
    places = [*(chance.randrange(len(whole)) for _ in range(150)), *range(len(whole) - 64, len(whole))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        path.unlink(missing_ok=True)
        path.write_bytes(damaged)
        cache = DiskCache(tmp_path, 1 << 30)
        assert cache.read(name, 0, len(content)) is None, f"byte {place} was flipped"
        assert cache.counts.corrupt == 1
        assert not path.exists(), "what is damaged is removed"


@pytest.mark.parametrize("left", [0, 1, 47, 48, 100_000, 199_999])
def test_a_torn_entry_is_none(tmp_path: Path, left: int):
    name, content = chunk(3, 200_000)
    DiskCache(tmp_path, 1 << 30).put(name, content, 1)
    [path] = (file for file in (tmp_path / "entries").rglob("*") if file.is_file())
    os.truncate(path, left)
    assert DiskCache(tmp_path, 1 << 30).read(name, 0, 1) is None


def test_an_entry_under_another_name_is_none(tmp_path: Path):
    cache = DiskCache(tmp_path, 1 << 30)
    (one, content), (other, _) = chunk(4), chunk(5)
    cache.put(one, content, 1)
    [path] = (file for file in (tmp_path / "entries").rglob("*") if file.is_file())
    wrong = tmp_path / "entries" / other.hex()[:2] / other.hex()
    wrong.parent.mkdir(exist_ok=True)
    path.rename(wrong)
    assert cache.read(other, 0, 10) is None


def test_the_limit_holds(tmp_path: Path):
    limit = 20 * SIZE
    cache = DiskCache(tmp_path, limit)
    for number in range(100):
        assert cache.put(*chunk(number), 1)
    assert stored(tmp_path) <= limit * 17 / 16
    assert cache.counts.evicted >= 78
    assert cache.read(chunk(99)[0], 0, 1) is not None


def test_a_scan_leaves_what_is_used(tmp_path: Path):
    clock = Clock()
    cache = DiskCache(tmp_path, 20 * SIZE, clock)
    hot = [chunk(number) for number in range(8)]
    for name, content in hot:
        cache.put(name, content, 1)
    clock.now += 100
    for name, _ in hot:
        cache.read(name, 0, 1)
        cache.touch(name, 1)
    for number in range(100, 160):
        name, content = chunk(number)
        cache.put(name, content, 2)
        for _ in range(4):  # a scan reads a chunk in pieces: that is one use
            cache.touch(name, 2)
    assert all(cache.read(name, 0, 1) is not None for name, _ in hot)


def test_uses_count_once_per_image_and_minute_and_survive_the_process(tmp_path: Path):
    clock = Clock()
    cache = DiskCache(tmp_path, 1 << 30, clock)
    name, content = chunk(1)
    cache.put(name, content, 1)
    cache.read(name, 0, 1)
    cache.touch(name, 1)
    assert uses(cache, name) == (False, 0), "its arrival"
    cache.touch(name, 2)
    assert uses(cache, name) == (False, 1), "another image"
    for _ in range(10):
        clock.now += 61
        cache.touch(name, 2)
    assert uses(DiskCache(tmp_path, 1 << 30), name) == (False, MOST_USES)


def test_what_left_too_early_comes_back_to_stay(tmp_path: Path):
    cache = DiskCache(tmp_path, 10 * SIZE)
    name, content = chunk(1)
    cache.put(name, content, 1)
    for number in range(2, 16):
        cache.put(*chunk(number), 1)
    assert cache.read(name, 0, 1) is None
    other = DiskCache(tmp_path, 10 * SIZE)
    other.put(name, content, 1)
    assert uses(other, name) == (True, 0)


WRITER = """
import hashlib, random, sys
from pathlib import Path
from lading.lazy.disk_cache import DiskCache
cache = DiskCache(Path(sys.argv[1]), 20 << 19)
print("ready", flush=True)
wrong = 0
for number in range(int(sys.argv[2]), 10**9):
    content = random.Random(number % 60).randbytes(512 << 10)
    name = hashlib.sha256(content).digest()
    found = cache.read(name, 0, len(content))
    wrong += found not in (None, content)
    if found is None:
        cache.put(name, content, number % 3)
    if wrong:
        print("wrong", flush=True)
"""


def test_processes_share_it_and_may_be_killed_at_any_moment(tmp_path: Path):
    for round_number in range(3):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number * 7)], stdout=subprocess.PIPE)
            for number in range(3)
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                writers[0].wait(0.7 + round_number / 5)
        finally:
            for writer in writers:
                writer.kill()
            outputs = [writer.communicate()[0] for writer in writers]
        assert outputs == [b"", b"", b""]
    cache = DiskCache(tmp_path, 20 << 19)
    cache.make_room()
    assert stored(tmp_path) <= 20 << 19
    for number in range(60):
        name, content = chunk(number)
        assert cache.read(name, 0, SIZE) in (None, content)
    assert cache.counts.corrupt == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_smaller_than_the_limit_and_no_error(small_disk: Path):
    cache = DiskCache(small_disk, 1 << 30)
    for number in range(40):
        cache.put(*chunk(number), 1)
    assert cache.counts.written >= 30
    assert cache.counts.evicted >= 20
    assert cache.read(chunk(39)[0], 0, SIZE) == chunk(39)[1]
    (small_disk / "other").write_bytes(bytes(100_000))
    with open(small_disk / "full", "wb") as file, pytest.raises(OSError):
        file.write(bytes(8 << 20))
        file.flush()
    for number in range(100, 140):
        cache.put(*chunk(number), 1)  # takes what it can get


def test_a_folder_that_cant_be_written_refuses_and_goes_on(tmp_path: Path):
    clock = Clock()
    cache = DiskCache(tmp_path / "cache", 1 << 30, clock)
    (tmp_path / "cache" / "temporary").rmdir()
    assert not cache.put(*chunk(1), 1)
    (tmp_path / "cache" / "temporary").mkdir()
    assert not cache.put(*chunk(1), 1), "it isn't tried at every chunk"
    clock.now += 6
    assert cache.put(*chunk(1), 1)
