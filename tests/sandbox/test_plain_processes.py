"""Isolation process: real paths in place of AWS's, no walls, and nothing left at the end, also of a killed owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RuntimeEndedError, Served, require_client, require_interpreter

from lading.errors import SandboxError
from lading.sandbox.host import Host
from lading.sandbox.live import Sandbox
from lading.sandbox.spec import Isolation, Network, ProcessEnded, SandboxSpec

Begin = Callable[..., Served]
LOOK = """
import os, sys, tempfile
def lambda_handler(event, context):
    return {"folder": os.getcwd(), "environment": dict(os.environ), "path": sys.path, "user": os.getuid(),
            "temporary": tempfile.gettempdir()}
"""


@pytest.fixture
def plain_host() -> Iterator[Host]:
    with Host(Isolation.PROCESS) as host:
        yield host


@pytest.fixture
def begin(plain_host: Host, tmp_path: Path) -> Begin:
    boxes: list[Sandbox] = []

    def run(source: str, *, start: bool = True, **options: Any) -> Served:
        code = tmp_path / f"code{len(boxes)}"
        code.mkdir()
        (code / "lambda_function.py").write_text(source)
        boxes.append(plain_host.create(spec(code, **options), start=start))
        return Served(boxes[-1])

    return run


def spec(code: Path, **options: Any) -> SandboxSpec:
    given = {"interpreter": require_interpreter("3.13"), "client": require_client("3.13"), "network": Network.OUTGOING}
    return SandboxSpec(code=code, isolation=Isolation.PROCESS, **{**given, **options})


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_variables_say_where_things_are(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LADING_TEST_SECRET", "1")
    seen = begin(LOOK, environment={"COLOUR": "red"}).invoke({}).body
    code, client, prefix = str(tmp_path / "code0"), str(require_client("3.13").resolve()), require_interpreter("3.13")
    environment = seen["environment"]
    assert (seen["folder"], environment["LAMBDA_TASK_ROOT"], environment["PWD"]) == (code, code, code)
    assert environment["LAMBDA_RUNTIME_DIR"] == environment["PYTHONPATH"] == client
    assert environment["AWS_LAMBDA_RUNTIME_API"].startswith("127.0.0.1:")
    assert environment["COLOUR"] == "red"
    assert "LADING_TEST_SECRET" not in environment
    assert environment["PATH"].split(":")[0] == str(prefix / "bin")
    assert seen["path"][0] == code
    assert client in seen["path"]
    assert not [path for path in seen["path"] if path.startswith(("/var/task", "/var/lang", "/opt"))]
    assert not [path for path in seen["path"] if path.startswith(str(prefix)) and path.endswith("site-packages")]
    assert seen["temporary"] == environment["TMPDIR"]
    assert seen["user"] == os.getuid()


def test_two_environments_have_two_apis_and_two_folders(begin: Begin):
    one, other = (begin(LOOK).invoke({}).body["environment"] for _ in range(2))
    assert one["AWS_LAMBDA_RUNTIME_API"] != other["AWS_LAMBDA_RUNTIME_API"]
    assert one["TMPDIR"] != other["TMPDIR"]


def test_a_later_layer_wins_and_programs_of_layers_are_found(begin: Begin, tmp_path: Path):
    layers = []
    for number in (1, 2):
        folder = tmp_path / f"layer{number}"
        for name in ("python", "bin"):
            (folder / name).mkdir(parents=True)
        (folder / "python/shared.py").write_text(f"VALUE = {number}\n")
        (folder / "bin/which-layer").write_text(f"#!/bin/sh\necho {number}\n")
        (folder / "bin/which-layer").chmod(0o755)
        layers.append(folder)
    source = (
        "import shared, subprocess as s\ndef lambda_handler(e, c): return [shared.VALUE, s.getoutput('which-layer')]"
    )
    assert begin(source, layers=tuple(layers)).invoke({}).body == [2, "2"]


def test_wrapper_extension_and_custom_runtime(begin: Begin, plain_host: Host, tmp_path: Path):
    layer = tmp_path / "layer"
    (layer / "extensions").mkdir(parents=True)
    for name, text in (
        ("wrapper", 'export WRAPPED="$#"\nexec "$@"'),
        ("extensions/watch", "echo watching\nexec sleep 1000"),
    ):
        (layer / name).write_text(f"#!/bin/sh\n{text}\n")
        (layer / name).chmod(0o755)
    source = "import os\ndef lambda_handler(event, context): return os.environ['WRAPPED']"
    served = begin(source, layers=(layer,), environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}, start=False)
    served.box.start_process("watch", ["/opt/extensions/watch"], {"PATH": "/bin"})
    served.box.start_runtime()
    assert served.invoke({}).body == "2"
    assert "watching" in served.logs()
    served.box.terminate("watch")
    assert served.box.wait(10) == ProcessEnded("watch", None, 15)

    custom = tmp_path / "custom"
    custom.mkdir()
    (custom / "bootstrap").write_text("#!/bin/sh\npwd\nexit 5\n")
    (custom / "bootstrap").chmod(0o755)
    plain = spec(custom, runtime="provided.al2023", entry=("/var/task/bootstrap",), interpreter=None, client=None)
    with plain_host.create(plain) as box:
        assert box.wait(10) == ProcessEnded("runtime", 5, None)
        assert Served(box).logs() == f"{custom}\n"


def test_reset_and_close_end_children_and_the_folder(begin: Begin):
    source = """
import os, subprocess
kept = os.path.join(os.environ["TMPDIR"], "kept")
before = os.path.exists(kept)
def lambda_handler(event, context):
    open(kept, "w").close()
    return [before, subprocess.Popen(["/bin/sleep", "1000"]).pid, os.getpid()]
"""
    served = begin(source)
    before, child, runtime = served.invoke({}).body
    assert before is False
    served.reset()
    assert eventually(lambda: not alive(child) and not alive(runtime))
    before, child, runtime = served.invoke({}).body
    assert before is True, "its folder survives a reset, as /tmp does"
    folder = Path(served.box.temporary)
    assert folder.is_dir()
    served.box.close()
    assert eventually(lambda: not alive(child) and not alive(runtime))
    assert not folder.exists()


def test_a_child_that_outlives_its_runtime_is_ended_too(begin: Begin):
    served = begin(
        "import os, subprocess\n"
        "def lambda_handler(event, context):\n"
        "    child = subprocess.Popen(['/bin/sleep', '1000']).pid\n"
        "    print('child', child, flush=True)\n"
        "    os._exit(3)\n"
    )
    with pytest.raises(RuntimeEndedError) as caught:
        served.invoke({})
    assert caught.value.event == ProcessEnded("runtime", 3, None)
    child = int(served.logs().split("child ")[1].split()[0])
    assert alive(child)
    served.reset()
    assert eventually(lambda: not alive(child))


def test_stands_still_between(begin: Begin):
    served = begin("import os\ndef lambda_handler(event, context): return os.getpid()")
    pid = served.invoke({}).body

    def state() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    served.box.freeze()
    assert eventually(lambda: state() == "T")
    served.box.thaw()
    assert served.invoke({}).body == pid


OWNER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import Served
from test_plain_processes import spec
from lading.sandbox.host import Host
from lading.sandbox.spec import Isolation
host = Host(Isolation.PROCESS)
box = host.create(spec(Path(sys.argv[1])))
box.freeze()
print(Served(box).box.temporary, *box._groups(), flush=True)
time.sleep(1000)
"""


def test_a_killed_owner_leaves_nothing(tmp_path: Path):
    (tmp_path / "lambda_function.py").write_text("def lambda_handler(event, context): return event")
    command = [sys.executable, "-c", OWNER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder, pid = owner.stdout.readline().split()
        assert alive(int(pid))
        assert Path(folder).is_dir()
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: not alive(int(pid)) and not Path(folder).exists())


def test_what_it_cannot_do_is_said(plain_host: Host, tmp_path: Path):
    assert not plain_host.capabilities.freezer
    assert "no walls" in plain_host.capabilities.missing["walls"]
    with pytest.raises(SandboxError, match="can't take the network away"):
        plain_host.create(spec(tmp_path, network=Network.NONE))
