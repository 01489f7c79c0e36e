"""How fast is a lazily loaded image read: beside a plain file, on a cold start, and with a cache node dead or slow?

$LADING_BENCH_MB (256), $LADING_BENCH_LATENCY in seconds (0.01) and $LADING_BENCH_BANDWIDTH in bytes a second (125e6: 1 Gbit/s)
say how large the image is and how far its store. Root, FUSE, EROFS and mkfs.erofs are needed; the machine drops its page cache.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.harness.compare import Row, Table, Verdict, ratio
from bench.harness.peers import PeerMissingError
from bench.harness.process import kilobytes
from bench.harness.workshop import Workshop
from lading.lazy import mount
from lading.lazy.chunk import ChunkRecord, chunk_compressor, seal_chunk
from lading.lazy.disk_cache import DiskCache
from lading.lazy.images import ImageSource, LazyImages
from lading.lazy.manifest import ChunkTable, Manifest, make_table
from lading.lazy.peer_server import PeerServer
from lading.lazy.peers import PeersTier
from lading.lazy.settings import ReaderSettings

PLACE = "roots/R/chunks"
SIZE = int(os.environ.get("LADING_BENCH_MB", "256")) << 20
LATENCY = float(os.environ.get("LADING_BENCH_LATENCY", "0.01"))
BANDWIDTH = float(os.environ.get("LADING_BENCH_BANDWIDTH", "125e6"))
FILES = 2_000
TOUCHED = 0.06
"""Of the small files, what a start reads: the share that Harter et al. found."""


def measure(workshop: Workshop) -> Iterator[Table]:
    if problem := mount.find_problem() or ("" if shutil.which("mkfs.erofs") else "no mkfs.erofs"):
        raise PeerMissingError(problem)
    image = _make(workshop.folder)
    settings = ReaderSettings(workshop.folder / "cache", str(workshop.folder / "store"))
    peaks: list[float] = []
    yield from _starts(workshop, image, replace(settings, latency=LATENCY, bandwidth=BANDWIDTH), peaks)
    shutil.rmtree(settings.cache / "chunks")
    with LazyImages(settings) as images:
        root = images.open(image).path
        yield _reads(workshop, root)
        peaks.append(kilobytes(images.start().pid, "status", "VmHWM:") / 1e3)
    row = Row("peaks: of every start above, and of fetching and reading all of it", peaks, "MB")
    yield Table("memory of the reader", [row], [Verdict("MB", max(peaks), 150)])
    yield from _peers(workshop, image.manifest.data)


def _starts(workshop: Workshop, image: ImageSource, settings: ReaderSettings, peaks: list[float]) -> Iterator[Table]:
    """From nothing to the last file that a start touches."""
    paths = sorted(
        path.relative_to(workshop.folder / "source") for path in (workshop.folder / "source").rglob("f*.bin")
    )
    wanted = paths[: int(len(paths) * TOUCHED)]
    ready: list[float] = []
    rows: dict[str, list[float]] = {
        "on demand": [],
        "with a trace": [],
        "whole image first": [],
        "again, cache filled": [],
    }
    fetched = 0.0
    for _ in range(workshop.rounds):
        for name in rows:
            if name != "again, cache filled":
                shutil.rmtree(settings.cache / "chunks", ignore_errors=True)
            if name == "on demand":
                shutil.rmtree(settings.cache / "traces", ignore_errors=True)
            _drop()
            with LazyImages(settings) as images:
                images.start()
                began = time.perf_counter()
                if name == "whole image first":
                    _fetch_all(image, settings)
                opened = images.open(image)
                if name == "on demand":
                    ready.append(time.perf_counter() - began - LATENCY)
                for path in wanted:
                    (opened.path / path).read_bytes()
                rows[name].append(time.perf_counter() - began)
                if name == "on demand":
                    fetched = images.metrics()["tiers"]["store"]["bytes"]
                images.settled(opened)
                peaks.append(kilobytes(images.start().pid, "status", "VmHWM:") / 1e3)
    made = [Row(name, samples, state=f"store {LATENCY * 1e3:.0f} ms away") for name, samples in rows.items()]
    stored = image.manifest.data.stored_bytes
    yield Table(
        f"a start that reads {TOUCHED:.0%} of {FILES} files of an image of {SIZE >> 20} MB",
        made,
        [
            ratio(made[0], made[2]),
            ratio(made[1], made[2]),
            Verdict("seconds until mounted, beyond one store latency", statistics.median(ready), 0.1),
            Verdict("bytes fetched, of those stored", fetched / stored, None, shown=f"{fetched / stored:.1%}"),
        ],
        ["the whole image is fetched over 24 connections and not unpacked: less than a pull does"],
    )


def _reads(workshop: Workshop, root: Path) -> Table:
    lazy, plain = root / "big", workshop.folder / "source" / "big"
    _sequential(lazy)
    speeds: dict[str, list[float]] = {}
    for _ in range(workshop.rounds):
        for name, path in (("lazy", lazy), ("plain", plain)):
            _drop()
            speeds.setdefault(f"{name}, disk", []).append(_sequential(path))
            speeds.setdefault(f"{name}, page cache", []).append(_sequential(path))
            _drop()
            speeds.setdefault(f"{name}, 4 KiB at random, disk, p50", []).append(_random_reads(path))
    rows = {name: Row(name, samples, "s") for name, samples in speeds.items()}
    small = rows["lazy, 4 KiB at random, disk, p50"].median
    return Table(
        "reads of one large file, whole unless said",
        list(rows.values()),
        [
            ratio(rows["lazy, page cache"], rows["plain, page cache"], 1.1),
            ratio(rows["lazy, disk"], rows["plain, disk"], 2.0),
            Verdict("seconds for 4 KiB from the disk cache, p50", small, 500e-6, shown=f"{small * 1e6:.0f} µs"),
        ],
    )


def _peers(workshop: Workshop, table: ChunkTable) -> Iterator[Table]:
    """Five nodes; the same chunks in each state."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    servers, urls, tasks = [], [], []
    for number in range(5):
        listener = socket.create_server(("127.0.0.1", 0))
        servers.append(PeerServer(DiskCache(workshop.folder / f"peer{number}", 1 << 30)))
        urls.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
        tasks.append(asyncio.run_coroutine_threadsafe(servers[-1].serve(listener), loop))
    tier = PeersTier(urls)
    records = [table[index] for index in range(min(len(table), 100))]
    for record in records:
        tier.offer(record, _object(workshop, record))
        _await(tier, record)
    rows = []
    for state in ("all well", "one slower by 1 s", "one stopped"):
        if state == "one slower by 1 s":
            servers[2].delay = 1.0
        elif state == "one stopped":
            servers[2].delay = 0.0
            tasks[2].cancel()
        samples = []
        for _ in range(workshop.rounds):
            for record in records:
                began = time.perf_counter()
                tier.get(record, PLACE, 10.0)
                samples.append(time.perf_counter() - began)
        rows.append(Row(f"p99, {state}", [statistics.quantiles(samples, n=100)[98]]))
    tier.close()
    for task in tasks:
        task.cancel()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    yield Table(
        "chunks from five peers, four of which answer first", rows, [ratio(row, rows[0], 1.2) for row in rows[1:]]
    )


def _await(tier: PeersTier, record: ChunkRecord) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            tier.get(record, PLACE, 10.0)
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _make(folder: Path) -> ImageSource:
    """A large file and many small ones, half of each compressible."""
    chance = random.Random(1)
    source = folder / "source"
    source.mkdir()
    with (source / "big").open("wb") as file:
        for _ in range((SIZE * 7 // 8) >> 20):
            file.write(chance.randbytes(1 << 19) + bytes([chance.randrange(256)]) * (1 << 19))
    for number in range(FILES):
        path = source / f"package{number // 40:03}" / f"f{number:05}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(chance.randbytes(SIZE // 8 // FILES))
    metadata, data = folder / "metadata", folder / "data"
    command = ["mkfs.erofs", "--chunksize=524288", f"--blobdev={data}", str(metadata), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    tables = [_seal(folder / "store", path, size) for path, size in ((metadata, 4 << 20), (data, 512 << 10))]
    return ImageSource(Manifest(bytes(32), bytes(16), *tables), PLACE)


def _seal(store: Path, path: Path, size: int) -> ChunkTable:
    compressor, records, offset = chunk_compressor(), [], 0
    with path.open("rb") as file:
        while piece := file.read(size):
            if piece.strip(b"\0"):
                sealed = seal_chunk(piece, b"salt", compressor)
                target = store / PLACE / sealed.name.hex()[:2] / sealed.name.hex()
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(sealed.data)
                records.append(sealed.at(offset, len(piece)))
            offset += len(piece)
    return make_table(offset, records)


def _object(workshop: Workshop, record: ChunkRecord) -> bytes:
    return (workshop.folder / "store" / PLACE / record.hex[:2] / record.hex).read_bytes()


def _fetch_all(image: ImageSource, settings: ReaderSettings) -> None:
    from lading.lazy.tiers import open_tiers

    tier, cache = open_tiers(settings)[-1], DiskCache(settings.cache / "chunks", settings.limit)

    def bring(record: ChunkRecord) -> None:
        from lading.lazy.chunk import decode_chunk

        cache.put(record.name, decode_chunk(record, tier.get(record, PLACE, 60.0)), 0)

    with ThreadPoolExecutor(24) as threads:
        list(threads.map(bring, image.manifest.data))


def _sequential(path: Path) -> float:
    buffer = bytearray(1 << 20)
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - began


def _random_reads(path: Path, count: int = 1_000) -> float:
    """The median of one."""
    chance, samples = random.Random(5), []
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        blocks = os.fstat(file.fileno()).st_size // 4_096
        for _ in range(count):
            offset = chance.randrange(blocks) * 4_096
            began = time.perf_counter()
            os.pread(file.fileno(), 4_096, offset)
            samples.append(time.perf_counter() - began)
    return statistics.median(samples)


def _drop() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
