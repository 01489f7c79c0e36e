"""One suite for whatever keeps lazy images: a dictionary, a folder, a bucket of the local service's own S3."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from lazy_samples import MemoryObjects

from lading.errors import UsageError
from lading.lazy.fault import ObjectMissingError, ObjectStoreError
from lading.lazy.objects import BucketObjects, FolderObjects, Objects, default_store, open_objects
from lading.testing import running

KEY = "roots/20260101T000000Z-00000000/chunks/ab/abcd"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running() as service:
        yield service.url


@pytest.fixture(params=["memory", "folder", "bucket", "prefixed bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    if request.param == "memory":
        return MemoryObjects()
    if request.param == "folder":
        return FolderObjects(tmp_path / "not" / "there" / "yet")
    url = request.getfixturevalue("endpoint")
    return bucket(url, tmp_path.name.replace("_", "-")[:60], monkeypatch, "a/b" if "prefixed" in request.param else "")


def bucket(url: str, name: str, monkeypatch: pytest.MonkeyPatch, prefix: str = "") -> BucketObjects:
    import boto3

    for variable, value in {
        "ACCESS_KEY_ID": "test",
        "SECRET_ACCESS_KEY": "test",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{variable}", value)
    name = f"b{name.strip('-')}".lower().rstrip("-.")
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket=name)
    found = open_objects(f"s3://{name}/{prefix}?endpoint={url}")
    assert isinstance(found, BucketObjects)
    return found


def test_what_is_put_is_there(objects: Objects) -> None:
    assert objects.size(KEY) is None
    objects.put(KEY, b"\0content\xff")
    assert objects.get(KEY) == b"\0content\xff"
    assert objects.size(KEY) == 9
    objects.put(KEY, b"other")
    assert objects.get(KEY) == b"other"
    objects.flush()


def test_what_is_missing_is_named(objects: Objects) -> None:
    with pytest.raises(ObjectMissingError, match=r"abcd|no "):
        objects.get(KEY)
    with pytest.raises(ObjectMissingError):
        objects.copy(KEY, f"{KEY}2")
    objects.delete(KEY)


def test_lists_by_prefix(objects: Objects) -> None:
    assert list(objects.list("")) == []
    for key in ("a/b/1", "a/b/2", "a/bc", "b/x", "format"):
        objects.put(key, b"x")
    assert sorted(objects.list("a/b")) == ["a/b/1", "a/b/2", "a/bc"]
    assert sorted(objects.list("a/b/")) == ["a/b/1", "a/b/2"]
    assert sorted(objects.list("")) == ["a/b/1", "a/b/2", "a/bc", "b/x", "format"]
    assert list(objects.list("none/")) == []


def test_lists_more_than_a_page(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lading.aws.objects.PAGE", 10)
    for number in range(35):
        objects.put(f"many/{number}", b"")
    assert sorted(objects.list("many/")) == sorted(f"many/{number}" for number in range(35))


def test_copies_and_deletes_apart(objects: Objects) -> None:
    objects.put("a/x", b"one")
    objects.copy("a/x", "b/y")
    objects.delete("a/x")
    assert objects.get("b/y") == b"one"
    assert objects.size("a/x") is None
    objects.put("b/y", b"two")
    objects.put("a/x", b"back")
    assert sorted(objects.list("")) == ["a/x", "b/y"]


def test_a_copy_does_not_change_with_its_source(objects: Objects) -> None:
    objects.put("a/x", b"one")
    objects.copy("a/x", "b/y")
    objects.put("a/x", b"changed")
    assert objects.get("b/y") == b"one"


def test_many_at_once(objects: Objects) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                objects.put(f"same/{turn}", b"same" * 1000)
                objects.put(f"own/{number}/{turn}", bytes([number]))
                assert objects.get(f"same/{turn}") == b"same" * 1000
                objects.delete(f"own/{number}/{turn}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(objects.list("")) == sorted(f"same/{turn}" for turn in range(10))


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a//b", "a/../b", "temporary/x", ".hidden", "a/\0", ""])
def test_no_key_leads_out_of_a_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ObjectStoreError, match="not a key"):
        FolderObjects(tmp_path / "store").put(key, b"x")
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    store = FolderObjects(tmp_path)
    (tmp_path / "a").write_text("a file where a folder must be")
    with pytest.raises(ObjectStoreError, match="can't write a/b"):
        store.put("a/b", b"x")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_bucket_that_is_not_there(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = bucket(endpoint, "there", monkeypatch)
    store._bucket.name = "never-made"
    with pytest.raises(ObjectStoreError, match="never-made"):
        store.put("a", b"x")
    with pytest.raises(ObjectStoreError, match="never-made"):
        list(store.list(""))


def test_an_endpoint_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lading.aws.objects.TRIES", 1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    store = open_objects("s3://bucket?endpoint=http://127.0.0.1:9")
    with pytest.raises(ObjectStoreError, match="bucket"):
        store.get("a")


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(open_objects(str(tmp_path))) == str(tmp_path)
    for wrong in ("s3://", "s3://bucket?region=x"):
        with pytest.raises(UsageError, match="not the address"):
            open_objects(wrong)
    monkeypatch.delenv("LADING_LAZY_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_store() == str(tmp_path / "lading" / "images")
    monkeypatch.setenv("LADING_LAZY_STORE", "s3://x/y")
    assert default_store() == "s3://x/y"
