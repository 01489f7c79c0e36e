"""Accounts and lazy images: each has manifests under a key of its own, and nobody's chunks are kept or made twice."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from lazy_samples import converted, file, image_of

from lading.lazy import mount
from lading.lazy.fault import ObjectMissingError, WrongKeyError
from lading.lazy.keys import DEFAULT_ACCOUNT, AccountKey, ensure_key, read_key
from lading.lazy.manifest import open_manifest
from lading.lazy.objects import FolderObjects
from lading.lazy.opening import open_source
from lading.lazy.recorded import keep_trace
from lading.lazy.roots import ImageStore
from lading.oci.image import Image
from lading.service.lazy_roots import LazyRoots
from lading.service.pool.image_function import OwnedImage

ONE, OTHER = "111111111111", "222222222222"


def image(name: str) -> Image:
    return image_of((file(name, name.encode() * 400_000),))


class Service:
    """Its lazy roots in a folder, and what is in there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lazy"
        self.store = ImageStore(FolderObjects(self.folder / "store"))
        self.start()

    def start(self) -> None:
        self.roots = LazyRoots(self.folder, lambda folders: None)

    def key(self, account: str) -> AccountKey:
        return read_key(self.folder / "key").account(account)

    def held(self) -> set[tuple[str, str]]:
        """Accounts and digests."""
        names = {self.key(account).id: account for account in (DEFAULT_ACCOUNT, ONE, OTHER)}
        return {(names[key], digest) for root in self.store.roots() for key, digest in self.store.images(root)}

    def chunks(self) -> dict[str, int]:
        """Names, and when they were written."""
        return {path.name: path.stat().st_mtime_ns for path in (self.folder / "store").glob("roots/*/chunks/*/*")}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_the_second_account_gets_a_manifest_and_no_chunk(service: Service) -> None:
    one = image("one")
    service.roots.prepare(OwnedImage(one, ONE))
    before = service.chunks()
    first = open_source(service.store, service.key(ONE), one.digest)
    keep_trace(service.store, service.key(ONE), first.lease.root, first.source.manifest, [1, 0])
    service.roots.prepare(OwnedImage(one, OTHER))
    assert service.held() == {(ONE, one.digest), (OTHER, one.digest)}
    assert service.chunks() == before
    second = open_source(service.store, service.key(OTHER), one.digest)
    assert second.source.manifest == first.source.manifest
    assert second.source.trace == (1, 0), "and the recorded start"


def test_one_account_s_key_opens_nothing_of_another_s(service: Service) -> None:
    one = image("one")
    service.roots.prepare(OwnedImage(one, ONE))
    with pytest.raises(ObjectMissingError, match="of this account"):
        open_source(service.store, service.key(OTHER), one.digest)
    [root] = service.store.roots()
    sealed = service.store.objects.get(root.image(service.key(ONE).id, one.digest))
    with pytest.raises(WrongKeyError):
        open_manifest(sealed, service.key(OTHER))
    assert open_manifest(sealed, service.key(ONE)).digest == one.digest
    service.store.objects.put(root.image(service.key(OTHER).id, one.digest), sealed)  # moved by hand
    with pytest.raises(WrongKeyError):
        open_source(service.store, service.key(OTHER), one.digest)


def test_what_one_account_lets_go_the_other_keeps(service: Service) -> None:
    one, two = image("one"), image("two")
    for owned in (OwnedImage(one, ONE), OwnedImage(one, OTHER), OwnedImage(two, ONE)):
        service.roots.prepare(owned)
    for _ in range(2):
        service.roots.sweep([OwnedImage(one, OTHER)])
    assert service.held() == {(OTHER, one.digest)}
    opening = open_source(service.store, service.key(OTHER), one.digest)
    names = {name.hex() for name in opening.source.manifest.names()}
    assert service.chunks().keys() == names, "the other's own are gone, the common ones are there"
    opening.lease.release()
    for _ in range(2):
        service.roots.sweep([])
    assert not service.held() and not service.chunks()


def test_a_service_that_was_stopped_knows_its_accounts_again(service: Service) -> None:
    one, two = image("one"), image("two")
    for owned in (OwnedImage(one, ONE), OwnedImage(two, OTHER)):
        service.roots.prepare(owned)
    service.roots.close()
    service.start()
    service.roots.keep_only([OwnedImage(one, ONE)])
    assert service.held() == {(ONE, one.digest)}
    assert len(service.store.roots()) == 1, "nothing of the account without functions holds anything up"


def test_what_was_under_one_key_for_all_is_found(service: Service) -> None:
    """State folders of services that knew one key only."""
    one, two, old = image("one"), image("two"), service.folder / "workshop"
    old.mkdir()
    for each in (one, two):
        converted(each, service.store, old, master=ensure_key(service.folder / "key"), account=DEFAULT_ACCOUNT)
    before = service.chunks()
    service.roots.keep_only([OwnedImage(one, ONE), OwnedImage(one, DEFAULT_ACCOUNT), OwnedImage(two, OTHER)])
    assert service.held() == {(ONE, one.digest), (DEFAULT_ACCOUNT, one.digest), (OTHER, two.digest)}
    assert service.chunks() == before, "nothing is converted again"


def test_a_damaged_manifest_of_another_is_not_passed_on(service: Service) -> None:
    one = image("one")
    service.roots.prepare(OwnedImage(one, ONE))
    [root] = service.store.roots()
    place = root.image(service.key(ONE).id, one.digest)
    sealed = bytearray(service.store.objects.get(place))
    sealed[-20] ^= 1
    service.store.objects.put(place, bytes(sealed))
    service.roots.prepare(OwnedImage(one, OTHER))
    assert open_source(service.store, service.key(OTHER), one.digest).source.manifest.digest == one.digest


def test_two_accounts_at_once_make_one_set_of_chunks(service: Service) -> None:
    one = image("one")
    threads = [
        threading.Thread(target=service.roots.prepare, args=(OwnedImage(one, account),)) for account in (ONE, OTHER)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.held() == {(ONE, one.digest), (OTHER, one.digest)}
    manifests = [open_source(service.store, service.key(account), one.digest).source for account in (ONE, OTHER)]
    assert manifests[0].manifest == manifests[1].manifest
    assert len(service.chunks()) == len(set(manifests[0].manifest.names()))


@pytest.mark.root
def test_both_stand_on_one_mount(service: Service) -> None:
    if os.geteuid() != 0 or mount.find_problem():
        pytest.skip(mount.find_problem() or "mounting needs root")
    one = image("one")
    leases = [service.roots.open(OwnedImage(one, account)) for account in (ONE, OTHER)]
    try:
        assert leases[0].folders == leases[1].folders
        [folder] = leases[0].folders
        leases[0].release()
        assert (folder / "one").read_bytes() == b"one" * 400_000
    finally:
        leases[1].release()
        service.roots.close()
    assert not folder.exists()
