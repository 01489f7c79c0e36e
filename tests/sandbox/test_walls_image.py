"""Environments whose root is an image's: its process, its files, and the same walls."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RuntimeEndedError, Served
from image_roots import MACHINE, python_layer, shell_layer, write_layer

from lading.errors import SandboxError
from lading.sandbox import zygotes
from lading.sandbox.host import Host
from lading.sandbox.image import ImageProcess, ImageRoot, find_client
from lading.sandbox.live import Sandbox
from lading.sandbox.spec import ColdStart, Isolation, SandboxSpec
from lading.sandbox.startup import IMAGE, choose_cold_start

LOOK = """
import json, os, socket, sys
def handler(event, context):
    seen = {"cwd": os.getcwd(), "path": sys.path, "argv": sys.argv, "user": os.getuid(), "environment": dict(os.environ),
            "root": sorted(os.listdir("/")), "devices": sorted(os.listdir("/dev")), "passwd": open("/etc/passwd").read(),
            "own": sorted(name for name in sys.modules if name.startswith("lading")), "version": sys.version_info[:2],
            "executable": sys.executable, "main": sys.modules["__main__"].__file__}
    for name, path in (("root", "/x"), ("task", "/var/task/x"), ("dev", "/dev/x"), ("etc", "/etc/x"), ("tmp", "/tmp/x")):
        try:
            open(path, "w").close()
            seen["write " + name] = True
        except OSError as error:
            seen["write " + name] = error.strerror
    return seen
"""


@pytest.fixture(scope="session")
def shell(rooted: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.uname().machine != MACHINE:
        pytest.skip(f"these images are made of the parts of an {MACHINE} machine")
    return shell_layer(tmp_path_factory.mktemp("shell"))


@pytest.fixture(scope="session")
def python(shell: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_layer(tmp_path_factory.mktemp("python"))


@pytest.fixture
def image_start(host: Host) -> Iterator[Callable[..., Served]]:
    boxes: list[Sandbox] = []

    def run(root: ImageRoot, **options: Any) -> Served:
        box = host.create(SandboxSpec(image=root, runtime="", **options))
        boxes.append(box)
        return Served(box)

    yield run
    for box in boxes:
        box.close()


def image_of(*folders: Path, **process: Any) -> ImageRoot:
    made = ImageProcess(**process)
    return ImageRoot(folders, made, find_client(folders, made))


@pytest.fixture
def function(python: Path, shell: Path, tmp_path: Path) -> ImageRoot:
    own = write_layer(tmp_path / "own", {"srv/app/app.py": LOOK})
    variables = {"PATH": "/usr/local/bin:/bin", "PYTHONUNBUFFERED": "1", "COLOUR": "blue"}
    command = {"entry": ("python", "-m", "awslambdaric"), "arguments": ("app.handler",), "folder": "/srv/app"}
    return image_of(shell, python, own, variables=variables, **command)


def test_both_ways_of_starting_see_the_same(function: ImageRoot, image_start: Callable[..., Served]) -> None:
    assert function.client is not None and function.client.interpreter == "/usr/local/bin/python"
    seen = {}
    for way in ColdStart:
        served = image_start(function, cold_start=way, environment={"MINE": "1"})
        assert served.box.cold_start is way
        answer = served.invoke({})
        assert answer.kind == "response", answer
        seen[way] = answer.body
    assert seen[ColdStart.FORK] == seen[ColdStart.EXEC]
    found = seen[ColdStart.FORK]
    assert found["cwd"] == found["path"][0] == "/srv/app" and found["user"] == 993
    told = {"COLOUR": "blue", "MINE": "1", "AWS_EXECUTION_ENV": "AWS_Lambda_Image", "_HANDLER": ""}
    told["AWS_LAMBDA_RUNTIME_API"] = "169.254.100.1:9001"
    assert found["environment"] | told == found["environment"]
    assert "LD_LIBRARY_PATH" not in found["environment"] and "PYTHONPATH" not in found["environment"]
    assert "root:x:0:" in found["passwd"] and "sbx_user1051:x:993:" in found["passwd"]
    assert found["root"] == ["bin", "dev", "etc", "lib", "lib64", "proc", "srv", "tmp", "usr"]
    assert "null" in found["devices"] and "sda" not in found["devices"]
    assert found["write tmp"] is True and {found[f"write {one}"] for one in ("root", "dev", "etc")} == {
        "Read-only file system"
    }


def test_nothing_is_written_into_the_layers(function: ImageRoot, image_start: Callable[..., Served]) -> None:
    before = {path for folder in function.folders for path in folder.rglob("*") if "__pycache__" not in str(path)}
    image_start(function).invoke({})
    assert before == {
        path for folder in function.folders for path in folder.rglob("*") if "__pycache__" not in str(path)
    }


def test_one_image_s_environments_fork_from_one_client(
    function: ImageRoot, host: Host, image_start: Callable[..., Served]
) -> None:
    first, second = image_start(function), image_start(function)
    assert (first.box.cold_start, second.box.cold_start) == (ColdStart.FORK, ColdStart.FORK)
    assert first.invoke({}).kind == second.invoke({}).kind == "response"
    first.reset()
    assert first.invoke({}).kind == "response"


CUSTOM = """#!/bin/sh
echo "started $1 with $AWS_LAMBDA_RUNTIME_API"
/bin/id -u
/bin/ls /
exit 3
"""


def ended(served: Served) -> RuntimeEndedError:
    with pytest.raises(RuntimeEndedError) as caught:
        served.invoke({})
    assert caught.value.event is not None
    return caught.value


def test_any_program_is_started_as_the_image_says(
    shell: Path, tmp_path: Path, image_start: Callable[..., Served]
) -> None:
    own = write_layer(tmp_path / "own", {"start.sh": CUSTOM})
    root = image_of(shell, own, entry=("/start.sh",), arguments=("one",))
    assert choose_cold_start(SandboxSpec(image=root)) == (
        ColdStart.EXEC,
        "the image's entry point is not AWS's Python client",
    )
    error = ended(image_start(root))
    assert error.event is not None and (error.event.exit_code, error.event.refused) == (3, "")
    lines = error.logs.splitlines()
    assert lines[:2] == ["started one with 169.254.100.1:9001", "993"]
    assert lines[2:] == ["bin", "dev", "etc", "lib", "lib64", "proc", "start.sh", "tmp"]


REFUSALS = {
    "missing": ({"entry": ("/nowhere",)}, "no such file or directory"),
    "not executable": ({"entry": ("/plain",)}, "permission denied"),
    "no program": ({"entry": ("/broken",)}, "exec format error"),
    "bare name": ({"entry": ("uvicorn",)}, "executable file not found in $PATH"),
    "folder": ({"entry": ("/bin/sh",), "folder": "/nowhere"}, "chdir: no such file or directory"),
    "relative folder": ({"entry": ("/bin/sh",), "folder": "bin"}, "chdir: not an absolute path"),
    "no folder": ({"entry": ("/bin/sh",), "folder": "/plain"}, "chdir: not a directory"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_can_t_be_started_says_why(
    case: str, shell: Path, tmp_path: Path, image_start: Callable[..., Served]
) -> None:
    own = write_layer(tmp_path / "own", {"plain": "x", "broken": "\0\1\2"})
    (own / "plain").chmod(0o644)
    process, reason = REFUSALS[case]
    error = ended(image_start(image_of(shell, own, **process)))
    assert error.event is not None and error.event.refused == reason


def test_a_bare_name_is_found_on_the_image_s_path(shell: Path, image_start: Callable[..., Served]) -> None:
    error = ended(image_start(image_of(shell, entry=("sh", "-c", "exit 7"))))
    assert error.event is not None and (error.event.exit_code, error.event.refused) == (7, "")


def test_own_tables_of_users_are_kept(shell: Path, tmp_path: Path, image_start: Callable[..., Served]) -> None:
    own = write_layer(
        tmp_path / "own",
        {"etc/passwd": "root:x:0:0::/:/bin/sh\nme:x:1000:1000::/:/bin/sh", "etc/resolv.conf": "nameserver 1.2.3.4\n"},
    )
    error = ended(
        image_start(
            image_of(shell, own, entry=("sh", "-c", "cat /etc/passwd /etc/hosts; echo resolv; cat /etc/resolv.conf"))
        )
    )
    assert "me:x:1000:1000::/:/bin/sh\nsbx_user1051:x:993:993::/:/bin/sh\n127.0.0.1 localhost" in error.logs
    assert error.logs.endswith("resolv\n")


def test_an_etc_that_is_a_link_is_refused(shell: Path, tmp_path: Path, host: Host) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "etc").symlink_to("/somewhere")
    with pytest.raises(SandboxError, match="/etc is not a folder"):
        host.create(SandboxSpec(image=image_of(shell, own, entry=("/bin/sh",))))


def test_a_user_namespace_runs_images_too(function: ImageRoot) -> None:
    for folder in function.folders:
        assert folder.is_dir()
    try:
        host = Host(Isolation.USER)
    except SandboxError as error:
        pytest.skip(error.message)
    with host, host.create(SandboxSpec(image=function, runtime="", isolation=Isolation.USER)) as box:
        answer = Served(box).invoke({})
        assert answer.kind == "response", answer
        assert {answer.body[f"write {one}"] for one in ("root", "dev", "etc")} == {"Read-only file system"}, json.dumps(
            answer.body
        )


def test_the_client_is_recognised_only_where_it_is(python: Path, shell: Path, tmp_path: Path) -> None:
    def client(*command: str) -> object:
        return find_client((shell, python), ImageProcess(command))

    assert client("/usr/bin/env", "python3", "-m", "awslambdaric", "app.handler") is not None
    assert client("/usr/local/bin/python3.13", "-m", "awslambdaric", "app.handler") is not None
    assert client("python3", "-m", "awslambdaric") is None
    assert client("python3", "-u", "-m", "awslambdaric", "app.handler") is None
    assert client("/bin/sh", "-m", "awslambdaric", "app.handler") is None
    assert client("/lambda-entrypoint.sh", "app.handler") is None
    assert shutil.which("sh")


def test_an_interpreter_that_can_t_be_forked_is_started_afresh(
    function: ImageRoot, python: Path, shell: Path, tmp_path: Path, image_start: Callable[..., Served]
) -> None:
    """One without ctypes has no way to enter namespaces."""
    hidden = "usr/local/lib/python3.13/ctypes/__init__.py"
    own = write_layer(tmp_path / "own2", {"srv/app/app.py": LOOK, hidden: "raise ImportError('no ctypes')"})
    process = function.process
    served = image_start(ImageRoot((shell, python, own), process, find_client((shell, python, own), process)))
    assert served.box.cold_start is ColdStart.EXEC and "zygote" in served.box.cold_start_reason
    assert served.invoke({}).kind == "response"


def test_images_that_nobody_uses_keep_no_more_than_so_many_clients(
    function: ImageRoot, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygotes, "MOST_IMAGES", 1)
    process = function.process
    processes = [dataclasses.replace(process, variables={**process.variables, "N": str(number)}) for number in range(3)]
    variants = [dataclasses.replace(function, process=one) for one in processes]
    with host.create(SandboxSpec(image=variants[0], runtime="")) as kept:
        for one in variants[1:]:
            host.create(SandboxSpec(image=one, runtime="")).close()
        assert Served(kept).invoke({}).kind == "response"
        alive = [key for key in host._zygotes._started if key[0] is IMAGE]
        assert len(alive) == 2
