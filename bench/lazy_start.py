"""How long is the cold start of a large image function, loaded lazily, beside full pull + unpack + start of the same image?

$LADING_BENCH_MB ("256 1024": one image of each size, in MB), $LADING_BENCH_LATENCY ("0.01 0.036", seconds) and
$LADING_BENCH_BANDWIDTH (125e6 bytes a second: 1 Gbit/s) say how large the images are and how far what they come from: chunks
or layers. 10,000 MB take 30 GB of disk. Root, FUSE and EROFS are needed; the page cache is dropped before every start.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.harness.compare import Row, Table, Verdict, ratio
from bench.harness.peers import PeerMissingError, interpreter
from bench.harness.process import CommandError, kilobytes
from bench.harness.projects import VERSION
from bench.harness.real_images import DEBIAN, WHEELS, deb, filler, layer_of, tar_of, wheels
from bench.harness.workshop import Workshop, remove
from bench.image import made_base
from lading.lazy import mount
from lading.lazy.convert import Settings, convert, in_order
from lading.lazy.images import LazyImages
from lading.lazy.keys import MasterKey
from lading.lazy.objects import FolderObjects
from lading.lazy.opening import open_source
from lading.lazy.roots import ImageStore
from lading.lazy.settings import ReaderSettings
from lading.lazy.tiers import SlowedObjects
from lading.model.progress import Silent
from lading.oci.image import Image
from lading.oci.layout import Layout
from lading.oci.unpack import ImageTrees
from lading.sandbox.spec import Isolation, SandboxSpec
from lading.service.lazy_roots import LazyRoot
from lading.service.pool.function import FunctionVersion
from lading.service.pool.image_function import Overrides, OwnedImage, RootLease, UnpackedRoots, root_of
from lading.service.pool.session import Session
from lading.store import open_store

SIZES = [int(word) * 1_000_000 for word in os.environ.get("LADING_BENCH_MB", "256 1024").split()]
LATENCIES = [float(word) for word in os.environ.get("LADING_BENCH_LATENCY", "0.01 0.036").split()]
BANDWIDTH = float(os.environ.get("LADING_BENCH_BANDWIDTH", "125e6"))
RANGE = 8 << 20
CONNECTIONS = 4
ACCOUNT = "000000000000"
PACKAGES = 14
"""Debian packages that the image has as they are; the filler repeats them."""
REQUIREMENTS = ("pandas==2.3.3", "scikit-learn==1.7.2")
HANDLERS = {
    "trivial": "def handler(event, context):\n    return 'trivial'\n",
    "heavy": "import pandas, sklearn.linear_model\ndef handler(event, context):\n    return pandas.__version__\n",
}
LARGE = 4_000_000_000
LIMITS = {"trivial": (1 / 100, 1 / 100), "heavy": (1 / 8, 1 / 20)}
"""Of a full start, of a large image and at the nearer store: on demand, with a trace. Further away the trace's counts only."""
AGAIN, SHARE, READY, FLAT, MEMORY = 1.1, 0.1, 0.1, 1.5, 150.0


@dataclass
class Starts:
    """Seconds of the starts of one handler from one distance."""

    demand: list[float] = field(default_factory=list)
    traced: list[float] = field(default_factory=list)
    cached: list[float] = field(default_factory=list)
    unpacked: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    unpacked_warm: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    """Until the image was mounted, on demand, less one latency."""
    full: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    """Of the image's bytes, those that came from the store, on demand."""


def measure(workshop: Workshop) -> Iterator[Table]:
    if problem := mount.find_problem():
        raise PeerMissingError(problem)
    if platform.machine() != "x86_64":
        raise PeerMissingError("the wheels are chosen for x86_64")
    base = Layout(made_base(workshop)).image()
    found: dict[tuple[str, float], list[tuple[int, Starts]]] = {}
    for size in SIZES:
        place = workshop.folder / f"{size}"
        bench = make(workshop, base, size, place)
        for latency, name, starts in bench.compare():
            found.setdefault((name, latency), []).append((size, starts))
            yield bench.table(name, latency, starts)
        yield bench.memory()
        remove(place)
    if len(SIZES) > 1:
        yield flatness(found)


def make(workshop: Workshop, base: Image, size: int, place: Path) -> Bench:
    """The image, and its chunks."""
    began = time.perf_counter()
    store = open_store(place / "registry")
    debs = [deb(name) for name in DEBIAN[:PACKAGES]]
    others = [wheels(names) for names in WHEELS]
    own = wheels(REQUIREMENTS, str(interpreter(VERSION)), compiled=True)
    fixed = [layer_of(store, tar) for tar in (*debs, own)]
    image = base.append(fixed)
    left = size - sum(sum(map(len, layer.uncompressed())) for layer in image.layers)
    rest = filler(store, left, [*debs, *others]) if left > 0 else ()
    code = tar_of({f"var/task/{name}.py": text.encode() for name, text in HANDLERS.items()})
    image = image.append([*rest, layer_of(store, code)])
    made = time.perf_counter()
    lazy = ImageStore(FolderObjects(place / "chunks"))
    done = convert(image, lazy, Settings(MasterKey(bytes(32)), ACCOUNT, store.temporary), Silent())
    seconds = (made - began, time.perf_counter() - made)
    return Bench(workshop, place, image, done.image_bytes, seconds)


def flatness(found: dict[tuple[str, float], list[tuple[int, Starts]]]) -> Table:
    """The slowest of the sizes beside the fastest; ones below a GB aren't promised, since they hold less than is read."""
    rows, verdicts = [], []
    for (name, latency), starts in found.items():
        for kind in ("demand", "traced"):
            medians = {size: Row("", getattr(one, kind)).median for size, one in starts}
            rows.append(Row(f"{name}, {kind}, {latency * 1e3:.0f} ms", list(medians.values())))
            large = [seconds for size, seconds in medians.items() if size >= 1_000_000_000]
            if len(large) > 1:
                verdicts.append(Verdict(f"{rows[-1].name}: slowest : fastest", max(large) / min(large), FLAT))
    return Table(f"cold starts of images of {', '.join(f'{size / 1e9:g}' for size in SIZES)} GB", rows, verdicts)


@dataclass(frozen=True)
class Blobs:
    """The layers' blobs, as `SlowedObjects` wants them: keys are "number:start"."""

    image: Image

    def get(self, key: str) -> bytes:
        number, start = map(int, key.split(":"))
        with self.image.layers[number].compressed() as file:
            file.seek(start)
            return file.read(RANGE)


@dataclass(frozen=True)
class Bench:
    """`unpacked`: bytes of the image's content. `seconds`: of making it, and of converting it once."""

    workshop: Workshop
    place: Path
    image: Image
    unpacked: int
    seconds: tuple[float, float]
    peaks: list[float] = field(default_factory=list)
    stores: dict[float, ImageStore] = field(default_factory=dict)

    def compare(self) -> Iterator[tuple[float, str, Starts]]:
        """A full start takes the pull from its distance, the unpacking, which is done once for all, and its own time."""
        near, key = ImageStore(FolderObjects(self.place / "chunks")), MasterKey(bytes(32)).account(ACCOUNT)
        open_source(near, key, self.image.digest).lease.release()  # a service that runs has its modules in memory
        pulling = {latency: self._pull(latency) for latency in LATENCIES}
        began = time.perf_counter()
        pulled = self._unpack()
        unpacking = time.perf_counter() - began
        for latency in LATENCIES:
            found = {name: Starts() for name in HANDLERS}
            for _ in range(self.workshop.rounds):
                for name, starts in found.items():
                    started = self._start(name, lambda: pulled.open(OwnedImage(self.image, ACCOUNT)), cold=False)
                    starts.full.append(pulling[latency] + unpacking + started)
                    self._round(name, latency, starts, pulled)
            for name, starts in found.items():
                yield latency, name, starts
        remove(self.place / "pulled")

    def table(self, name: str, latency: float, starts: Starts) -> Table:
        state = f"store {latency * 1e3:.0f} ms and {BANDWIDTH * 8 / 1e9:g} Gbit/s away"
        rows = [
            Row("lazily, on demand", starts.demand, state=f"{state}, nothing there"),
            Row("lazily, with a trace", starts.traced, state=f"{state}, a trace of the start before and nothing else"),
            Row("pull + unpack + start", starts.full, state=f"{state}, nothing there"),
            Row("lazily again", starts.cached, state="chunks in the disk cache, page cache empty"),
            Row("unpacked tree", starts.unpacked, state="page cache empty"),
            Row("lazily again, mounted", starts.warm, state="another sandbox host on the same mount"),
            Row("unpacked tree, warm", starts.unpacked_warm, state="another sandbox host on the same tree"),
            Row("mounted, beyond one latency", starts.ready),
        ]
        demand, trace, full, cached, unpacked, warm, unpacked_warm, ready = rows
        large = self.unpacked > LARGE * 0.95
        limits = LIMITS[name] if large else (None, None)
        far = latency > min(LATENCIES)
        verdicts = [
            ratio(demand, full, None if far else limits[0]),
            ratio(trace, full, limits[1]),
            ratio(cached, unpacked, AGAIN),
            ratio(warm, unpacked_warm, AGAIN),
            Verdict("bytes fetched on demand : image", Row("", starts.shares).median, SHARE),
            Verdict(
                "seconds until mounted, beyond one latency", ready.median, READY, shown=f"{ready.median * 1e3:.0f} ms"
            ),
        ]
        layers = f"{self.image.size / 1e9:.2f} GB in {len(self.image.layers)} layers"
        return Table(f"{name} handler, image of {self.unpacked / 1e9:.2f} GB ({layers})", rows, verdicts, self._notes())

    def memory(self) -> Table:
        row = Row(f"the reader's peaks, image of {self.unpacked / 1e9:.2f} GB", self.peaks, "MB")
        return Table("memory of the reader", [row], [Verdict("MB, the highest", max(self.peaks), MEMORY)])

    def _notes(self) -> list[str]:
        made, converted = self.seconds
        return [
            f"the image: lading's own base, {PACKAGES} Debian packages, {', '.join(REQUIREMENTS)};",
            "the rest are these and other packages again, each time with other bytes: compresses alike, is never read",
            f"pull: {CONNECTIONS} connections, digests checked; gzip layers; unpacked as `serve --images unpack` does",
            "sandbox host and lazy reader are running, the store's roots have been listed before, as in a service that runs",
            "from the first request to the response of the first invoke; on demand: without a recorded start, but with what the",
            "converter knows of any Python image: such files are fetched beside the mount",
            f"not counted: made in {made:.0f} s, converted in {converted:.0f} s ({self.unpacked / 1e6 / converted:.0f} MB/s)",
            f"load {os.getloadavg()[0]:.1f}",
        ]

    def _round(self, name: str, latency: float, starts: Starts, pulled: UnpackedRoots) -> None:
        remove(self._cache)
        starts.demand.append(self._lazily(name, latency, starts))
        starts.cached.append(self._lazily(name, latency))
        starts.unpacked.append(self._start(name, lambda: pulled.open(OwnedImage(self.image, ACCOUNT))))
        starts.unpacked_warm.append(self._start(name, lambda: pulled.open(OwnedImage(self.image, ACCOUNT)), cold=False))
        remove(self._cache / "chunks")
        starts.traced.append(self._lazily(name, latency))

    @property
    def _cache(self) -> Path:
        return self.place / "reader"

    def _lazily(self, name: str, latency: float, first: Starts | None = None) -> float:
        """Seconds. first: takes what else there is to know of a first start, and the time of a second on the same mount."""
        far = self._far(latency)
        settings = ReaderSettings(self._cache, str(self.place / "chunks"), latency=latency, bandwidth=BANDWIDTH)
        key = MasterKey(bytes(32)).account(ACCOUNT)
        with LazyImages(settings) as images, ExitStack() as stack:
            images.start()
            mounted: list[LazyRoot] = []

            def lease() -> RootLease:
                began = time.perf_counter()
                root = LazyRoot(images, open_source(far, key, self.image.digest), ACCOUNT)
                stack.callback(root.close)
                mounted.append(root)
                if first:
                    first.ready.append(time.perf_counter() - began - latency)
                return RootLease((root.path,), mounted=root)

            seconds = self._start(name, lease)
            if first:
                again = RootLease((mounted[0].path,), mounted=mounted[0])
                first.warm.append(self._start(name, lambda: again, cold=False))
                fetched = images.metrics()["tiers"].get("store", {"bytes": 0})["bytes"]
                first.shares.append(fetched / self.unpacked)
            self.peaks.append(kilobytes(images.start().pid, "status", "VmHWM:") / 1e3)
            return seconds

    def _far(self, latency: float) -> ImageStore:
        """The service's, from that distance: it has listed the roots before, as a service that runs has."""
        if latency not in self.stores:
            self.stores[latency] = ImageStore(SlowFolder(self.place / "chunks", latency))
            self.stores[latency].living()
        return self.stores[latency]

    def _pull(self, latency: float) -> float:
        """Seconds in which every layer is pulled and checked."""
        remove(self.place / "pulled")
        began = time.perf_counter()
        store = open_store(self.place / "pulled")
        source = SlowedObjects(Blobs(self.image), latency, BANDWIDTH)
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            for number, layer in enumerate(self.image.layers):
                keys = [f"{number}:{start}" for start in range(0, layer.size, RANGE)]
                digest = store.blobs.put(in_order(threads, source.get, keys, CONNECTIONS))
                if digest != layer.descriptor.hex:
                    raise CommandError(f"layer {number} came damaged")
        return time.perf_counter() - began

    def _unpack(self) -> UnpackedRoots:
        store = open_store(self.place / "pulled")
        layers = tuple(replace(layer, content=store.blobs) for layer in self.image.layers)
        roots = UnpackedRoots(ImageTrees(self.place / "pulled" / "trees"))
        roots.prepare(OwnedImage(replace(self.image, layers=layers), ACCOUNT))
        return roots

    def _start(self, name: str, lease: Callable[[], RootLease], *, cold: bool = True) -> float:
        return asyncio.run(self._invoke(name, lease, cold=cold))

    async def _invoke(self, name: str, lease: Callable[[], RootLease], *, cold: bool) -> float:
        """From nothing to the answer of the first invoke."""
        async with Session(Isolation.ROOT) as session:
            await asyncio.to_thread(lambda: session.host.launcher_pid)
            if cold:
                os.sync()
                Path("/proc/sys/vm/drop_caches").write_text("3\n")
            began = time.perf_counter()
            held = await asyncio.to_thread(lease)
            try:
                overrides = Overrides(command=(f"{name}.handler",))
                root = await asyncio.to_thread(lambda: root_of(self.image, overrides, held))
                spec = SandboxSpec(image=root, runtime="", memory=1769)
                arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
                version = FunctionVersion(arn=arn, name=name, spec=spec, timeout=120.0, account_id=ACCOUNT)
                [outcome] = await session.invoke(version, [b"{}"])
                seconds = time.perf_counter() - began
                if outcome.status != "success":
                    raise CommandError(f"{name}: {outcome.answer.payload[:500]!r} {outcome.log}")
                return seconds
            finally:
                held.release()


class SlowFolder(FolderObjects):
    """Every look into the store takes as long as a request to one far away."""

    def __init__(self, root: Path, latency: float) -> None:
        super().__init__(root)
        self._latency = latency

    def get(self, key: str) -> bytes:
        time.sleep(self._latency)
        return super().get(key)

    def size(self, key: str) -> int | None:
        time.sleep(self._latency)
        return super().size(key)

    def list(self, prefix: str) -> Iterator[str]:
        time.sleep(self._latency)
        return super().list(prefix)

    def put(self, key: str, data: bytes) -> None:
        time.sleep(self._latency)
        super().put(key, data)
