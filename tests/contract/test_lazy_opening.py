"""From a digest to a mount: few turns to a store that is far, a lease that counts, and the trace that other machines recorded."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from lazy_samples import ACCOUNT, KEY, MASTER, MemoryObjects, converted, file, image_of

from lading.lazy.collect import Collector
from lading.lazy.fault import ManifestError, ObjectMissingError, WrongKeyError
from lading.lazy.manifest import identify, open_manifest, seal_manifest
from lading.lazy.opening import open_source, publish_trace
from lading.lazy.recorded import keep_trace
from lading.lazy.roots import ImageStore, Lease, Root, StoreFormatError
from lading.lazy.sealed_trace import TraceError, open_trace, seal_trace
from lading.oci.image import Image

IMAGE = image_of((file("a", b"a" * 5000), file("b", bytes(range(256)) * 8000)))
NOISE = random.Random(1).randbytes(1_500_000)
SOON = 60.0


class FarObjects(MemoryObjects):
    """Answers none of so many requests before all have been made; counts what comes one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = 0
        self.turns = 0
        self._listing = False
        self._barrier = threading.Barrier(1)

    def expect(self, at_once: int, *, listing: bool = False) -> None:
        """listing: the first one is among them."""
        self.at_once, self.turns, self._barrier = at_once, 0, threading.Barrier(max(1, at_once))
        self._listing = listing

    def list(self, prefix: str) -> Iterator[str]:
        if self._listing:
            self._listing = False
            self._wait()
        return super().list(prefix)

    def get(self, key: str) -> bytes:
        self._wait()
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        self._wait()
        super().put(key, data)

    def _wait(self) -> None:
        if self.at_once and self._barrier.wait(SOON) == 0:
            self.turns += 1


def store_with_image(tmp_path: Path, objects: MemoryObjects | None = None) -> ImageStore:
    store = ImageStore(objects or MemoryObjects())
    converted(IMAGE, store, tmp_path)
    return store


def test_what_depends_on_nothing_is_asked_for_at_once(tmp_path: Path) -> None:
    objects = FarObjects()
    store = store_with_image(tmp_path, objects)
    objects.expect(4)
    opening = open_source(store, KEY, IMAGE.digest)
    assert objects.turns == 1, "format, manifest, trace and lease"
    objects.expect(0)
    opening.confirm()
    assert store.leases(store.roots()[-1], "reader")
    opening.lease.release()
    assert not store.leases(store.roots()[-1], "reader")


def test_a_store_that_is_known_is_asked_for_the_image_while_its_roots_are_listed(tmp_path: Path) -> None:
    objects = FarObjects()
    store = store_with_image(tmp_path, objects)
    open_source(store, KEY, IMAGE.digest).lease.release()
    objects.expect(5, listing=True)
    opening = open_source(store, KEY, IMAGE.digest)
    assert objects.turns == 1, "roots, format, manifest, trace and lease"
    objects.expect(0)
    opening.confirm()
    opening.lease.release()


def test_a_known_root_that_has_expired_is_not_used_and_no_lease_is_left_in_it(tmp_path: Path) -> None:
    store = store_with_image(tmp_path)
    [old] = store.roots()
    open_source(store, KEY, IMAGE.digest).lease.release()
    Collector(ImageStore(store.objects), MASTER, [ACCOUNT], grace=3600.0).collect(new_salt=True)
    opening = open_source(store, KEY, IMAGE.digest)
    opening.confirm()
    assert opening.lease.root.id != old.id
    assert not store.leases(old)
    opening.lease.release()


def test_a_root_that_expired_before_the_lease_was_there_is_not_used(tmp_path: Path) -> None:
    store = store_with_image(tmp_path)
    [root] = store.roots()

    class Collected(ImageStore):
        """Its root expires the moment before the lease is written."""

        def announce(self, root: Root) -> Lease:
            self.objects.put(root.end, b"1\n")
            return super().announce(root)

    opening = open_source(Collected(store.objects), KEY, IMAGE.digest)
    with pytest.raises(ObjectMissingError, match=f"root {root.id} has expired"):
        opening.confirm()
    opening.lease.release()
    with pytest.raises(ObjectMissingError, match="has no image"):
        open_source(store, KEY, IMAGE.digest)


def test_an_image_of_an_older_root_is_found_and_no_lease_is_left_elsewhere(tmp_path: Path) -> None:
    store = store_with_image(tmp_path)
    [old] = store.roots()
    new = store.new_root()
    opening = open_source(store, KEY, IMAGE.digest)
    opening.confirm()
    assert opening.lease.root.id == old.id
    assert not store.leases(new)
    opening.lease.release()


def test_what_is_no_store_or_not_ours_is_said(tmp_path: Path) -> None:
    store = store_with_image(tmp_path)
    with pytest.raises(ObjectMissingError, match="of this account"):
        open_source(store, MASTER.account("another"), IMAGE.digest)
    store.objects.put("format", b"something else\n")
    with pytest.raises(StoreFormatError, match="something else"):
        open_source(store, KEY, IMAGE.digest)
    assert not [key for key in store.objects.list("roots/") if "/leases/" in key], "a lease was left behind"


def test_a_recorded_start_reaches_the_next_machine(tmp_path: Path) -> None:
    store = store_with_image(tmp_path)
    first = open_source(store, KEY, IMAGE.digest)
    assert first.source.trace == ()
    assert publish_trace(store, KEY, first, [2, 0])
    second = open_source(store, KEY, IMAGE.digest)
    assert second.source.trace == (2, 0)
    assert not publish_trace(store, KEY, second, [0, 2]), "nothing new"
    assert publish_trace(store, KEY, second, [2, 0, 1])


def test_a_new_version_starts_as_the_one_before_it_did(tmp_path: Path) -> None:
    def version(text: bytes) -> Image:
        return image_of((file("a", text * 5000), file("b", NOISE), file("c", bytes(range(255)) * 8000)))

    store = ImageStore(MemoryObjects())
    old, new = version(b"old"), version(b"newer")
    converted(old, store, tmp_path)
    opening = open_source(store, KEY, old.digest)
    names = [record.name for record in opening.source.manifest.data]
    assert publish_trace(store, KEY, opening, [5, 0, 3])
    assert converted(image_of((file("x", NOISE[::-1]),)), store, tmp_path).inherited == 0, "an image of another kind"
    assert converted(new, store, tmp_path, account="another").inherited == 0, "starts are an account's"
    assert converted(new, store, tmp_path, again=True).inherited == 2, "all but the chunk that changed"
    source = open_source(store, KEY, new.digest).source
    assert [source.manifest.data[index].name for index in source.trace] == [names[5], names[3]]
    assert converted(new, store, tmp_path, again=True).inherited == 0, "it has a start of its own now"


def test_a_start_that_cant_be_read_is_passed_on_to_nobody(tmp_path: Path) -> None:
    store = store_with_image(tmp_path)
    [root] = store.roots()
    store.objects.put(root.trace(KEY.id, IMAGE.digest), b"damaged")
    store.objects.put(root.trace(KEY.id, f"sha256:{'0' * 64}"), b"of nothing")
    like = image_of((file("a", b"a" * 5000), file("b", bytes(range(256)) * 8000), file("new", b"new")))
    assert converted(like, store, tmp_path).inherited == 0
    assert open_source(store, KEY, like.digest).source.trace == ()


@pytest.mark.parametrize("damage", ["cut", "flipped", "of another account", "of another image", "a manifest"])
def test_a_trace_that_is_not_this_image_s_is_not_used(tmp_path: Path, damage: str) -> None:
    store = store_with_image(tmp_path)
    [root] = store.roots()
    manifest = open_manifest(store.objects.get(root.image(KEY.id, IMAGE.digest)), KEY)
    keep_trace(store, KEY, root, manifest, [1])
    key = root.trace(KEY.id, IMAGE.digest)
    good = store.objects.get(key)
    bad = {
        "cut": good[:-1],
        "flipped": good[:40] + bytes([good[40] ^ 1]) + good[41:],
        "of another account": seal_trace([1], len(manifest.data), identify(manifest), MASTER.account("another")),
        "of another image": seal_trace([1], len(manifest.data), "0" * 64, KEY),
        "a manifest": seal_manifest(manifest, KEY),
    }[damage]
    with pytest.raises((TraceError, WrongKeyError)):
        open_trace(bad, len(manifest.data), identify(manifest), KEY)
    store.objects.put(key, bad)
    assert open_source(store, KEY, IMAGE.digest).source.trace == ()


def test_a_trace_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not begin like one"):
        open_manifest(seal_trace([1], 2, "0" * 64, KEY), KEY)


def test_numbers_out_of_the_image_are_no_trace() -> None:
    with pytest.raises(TraceError, match="no order"):
        open_trace(seal_trace([5], 2, "0" * 64, KEY), 2, "0" * 64, KEY)
