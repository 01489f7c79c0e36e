"""A sandbox as a list of operations: what it says, how lists join, and what can't be asked for. Nothing is entered."""

from __future__ import annotations

import ast
import json
import os
import re
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from lading.errors import SandboxError
from lading.sandbox import cgroups, layout, seccomp, templates
from lading.sandbox import operations as do
from lading.sandbox.environment import base_environment, bootstrap_source, process_environment, startup_variables
from lading.sandbox.inside import root
from lading.sandbox.live import runtime_start
from lading.sandbox.spec import CREDENTIALS_API, RUNTIME_API, SERVICE_API, ColdStart, SandboxSpec
from lading.sandbox.startup import choose_cold_start

INSIDE = Path(root.__file__).parent


def prefix_in(folder: Path, *versions: str) -> Path:
    for version in versions:
        (folder / "bin").mkdir(exist_ok=True)
        (folder / f"bin/python{version}").touch()
        (folder / f"lib/python{version}").mkdir(parents=True)
        (folder / f"lib/python{version}/os.py").touch()
    return folder


@pytest.fixture
def spec(tmp_path: Path) -> SandboxSpec:
    for name in ("python", "client", "code"):
        (tmp_path / name).mkdir()
    prefix_in(tmp_path / "python", "3.13")
    return SandboxSpec(code=tmp_path / "code", interpreter=tmp_path / "python", client=tmp_path / "client")


def test_every_operation_is_known_inside_and_describes_itself(spec):
    operations = [*layout.base(spec), *layout.own(spec, 1)]
    for operation in operations:
        name, *arguments = operation.encode()
        assert hasattr(root.Builder, f"do_{name}"), operation
        json.dumps(arguments)
        assert operation.describe()
    assert len(do.describe(operations).splitlines()) == len(operations)


def test_base_leaves_the_host_before_anything_of_the_function_is_attached(spec):
    names = [type(one).__name__ for one in do.join(layout.base(spec), layout.own(spec, 1))]
    assert names[:2] == ["Unshare", "Stage"]
    assert names.index("Enter") < names.index("Seal") < names.index("Loopback") < names.index("Attach")


def test_walls_know_nothing_of_the_function_and_a_larger_tmp_lies_over_theirs(spec, tmp_path):
    larger = SandboxSpec(code=tmp_path, interpreter=spec.interpreter, client=spec.client, ephemeral_storage=1024)
    assert layout.own(spec, 7) == (*layout.walls(7), do.Attach("code", "/var/task"))
    assert layout.dress(larger, 7)[-1] == do.Tmpfs("/tmp", "mode=1777,size=1024m,uid=7,gid=7")


def test_join_leaves_namespaces_once(spec):
    joined = do.join(layout.base(spec), layout.own(spec, 1))
    assert [one for one in joined if isinstance(one, do.Unshare)] == [do.Unshare(("mount", "uts", "ipc", "net"))]
    assert joined.count(do.Proc()) == 1
    assert do.join([do.Hostname("x")]) == (do.Hostname("x"),)


def test_base_depends_on_the_runtime_only_and_own_on_the_function(spec, tmp_path):
    other = SandboxSpec(
        code=tmp_path, interpreter=spec.interpreter, client=spec.client, ephemeral_storage=1024, memory=256
    )
    assert layout.base(spec) == layout.base(other)
    assert layout.own(spec, 1) != layout.own(other, 1)
    assert "size=1024m" in do.describe(layout.own(other, 1))


def test_packages_of_the_hosts_interpreter_are_hidden_but_for_pip(spec):
    packages = "/var/lang/lib/python3.13/site-packages"
    assert do.Hide(packages) in layout.base(spec)
    own = layout.find_prefix(spec.interpreter)[0] / "lib/python3.13/site-packages"
    (own / "pip").mkdir(parents=True)
    steps = layout.base(spec)
    assert do.Hide(packages) not in steps
    assert do.Bind(own / "pip", f"{packages}/pip") in steps and do.Readonly(packages) in steps


def test_custom_runtime_has_no_interpreter(tmp_path):
    spec = SandboxSpec(code=tmp_path, runtime="provided.al2023", entry=("/var/task/bootstrap",))
    assert not [
        one for one in layout.base(spec) if getattr(one, "path", "") == "/var/lang" and isinstance(one, do.Bind)
    ]
    assert choose_cold_start(spec) == (ColdStart.EXEC, "a custom runtime has no client to fork")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": 127}, "memory of 127 MB"),
        ({"memory": 10_241}, "memory of 10241 MB"),
        ({"ephemeral_storage": 511}, "ephemeral storage of 511 MB"),
        ({"layers": (Path("/x"),) * 6}, "6 layers given"),
        ({"layers": (Path("relative"),)}, "relative is not an absolute path"),
        ({"client": None}, "runtime python3.13 has no command to run"),
        ({"environment": {"A=B": "1"}}, "environment variable 'A=B' can't be set"),
        ({"environment": {"A": "\0"}}, "environment variable 'A' can't be set"),
    ],
)
def test_impossible_specs_are_refused_with_a_hint(change, message):
    values = {"code": Path("/c"), "interpreter": Path("/p"), "client": Path("/l"), **change}
    with pytest.raises(SandboxError, match=re.escape(message)) as caught:
        SandboxSpec(**values)
    assert caught.value.hint


def test_prefix_is_found_from_folder_or_program(tmp_path):
    prefix_in(tmp_path, "3.12")
    assert layout.find_prefix(tmp_path) == (tmp_path, "3.12")
    assert layout.find_prefix(tmp_path / "bin/python3.12") == (tmp_path, "3.12")


def test_prefix_without_or_with_two_interpreters_is_refused(tmp_path):
    with pytest.raises(SandboxError, match="no interpreter with its library"):
        layout.find_prefix(tmp_path)
    with pytest.raises(SandboxError, match="2 interpreters"):
        layout.find_prefix(prefix_in(tmp_path, "3.12", "3.13"))


def test_environment_is_layered_and_library_path_kept_whole(spec):
    assert base_environment(spec)["_HANDLER"] == "lambda_function.lambda_handler"
    changed = SandboxSpec(
        code=spec.code,
        interpreter=spec.interpreter,
        client=spec.client,
        environment={"LD_LIBRARY_PATH": "/opt/lib", "X": "1"},
    )
    environment = process_environment(changed)
    assert environment["LD_LIBRARY_PATH"] == "/opt/lib:/var/lang/lib"
    assert environment["X"] == "1"


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "LD_PRELOAD", "LANG", "LC_ALL", "AWS_LAMBDA_EXEC_WRAPPER"])
def test_variables_read_at_startup_are_not_given_to_a_fork(spec, name):
    changed = SandboxSpec(
        code=spec.code, interpreter=spec.interpreter, client=spec.client, environment={name: "x", "OTHER": "y"}
    )
    assert startup_variables(changed.environment) == (name,)
    assert choose_cold_start(changed) == (ColdStart.EXEC, f"{name} must be set before an interpreter starts")
    assert choose_cold_start(spec) == (ColdStart.FORK, "")


def test_wrapper_gets_the_interpreter_and_its_script(spec):
    changed = SandboxSpec(
        code=spec.code,
        interpreter=spec.interpreter,
        client=spec.client,
        environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"},
    )
    start = runtime_start(changed, ColdStart.EXEC)
    assert start["command"] == ["/opt/wrapper", "/var/lang/bin/python3.13", "/var/runtime/bootstrap.py"]


def test_bootstrap_compiles_on_every_runtime():
    for runtime in ("python3.9", "python3.13"):
        ast.parse(bootstrap_source(runtime), feature_version=(3, 9))


def test_inside_is_old_syntax_and_standard_library_only():
    for path in INSIDE.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 9))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                known = (
                    top in sys.stdlib_module_names
                    or module.startswith("lading.sandbox.inside")
                    or top == "awslambdaric"
                    or (path.name, top) == ("debugged.py", "debugpy")
                )
                assert known, f"{path.name} imports {module}"


def run_filter(program: bytes, machine: str, number: int, *arguments: int) -> int:
    """A small interpreter of classic BPF: what the kernel would answer."""
    data = struct.pack("=IIQ6Q", number, seccomp.MACHINES[machine].audit, 0, *arguments, *[0] * (6 - len(arguments)))
    accumulator = position = 0
    while True:
        code, true, false, value = struct.unpack_from("=HBBI", program, position * 8)
        position += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return value
        else:
            taken = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            position += true if taken else false


ALLOW, EPERM, EAFNOSUPPORT, ENOSYS, KILL = 0x7FFF0000, 0x50001, 0x50061, 0x50026, 0x80000000


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_answers(machine):
    facts, program = seccomp.MACHINES[machine], seccomp.program(machine)
    for name, number in facts.refused.items():
        assert run_filter(program, machine, number) == (ENOSYS if name == "clone3" else EPERM), name
    assert run_filter(program, machine, facts.clone, 0x10000000 | 17) == EPERM
    assert run_filter(program, machine, facts.clone, 0x01200011) == ALLOW
    assert run_filter(program, machine, facts.ioctl, 0, 0x5412) == EPERM
    assert run_filter(program, machine, facts.ioctl, 0, 0x5401) == ALLOW
    for family, answer in ((1, ALLOW), (2, ALLOW), (10, ALLOW), (16, ALLOW), (17, EAFNOSUPPORT), (40, EAFNOSUPPORT)):
        assert run_filter(program, machine, facts.socket, family) == answer
    assert run_filter(program, machine, 63) == ALLOW
    foreign = "aarch64" if machine == "x86_64" else "x86_64"
    assert run_filter(program, foreign, 63) == KILL


def test_a_templates_filter_differs_in_setns_only():
    facts, program = seccomp.MACHINES["x86_64"], seccomp.program("x86_64", template=True)
    allowed = [name for name, number in facts.refused.items() if run_filter(program, "x86_64", number) == ALLOW]
    assert allowed == ["setns"]
    assert run_filter(program, "x86_64", facts.clone, 0x10000000 | 17) == EPERM


def test_requests_for_templates_and_their_copies_name_users():
    def request(kind: str, **more: object) -> dict[str, Any]:
        walls: dict[str, object] = {"users": "0 0 1\n993 1507 1", "filter": ""}
        return {"template": False, "restored": False, "walls": walls, "listen": [RUNTIME_API], kind: True, **more}

    made = request("template", listen=[RUNTIME_API, SERVICE_API])
    templates.adapt(made, 1500, 7, 100)
    assert made["walls"]["users"] == "0 0 1\n993 1507 1\n100000 1500 7\n100008 1508 92"
    assert made["walls"]["roomy"] is True
    assert made["listen"] == [RUNTIME_API, SERVICE_API, CREDENTIALS_API], "beside services they ask for credentials"
    copy = request("restored")
    templates.adapt(copy, 1500, 8, 100)
    assert (copy["users"], copy["walls"]["users"]) == ("0 0 1\n993 100008 1", "0 0 1\n993 993 1")
    assert copy["listen"] == [RUNTIME_API]
    unprivileged = request("restored")
    templates.adapt(unprivileged, 0, 8, 100)
    assert (unprivileged["users"], unprivileged["walls"]["users"]) == ("993 993 1", "993 993 1")


def test_filter_kills_the_other_calling_convention():
    assert run_filter(seccomp.program("x86_64"), "x86_64", 0x40000000 | 101) == KILL


def test_filter_for_an_unknown_machine_is_refused():
    with pytest.raises(SandboxError, match="no system call filter for sparc64"):
        seccomp.program("sparc64")


V1 = [f"cgroup /cg/{name} cgroup rw,relatime,{name} 0 0" for name in ("memory", "cpu", "cpuacct", "pids", "freezer")]


def test_v1_hierarchies_are_used_below_the_own_group():
    membership = "4:memory:/box\n3:cpu:/\n2:cpuacct:/\n1:pids:/\n5:freezer:/\n0::/\n"
    found = cgroups.find_hierarchies(membership, "\n".join([*V1, "cgroup2 /cg/unified cgroup2 rw 0 0"]))
    assert found.version == "v1"
    assert found.folders["memory"] == Path("/cg/memory/box")
    assert found.folders["cpu"] == Path("/cg/cpu")


def test_joined_v1_controllers_are_one_folder():
    mounts = "\n".join(
        ["cgroup /cg/c cgroup rw,cpu,cpuacct 0 0"]
        + [f"cgroup /cg/{name} cgroup rw,{name} 0 0" for name in ("memory", "pids", "freezer")]
    )
    found = cgroups.find_hierarchies("4:cpu,cpuacct:/\n3:memory:/\n2:pids:/\n1:freezer:/\n", mounts)
    assert found.folders["cpu"] == found.folders["cpuacct"] == Path("/cg/c")


def test_v2_is_used_from_its_top():
    found = cgroups.find_hierarchies("0::/user.slice/x\n", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    assert found.version == "v2"
    assert set(found.folders.values()) == {Path("/sys/fs/cgroup")}


def test_incomplete_v1_says_what_it_lacks():
    found = cgroups.find_hierarchies("1:memory:/\n0::/\n", "\n".join([V1[0], "cgroup2 /cg/unified cgroup2 rw 0 0"]))
    assert found.version == "none"
    assert "v1 lacks cpu, cpuacct, freezer, pids" in found.problem


def test_v2_group_writes_and_reads_the_kernels_files(tmp_path):
    files = ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "cgroup.freeze"]
    for name in files:
        (tmp_path / name).touch()
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1500\nuser_usec 1\n")
    (tmp_path / "memory.peak").write_text("123\n")
    (tmp_path / "memory.stat").write_text("anon 9\nshmem 7\ninactive_file 30\nactive_file 12\n")
    (tmp_path / "cgroup.procs").write_text("7\n8\n")
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    group = cgroups.Group("v2", dict.fromkeys(("memory", "cpu", "pids", "freezer"), tmp_path))
    group.begin()
    group.limit(256, 512)
    group.limit_cpu(1769)
    group.freeze()
    assert (tmp_path / "memory.max").read_text() == str((256 + 512) << 20)
    assert (tmp_path / "pids.max").read_text() == "1024"
    assert (tmp_path / "cpu.max").read_text() == "20000 20000"
    assert (tmp_path / "cgroup.freeze").read_text() == "1"
    assert (group.oom_kills, group.cpu_usage, group.memory_peak) == (2, 1_500_000, 123)
    assert (group.cached_files, group.members()) == (42, [7, 8])
    assert group.doors == [tmp_path / "cgroup.procs"]
    assert group.thaw_file is None


def test_v2_controllers_are_handed_down_to_the_owners_groups(tmp_path):
    (tmp_path / "cgroup.subtree_control").touch()
    found = cgroups.Hierarchies("v2", dict.fromkeys(("memory", "cpu", "pids", "freezer"), tmp_path))
    own = tmp_path / cgroups.owner_name(os.getpid())
    found.prepare()
    for folder in (tmp_path, own):
        assert (folder / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    group = found.make("one")
    assert group.doors == [own / "one" / "cgroup.procs"]


def test_group_that_wont_freeze_is_an_error(tmp_path):
    (tmp_path / "cgroup.freeze").touch()
    (tmp_path / "cgroup.events").write_text("frozen 0\n")
    with pytest.raises(SandboxError, match="did not freeze within 2 s"):
        cgroups.Group("v2", {"freezer": tmp_path}).freeze()
