"""fetch(): what comes over HTTP is verified, retried where that helps, and every failure names file and host."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from resolve_index import Index, make_wheel, serving

from lading.model.lock import Lock, LockedFile, LockedPackage, Wheel
from lading.model.progress import Silent
from lading.model.target import find_target
from lading.resolve import Policy, fetch
from lading.resolve import download as downloading
from lading.resolve.download import DigestMismatchError, RefusedError, TooLargeError, UnreachableError
from lading.resolve.supply import CorruptWheelError, OfflineError
from lading.store import Store, open_store

TARGET = find_target("python3.13", "x86_64")


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    monkeypatch.setattr(downloading, "BACK_OFF", 0.01)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


class Bytes(Silent):
    """Progress that adds up what it is told."""

    def __init__(self) -> None:
        self.total = 0

    def advance(self, task: int, amount: int = 1) -> None:
        self.total += amount


def fetch_files(
    store: Store, *files: LockedFile, indexes: tuple[str, ...] = (), offline: bool = False
) -> tuple[Wheel, ...]:
    packages = tuple(LockedPackage(file.name.split("-")[0], "1.0", wheel=file) for file in files)
    lock = Lock(TARGET.key, packages, indexes=indexes)
    return fetch(lock, TARGET, store.blobs, store.actions, policy=Policy(offline=offline), progress=Silent())


def test_wheels_come_verified_and_only_once(index: Index, store: Store) -> None:
    files = [index.add(f"demo{number}-1.0-py3-none-any.whl", make_wheel(f"demo{number}")) for number in range(20)]
    wheels = fetch_files(store, *files)
    assert [wheel.name for wheel in wheels] == sorted(file.name.split("-")[0] for file in files)
    assert all(hashlib.sha256(wheel.path.read_bytes()).hexdigest() == wheel.sha256 for wheel in wheels)
    asked = len(index.asked)
    assert fetch_files(store, *files) == wheels
    assert len(index.asked) == asked == 20


def test_another_digest_is_refused_and_both_are_named(index: Index, store: Store) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", make_wheel("demo"))
    wrong = replace(file, sha256="0" * 64)
    with pytest.raises(DigestMismatchError) as caught:
        fetch_files(store, wrong)
    assert "demo-1.0-py3-none-any.whl" in caught.value.message
    details = "\n".join(caught.value.details)
    assert "0" * 64 in details and file.sha256 in details
    assert not store.blobs.has(file.sha256) and not store.blobs.has(wrong.sha256)


@pytest.mark.parametrize("faults", [[500], [503, 502], [429, 429, 500]])
def test_passing_faults_are_retried(index: Index, store: Store, faults: list[int]) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", make_wheel("demo"))
    index.faults[file.name] = list(faults)
    assert fetch_files(store, file)[0].sha256 == file.sha256
    assert len(index.asked) == len(faults) + 1


@pytest.mark.parametrize("status", [403, 404])
def test_refusals_are_not_retried(index: Index, store: Store, status: int) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", make_wheel("demo"))
    index.faults[file.name] = [status] * 9
    with pytest.raises(RefusedError, match=f"127.0.0.1:{index.port} answered {status} for demo-1.0-py3-none-any.whl"):
        fetch_files(store, file)
    assert len(index.asked) == 1


def test_truncated_answers_end_in_one_error_and_nothing_is_kept(index: Index, store: Store) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", make_wheel("demo"))
    index.truncate.add(file.name)
    with pytest.raises(UnreachableError, match=r"did not deliver demo-1\.0-py3-none-any\.whl in 4 attempts"):
        fetch_files(store, file)
    assert len(index.asked) == 4
    assert not list(store.blobs.list())


def test_retried_bytes_are_not_counted_twice(index: Index, store: Store) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", make_wheel("demo"))
    index.faults[file.name] = [500]
    progress = Bytes()
    lock = Lock(TARGET.key, (LockedPackage("demo", "1.0", wheel=file),))
    fetch(lock, TARGET, store.blobs, store.actions, policy=Policy(), progress=progress)
    assert progress.total == file.size


def test_a_host_that_is_down_is_named(store: Store, index: Index) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        file = LockedFile("demo-1.0-py3-none-any.whl", f"http://user:secret@127.0.0.1:{port}/demo.whl", "0" * 64, 9)
        with pytest.raises(UnreachableError, match=f"127.0.0.1:{port} did not deliver demo-1.0") as caught:
            fetch_files(store, file)
    assert caught.value.hint
    assert "secret" not in str([caught.value.message, caught.value.details, caught.value.hint])


def test_more_bytes_than_promised_are_not_taken(index: Index, store: Store) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", make_wheel("demo"))
    with pytest.raises(TooLargeError, match="larger than the 10 bytes"):
        fetch_files(store, replace(file, size=10))


def test_a_file_that_is_no_wheel(index: Index, store: Store) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", b"<html>sorry</html>")
    with pytest.raises(CorruptWheelError, match=r"demo-1\.0-py3-none-any\.whl is not a wheel"):
        fetch_files(store, file)


def test_offline_names_what_is_missing(index: Index, store: Store) -> None:
    have = index.add("have-1.0-py3-none-any.whl", make_wheel("have"))
    lack = index.add("lack-1.0-py3-none-any.whl", make_wheel("lack"))
    fetch_files(store, have)
    asked = len(index.asked)
    with pytest.raises(OfflineError) as caught:
        fetch_files(store, have, lack, offline=True)
    assert caught.value.details == ("lack-1.0-py3-none-any.whl",)
    assert fetch_files(store, have, offline=True)
    assert len(index.asked) == asked


def test_local_files_are_adopted(tmp_path: Path, store: Store) -> None:
    data = make_wheel("demo")
    path = tmp_path / "a folder" / "demo-1.0-py3-none-any.whl"
    path.parent.mkdir()
    path.write_bytes(data)
    file = LockedFile(path.name, path.as_uri(), hashlib.sha256(data).hexdigest(), None)
    assert fetch_files(store, file, offline=True)[0].size == len(data)
    with pytest.raises(DigestMismatchError):
        fetch_files(store, replace(file, sha256="1" * 64))
    with pytest.raises(RefusedError, match="there is no file"):
        fetch_files(store, LockedFile("gone.whl", (tmp_path / "gone.whl").as_uri(), "2" * 64))


def test_without_a_login_the_refusal_says_how_to_give_one(index: Index, store: Store) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", make_wheel("demo"))
    index.login = "user:secret"
    with pytest.raises(RefusedError, match="answered 401") as caught:
        fetch_files(store, file)
    assert "UV_INDEX_" in caught.value.hint


@pytest.mark.parametrize("way", ["url", "index", "named", "netrc", "keyring"])
def test_logins_are_taken_where_uv_takes_them(
    index: Index, store: Store, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", make_wheel("demo"))
    index.login = "user:sec/ret"
    indexes: tuple[str, ...] = (index.simple(),)
    if way == "url":
        file = replace(file, url=file.url.replace("://", "://user:sec%2Fret@"))
    elif way == "index":
        indexes = (index.simple("user:sec%2Fret"),)
    elif way == "named":
        indexes = (f"my-own={index.simple()}",)
        monkeypatch.setenv("UV_INDEX_MY_OWN_USERNAME", "user")
        monkeypatch.setenv("UV_INDEX_MY_OWN_PASSWORD", "sec/ret")
    elif way == "netrc":
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login user password sec/ret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
    else:
        script = tmp_path / "bin" / "keyring"
        script.parent.mkdir()
        script.write_text(
            f'#!{sys.executable}\nimport sys\nprint("user\\nsec/ret") if "{index.port}" in str(sys.argv) else exit(1)\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(script.parent), prepend=":")
        monkeypatch.setenv("UV_KEYRING_PROVIDER", "subprocess")
    assert fetch_files(store, file, indexes=indexes)[0].sha256 == file.sha256


def test_a_login_is_not_sent_to_another_host(index: Index, store: Store) -> None:
    file = index.add("demo-1.0-py3-none-any.whl", make_wheel("demo"))
    index.login = "user:secret"
    with pytest.raises(RefusedError, match="401"):
        fetch_files(store, file, indexes=(f"http://user:secret@localhost:{index.port}/simple/",))
