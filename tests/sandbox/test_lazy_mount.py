"""Lazy images mounted for real: the same files as the source, whatever dies, and nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lading.lazy import mount
from lading.lazy.chunk import chunk_compressor, seal_chunk
from lading.lazy.erofs_image import MetadataImage
from lading.lazy.images import ImageSource, LazyImage, LazyImages
from lading.lazy.manifest import ChunkTable, Manifest, encode_manifest, make_table
from lading.lazy.mount import LazyMountError
from lading.lazy.roots import FORMAT, FORMAT_KEY
from lading.lazy.settings import ReaderSettings
from lading.lazy.trace import read_trace
from lading.lazy.tree import Node, count_links, new_folder

pytestmark = pytest.mark.root
PLACE = "roots/R/chunks"
CHUNK = 512 << 10
SOON = 30.0


def seal(store: Path, path: Path, size: int) -> ChunkTable:
    compressor, records = chunk_compressor(), []
    data = path.read_bytes()
    for offset in range(0, len(data), size):
        piece = data[offset : offset + size]
        if piece.strip(b"\0"):
            sealed = seal_chunk(piece, b"salt", compressor)
            target = store / PLACE / sealed.name.hex()[:2] / sealed.name.hex()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(sealed.data)
            records.append(sealed.at(offset, len(piece)))
    return make_table(len(data), records)


class Sample:
    """An image of some files by Debian's mkfs.erofs, sealed into a store."""

    def __init__(self, folder: Path) -> None:
        self.source, self.store = folder / "source", folder / "store"
        chance = random.Random(1)
        for index in range(24):
            path = self.source / f"folder{index % 4}" / f"file{index}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(chance.randrange(1, 1_500_000)))
        (self.source / "sparse").write_bytes(bytes(3 << 20) + b"end")
        (self.source / "link").symlink_to("folder0/file0")
        metadata, data = folder / "metadata", folder / "data"
        subprocess.run(
            ["mkfs.erofs", "--chunksize=524288", f"--blobdev={data}", str(metadata), str(self.source)],
            check=True,
            capture_output=True,
        )
        self.store.mkdir()
        (self.store / FORMAT_KEY).write_bytes(FORMAT)
        self.manifest = Manifest(
            bytes(32), bytes(16), seal(self.store, metadata, 4 << 20), seal(self.store, data, CHUNK)
        )
        self.image = ImageSource(self.manifest, PLACE)

    def same(self, root: Path) -> bool:
        return subprocess.run(["diff", "-r", "--no-dereference", str(self.source), str(root)]).returncode == 0


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    if problem := mount.find_problem():
        pytest.skip(problem)
    if shutil.which("mkfs.erofs") is None:
        pytest.skip("no mkfs.erofs (Debian: erofs-utils)")
    return Sample(tmp_path_factory.mktemp("image"))


@pytest.fixture
def settings(sample: Sample, tmp_path: Path) -> ReaderSettings:
    store = tmp_path / "store"
    shutil.copytree(sample.store, store, copy_function=os.link)
    return ReaderSettings(tmp_path / "cache", str(store), patience=3.0)


@pytest.fixture
def images(settings: ReaderSettings) -> Iterator[LazyImages]:
    with LazyImages(settings) as made:
        yield made


def eventually(done: Callable[[], bool], seconds: float = SOON) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    """Running: a zombie isn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def mounts_of(folder: Path) -> list[str]:
    """Lines of this machine's mounts in an owner's folder: other tests mount at the same time."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {folder}/" in line]


def loops_of(folder: Path) -> list[Path]:
    """Loop devices over an owner's files."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            found += [path] if path.read_text().startswith(f"{folder}/") else []
    return found


def forget(image: LazyImage) -> None:
    """What the kernel keeps of an image's data below EROFS."""
    descriptor = os.open(image.path.parents[1] / "data" / str(image.number + 1), os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


class Reading:
    """A process that compares all files with the source, again and again, its pages forgotten each time."""

    SCRIPT = """
import os, sys
from pathlib import Path
source, root = Path(sys.argv[1]), Path(sys.argv[2])
files = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
print("ready", flush=True)
while True:
    for name in files:
        try:
            descriptor = os.open(root / name, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
            same = (root / name).read_bytes() == (source / name).read_bytes()
            print("same" if same else "wrong", flush=True)
        except OSError as error:
            print(f"errno {error.errno}", flush=True)
"""

    def __init__(self, source: Path, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, str(source), str(root)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.said: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        self.said.extend(line.strip() for line in self.process.stdout)

    def more(self, count: int) -> list[str]:
        """What it says next."""
        before = len(self.said)
        assert eventually(lambda: len(self.said) >= before + count), "the reader hangs"
        return self.said[before:]

    def end(self) -> None:
        self.process.kill()
        assert self.process.wait(SOON) == -signal.SIGKILL, "a reader survives SIGKILL: stuck in D state"
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_the_mounted_image_is_the_source_and_goes_away(images: LazyImages, sample: Sample):
    image = images.open(sample.image)
    assert sample.same(image.path)
    devices = {line.split()[2] for line in mounts_of(mount.owner_folder())}
    assert len(devices) >= 2, "FUSE and EROFS"
    # the kernel names EROFS's by a number of its own, which no mount tells
    backing = [path for device in devices for path in Path("/sys/class/bdi").glob(device)]
    assert [(path / "read_ahead_kb").read_text().strip() for path in backing] == [str(mount.READ_AHEAD)]
    others = Path("/sys/class/bdi").glob("erofs-*")
    assert any((path / "read_ahead_kb").read_text().strip() == str(mount.READ_AHEAD) for path in others)
    assert (image.path / "link").readlink() == Path("folder0/file0")
    with pytest.raises(OSError) as refused:
        (image.path / "new").touch()
    assert refused.value.errno == errno.EROFS
    images.close(image)
    assert not image.path.exists()
    images.shut_down()
    assert not mounts_of(mount.owner_folder())
    assert not mount.owner_folder().exists()


def test_users_share_a_mount_and_the_last_one_takes_it_away(images: LazyImages, sample: Sample):
    opened: list[LazyImage] = []
    threads = [threading.Thread(target=lambda: opened.append(images.open(sample.image))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({image.path for image in opened}) == 1
    assert len(mount.mounts_below(opened[0].path)) == 1
    for image in opened[:-1]:
        images.close(image)
    assert (opened[0].path / "sparse").read_bytes()[-3:] == b"end"
    images.close(opened[-1])
    assert not opened[0].path.exists()
    again = images.open(sample.image)
    assert sample.same(again.path)


def test_a_tree_outlives_the_close(images: LazyImages, sample: Sample):
    image = images.open(sample.image)
    tree = image.tree()
    try:
        images.close(image)
        with open(f"/proc/self/fd/{tree}/sparse", "rb") as file:
            assert file.read()[-3:] == b"end"
    finally:
        os.close(tree)


@pytest.mark.parametrize("held", [False, True])
def test_an_image_that_moved_is_read_where_it_is(
    images: LazyImages, sample: Sample, settings: ReaderSettings, held: bool
):
    """A collection moves chunks to another root; the reader knows the image from before, used or idle."""
    before = images.open(sample.image)
    if not held:
        images.close(before)
    roots = Path(settings.store) / "roots"
    shutil.copytree(roots / "R", roots / "S", copy_function=os.link)
    image = images.open(ImageSource(sample.manifest, "roots/S/chunks"))
    if held:
        images.close(before)
    shutil.rmtree(roots / "R")
    assert sample.same(image.path)
    images.close(image)
    assert not image.path.exists()


def test_loop_devices_do_where_files_cant_be_mounted(images: LazyImages, sample: Sample):
    image = images.open(sample.image)
    data = image.path.parents[1] / "data"
    target = image.path.with_name("loops")
    target.mkdir()
    owner = mount.owner_folder()
    mount._mount_loops(data / str(image.number), data / str(image.number + 1), target)
    assert sample.same(target)
    assert len(loops_of(owner)) == 2
    mount.unmount(target)
    assert eventually(lambda: not loops_of(owner))


def test_the_next_start_fetches_what_this_one_touched(settings: ReaderSettings, sample: Sample):
    with LazyImages(settings) as images:
        image = images.open(sample.image)
        (image.path / "folder1/file5").read_bytes()
        before = images.touched(image)
        images.settled(image)
        touched = {index for index, yes in enumerate(images.touched(image)) if yes}
        trace = read_trace(settings.cache / "traces" / image.digest, len(sample.manifest.data))
    # the kernel may read ahead while the trace is written, and once more after it
    assert {index for index, yes in enumerate(before) if yes} <= set(trace) <= touched
    assert trace
    assert len(trace) < len(sample.manifest.data)
    shutil.rmtree(settings.cache / "chunks")
    with LazyImages(settings) as images:
        images.open(sample.image)
        expected = len(trace) + len(sample.manifest.metadata)
        assert eventually(lambda: images.metrics()["tiers"]["store"]["hits"] >= expected)
        assert images.metrics()["reads"] == [0] * 26 or images.metrics()["tiers"]["store"]["hits"] == expected


def test_another_machine_s_first_start_fetches_what_was_touched(settings: ReaderSettings, sample: Sample):
    everything = tuple(range(len(sample.manifest.data)))
    with LazyImages(settings) as images:
        image = images.open(ImageSource(sample.manifest, PLACE, everything))
        chunks = len(everything) + len(sample.manifest.metadata)
        assert eventually(lambda: images.metrics()["tiers"]["store"]["hits"] >= chunks)
        assert images.settled(image) == list(everything)
        assert sample.same(image.path)


def test_what_any_start_reads_is_fetched_with_the_mount(settings: ReaderSettings, sample: Sample):
    blocks = CHUNK // 4096
    manifest = replace(sample.manifest, annex={"first": [[3 * blocks, 5 * blocks], [0, 1]]})
    with LazyImages(settings) as images:
        images.open(ImageSource(manifest, PLACE))
        expected = 3 + len(sample.manifest.metadata)
        assert manifest.first == [3, 4, 0]
        assert eventually(lambda: images.metrics()["tiers"]["store"]["hits"] == expected)


def test_a_file_beyond_four_gib_and_a_name_that_is_no_text(images: LazyImages, settings: ReaderSettings):
    """Of zeros but for two chunks: an extended inode, and blocks that 20 bits don't count."""
    root, size = new_folder(), (5 << 30) + 5
    root.entries[b"huge"] = Node(stat.S_IFREG | 0o644, size=size, block=0)
    root.entries[b"caf\xe9"] = Node(stat.S_IFREG | 0o600, size=3)
    count_links(root)
    blocks = -(-size // 4096)
    metadata = Path(settings.store) / "metadata"
    metadata.write_bytes(b"".join(MetadataImage(root, bytes(16), blocks).pieces(lambda node: b"one")))
    records = []
    for offset, content in ((9 << 29, b"x" * CHUNK), (5 << 30, b"end!\n")):
        sealed = seal_chunk(content, b"salt", chunk_compressor())
        target = Path(settings.store) / PLACE / sealed.name.hex()[:2] / sealed.name.hex()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(sealed.data)
        records.append(sealed.at(offset, len(content)))
    data = make_table(blocks * 4096, records)
    manifest = Manifest(bytes(32), bytes(16), seal(Path(settings.store), metadata, 4 << 20), data)
    path = images.open(ImageSource(manifest, PLACE)).path
    assert (path / "huge").stat().st_size == size
    with (path / "huge").open("rb") as opened:
        opened.seek((9 << 29) - 2)
        assert opened.read(4) == b"\0\0xx"
        opened.seek(-7, os.SEEK_END)
        assert opened.read() == b"\0\0end!\n"
    assert sorted(os.fsencode(one.name) for one in path.iterdir()) == [b"caf\xe9", b"huge"]
    assert (path / os.fsdecode(b"caf\xe9")).read_bytes() == b"one"


def test_a_worker_killed_in_the_middle_is_not_noticed(images: LazyImages, sample: Sample):
    image = images.open(sample.image)
    reading = Reading(sample.source, image.path)
    try:
        for _ in range(3):
            worker = images.start().pid
            os.kill(worker, signal.SIGKILL)
            assert set(reading.more(30)) == {"same"}
            assert eventually(lambda worker=worker: images.start().pid != worker)
    finally:
        reading.end()
    assert images.metrics()["restarts"] == 3


def test_a_worker_that_stands_still_is_replaced(images: LazyImages, sample: Sample, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lading.lazy.supervisor.SILENCE", 5.0)
    monkeypatch.setattr("lading.lazy.supervisor.PING_EVERY", 0.3)
    image = images.open(sample.image)
    worker = images.start().pid
    os.kill(worker, signal.SIGSTOP)
    reading = Reading(sample.source, image.path)
    try:
        assert set(reading.more(30)) == {"same"}
    finally:
        reading.end()
    assert not alive(worker)


def test_a_worker_that_cant_stay_alive_ends_in_errors_and_the_next_open_is_whole(
    images: LazyImages, sample: Sample, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lading.lazy.supervisor._MOST_DEATHS", 0)
    image = images.open(sample.image)
    reading = Reading(sample.source, image.path)
    try:
        os.kill(images.start().pid, signal.SIGKILL)
        assert eventually(lambda: f"errno {errno.EIO}" in reading.said)
        assert "wrong" not in reading.said
    finally:
        reading.end()
    again = images.open(sample.image)
    assert sample.same(again.path)
    assert images.settled(again) and not images.settled(image)


def test_the_end_of_a_broken_connection_closes_nobody_s_file(
    images: LazyImages, sample: Sample, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lading.lazy.supervisor._MOST_DEATHS", 0)
    images.open(sample.image)
    supervisor = images.start()
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- numbers
    os.kill(supervisor.pid, signal.SIGKILL)
    assert eventually(lambda: bool(supervisor.problem))
    assert eventually(lambda: len(set(os.listdir("/proc/self/fd"))) < len(before))  # noqa: PTH208
    ours = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]  # one of them has the number of the FUSE device
    try:
        assert sample.same(images.open(sample.image).path)
        assert {os.readlink(f"/proc/self/fd/{number}") for number in ours} == {os.devnull}  # noqa: PTH115
    finally:
        for number in ours:
            os.close(number)


def test_a_store_that_is_down_for_a_while_is_a_delay_and_then_an_error(
    images: LazyImages, sample: Sample, settings: ReaderSettings
):
    image = images.open(sample.image)
    store = Path(settings.store)
    away = store.with_name("away")
    (store / "roots/R/chunks").chmod(0o755)
    store.rename(away)
    store.write_text("a file in its place: not missing, but broken")
    try:
        began = time.monotonic()
        with pytest.raises(OSError) as failed:
            (image.path / "folder2/file6").read_bytes()
        assert failed.value.errno == errno.EIO
        assert time.monotonic() - began < settings.patience + 15
    finally:
        store.unlink()
        away.rename(store)
    assert filecmp.cmp(image.path / "folder2/file6", sample.source / "folder2/file6", shallow=False)


def test_a_store_that_goes_and_comes_back_in_the_middle_is_not_noticed(sample: Sample, settings: ReaderSettings):
    """A cache of a megabyte: the reading process needs the store all the time."""
    store = Path(settings.store)
    with LazyImages(ReaderSettings(settings.cache, settings.store, limit=1 << 20)) as images:
        image = images.open(sample.image)
        reading = Reading(sample.source, image.path)

        def failures() -> int:
            return int(images.metrics()["tiers"]["store"]["failures"])

        try:
            for turn in range(1, 3):
                assert set(reading.more(10)) == {"same"}
                store.rename(store.with_name("away"))
                store.write_text("not missing, but broken")
                try:
                    assert eventually(lambda turn=turn: forget(image) or failures() >= turn * 2)
                finally:
                    store.unlink()
                    store.with_name("away").rename(store)
            assert set(reading.more(30)) == {"same"}
        finally:
            reading.end()
        assert set(reading.said) == {"same"} and images.metrics()["errors"] == 0


def test_missing_metadata_is_said_when_it_is_opened(images: LazyImages, sample: Sample, settings: ReaderSettings):
    name = sample.manifest.metadata[0].hex
    path = Path(settings.store) / PLACE / name[:2] / name
    path.unlink()
    with pytest.raises(LazyMountError, match=name[:16]) as failed:
        images.open(sample.image)
    assert failed.value.hint
    assert not list(mount.owner_folder().glob("*/images/*"))


def test_damaged_bytes_are_an_error_and_never_read(settings: ReaderSettings, images: LazyImages, sample: Sample):
    chance = random.Random(5)
    chunks = [path for path in Path(settings.store).rglob("*") if path.is_file()]
    metadata = {record.hex for record in sample.manifest.metadata}
    for path in chance.sample([path for path in chunks if path.name not in metadata], 6):
        raw = bytearray(path.read_bytes())
        raw[chance.randrange(len(raw))] ^= 1
        path.unlink()  # a link into the sample's store
        path.write_bytes(raw)
    image = images.open(sample.image)
    outcomes = set()
    for path in (path for path in sample.source.rglob("*") if path.is_file() and not path.is_symlink()):
        try:
            outcomes.add((image.path / path.relative_to(sample.source)).read_bytes() == path.read_bytes())
        except OSError as error:
            outcomes.add(error.errno)
    assert outcomes == {True, errno.EIO}
    assert images.metrics()["tiers"]["store"]["corrupt"] >= 6


def test_a_full_cache_disk_costs_speed_and_nothing_else(tmp_path: Path, sample: Sample, settings: ReaderSettings):
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=True)
    try:
        with LazyImages(ReaderSettings(folder, settings.store)) as images:
            image = images.open(sample.image)
            assert sample.same(image.path)
            assert images.metrics()["errors"] == 0
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


OWNER = """
import sys, time
from pathlib import Path
from lading.lazy.images import ImageSource, LazyImages
from lading.lazy.manifest import decode_manifest
from lading.lazy.roots import FORMAT, FORMAT_KEY
from lading.lazy.settings import ReaderSettings
images = LazyImages(ReaderSettings(Path(sys.argv[1]), sys.argv[2]))
image = images.open(ImageSource(decode_manifest(Path(sys.argv[3]).read_bytes()), sys.argv[4]))
print(images.start().pid, image.path, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("victims", ["owner", "owner and worker", "owner, worker stopped"])
def test_nothing_is_left_of_a_killed_owner(victims: str, tmp_path: Path, sample: Sample, settings: ReaderSettings):
    manifest = tmp_path / "manifest"
    manifest.write_bytes(encode_manifest(sample.manifest))
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(settings.cache), settings.store, str(manifest), PLACE],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    number, path = owner.stdout.readline().split()
    folder = Path(path).parents[2]
    reading = Reading(sample.source, Path(path))
    try:
        reading.more(3)
        if victims == "owner, worker stopped":
            os.kill(int(number), signal.SIGSTOP)
        owner.kill()
        owner.wait()
        if victims == "owner and worker":
            os.kill(int(number), signal.SIGKILL)
        elif victims == "owner":
            assert eventually(lambda: not alive(int(number))), "a worker ends with its owner"
            assert not mounts_of(folder), "and takes the mounts with it"
    finally:
        owner.stdout.close()
        mount.sweep()
        reading.end()
    assert "wrong" not in reading.said
    assert eventually(lambda: not alive(int(number)))
    assert not mounts_of(folder)
    assert not loops_of(folder)
    assert not folder.exists()
    assert folder.name not in mount.sweep()


def test_what_the_reader_needs_of_memory(images: LazyImages, sample: Sample):
    image = images.open(sample.image)
    assert sample.same(image.path)
    status = Path(f"/proc/{images.start().pid}/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    assert peak < 150_000
