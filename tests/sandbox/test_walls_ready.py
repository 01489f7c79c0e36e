"""Walls that stand ready before a function is known: what comes out of them is the same as without."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import Served, require_client, require_interpreter
from test_walls_inside import OWN_PROCESS, check_own_processes
from test_walls_leftovers import descendants, eventually

from lading.sandbox import lessons, spares
from lading.sandbox.host import Host
from lading.sandbox.live import Sandbox
from lading.sandbox.spec import ColdStart, SandboxSpec
from lading.sandbox.startup import zygote_key

SOURCE = """
import os
def lambda_handler(event, context):
    statistics = os.statvfs("/tmp")
    return {"mode": event, "tmp": os.listdir("/tmp"), "size": statistics.f_blocks * statistics.f_frsize >> 20,
            "layers": sorted(os.listdir("/opt")), "folder": os.getcwd(), "user": os.getuid(), "colour": os.environ["COLOUR"],
            "pid": os.getpid(), "write": os.access("/var/task", os.W_OK)}
"""


@pytest.fixture
def spec(tmp_path: Path) -> SandboxSpec:
    code, layer = tmp_path / "code", tmp_path / "layer"
    code.mkdir()
    (layer / "lib").mkdir(parents=True)
    (code / "lambda_function.py").write_text(SOURCE)
    return SandboxSpec(
        code=code,
        layers=(layer,),
        interpreter=require_interpreter("3.13"),
        client=require_client("3.13"),
        environment={"COLOUR": "red"},
        ephemeral_storage=600,
    )


def test_dressed_walls_are_like_any(ready_host: Host, spec: SandboxSpec):
    ready_host.warm(spec)
    standing = descendants(os.getpid())
    with ready_host.create(spec) as box:
        assert box.pid in standing
        assert box.cold_start is ColdStart.FORK
        assert Served(box).invoke("ready").body == {
            "mode": "ready",
            "tmp": [],
            "size": 600,
            "layers": ["lib"],
            "folder": "/var/task",
            "user": 993,
            "colour": "red",
            "pid": 2,
            "write": False,
        }


def test_who_waited_ready_is_a_process_of_its_own(ready_host: Host, spec: SandboxSpec):
    """It has started a thread and copied pages before it knew what it would be."""
    assert spec.code is not None
    (spec.code / "lambda_function.py").write_text(OWN_PROCESS)
    ready_host.warm(spec)
    standing = descendants(os.getpid())
    seen = []
    for _ in range(2):
        with ready_host.create(spec) as box:
            assert box.pid in standing
            seen.append(Served(box).invoke({}).body)
    check_own_processes(seen)


def test_dressed_walls_reset_and_start_later(ready_host: Host, spec: SandboxSpec):
    ready_host.warm(spec)
    with ready_host.create(spec, start=False) as box:
        box.start_runtime()
        served = Served(box)
        assert served.invoke("first").body["mode"] == "first"
        served.reset()
        assert served.invoke("second").body["mode"] == "second"


class Leaving(Host):
    """Ends its zygotes of which nothing lives, once, after walls were taken and before they are known to be used."""

    left = False

    def _take_spare(self, spec: SandboxSpec) -> spares.Built | None:
        made = super()._take_spare(spec)
        if made is not None and not self.left:
            self.left = True
            self._end_zygotes(lambda busy: [] if made.forker in busy else [zygote_key(spec)])
        return made


def test_walls_whose_zygote_ended_meanwhile_are_made_anew(rooted: None, spec: SandboxSpec):
    with Leaving(spares=1) as host:
        host.warm(spec)
        [standing] = waiting(host)
        with host.create(spec, start=False) as box:
            assert host.left and box.pid != standing
            box.start_runtime()
            assert Served(box).invoke("anew").body["mode"] == "anew"
            host._end_zygotes(lambda busy: [] if busy else [zygote_key(spec)])
            assert Served(box).invoke("busy").body["mode"] == "busy"


def test_what_a_start_writes_to_is_there_before_a_later_one(rooted: None, spec: SandboxSpec):
    with Host(spares=1) as host, contextlib.ExitStack() as stack:
        host.warm(spec)
        [standing] = waiting(host)
        before = lessons.count(lessons.written(standing))
        first = stack.enter_context(host.create(spec))
        assert first.pid == standing
        Served(first).invoke("first")
        over = time.monotonic()
        needed = lessons.written(first.pid)
        assert before < lessons.count(needed) <= lessons.MOST
        assert eventually(lambda: waiting(host) != [] and time.monotonic() > over + spares._OVER)
        stack.enter_context(host.create(spec))  # now the first one is looked at
        assert eventually(lambda: any(shared(one, needed) > 0.9 for one in waiting(host))), "it has not begun yet"
        with host.create(spec) as third:
            assert Served(third).invoke("third").body["mode"] == "third"


def waiting(host: Host) -> list[int]:
    """First processes of walls that stand ready."""
    made = [one for ready in host._spares._ready.values() for one in ready]
    lines = [line for one in made for line in fdinfo(one.parts.pidfd)]
    return [int(line.split()[1]) for line in lines if line.startswith("Pid:")]


def fdinfo(descriptor: int) -> list[str]:
    return Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()


def shared(first: int, needed: lessons.Ranges) -> float:
    """How much of what is needed a process below has for itself already."""
    own = {page for start, end in lessons.written(first) for page in range(start, end, 4096)}
    wanted = {page for start, end in needed for page in range(start, end, 4096)}
    return len(own & wanted) / len(wanted)


def test_many_at_once_use_what_stands_and_make_the_rest(ready_host: Host, spec: SandboxSpec):
    ready_host.warm(spec)
    boxes: list[Sandbox] = [ready_host.create(spec) for _ in range(5)]
    try:
        assert len({box.pid for box in boxes}) == 5
        assert [Served(box).invoke(number).body["mode"] for number, box in enumerate(boxes)] == [0, 1, 2, 3, 4]
    finally:
        for box in boxes:
            box.close()


def test_killed_spare_is_not_used(ready_host: Host, spec: SandboxSpec):
    ready_host.warm(spec)
    before = descendants(os.getpid())
    with ready_host.create(spec) as box:
        zygote = int(Path(f"/proc/{box.pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
        assert zygote in before
        os.kill(zygote, signal.SIGKILL)
        assert eventually(lambda: not Path(f"/proc/{box.pid}").exists())
    with ready_host.create(spec) as again:
        assert Served(again).invoke("again").body["mode"] == "again"


def test_close_ends_what_stands_ready(rooted: None, spec: SandboxSpec):
    with Host(spares=2) as host:
        host.warm(spec)
        launcher = host.launcher_pid
        wanted = 1 + 2 * 2  # a zygote, and two environments of two processes each
        assert eventually(lambda: len(descendants(launcher)) == wanted)
        inside = descendants(launcher)
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in {launcher} | inside))
