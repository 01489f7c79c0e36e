"""The cache: written once and whole, verified when read, safe to share, small again after a prune."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from lading.errors import DownloadError, StoreError
from lading.store import FolderActions, Store, default_root, open_store
from lading.store.folder import CorruptBlobError, disk_errors
from lading.store.prune import measure, prune

DAY = 24 * 3600


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_blob_is_found_under_its_digest(store: Store) -> None:
    digest = store.blobs.put([b"one ", b"two"])
    assert digest == digest_of(b"one two")
    assert store.blobs.has(digest)
    assert store.blobs.read(digest) == b"one two"
    assert [name for name, _ in store.blobs.list()] == [digest]


def test_a_writer_left_without_commit_leaves_nothing(store: Store) -> None:
    with store.blobs.writer() as writer:
        writer.write(b"half")
    assert list(store.blobs.list()) == []
    assert list(store.temporary.iterdir()) == []


def test_another_digest_than_promised_is_refused(store: Store) -> None:
    with store.blobs.writer() as writer:
        writer.write(b"what came")
        with pytest.raises(DownloadError) as caught:
            writer.commit(expect=digest_of(b"what was promised"))
    assert digest_of(b"what was promised") in "".join(caught.value.details)
    assert list(store.blobs.list()) == []


def test_a_damaged_blob_is_reported_and_removed(store: Store) -> None:
    digest = store.blobs.put([b"sound"])
    store.blobs.path(digest).chmod(0o644)
    store.blobs.path(digest).write_bytes(b"rotten")
    with pytest.raises(CorruptBlobError):
        store.blobs.read(digest)
    assert not store.blobs.has(digest)


def test_a_missing_blob_is_an_error_with_a_hint(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.blobs.open("0" * 64)
    assert caught.value.hint


def test_adopt_copies_a_file(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "wheel"
    source.write_bytes(b"x" * 3_000_000)
    assert store.blobs.adopt(source) == digest_of(b"x" * 3_000_000)
    assert source.exists()


def test_actions_give_back_what_was_put(store: Store) -> None:
    assert store.actions.get("wheel", "key") is None
    store.actions.put("wheel", "key", b"value\nwith lines")
    assert store.actions.get("wheel", "key") == b"value\nwith lines"
    assert store.actions.get("bundle", "key") is None


def test_a_torn_action_reads_as_absent(store: Store) -> None:
    store.actions.put("wheel", "key", b"value")
    (path, _), *_ = store.actions.list()
    path.write_bytes(path.read_bytes()[:-1])
    assert store.actions.get("wheel", "key") is None


def _put_many(root: Path) -> None:
    store = open_store(root)
    for number in range(50):
        store.blobs.put([b"shared %d" % number])
        store.actions.put("kind", str(number), b"value %d" % number)


def test_processes_can_write_the_same_entries_at_once(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_put_many, args=(store.root,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list(store.blobs.list())) == 50
    assert store.actions.get("kind", "49") == b"value 49"


def test_prune_removes_the_old_and_keeps_the_recent(store: Store) -> None:
    old, new = store.blobs.put([b"old"]), store.blobs.put([b"new"])
    past = time.time() - 40 * DAY
    os.utime(store.blobs.path(old), (past, past))
    removed = prune(store, older_than=30 * DAY)
    assert (removed.blobs, removed.blob_bytes) == (1, 3)
    assert not store.blobs.has(old)
    assert store.blobs.has(new)


def test_prune_to_a_size_takes_the_least_recently_used_first(store: Store) -> None:
    digests = [store.blobs.put([bytes([number]) * 100]) for number in range(4)]
    for age, digest in zip((5, 4, 3, 2), digests, strict=True):
        past = time.time() - age * DAY
        os.utime(store.blobs.path(digest), (past, past))
    prune(store, older_than=30 * DAY, keep_bytes=200)
    assert [store.blobs.has(digest) for digest in digests] == [False, False, True, True]


def test_prune_leaves_what_a_running_build_uses(store: Store) -> None:
    digest = store.blobs.put([b"in use"])
    prune(store, older_than=0, keep_bytes=0)
    assert store.blobs.has(digest)


def test_leftovers_of_a_killed_writer_are_removed_and_live_ones_kept(store: Store) -> None:
    (store.temporary / "leftover").write_bytes(b"half")
    with store.blobs.writer() as writer:
        writer.write(b"still being written")
        assert measure(store).leftovers == 1
        assert prune(store, older_than=DAY).leftovers == 1
        digest = writer.commit()
    assert store.blobs.has(digest)


def test_a_use_renews_the_time(store: Store) -> None:
    digest = store.blobs.put([b"used"])
    past = time.time() - 3 * DAY
    os.utime(store.blobs.path(digest), (past, past))
    assert store.blobs.has(digest)
    assert store.blobs.path(digest).stat().st_mtime > past + DAY


def test_a_full_disk_has_its_own_hint() -> None:
    with (
        pytest.raises(StoreError) as caught,
        disk_errors("can't write"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert "prune" in caught.value.hint


def test_a_cache_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't make the cache folder"):
        open_store(tmp_path / "file" / "cache")


def test_the_default_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LADING_CACHE_DIR", str(tmp_path / "mine"))
    assert default_root() == tmp_path / "mine"
    monkeypatch.delenv("LADING_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_root() == tmp_path / "xdg" / "lading"


def test_actions_satisfy_the_protocol(store: Store) -> None:
    from lading.model.blobs import Actions, Blobs

    actions: Actions = store.actions
    blobs: Blobs = store.blobs
    assert isinstance(actions, FolderActions)
    assert blobs is store.blobs
