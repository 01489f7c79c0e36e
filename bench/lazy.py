"""How much do lazy images share, and how fast are they made, beside umoci's unpack of the same image?

50 functions on 5 bases of Debian packages, with wheels in a layer of their own; most differ in their code only.
BENCH_LAZY_PACKAGES (Debian packages of a base; 24: bases of 230 to 410 MB) and BENCH_LAZY_IMAGES (50) set the size; downloads
are kept between runs. A change of code costs two chunks at least: images below 100 MB can't stay under 1 % of theirs.
BENCH_LAZY_FILES (1,000,000) is how many files the image has with which memory is measured, and that is mounted and listed.
"""

from __future__ import annotations

import io
import os
import random
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness.compare import Row, Side, Table, Verdict, interleave, ratio, wall_row
from bench.harness.peers import system_command, versions
from bench.harness.process import kilobytes, watch
from bench.harness.real_images import DEBIAN, WHEELS, deb, joined, layer_of, wheels
from bench.harness.workshop import Workshop, remove
from lading.lazy import mount
from lading.lazy.convert import Conversion, Settings, convert
from lading.lazy.images import LazyImages
from lading.lazy.keys import MasterKey, read_key
from lading.lazy.objects import FolderObjects
from lading.lazy.opening import open_source
from lading.lazy.roots import ImageStore
from lading.lazy.settings import ReaderSettings
from lading.lazy.stats import measure as count
from lading.model.progress import Silent
from lading.oci.descriptor import Platform
from lading.oci.image import Image, empty
from lading.oci.layout import write_layout
from lading.oci.tar import END, FILE, header
from lading.store import Store, open_store

BASES = 5
SMALL = ("requests==2.32.5",)
"""A package as one adds them most often, with what it needs."""
LIMITS = {
    "uploads": 0.25,
    "storage": 1 / 10,
    "redeploy": 0.003,
    "speed": 100.0,
    "memory": 500.0,
    "mounted": 2.0,
    "reader": 150.0,
}


@dataclass(frozen=True)
class Parts:
    """Tars of layers, on this machine."""

    bases: Sequence[bytes]
    wheels: Sequence[bytes]


def measure(workshop: Workshop) -> Iterator[Table]:
    packages = int(os.environ.get("BENCH_LAZY_PACKAGES", "24"))
    images = int(os.environ.get("BENCH_LAZY_IMAGES", "50"))
    parts = made_parts(packages)
    store = open_store(workshop.folder / "blobs")
    lazy = ImageStore(FolderObjects(workshop.folder / "lazy"))
    settings = Settings(MasterKey(bytes(32)), "bench", store.temporary)
    yield shared(parts, images, store, lazy, settings)
    fresh = ImageStore(FolderObjects(workshop.folder / "redeployed"))
    yield redeployed(parts, store, fresh, settings)
    yield speed(parts, workshop, store)
    yield many_files(workshop, store)


def shared(parts: Parts, images: int, store: Store, lazy: ImageStore, settings: Settings) -> Table:
    """Each function comes once with its packages; every later upload of it changes its code only."""
    chance = random.Random(1)
    functions = [(number % BASES, number % len(parts.wheels)) for number in range(max(BASES, images // 5))]
    fresh, changed = [], []
    for number in range(images):
        base, wheels = functions[number % len(functions)]
        layers = [parts.bases[base], parts.wheels[wheels], code(chance, number)]
        done = convert(image_of(layers, store), lazy, settings, Silent())
        (fresh if number < len(functions) else changed).append(done.share)
    found = count(lazy, settings.key)
    many = sum(share >= 0.01 for share in changed) / max(1, len(changed))
    return Table(
        f"{images} images of {len(functions)} functions over {BASES} bases, {found.content / 1e9:.2f} GB in all",
        [Row("new chunks, first upload", fresh, "share"), Row("new chunks, code only", changed, "share")],
        [
            Verdict("share of code-only uploads with 1 % new chunks or more", many, LIMITS["uploads"]),
            Verdict("bytes stored : sum of the images", found.stored / found.content, LIMITS["storage"]),
            Verdict("different chunks : sum of the images, unpacked", found.distinct / found.content),
        ],
        ["the sum is of the images' unpacked content; what is stored is packed with zstd and sealed"],
    )


def redeployed(parts: Parts, store: Store, lazy: ImageStore, settings: Settings) -> Table:
    """One image with all bases and packages; then a changed line, a new file, a new package."""
    chance = random.Random(2)
    layers = [*parts.bases, *parts.wheels[:-1]]
    own = code(chance, 0)
    before = convert(image_of([*layers, own], store), lazy, settings, Silent())
    line = convert(image_of([*layers, own.replace(b"return 0", b"return 7")], store), lazy, settings, Silent())
    small, large = wheels(SMALL), parts.wheels[-1]
    little = convert(image_of([*layers, small, own], store), lazy, settings, Silent())
    more = convert(image_of([*layers, large, own], store), lazy, settings, Silent())
    chunks = before.data.total + before.metadata.total
    limit = LIMITS["redeploy"] if before.image_bytes > 2e9 else None  # promised of images of several GB

    def row(name: str, done: Conversion) -> Row:
        return Row(f"{name}: {done.data.unique} data, {done.metadata.unique} metadata chunks", [done.share], "share")

    return Table(
        f"a redeploy of {before.image_bytes / 1e9:.2f} GB in {chunks:,} chunks",
        [row("one line", line), row(SMALL[0], little), row(WHEELS[-1][0], more)],
        [
            Verdict("new chunks, one line", line.share, LIMITS["redeploy"]),
            Verdict(
                f"new chunks, one more package ({SMALL[0]}, {len(small) / 1e6:.1f} MB)",
                little.share,
                limit,
            ),
            Verdict(f"new chunks, one more package ({WHEELS[-1][0]}, {len(large) / 1e6:.1f} MB)", more.share),
            Verdict("bytes of new data chunks : the larger package's own", more.data.unique_bytes / len(large)),
            Verdict("manifest : image", before.manifest_bytes / before.image_bytes, 0.0005),
        ],
    )


def speed(parts: Parts, workshop: Workshop, store: Store) -> Table:
    """The command, with gzip layers as a registry has them, into an empty store."""
    image = image_of([*parts.bases[:2], *parts.wheels[:2]], store, zipped=True)
    layout, out, made = (workshop.folder / name for name in ("layout", "unpacked", "made"))
    write_layout(layout, [image], name="latest")
    content = sum(map(len, [*parts.bases[:2], *parts.wheels[:2]]))
    environment = {**workshop.environment, "LADING_LAZY_KEY": str(workshop.folder / "key")}
    ours = Side(
        "lading image convert", [[workshop.lading, "image", "convert", str(layout), "--store", str(made)]],
        workshop.folder, "store empty", environment, lambda: remove(made),
    )  # fmt: skip
    theirs = Side(
        "umoci unpack", [[system_command("umoci"), "unpack", "--rootless", "--image", f"{layout}:latest", str(out)]],
        workshop.folder, "folder empty", {}, lambda: remove(out),
    )  # fmt: skip
    costs = interleave([ours, theirs], workshop.rounds)
    mine, other = wall_row(ours, costs), wall_row(theirs, costs)
    rate = content / 1e6 / mine.median
    return Table(
        f"{content / 1e9:.2f} GB of layers, gzip",
        [mine, other],
        [ratio(mine, other), Verdict(f"100 MB/s : lading's {rate:.0f} MB/s", LIMITS["speed"] / rate, 1.0)],
        versions({"umoci": [system_command("umoci"), "--version"]}),
    )


def many_files(workshop: Workshop, store: Store) -> Table:
    """What the command needs of memory: a tree of all files, and nothing else that grows with them."""
    files = int(os.environ.get("BENCH_LAZY_FILES", "1000000"))
    tar = b"".join([header(f"opt/{n // 1000:04}/{n:07}", FILE, 0o644) for n in range(files)]) + END
    layout, made = workshop.folder / "many", workshop.folder / "made-many"
    write_layout(layout, [image_of([tar], store, zipped=True)], name="latest")
    environment = {**workshop.environment, "LADING_LAZY_KEY": str(workshop.folder / "key")}
    peak = watch([workshop.lading, "image", "convert", str(layout), "--store", str(made)], workshop.folder, environment)
    megabytes = peak.largest / 1e6
    rows = [Row("lading image convert", [megabytes], "MB")]
    verdicts = [Verdict("MB", megabytes, LIMITS["memory"] * max(0.3, files / 1e6))]
    if problem := mount.find_problem():
        return Table(f"an image of {files:,} empty files", rows, verdicts, [f"not mounted: {problem}"])
    seconds, listed, reader = mounted(workshop, made, read_key(workshop.folder / "key"))
    rows += [Row("mounted", [seconds]), Row("listed", [listed]), Row("the reader", [reader], "MB")]
    verdicts += [
        Verdict("seconds until mounted", seconds, LIMITS["mounted"] * max(0.3, files / 1e6), shown=f"{seconds:.2f} s"),
        Verdict("MB of the reader", reader, LIMITS["reader"]),
    ]
    return Table(f"an image of {files:,} empty files", rows, verdicts)


def mounted(workshop: Workshop, made: Path, master: MasterKey) -> tuple[float, float, float]:
    """Seconds until the only image of a store is mounted, and until all of it is listed then; megabytes of the reader."""
    store, key = ImageStore(FolderObjects(made)), master.account()
    [(_, digest)] = store.images(store.roots()[-1])
    with LazyImages(ReaderSettings(workshop.folder / "reader", str(made))) as images:
        images.start()
        began = time.perf_counter()
        opening = open_source(store, key, digest)
        image = images.open(opening.source)
        ready = time.perf_counter()
        for _ in os.walk(image.path):
            pass
        listed = time.perf_counter()
        reader = kilobytes(images.start().pid, "status", "VmHWM:") / 1e3
        opening.lease.release()
        return ready - began, listed - ready, reader


def made_parts(packages: int) -> Parts:
    debs = [deb(name) for name in DEBIAN[: max(packages, 2)]]
    chance = random.Random(3)
    common, rest = debs[: len(debs) // 2], debs[len(debs) // 2 :]
    bases = [joined([*common, *chance.sample(rest, max(1, len(rest) * 2 // 3))]) for _ in range(BASES)]
    return Parts(bases, [wheels(names) for names in WHEELS])


def code(chance: random.Random, number: int) -> bytes:
    """A function's own files: some modules of a few KB, of which an upload changes one or two."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for module in range(12):
            edition = number if module in (0, chance.randrange(12)) else 0
            text = f"def handler(event, context):\n    return {edition}\n" + f"# {module} {edition}\n" * 300
            member = tarfile.TarInfo(f"var/task/own/module{module:02}.py")
            member.size, member.mtime = len(text), 315532800
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def image_of(tars: Sequence[bytes], store: Store, *, zipped: bool = False) -> Image:
    return empty(Platform("linux", "amd64")).append([layer_of(store, tar, 6 if zipped else 0) for tar in tars])
