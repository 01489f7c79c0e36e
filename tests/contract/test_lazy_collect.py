"""Garbage collection never takes what somebody needs: converters, collectors and removals interleaved at every request.

The model steps real code: each of its requests to the store waits until the model lets it go on.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from lazy_samples import ACCOUNT, KEY, MASTER, MemoryObjects

from lading.lazy.accounts import give
from lading.lazy.chunk import ChunkRecord, chunk_compressor, decode_chunk, seal_chunk
from lading.lazy.collect import Collector
from lading.lazy.fault import ObjectMissingError
from lading.lazy.manifest import Manifest, make_table, open_manifest, seal_manifest
from lading.lazy.roots import READER_SECONDS, WRITER_SECONDS, ImageStore, Lease, LeaseLostError, Root

GRACE = 1000.0
START = 1_800_000_000.0


class ManualClock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class GatedObjects:
    """`Objects` whose every request waits for `step`; each thread that uses it has a gate of its own."""

    def __init__(self, inner: MemoryObjects) -> None:
        self._inner = inner
        self._own = threading.local()

    def enter(self, gate: Gate) -> None:
        self._own.gate = gate

    def _pass(self) -> None:
        gate = getattr(self._own, "gate", None)
        if gate is not None:
            gate.wait()

    def put(self, key: str, data: bytes) -> None:
        self._pass()
        self._inner.put(key, data)

    def get(self, key: str) -> bytes:
        self._pass()
        return self._inner.get(key)

    def size(self, key: str) -> int | None:
        self._pass()
        return self._inner.size(key)

    def list(self, prefix: str) -> Iterator[str]:
        self._pass()
        return iter(list(self._inner.list(prefix)))

    def delete(self, key: str) -> None:
        self._pass()
        self._inner.delete(key)

    def copy(self, source: str, target: str) -> None:
        self._pass()
        self._inner.copy(source, target)

    def flush(self) -> None:
        return None


class Gate:
    """Lets a thread do one request at a time."""

    def __init__(self) -> None:
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.done = False
        self.abandoned = False

    def wait(self) -> None:
        self._stopped.release()
        self._go.acquire()
        if self.abandoned:
            raise KeyboardInterrupt  # as if the process were killed here

    def started(self) -> None:
        self._stopped.acquire()

    def step(self) -> None:
        self._go.release()
        self._stopped.acquire()

    def finish(self) -> None:
        self.done = True
        self._stopped.release()


class Task:
    """Something that works with the store, one request at a time."""

    def __init__(self, objects: GatedObjects, work: Callable[[], None]) -> None:
        self.gate = Gate()
        self.error: BaseException | None = None

        def run() -> None:
            objects.enter(self.gate)
            try:
                work()
            except BaseException as error:
                self.error = error
            finally:
                self.gate.finish()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self.gate.started()

    def steps(self, count: int) -> None:
        for _ in range(count):
            if self.gate.done:
                break
            self.gate.step()

    def kill(self) -> None:
        self.gate.abandoned = True
        self.steps(50)
        self._thread.join(10)
        assert not self._thread.is_alive()


OTHER_ACCOUNT = "210987654321"
OTHER = MASTER.account(OTHER_ACCOUNT)
ACCOUNTS = [ACCOUNT, OTHER_ACCOUNT]
CONTENTS = [bytes([65 + number]) * 3000 for number in range(6)]


def digest_of(image: int) -> str:
    return f"sha256:{image:064x}"


def upload(store: ImageStore, image: int) -> Manifest:
    """What the converter does, on contents of a few bytes."""
    with store.writing() as lease:
        salt, records = MASTER.salt(lease.root.salt_id), []
        for place, number in enumerate((image % 6, (image * 5 + 1) % 6, 5)):
            sealed = seal_chunk(CONTENTS[number], salt, chunk_compressor())
            key = lease.root.chunk(sealed.name)
            if store.objects.size(key) != len(sealed.data):
                store.objects.put(key, sealed.data)
            lease.keep()
            records.append(sealed.at(place * 4096, len(CONTENTS[number])))
        data = make_table(3 * 4096, records)
        manifest = Manifest(bytes.fromhex(digest_of(image)[7:]), lease.root.salt_id, make_table(0, []), data)
        store.publish(lease, KEY.id, digest_of(image), seal_manifest(manifest, KEY))
    return manifest


class Store(RuleBasedStateMachine):
    """Images live from their publication until somebody removes them; every one must be readable at every moment."""

    tasks = Bundle("tasks")
    mounts = Bundle("mounts")

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.clock = MemoryObjects(), ManualClock()
        self.gated = GatedObjects(self.memory)
        self.store = ImageStore(self.gated, self.clock)
        self.uploaded: set[int] = set()
        self.given: set[int] = set()
        """To the other account."""
        self.removed: set[int] = set()
        self.running: list[Task] = []
        self.readers: list[tuple[Lease, Root, Manifest]] = []

    def _start(self, work: Callable[[], None]) -> Task:
        task = Task(self.gated, work)
        self.running.append(task)
        return task

    @rule(target=tasks, image=st.integers(0, 3), steps=st.integers(0, 12))
    def begin_upload(self, image: int, steps: int) -> Task:
        self.removed.discard(image)

        def work() -> None:
            upload(self.store, image)
            self.uploaded.add(image)

        task = self._start(work)
        task.steps(steps)
        return task

    @rule(target=tasks, image=st.integers(0, 3), steps=st.integers(0, 12))
    def begin_giving(self, image: int, steps: int) -> Task:
        """The other account gets the image as well, whatever becomes of the first one's."""

        def work() -> None:
            if give(self.store, digest_of(image), [KEY], OTHER):
                self.given.add(image)

        task = self._start(work)
        task.steps(steps)
        return task

    @rule(target=tasks, new_salt=st.booleans())
    def begin_collection(self, new_salt: bool) -> Task:
        collector = Collector(self.store, MASTER, ACCOUNTS, grace=GRACE, clock=self.clock)
        return self._start(lambda: collector.collect(new_salt=new_salt) and None)

    @rule(new_salt=st.booleans(), wait=st.sampled_from([0.0, GRACE + 1]))
    def collect_at_once(self, new_salt: bool, wait: float) -> None:
        """All of a collection between two requests of the others, and what the next one does after a pause."""
        collector = Collector(ImageStore(self.memory, self.clock), MASTER, ACCOUNTS, grace=GRACE, clock=self.clock)
        collector.collect(new_salt=new_salt)
        self.time_goes_by(wait)
        collector.collect()

    @rule(image=st.integers(0, 3))
    def remove_when_quiet(self, image: int) -> None:
        """A removal beside a conversion of the same image may end either way, so it's tried without one."""
        if all(task.gate.done for task in self.running):
            self.store.remove(KEY.id, digest_of(image))
            self.uploaded.discard(image)

    @rule(image=st.integers(0, 3))
    def take_back_when_quiet(self, image: int) -> None:
        """The same of the other account's, whose chunks may be the first one's still."""
        if all(task.gate.done for task in self.running):
            self.store.remove(OTHER.id, digest_of(image))
            self.given.discard(image)

    @rule(task=tasks, count=st.integers(1, 9))
    def go_on(self, task: Task, count: int) -> None:
        task.steps(count)

    @rule(task=tasks)
    def end(self, task: Task) -> None:
        task.steps(10_000)
        assert task.gate.done
        assert task.error is None or isinstance(task.error, LeaseLostError | ObjectMissingError), task.error

    @rule(task=consumes(tasks))
    def kill(self, task: Task) -> None:
        task.kill()

    @rule(seconds=st.sampled_from([1.0, WRITER_SECONDS / 2, WRITER_SECONDS * 2, GRACE + 1, READER_SECONDS]))
    def time_goes_by(self, seconds: float) -> None:
        """Readers renew their leases meanwhile, as a running one does; converters may be too slow."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + READER_SECONDS / 4)
            for lease, _, _ in self.readers:
                lease.keep()

    @rule(target=mounts, image=st.integers(0, 3))
    def mount(self, image: int):
        try:
            root, sealed = self.store.find(KEY.id, digest_of(image))
            reader = (self.store.reading(root), root, open_manifest(sealed, KEY))
        except ObjectMissingError:
            return multiple()
        self.readers.append(reader)
        return reader

    @rule(reader=consumes(mounts))
    def unmount(self, reader: tuple[Lease, Root, Manifest]) -> None:
        reader[0].release()
        self.readers.remove(reader)

    @invariant()
    def every_image_is_whole(self) -> None:
        store = ImageStore(self.memory, self.clock)
        for key, images in ((KEY, self.uploaded), (OTHER, self.given)):
            for image in images:
                root, sealed = store.find(key.id, digest_of(image))
                self._read(root, open_manifest(sealed, key))

    @invariant()
    def every_mount_reads_on(self) -> None:
        for _, root, manifest in self.readers:
            self._read(root, manifest)

    def _read(self, root: Root, manifest: Manifest) -> None:
        for record in manifest.data:
            decode_chunk(record, self.memory.objects[root.chunk(record.name)])

    def teardown(self) -> None:
        for task in self.running:
            task.kill()


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class Scene:
    """A store with two images; a third is about to be brought, or one mounted, while the root is collected."""

    def __init__(self) -> None:
        self.memory, self.clock = MemoryObjects(), ManualClock()
        self.gated = GatedObjects(self.memory)
        self.store = ImageStore(self.gated, self.clock)
        upload(self.store, 0)
        upload(self.store, 2)

    def upload(self) -> Task:
        return Task(self.gated, lambda: upload(self.store, 1) and None)

    def mount(self, found: list[tuple[Root, Manifest]]) -> Task:
        def work() -> None:
            root, sealed = self.store.find(KEY.id, digest_of(0))
            self.store.reading(root)
            found.append((root, open_manifest(sealed, KEY)))

        return Task(self.gated, work)

    def collect(self) -> Task:
        """With a new salt, then what is due. Its grace is nothing: no cut is hidden by a pause."""
        collector = Collector(self.store, MASTER, [ACCOUNT], grace=0.0, clock=self.clock)

        def work() -> None:
            collector.collect(new_salt=True)
            collector.collect()

        return Task(self.gated, work)

    def is_whole(self, image: int) -> bool:
        root, sealed = ImageStore(self.memory, self.clock).find(KEY.id, digest_of(image))
        return all(
            decode_chunk(record, self.memory.objects[root.chunk(record.name)])
            for record in open_manifest(sealed, KEY).data
        )


def length(task: Task) -> int:
    """Requests until its end."""
    count = 0
    while not task.gate.done:
        task.steps(1)
        count += 1
    return count


def test_every_cut_of_an_upload_and_a_collection() -> None:
    """Part of the one, part of the other, then the rest of both, whichever ends first."""
    uploading, collecting = length(Scene().upload()), length(Scene().collect())
    assert uploading > 10
    assert collecting > 40
    for first in range(uploading + 1):
        for second in range(0, collecting + 1, 1 if first < 10 else 3):
            scene = Scene()
            upload_task = scene.upload()
            upload_task.steps(first)
            collect_task = scene.collect()
            collect_task.steps(second)
            for task in (upload_task, collect_task) if (first + second) % 2 else (collect_task, upload_task):
                task.steps(1000)
                assert task.error is None, (first, second, task.error)
            assert all(scene.is_whole(image) for image in (0, 1, 2)), (first, second)


def test_every_cut_of_a_mount_and_a_collection() -> None:
    mounting, collecting = length(Scene().mount([])), length(Scene().collect())
    for first in range(mounting + 1):
        for second in range(0, collecting + 1, 2):
            scene, found = Scene(), []
            mount_task = scene.mount(found)
            mount_task.steps(first)
            collect_task = scene.collect()
            collect_task.steps(second)
            for task in (mount_task, collect_task) if (first + second) % 2 else (collect_task, mount_task):
                task.steps(1000)
            assert collect_task.error is None, (first, second)
            assert mount_task.error is None or isinstance(mount_task.error, ObjectMissingError), (first, second)
            for root, manifest in found:
                for record in manifest.data:
                    decode_chunk(record, scene.memory.objects[root.chunk(record.name)])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def make(clock: ManualClock) -> tuple[MemoryObjects, ImageStore, Collector]:
    memory = MemoryObjects()
    store = ImageStore(memory, clock)
    return memory, store, Collector(store, MASTER, [ACCOUNT], grace=GRACE, clock=clock)


def chunks(memory: MemoryObjects) -> int:
    return sum("/chunks/" in key for key in memory.objects)


def collect_all(collector: Collector, clock: ManualClock) -> int:
    """Rounds with the grace between them, until nothing waits; objects deleted."""
    deleted = 0
    for _ in range(4):
        deleted += collector.collect().deleted
        clock.now += GRACE + 1
    return deleted


def test_garbage_goes_and_only_garbage(clock: ManualClock) -> None:
    memory, store, collector = make(clock)
    upload(store, 0)
    upload(store, 2)
    before = chunks(memory)
    assert collector.collect().made == ""
    store.remove(KEY.id, digest_of(0))
    assert collect_all(collector, clock) > 0
    left, sealed = store.find(KEY.id, digest_of(2))
    manifest = open_manifest(sealed, KEY)
    assert chunks(memory) == len(manifest.names()) < before
    assert [root.id for root in store.roots()] == [left.id]


def test_a_new_salt_changes_every_name_and_no_content(clock: ManualClock) -> None:
    memory, store, collector = make(clock)
    old = upload(store, 3)
    assert collector.collect(new_salt=True).images == 1
    root, sealed = store.find(KEY.id, digest_of(3))
    new = open_manifest(sealed, KEY)
    assert not old.names() & new.names()
    for one, other in zip(old.data, new.data, strict=True):
        assert (one.offset, one.length) == (other.offset, other.length)
        decode_chunk(other, memory.objects[root.chunk(other.name)])
    clock.now += GRACE + 1
    assert collector.collect().removed
    assert chunks(memory) == len(new.names())


def test_a_converter_at_work_is_waited_for(clock: ManualClock) -> None:
    _, store, collector = make(clock)
    upload(store, 0)
    with store.writing():
        done = collector.collect(new_salt=True)
        assert not done.expired
        assert "being written to" in done.waiting[0]
    assert collector.collect().expired


def test_a_killed_converter_is_not_waited_for_for_ever(clock: ManualClock) -> None:
    _, store, collector = make(clock)
    upload(store, 0)
    context = store.writing()
    context.__enter__()
    collector.collect(new_salt=True)
    clock.now += WRITER_SECONDS + 301
    assert collector.collect().expired


def test_a_mounted_image_is_kept(clock: ManualClock) -> None:
    _, store, collector = make(clock)
    upload(store, 0)
    root, _ = store.find(KEY.id, digest_of(0))
    lease = store.reading(root)
    collector.collect(new_salt=True)
    clock.now += GRACE + 1
    done = collector.collect()
    assert "still being read" in done.waiting[0]
    lease.release()
    assert collector.collect().removed == (root.id,)


def test_nobody_reads_from_an_expired_root(clock: ManualClock) -> None:
    _, store, collector = make(clock)
    upload(store, 0)
    root, _ = store.find(KEY.id, digest_of(0))
    collector.collect(new_salt=True)
    with pytest.raises(ObjectMissingError, match="expired"):
        store.reading(root)


def test_images_of_unknown_accounts_are_left_alone(clock: ManualClock) -> None:
    _, store, _ = make(clock)
    upload(store, 0)
    stranger = Collector(store, MASTER, ["999999999999"], grace=GRACE, clock=clock)
    done = stranger.collect(new_salt=True)
    assert not done.expired
    assert "unknown account key" in done.waiting[0]


def test_a_damaged_image_keeps_its_root(clock: ManualClock) -> None:
    memory, store, collector = make(clock)
    upload(store, 0)
    victim = next(key for key in memory.objects if "/chunks/" in key)
    del memory.objects[victim]
    done = collector.collect(new_salt=True)
    assert not done.expired
    assert "incomplete" in done.waiting[0]


def test_a_writer_held_up_until_all_roots_it_saw_are_gone_takes_the_one_there_is(clock: ManualClock) -> None:
    class Held(MemoryObjects):
        """Whoever lists the roots for the second time reads them a few collections later."""

        listed = 0

        def list(self, prefix: str) -> Iterator[str]:
            found = list(super().list(prefix))
            if prefix == "index/":
                self.listed += 1
                if self.listed == 2:
                    collector = Collector(ImageStore(self, clock), MASTER, ACCOUNTS, grace=GRACE, clock=clock)
                    clock.now += WRITER_SECONDS * 2
                    for _ in range(3):
                        collector.collect(new_salt=True)
                        clock.now += GRACE + 1
            return iter(found)

    objects = Held()
    store = ImageStore(objects, clock)
    first = ImageStore(objects, clock).new_root()
    objects.listed = 0
    with store.writing() as lease:
        assert lease.root.id == store.roots()[-1].id != first.id


def test_a_lease_that_lapsed_does_not_publish(clock: ManualClock) -> None:
    _, store, _ = make(clock)
    with store.writing() as lease:
        clock.now += WRITER_SECONDS + 1
        with pytest.raises(LeaseLostError, match="held up"):
            store.publish(lease, KEY.id, digest_of(0), b"x")


def test_roots_rise_even_when_clocks_fall(clock: ManualClock) -> None:
    _, store, _ = make(clock)
    first = store.new_root()
    clock.now -= 10_000
    second = store.new_root()
    assert second.id > first.id
    assert [root.id for root in store.roots()] == [first.id, second.id]


def test_no_image_store(tmp_path: Path) -> None:
    memory = MemoryObjects()
    memory.put("format", b"something else\n")
    memory.put("index/20260101T000000Z-00000000.root", b"00" * 16)
    with pytest.raises(Exception, match="format"):
        ImageStore(memory).roots()


def test_records_are_what_they_say() -> None:
    sealed = seal_chunk(CONTENTS[0], MASTER.salt(b"x" * 16), chunk_compressor())
    record: ChunkRecord = sealed.at(0, 3000)
    assert record.stored == len(sealed.data)
