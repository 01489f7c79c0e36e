"""Images of functions that are gone: forgotten and freed while the service runs, never one that is made ready beside it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from lazy_samples import file, image_of

from lading.lazy.keys import DEFAULT_ACCOUNT, read_key
from lading.lazy.objects import FolderObjects
from lading.lazy.opening import open_source
from lading.lazy.roots import ImageStore
from lading.service.lazy_roots import LazyRoots
from lading.service.pool.image_function import OwnedImage


def image(name: str) -> OwnedImage:
    return OwnedImage(image_of((file(name, name.encode() * 400_000),)), DEFAULT_ACCOUNT)


@pytest.fixture
def roots(tmp_path: Path) -> LazyRoots:
    return LazyRoots(tmp_path / "lazy", lambda folders: None)


def store(tmp_path: Path) -> ImageStore:
    return ImageStore(FolderObjects(tmp_path / "lazy" / "store"))


def known(tmp_path: Path) -> set[str]:
    return {digest for root in store(tmp_path).roots() for _, digest in store(tmp_path).images(root)}


def chunks(tmp_path: Path) -> int:
    return sum(1 for _ in (tmp_path / "lazy" / "store").glob("roots/*/chunks/*/*"))


def test_two_looks_free_what_nobody_has(roots: LazyRoots, tmp_path: Path) -> None:
    one, other = image("one"), image("other")
    roots.prepare(one)
    alone = chunks(tmp_path)
    roots.prepare(other)
    roots.sweep([one])
    assert known(tmp_path) == {one.image.digest, other.image.digest}
    roots.sweep([one])
    assert known(tmp_path) == {one.image.digest}
    assert chunks(tmp_path) == alone
    roots.close()


def test_what_came_back_between_two_looks_stays(roots: LazyRoots, tmp_path: Path) -> None:
    one = image("one")
    roots.prepare(one)
    roots.sweep([])
    roots.sweep([one])
    roots.sweep([])
    assert known(tmp_path) == {one.image.digest}
    roots.close()


def test_what_is_being_read_stays_until_its_reader_is_gone(roots: LazyRoots, tmp_path: Path) -> None:
    one, other = image("one"), image("other")
    for each in (one, other):
        roots.prepare(each)
    key = read_key(tmp_path / "lazy" / "key").account(DEFAULT_ACCOUNT)
    opening = open_source(store(tmp_path), key, one.image.digest)
    opening.confirm()
    for _ in range(3):
        roots.sweep([other])
    record = opening.source.manifest.data[0]
    assert store(tmp_path).objects.get(f"{opening.source.place}/{record.hex[:2]}/{record.hex}")
    opening.lease.release()
    roots.sweep([other])
    assert known(tmp_path) == {other.image.digest}
    assert len(store(tmp_path).roots()) == 1
    roots.close()


def test_conversions_beside_looks_lose_nothing(roots: LazyRoots, tmp_path: Path) -> None:
    images = [image(f"image{number}") for number in range(6)]
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            roots.sweep(images)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for each in images:
            roots.prepare(each)
    finally:
        over.set()
        looking.join()
    assert known(tmp_path) == {each.image.digest for each in images}
    roots.close()
