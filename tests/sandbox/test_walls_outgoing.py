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
from lading.sandbox.host import Host, sweep
from lading.sandbox.spec import Isolation, Network, SandboxSpec

MOST_MACHINES = 64

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

    def ip(*words: str) -> bool:
        return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0

    space = f"lt{os.getpid()}"
    assert ip("netns", "add", space)
    try:
        # other runs of this suite are on the same machine: a link's name is nobody else's, and says which addresses are
        number = next(
            n for n in range(MOST_MACHINES) if ip(*f"link add lt-{n} type veth peer name eth0 netns {space}".split())
        )
        ours, theirs, link = f"203.0.113.{number * 4 + 1}", f"203.0.113.{number * 4 + 2}", f"lt-{number}"
        assert ip("addr", "add", f"{ours}/30", "dev", link)
        assert ip("link", "set", link, "up")
        assert ip("-n", space, "addr", "add", f"{theirs}/30", "dev", "eth0")
        assert ip("-n", space, "link", "set", "eth0", "up")
        with listening("ip", "netns", "exec", space) as port:
            yield ours, theirs, port
    finally:
        ip("netns", "delete", space)


def tables_of(pid: int) -> list[str]:
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f" lading.{pid}." in line]


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex() if name.startswith("lading")}


def links_of(tables: list[str]) -> set[str]:
    """Names of the links that these tables are for. Other owners' come and go meanwhile."""
    return {f"lading{table.rpartition('-')[2]}" for table in tables}


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


OWNERS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[5])
from conftest import Served
from lading.sandbox.host import Host
from lading.sandbox.spec import Network, SandboxSpec
code, interpreter, client = map(Path, sys.argv[1:4])
target = sys.argv[4].split(":")
spec = SandboxSpec(code=code, interpreter=interpreter, client=client, network=Network.OUTGOING, memory=1024)
for round in range(3):  # each with a router of its own, while the other owner's comes and goes
    with Host(spares=2) as host:
        for turn in range(3):
            with host.create(spec) as box:
                found = Served(box).invoke([[target[0], int(target[1])]]).body["found"]
                print(found[target[0]], flush=True)
"""


def test_owners_beside_each_other_all_reach_another_machine(
    arguments: list[str], other_machine: tuple[str, str, int], tmp_path: Path
):
    ours, theirs, port = other_machine
    (tmp_path / "lambda_function.py").write_text(SOURCE)
    command = [sys.executable, "-c", OWNERS, *arguments, f"{theirs}:{port}", str(Path(__file__).parent)]
    owners = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        seen = [owner.communicate(timeout=120)[0].split() for owner in owners]
    finally:
        for owner in owners:
            owner.kill()
    assert seen == [[ours] * 9] * 2


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
    tmp_path.chmod(0o755)
    return [str(tmp_path), str(require_interpreter("3.13")), str(require_client("3.13"))]


def test_close_leaves_no_link_and_no_table(arguments: list[str]):
    tables = tables_of(os.getpid())
    code, interpreter, client = map(Path, arguments)
    with Host() as host:
        host.create(SandboxSpec(code=code, interpreter=interpreter, client=client, network=Network.OUTGOING))
        own = links_of([table for table in tables_of(os.getpid()) if table not in tables])
        assert len(own) == 1
        [index] = {number for number, name in socket.if_nameindex() if name in own}
    assert tables_of(os.getpid()) == tables
    assert eventually(lambda: index not in dict(socket.if_nameindex()))


def test_killed_owner_leaves_nothing_after_a_sweep(arguments: list[str]):
    with subprocess.Popen([sys.executable, "-c", OWNER, *arguments], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        [table] = tables_of(owner.pid)
        [index] = {number for number, name in socket.if_nameindex() if name in links_of([table])}
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: index not in dict(socket.if_nameindex())), "links end with their owner"
    sweep()  # any other owner's start does the same, so that this one may find nothing
    assert eventually(lambda: tables_of(owner.pid) == [])


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
