"""The way out: another machine is reached; this one, other environments and link-local addresses are not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Served, Start, require_client, require_interpreter
from test_walls_leftovers import eventually

from lading.errors import SandboxError
from lading.sandbox import outgoing
from lading.sandbox.cgroups import owner_name
from lading.sandbox.host import Host, sweep
from lading.sandbox.spec import Isolation, Network, SandboxSpec

# One worker for all: the other machine's addresses can exist once on this one.
pytestmark = pytest.mark.xdist_group("outgoing")

SOURCE = """
import socket
def lambda_handler(event, context):
    found = {}
    for host, port in event:
        try:
            with socket.create_connection((host, port), timeout=1) as connection:
                found[host] = connection.recv(100).decode()
        except OSError as error:
            found[host] = type(error).__name__
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.2", 9))
            own = probe.getsockname()[0]
        except OSError:
            own = ""
    names = open("/etc/resolv.conf").read().split()[1::2]
    return {"found": found, "own": own, "names": names, "links": [name for _, name in socket.if_nameindex()]}
"""

LISTENER = """
import socket
with socket.create_server(("0.0.0.0", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, peer = listener.accept()
        connection.sendall(peer[0].encode())
        connection.close()
"""
SERVING = """
import os, socket
listener = socket.create_server(("0.0.0.0", 8080))
if os.fork() == 0:
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"neighbour")
        connection.close()
"""


@pytest.fixture(autouse=True)
def way_out(rooted: None) -> None:
    if problem := outgoing.find_problem():
        pytest.skip(problem)


@contextlib.contextmanager
def listening(*before: str) -> Iterator[int]:
    with subprocess.Popen([*before, sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def other_machine() -> Iterator[tuple[str, str, int]]:
    """A network namespace beside this one, with a listener: (this side's address, its address, port)."""
    if shutil.which("ip") is None:
        pytest.skip("these tests build a network with iproute2")
    name = f"lt{os.getpid()}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", "203.0.113.1/30", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "addr", "add", "203.0.113.2/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        with listening("ip", "netns", "exec", name) as port:
            yield "203.0.113.1", "203.0.113.2", port
    finally:
        ip("netns", "delete", name)


def tables_of(pid: int) -> list[str]:
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f" lading-{pid}-" in line]


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex() if name.startswith("lading")}


def test_another_machine_is_reached_and_this_one_is_not(start: Start, other_machine: tuple[str, str, int]):
    ours, theirs, port = other_machine
    served = start(SOURCE, network=Network.OUTGOING)
    with listening() as own_port:
        with socket.create_connection((ours, own_port)) as connection:
            assert connection.recv(100), "this machine answers itself"
        targets = [(theirs, port), (ours, own_port), ("127.0.0.1", own_port), ("169.254.169.254", 80)]
        result = served.invoke(targets).body
    assert result["found"].pop(theirs) == ours, "the other machine sees this one's address"
    assert set(result["found"]) == {ours, "127.0.0.1", "169.254.169.254"}
    assert set(result["found"].values()) <= {"TimeoutError", "ConnectionRefusedError", "OSError"}
    assert result["links"] == ["lo", "eth0"]
    assert result["names"] == list(outgoing.name_servers())


def test_environments_do_not_reach_each_other(start: Start):
    neighbour = start(SERVING + SOURCE, network=Network.OUTGOING)
    address = neighbour.invoke([("127.0.0.1", 8080)]).body
    assert address["found"] == {"127.0.0.1": "neighbour"}
    seen = start(SOURCE, network=Network.OUTGOING).invoke([(address["own"], 8080)]).body
    assert seen["own"] != address["own"]
    assert seen["found"] == {address["own"]: "TimeoutError"}


def test_owners_do_not_reach_each_other(start: Start, tmp_path: Path):
    start(network=Network.OUTGOING)
    code = tmp_path / "other"
    code.mkdir()
    (code / "lambda_function.py").write_text(SOURCE)
    with Host() as second:
        spec = SandboxSpec(
            code=code,
            interpreter=require_interpreter("3.13"),
            client=require_client("3.13"),
            network=Network.OUTGOING,
        )
        routers = [f"198.19.{int(name[6:]) * 4 >> 8}.{(int(name[6:]) * 4 & 255) + 2}" for name in links()]
        with second.create(spec) as box:
            found = Served(box).invoke([(router, 8080) for router in routers]).body["found"]
    assert set(found) == set(routers)
    assert set(found.values()) <= {"TimeoutError", "ConnectionRefusedError"}


def test_none_has_no_way(start: Start, other_machine: tuple[str, str, int]):
    _, theirs, port = other_machine
    seen = start(SOURCE).invoke([(theirs, port)]).body
    assert seen == {"found": {theirs: "OSError"}, "own": "", "names": [], "links": ["lo"]}


def test_links_of_ended_environments_are_not_met_again(start: Start):
    for _ in range(4):  # each takes the number of the one before, whose link the kernel removes later
        served = start(network=Network.OUTGOING)
        assert served.invoke(1).body == 1
        served.box.close()


OWNER = """
import sys, time
from pathlib import Path
from lading.sandbox.host import Host
from lading.sandbox.spec import Network, SandboxSpec
code, interpreter, client = map(Path, sys.argv[1:4])
host = Host()
box = host.create(SandboxSpec(code=code, interpreter=interpreter, client=client, network=Network.OUTGOING))
box.freeze()
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "lambda_function.py").write_text("def lambda_handler(event, context): return event")
    return [str(tmp_path), str(require_interpreter("3.13")), str(require_client("3.13"))]


def test_close_leaves_no_link_and_no_table(arguments: list[str]):
    before, tables = links(), tables_of(os.getpid())
    code, interpreter, client = map(Path, arguments)
    with Host() as host:
        host.create(SandboxSpec(code=code, interpreter=interpreter, client=client, network=Network.OUTGOING))
        assert len(links()) == len(before) + 1
        assert len(tables_of(os.getpid())) == len(tables) + 1
    assert tables_of(os.getpid()) == tables
    assert eventually(lambda: links() == before)


def test_killed_owner_leaves_nothing_after_a_sweep(arguments: list[str]):
    before = links()
    with subprocess.Popen([sys.executable, "-c", OWNER, *arguments], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        name = owner_name(owner.pid)
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: links() == before), "links end with their owner"
    assert len(tables_of(owner.pid)) == 1, "the table stays until somebody sweeps"
    assert any(swept.startswith(f"{name}-") for swept in sweep())
    assert tables_of(owner.pid) == []


def test_missing_program_is_said(arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", arguments[0])
    code, interpreter, client = map(Path, arguments)
    spec = SandboxSpec(code=code, interpreter=interpreter, client=client, network=Network.OUTGOING)
    with Host() as host:
        assert not host.capabilities.outgoing
        with pytest.raises(SandboxError, match="outgoing network needs the program nft") as caught:
            host.create(spec)
        assert "--network none" in (caught.value.hint or "")


def test_user_namespaces_have_no_way_out(arguments: list[str], expect_user: Callable[[], Host]):
    code, interpreter, client = map(Path, arguments)
    spec = SandboxSpec(code=code, interpreter=interpreter, client=client, network=Network.OUTGOING)
    with expect_user() as host, pytest.raises(SandboxError, match="outgoing network needs isolation root"):
        host.create(replace(spec, isolation=Isolation.USER))


@pytest.fixture
def expect_user() -> Callable[[], Host]:
    def make() -> Host:
        try:
            return Host(Isolation.USER)
        except SandboxError as error:
            pytest.skip(error.message)

    return make
