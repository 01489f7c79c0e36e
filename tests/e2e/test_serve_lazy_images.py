"""Image functions that start lazily: the same answers as unpacked ones, across restarts and dead readers, and nothing left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Command
from image_support import PATIENCE, require_base
from serve_support import ACCOUNT, REGION, ROLE, client, service, settle

from lading.lazy import mount
from lading.service.roots import ImageWay

pytestmark = [pytest.mark.network, pytest.mark.root]
HANDLER = """
    import hashlib, os, pathlib
    def handler(event, context):
        if "read" in event:
            digest = hashlib.sha256()
            for path in sorted(pathlib.Path(event["read"]).rglob("*")):
                state = path.lstat()
                digest.update(f"{path} {state.st_mode} {state.st_uid} {state.st_gid} {int(state.st_mtime)}".encode())
                if path.is_file() and not path.is_symlink():
                    digest.update(path.read_bytes())
            return digest.hexdigest()
        if "list" in event:
            return os.listdir(event["list"])
        return ["{version}", os.getcwd(), os.getuid(), pathlib.Path("/proc/mounts").read_text()]
"""
LARGE = 8 << 20


@pytest.fixture(scope="module")
def layouts(lading: Command, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version → an image built by lading on a base built by lading."""
    if problem := mount.find_problem():
        pytest.skip(problem)
    base, found = require_base(lading), {}
    for version in ("v1", "v2"):
        project = tmp_path_factory.mktemp(version)
        (project / "app.py").write_text(textwrap.dedent(HANDLER).replace("{version}", version))
        (project / "requirements.txt").write_text("")
        (project / "large.bin").write_bytes(os.urandom(LARGE))
        arguments = ("--base", base, "--runtime", "python3.13", "--handler", "app.handler")
        lading("build", "--package", "image", *arguments, cwd=project)
        [found[version]] = (project / "dist").glob("*.oci")
    return found


def push(lading: Command, url: str, layouts: dict[str, Path], version: str) -> str:
    """Its URI in the service's own registry."""
    uri = f"{url.removeprefix('http://')}/orders:{version}"
    ecr = client(url, "ecr")
    with contextlib.suppress(ecr.exceptions.RepositoryAlreadyExistsException):
        ecr.create_repository(repositoryName="orders")
    lading("push", layouts[version], uri, cwd=layouts[version].parent)
    return uri


@pytest.fixture(scope="module")
def running(
    lading: Command, layouts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Path]]:
    """A client and the state folder of a service with a lazy function `orders` (v1)."""
    state = tmp_path_factory.mktemp("state")
    with service(state) as url:
        create(client(url), "orders", push(lading, url, layouts, "v1"))
        yield client(url, patience=PATIENCE), state


def create(api: Any, name: str, uri: str) -> None:
    code = {"ImageUri": uri}
    api.create_function(FunctionName=name, Role=ROLE, PackageType="Image", Code=code, Timeout=60, MemorySize=512)
    settle(api, name)


def invoke(api: Any, name: str, event: object = None, **parameters: Any) -> Any:
    response = api.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **parameters)
    answer = json.loads(response["Payload"].read())
    assert "FunctionError" not in response, answer
    return answer


def mounted() -> list[Path]:
    """Images that this process has mounted."""
    return [path for path in mount.mounts_below(mount.owner_folder()) if path.parent.name == "images"]


def devices() -> set[Path]:
    """Of what is mounted in this process's folder, as the kernel lists them while anybody holds one."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    ours = [line.split()[2] for line in lines if f" {mount.owner_folder()}/" in line]
    return {path for path in (Path("/sys/class/bdi") / number for number in ours) if path.exists()}


def workers() -> list[int]:
    """Readers of this process that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent = re.search(r"^PPid:\t(\d+)$", (folder / "status").read_text(), re.MULTILINE)
        except OSError:
            continue
        if b"lading.lazy.worker" in command and parent and int(parent[1]) == os.getpid():
            found.append(int(folder.name))
    return found


def wait_for(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def metrics(api: Any) -> dict[str, float]:
    lines = httpx.get(f"{api.meta.endpoint_url}/_lading/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def environments(api: Any) -> set[str]:
    return {one["identity"] for one in httpx.get(f"{api.meta.endpoint_url}/_lading/environments").json()}


def expire(api: Any, name: str) -> None:
    """The next invoke is a cold start."""
    arn = api.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    httpx.post(f"{api.meta.endpoint_url}/_lading/expire", params={"function": arn}).raise_for_status()


def stuck() -> list[int]:
    """Processes below this one that no signal reaches at the moment."""
    parents, states = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            parents[int(folder.name)], states[int(folder.name)] = int(parent), state

    def ours(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return [pid for pid, state in states.items() if state == "D" and ours(pid)]


def later(url: str, seconds: int) -> bool:
    """The service's clock is put forward."""
    return httpx.post(f"{url}/_lading/clock", params={"step": seconds}).is_success


def wait_until_empty(folder: Path, url: str) -> None:
    wait_for(lambda: later(url, 600) and not list(folder.iterdir()))


def test_lazily_as_unpacked_through_restart_and_deletion(
    lading: Command, layouts: dict[str, Path], tmp_path: Path
) -> None:
    answers = {}
    trees = ("/var/task", "/var/runtime", "/etc/ssl", "/usr/lib")
    for way in ImageWay:
        with service(tmp_path / way, images=way) as url:
            api = client(url, patience=PATIENCE)
            create(api, "orders", push(lading, url, layouts, "v1"))
            answers[way] = [invoke(api, "orders")[:3], *(invoke(api, "orders", {"read": tree}) for tree in trees)]
            folder = tmp_path / way / "images"
            assert (folder / "lazy" / "store").exists() is (way is ImageWay.LAZY)
            assert len(mounted()) == (way is ImageWay.LAZY)
            assert "fuse" not in invoke(api, "orders")[3] and str(mount.RUN) not in invoke(api, "orders")[3]
            if way is ImageWay.UNPACK:
                assert list((folder / "unpacked").iterdir())
                api.delete_function(FunctionName="orders")
                wait_until_empty(folder / "unpacked", url)
    assert answers[ImageWay.LAZY] == answers[ImageWay.UNPACK] and answers[ImageWay.LAZY][0] == ["v1", "/var/task", 993]
    assert not workers() and not mount.owner_folder().exists()
    lazy = tmp_path / "lazy" / "images" / "lazy"
    assert (lazy / "key").stat().st_mode & 0o777 == 0o600 and lazy.stat().st_mode & 0o777 == 0o700
    unpacked = [path for path in (tmp_path / "lazy" / "images").iterdir() if path.name != "lazy"]
    assert not unpacked, "no layer is unpacked"

    chunks = {path for path in (lazy / "store").rglob("*") if "chunks" in path.parts and path.is_file()}
    with service(tmp_path / "lazy") as url:  # again, by default
        assert chunks and all(path.exists() for path in chunks), "nothing is converted again"
        api = client(url, patience=PATIENCE)
        assert invoke(api, "orders", {"read": "/var/task"}) == answers[ImageWay.LAZY][1]
        uri = push(lading, url, layouts, "v2")
        assert api.publish_version(FunctionName="orders")["Version"] == "1"
        api.update_function_code(FunctionName="orders", ImageUri=uri)
        settle(api, "orders")
        assert [invoke(api, "orders", Qualifier=one)[0] for one in ("1", "$LATEST")] == ["v1", "v2"]
        create(api, "same", uri)
        assert invoke(api, "same")[0] == "v2"
        wait_for(lambda: len(mounted()) == 2)  # one per image, whoever uses it
        held = devices()
        assert held and workers()
        for name in ("orders", "same"):
            api.delete_function(FunctionName=name)
        wait_for(lambda: not mount.owner_folder().exists())
        wait_for(lambda: not any(device.exists() for device in held))
        assert not workers()
    size = sum(path.stat().st_size for path in (lazy / "store").rglob("*") if path.is_file())
    assert size > LARGE
    with service(tmp_path / "lazy"):
        left = sum(path.stat().st_size for path in (lazy / "store").rglob("*") if path.is_file())
    assert left < 4096, "what was only of deleted functions is collected at the next start"


def test_what_is_loaded_lazily_is_counted_and_told(running: tuple[Any, Path]) -> None:
    api, _ = running
    url = api.meta.endpoint_url
    create(api, "counted", f"{url.removeprefix('http://')}/orders:v1")
    assert invoke(api, "counted", {"read": "/usr/lib"})
    api.delete_function(FunctionName="counted")

    wait_for(lambda: metrics(api).get('LazyTierHits{Tier="store"}', 0) > 3)
    found = metrics(api)
    assert found["LazyImagesMounted"] == 1 and found["LazyReadErrors"] == 0
    assert (
        0
        < found['LazyTierLatency{Tier="store",quantile="0.5"}']
        <= found['LazyTierLatency{Tier="store",quantile="0.99"}']
    )
    assert found['LazyReadLatency{quantile="0.99"}'] > 0
    [(image, touched)] = [(name, value) for name, value in found.items() if name.startswith("LazyImageTouchedBytes")]
    assert 0 < touched < found[image.replace("Touched", "")]
    with httpx.stream("GET", f"{url}/_lading/events", params={"since": 0}) as stream:
        told = []
        for line in stream.iter_lines():
            if line.startswith("data:") and "sha256:" in line:
                told.append(json.loads(line.partition(": ")[2]))
                if told[-1]["state"] == "mounted":
                    break
    assert [one["state"] for one in told[:1]] == ["ready"]
    assert {one["image"] for one in told} == {image.partition('"')[2].rstrip('"}')}
    assert all(one["duration"] > 0 and one["account"] == ACCOUNT for one in told)


def test_two_accounts_have_manifests_of_their_own_and_the_chunks_together(running: tuple[Any, Path]) -> None:
    api, state = running
    url, store = api.meta.endpoint_url, state / "images" / "lazy" / "store"
    chunks = {path: path.stat().st_mtime_ns for path in store.glob("roots/*/chunks/*/*")}
    first = set(store.glob("roots/*/images/*/*"))
    other = client(url, patience=PATIENCE, aws_access_key_id="210987654321")
    create(other, "orders", f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/orders:v1")
    both = set(store.glob("roots/*/images/*/*"))
    assert first < both and {path.name for path in both} == {path.name for path in first}
    assert len({path.parent.name for path in both}) == 2, "a key for each account"
    assert len({path.read_bytes() for path in both}) == 2
    assert {path: path.stat().st_mtime_ns for path in store.glob("roots/*/chunks/*/*")} == chunks
    assert [invoke(each, "orders")[0] for each in (api, other)] == ["v1", "v1"]
    assert len(mounted()) == 1
    other.delete_function(FunctionName="orders")
    assert invoke(api, "orders")[0] == "v1"


def test_what_was_expired_starts_again_at_once(running: tuple[Any, Path]) -> None:
    """While the environments before are still being ended, and their hold on the image."""
    api, _ = running
    for _ in range(5):
        assert invoke(api, "orders")[0] == "v1"
        expire(api, "orders")


def test_a_reader_that_is_killed_is_replaced_under_the_function(running: tuple[Any, Path]) -> None:
    api, _ = running
    first = invoke(api, "orders", {"read": "/usr/lib"})
    done: list[object] = []

    def again() -> None:
        Path("/proc/sys/vm/drop_caches").write_text("1\n")
        done.append(invoke(api, "orders", {"read": "/usr/lib"}))

    for _ in range(2):
        [worker] = workers()
        thread = threading.Thread(target=again)
        thread.start()
        os.kill(worker, signal.SIGKILL)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        wait_for(lambda: [pid for pid in workers() if pid != worker])  # noqa: B023 -- called at once
    assert done == [first, first]


def test_a_store_that_is_away_for_a_while_is_a_delay(running: tuple[Any, Path]) -> None:
    """To an environment that runs, and to one that is started meanwhile."""
    api, state = running
    wanted = invoke(api, "orders", {"read": "/usr/lib"})
    store, away = state / "images/lazy/store", state / "images/lazy/away"
    for chunk in (state / "images/lazy/cache/chunks/entries").glob("*/*"):
        chunk.unlink()
    [worker] = workers()
    os.kill(worker, signal.SIGKILL)  # the next one has nothing in memory
    wait_for(lambda: [pid for pid in workers() if pid != worker])
    failed = metrics(api).get('LazyTierFailures{Tier="store"}', 0)
    done: list[object] = []
    threads = [
        threading.Thread(target=lambda: done.append(invoke(api, "orders", {"read": "/usr/lib"}))) for _ in range(2)
    ]
    store.rename(away)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1\n")
        for thread in threads:
            thread.start()
        wait_for(lambda: metrics(api).get('LazyTierFailures{Tier="store"}', 0) > failed)
    finally:
        away.rename(store)
    for thread in threads:
        thread.join(PATIENCE)
    assert done == [wanted, wanted]


def test_a_reader_that_can_t_live_is_an_error_and_the_next_environment_is_whole(
    running: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody hangs: what read from it is told so, can be ended, and is gone."""
    api, _ = running
    wanted = invoke(api, "orders", {"read": "/usr/lib"})
    before = environments(api)
    assert before
    monkeypatch.setattr("lading.lazy.supervisor._MOST_DEATHS", 0)
    [worker] = workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: worker not in workers())
    Path("/proc/sys/vm/drop_caches").write_text("1\n")
    response = api.invoke(FunctionName="orders", Payload=b'{"list": "/usr/lib"}')
    answer = json.loads(response["Payload"].read())
    # code that was mapped and is not in memory any more is SIGBUS, all else EIO
    assert "FunctionError" in response and re.search("Input/output error|bus error", answer["errorMessage"]), answer
    expire(api, "orders")
    wait_for(lambda: not before & environments(api))
    wait_for(lambda: not stuck())
    monkeypatch.undo()
    assert invoke(api, "orders", {"read": "/usr/lib"}) == wanted
    assert metrics(api)["LazyReaderRestarts"] >= 1


def test_a_chunk_that_is_lost_is_an_error_of_that_function_only(running: tuple[Any, Path]) -> None:
    api, state = running
    assert invoke(api, "orders")[0] == "v1"
    for path in (state / "images" / "lazy").glob("store/roots/*/chunks/*/*"):
        if path.stat().st_size > 500_000:  # what can't be compressed: large.bin
            path.unlink()
    response = api.invoke(FunctionName="orders", Payload=b'{"read": "/var/task"}')
    answer = json.loads(response["Payload"].read())
    assert response["FunctionError"] == "Unhandled" and answer["errorType"] == "OSError"
    assert "Input/output error" in answer["errorMessage"]
    assert invoke(api, "orders")[0] == "v1"
