"""What a function sees inside, on both cold-start paths: AWS's paths, variables, user and limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import VERSIONS, Answer, RuntimeEndedError, Served, Start

from lading.model.target import runtimes
from lading.sandbox.spec import ColdStart, ProcessEnded, SandboxSpec

LOOK = """
import os, pwd, resource, socket, sys, time
def lambda_handler(event, context):
    def limit(name): return resource.getrlimit(getattr(resource, "RLIMIT_" + name))
    return {
        "path": sys.path, "folder": os.getcwd(), "prefix": sys.prefix, "executable": sys.executable,
        "version": sys.version_info[:2], "environment": dict(os.environ), "user": pwd.getpwuid(os.getuid()).pw_name,
        "groups": os.getgroups(), "zone": time.tzname, "arguments": sys.argv, "standard": sys.stdout.encoding,
        "limits": {name: limit(name) for name in ("NOFILE", "NPROC", "CORE", "MEMLOCK", "STACK")},
        "files": sorted(os.listdir("/proc/self/fd")), "host": socket.gethostname(),
        "own": sorted(name for name in sys.modules if name.startswith("lading")),
        "root": sorted(os.listdir("/")), "devices": sorted(os.listdir("/dev")), "temporary": os.statvfs("/tmp").f_blocks,
        "block": os.statvfs("/tmp").f_frsize, "client": sys.modules["awslambdaric"].__file__,
        "status": open("/proc/self/status").read(), "main": sys.modules["__main__"].__file__,
    }
"""


@pytest.fixture
def look(start: Start) -> Callable[..., dict[str, object]]:
    def run(**options: object) -> dict[str, object]:
        answer = start(LOOK, **options).invoke({})
        assert answer.kind == "response", answer
        return answer.body

    return run


@pytest.mark.parametrize("version", VERSIONS)
def test_search_path_is_awss_on_every_runtime(look, version):
    seen = look(version=version)
    assert tuple(seen["path"]) == runtimes()[f"python{version}"].search_path
    assert seen["version"] == [int(part) for part in version.split(".")]
    assert seen["prefix"] == "/var/lang"
    assert seen["executable"] == f"/var/lang/bin/python{version}"
    assert seen["client"] == "/var/runtime/awslambdaric/__init__.py"
    assert seen["main"] == "/var/runtime/bootstrap.py"


def test_process_looks_as_on_lambda(look):
    seen = look(ephemeral_storage=600)
    assert seen["folder"] == "/var/task"
    assert seen["user"] == "sbx_user1051"
    assert seen["groups"] == []
    assert seen["zone"] == ["UTC", "UTC"]
    assert seen["standard"] == "utf-8"
    assert seen["host"] == "169-254-100-1"
    assert seen["own"] == []
    assert seen["temporary"] * seen["block"] == 600 << 20
    assert seen["limits"] == {
        "NOFILE": [1024, 1024],
        "NPROC": [742, 742],
        "CORE": [10737418240, 10737418240],
        "MEMLOCK": [65536, 65536],
        "STACK": [8388608, 8388608],
    }
    assert not {"root", "home", "work", "mnt", "boot", "srv", "sys"} & set(seen["root"])
    assert "shm" not in seen["devices"]


def test_variables_are_awss_and_none_of_the_hosts(look, monkeypatch):
    monkeypatch.setenv("LADING_TEST_SECRET", "1")
    seen = look(environment={"AWS_LAMBDA_FUNCTION_NAME": "orders", "COLOUR": "rød", "TZ": "Europe/Oslo"})["environment"]
    seen.pop("_X_AMZN_TRACE_ID", None)
    assert seen.pop("COLOUR") == "rød"
    assert seen.pop("AWS_LAMBDA_FUNCTION_NAME") == "orders"
    assert seen.pop("TZ") == "Europe/Oslo"
    assert seen == {
        "AWS_LAMBDA_RUNTIME_API": "169.254.100.1:9001",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "PWD": "/var/task",
        "PYTHONPATH": "/var/runtime",
        "SHLVL": "0",
        "_HANDLER": "lambda_function.lambda_handler",
    }


def test_no_privilege_is_left(look):
    status = dict(line.split(":\t") for line in look()["status"].splitlines() if ":\t" in line)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["Threads"].isdecimal()
    assert int(status["SigBlk"], 16) == 0


def test_no_descriptor_of_ours_is_left(start: Start):
    served = start(
        "import os\n"
        "def lambda_handler(event, context):\n"
        "    links = {}\n"
        "    for name in os.listdir('/proc/self/fd'):\n"
        "        try: links[name] = os.readlink('/proc/self/fd/' + name)\n"
        "        except OSError: pass\n"
        "    return links\n"
    )
    links = served.invoke({}).body
    assert links["0"] == "/dev/null"
    others = {number: target for number, target in links.items() if int(number) > 2}
    assert all(target.startswith("socket:") for target in others.values()), others
    assert len(others) <= 3  # the client's own: a connection and what libcurl waits with


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_only_what_the_zygote_holds_is_never_freed(start: Start, version: str):
    """A fresh interpreter, and one older than PEP 683, has nothing of the kind."""
    served = start(
        "import gc, json, sys, weakref\n"
        "class Own: pass\n"
        "def lambda_handler(event, context):\n"
        "    counts = [sys.getrefcount(one) > 1 << 31 for one in (json.dumps, json.JSONDecoder, lambda_handler, event)]\n"
        "    plain, cycle = Own(), Own()\n"
        "    cycle.self = cycle\n"
        "    gone = [weakref.ref(plain), weakref.ref(cycle)]\n"
        "    del plain, cycle\n"
        "    gc.unfreeze()\n"
        "    gc.collect()\n"
        "    return counts, [one() is None for one in gone], json.loads(json.dumps(event))\n",
        version=version,
    )
    shared = served.box.cold_start is ColdStart.FORK and version != "3.11"  # PEP 683 is newer
    for _ in range(3):
        assert served.invoke({"a": [1, "b"]}).body == [[shared, shared, False, False], [True, True], {"a": [1, "b"]}]


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_interpreter_with_immortal_objects_ends_well(start: Start, version: str):
    source = (
        "import atexit, json, os, sys\n"
        "atexit.register(lambda: os.write(1, b'at exit\\n'))\n"
        "def lambda_handler(event, context):\n    json.dumps = None\n    sys.exit(3)"
    )
    with pytest.raises(RuntimeEndedError) as caught:
        start(source, version=version).invoke({})
    assert caught.value.event == ProcessEnded("runtime", 3, None)
    assert "at exit" in caught.value.logs


def test_layers_merge_in_order_and_feed_the_search_path(start: Start, tmp_path: Path):
    layers = []
    for number in (1, 2):
        folder = tmp_path / f"layer{number}"
        (folder / "python").mkdir(parents=True)
        (folder / "python/shared.py").write_text(f"VALUE = {number}\n")
        (folder / f"only{number}").write_text("")
        layers.append(folder)
    source = "import os, shared\ndef lambda_handler(event, context): return [shared.VALUE, sorted(os.listdir('/opt'))]"
    for chosen, expected in ((layers, [2, ["only1", "only2", "python"]]), (layers[:1], [1, ["only1", "python"]])):
        assert start(source, layers=tuple(chosen)).invoke({}).body == expected


def test_errors_of_a_function_reach_the_api(start: Start):
    answer: Answer = start("def other(): pass").invoke({})
    assert answer.kind == "init/error"
    assert answer.body["errorType"] == "Runtime.HandlerNotFound"
    answer = start("import nothing_like_this").invoke({})
    assert answer.body["errorType"] == "Runtime.ImportModuleError"
    answer = start("def lambda_handler(e, c): raise ValueError('no')").invoke({})
    assert (answer.kind, answer.body["errorType"], answer.body["errorMessage"]) == ("error", "ValueError", "no")
    assert '"/var/task/lambda_function.py", line 1' in answer.body["stackTrace"][0]


def test_environment_keeps_its_state_and_answers_again(start: Start):
    served = start("n = 0\ndef lambda_handler(e, c):\n    global n\n    n += 1\n    print('call', n)\n    return n")
    assert [served.invoke({}).body for _ in range(3)] == [1, 2, 3]
    assert served.logs() == "call 1\ncall 2\ncall 3\n"


@pytest.mark.parametrize(
    ("body", "code", "number"),
    [
        ("import sys; sys.exit(3)", 3, None),
        ("import os; os._exit(7)", 7, None),
        ("import os; os.kill(os.getpid(), 9)", None, 9),
        ("import os; os.abort()", None, 6),
        ("import ctypes; ctypes.string_at(0)", None, 11),
    ],
)
def test_runtime_process_that_ends_is_reported(start: Start, body: str, code: int | None, number: int | None):
    with pytest.raises(RuntimeEndedError) as caught:
        start(f"def lambda_handler(event, context):\n    {body}").invoke({})
    assert caught.value.event == ProcessEnded("runtime", code, number)


def test_reset_keeps_tmp_and_starts_again(start: Start):
    served = start(
        "import os, subprocess\n"
        "before = os.path.exists('/tmp/kept')\n"
        "def lambda_handler(event, context):\n"
        "    open('/tmp/kept', 'w').close()\n"
        "    subprocess.Popen(['/bin/sleep', '1000'])\n"
        "    return [before, sorted(int(name) for name in os.listdir('/proc') if name.isdigit())]\n"
    )
    before, processes = served.invoke({}).body
    assert before is False
    assert len(processes) == 3
    served.reset()
    before, processes = served.invoke({}).body
    assert before is True
    assert len(processes) == 3, "the sleeping child of the first life is gone"


def test_custom_runtime_gets_the_same_walls(host, start: Start, tmp_path: Path):
    code = tmp_path / "custom"
    code.mkdir()
    program = code / "bootstrap"
    program.write_text("#!/bin/sh\nid -un\npwd\nexit 5\n")
    program.chmod(0o755)
    spec = SandboxSpec(code=code, runtime="provided.al2023", entry=("/var/task/bootstrap",))
    with host.create(spec) as box:
        assert box.wait(10) == ProcessEnded("runtime", 5, None)
        assert Served(box).logs() == "sbx_user1051\n/var/task\n"
        assert box.cold_start == "exec"


def test_wrapper_script_wraps_and_a_missing_one_ends_with_127(start: Start, tmp_path: Path):
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "wrapper").write_text('#!/bin/sh\nexport WRAPPED="$#"\nexec "$@"\n')
    (layer / "wrapper").chmod(0o755)
    source = "import os\ndef lambda_handler(event, context): return os.environ['WRAPPED']"
    served = start(source, layers=(layer,), environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"})
    assert served.invoke({}).body == "2"
    with pytest.raises(RuntimeEndedError) as caught:
        start(source, environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/missing"}).invoke({})
    assert caught.value.event == ProcessEnded("runtime", 127, None, "no such file or directory")


def test_extension_runs_beside_and_ends_by_name(start: Start, tmp_path: Path):
    layer = tmp_path / "layer"
    (layer / "extensions").mkdir(parents=True)
    (layer / "extensions/watch").write_text("#!/bin/sh\necho watching $COLOUR\nexec sleep 1000\n")
    (layer / "extensions/watch").chmod(0o755)
    served = start(layers=(layer,), begin=False)
    served.box.start_process("watch", ["/opt/extensions/watch"], {"COLOUR": "red", "PATH": "/bin"})
    served.box.start_runtime()
    assert served.invoke({"n": 1}).body == {"n": 1}
    assert "watching red" in served.logs()
    served.box.terminate("watch")
    assert served.box.wait(10) == ProcessEnded("watch", None, 15)


def test_python_variables_fall_back_to_a_fresh_interpreter_and_say_so(start: Start):
    served = start(
        "import sys\ndef lambda_handler(e, c): return sys.flags.hash_randomization", environment={"PYTHONHASHSEED": "0"}
    )
    assert served.box.cold_start == "exec"
    assert served.invoke({}).body == 0
    if served.box.spec.cold_start == "fork":
        assert "PYTHONHASHSEED" in served.box.cold_start_reason


OWN_PROCESS = (
    "import json, logging, os, random, subprocess, sys, threading, uuid\n"
    "def lambda_handler(event, context):\n"
    "    done = []\n"
    "    thread = threading.Thread(target=lambda: done.append(threading.get_native_id()))\n"
    "    thread.start(); thread.join()\n"
    "    logging.getLogger().error('a line')\n"
    "    pid = os.fork()\n"
    "    if pid == 0:\n"
    "        os._exit(7 if threading.get_native_id() == os.getpid() else 1)\n"
    "    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
    "    main = threading.main_thread()\n"
    "    return {'random': random.random(), 'uuid': str(uuid.uuid4()), 'main': main.native_id == os.getpid(),\n"
    "            'alive': [one.name for one in threading.enumerate()], 'current': threading.current_thread() is main,\n"
    "            'thread': done[0] not in (0, os.getpid()), 'child': ended,\n"
    "            'program': subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True, text=True).stdout}\n"
)
"""A function that says what an interpreter knows of itself: random numbers, threads, locks, forks."""


def test_a_fork_is_a_process_of_its_own(start: Start):
    check_own_processes([start(OWN_PROCESS).invoke({}).body for _ in range(2)])


def check_own_processes(seen: list[dict[str, object]]) -> None:
    one, other = seen
    assert one.pop("random") != other.pop("random")
    assert one.pop("uuid") != other.pop("uuid")
    assert one == {
        "main": True,
        "alive": ["MainThread"],
        "current": True,
        "thread": True,
        "child": 7,
        "program": "1\n",
    }
    assert one == other
