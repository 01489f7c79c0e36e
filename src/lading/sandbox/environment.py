"""The variables, paths and limits that AWS gives every runtime process, as recorded on Lambda. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources

from lading.model.target import runtimes
from lading.sandbox.image import image_environment
from lading.sandbox.spec import RUNTIME_API, SandboxSpec

LIBRARY_PATH = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
USER = "sbx_user1051"
UID = 993
BOOTSTRAP = "/var/runtime/bootstrap.py"
DEBUGGED = "/var/runtime/lading_debugged.py"
SNAPSHOT = "_lading_snapshot"
"""The module by which a fresh interpreter becomes a template."""

RESOURCE_LIMITS = {"NOFILE": 1024, "NPROC": 742, "CORE": 10_737_418_240, "MEMLOCK": 65_536, "STACK": 8_388_608}
"""By the names of the resource module, soft and hard alike: `ulimit -a` in a python3.13 function."""

_STARTUP = ("PYTHON", "LD_", "LC_", "MALLOC_")
_STARTUP_NAMES = ("LANG", "GLIBC_TUNABLES", "OPENSSL_CONF", "AWS_LAMBDA_EXEC_WRAPPER")


def base_environment(spec: SandboxSpec) -> dict[str, str]:
    """What is the same for every function; a function's own variables and the service's come on top.

    An OS-only runtime has nothing of a language, and no AWS_EXECUTION_ENV (Lambda, "Defined runtime environment variables").
    """
    host, port = RUNTIME_API
    if spec.image:
        return image_environment(spec.image.process.variables, f"{host}:{port}")
    if spec.entry:
        return {
            "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LANG": "en_US.UTF-8",
            "LD_LIBRARY_PATH": LIBRARY_PATH.partition(":")[2],
            "PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
            "PWD": "/var/task",
            "SHLVL": "0",
            "TZ": ":UTC",
            "_HANDLER": spec.handler,
        }
    return {
        "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{spec.runtime}",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "LD_LIBRARY_PATH": LIBRARY_PATH,
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "PWD": "/var/task",
        "PYTHONPATH": "/var/runtime",
        "SHLVL": "0",
        "TZ": ":UTC",
        "_HANDLER": spec.handler,
    }


def process_environment(spec: SandboxSpec) -> dict[str, str]:
    """All variables of the runtime process."""
    environment = {**base_environment(spec), **spec.environment}
    libraries = environment.get("LD_LIBRARY_PATH", "").split(":")
    if spec.interpreter and "/var/lang/lib" not in libraries:
        # an interpreter built elsewhere finds its own library here only; on AWS it is in the program's own search path
        environment["LD_LIBRARY_PATH"] = ":".join([*filter(None, libraries), "/var/lang/lib"])
    return environment


def startup_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Names that only work when set before an interpreter starts: a forked one would silently ignore them."""
    return tuple(sorted(name for name in environment if name.startswith(_STARTUP) or name in _STARTUP_NAMES))


def search_path(runtime: str) -> tuple[str, ...]:
    """`sys.path` of a managed runtime; empty for one that isn't Python."""
    known = runtimes().get(runtime)
    return known.search_path if known else ()


def bootstrap_source(runtime: str) -> str:
    """The program of the runtime process on the exec path: puts AWS's search order in place and calls the client."""
    return bootstrap_program(search_path(runtime), BOOTSTRAP, 3)


def bootstrap_program(path: Sequence[str], program: str, first: int) -> str:
    """The same for any search order: `first` entries of it come before the function's own PYTHONPATH."""
    return f"""import os
import sys

_path = {list(path)!r}
_own = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry not in _path]
sys.path[:] = _path[:{first}] + _own + _path[{first}:]
from awslambdaric.__main__ import main

if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    from {SNAPSHOT} import install

    install()
main([{program!r}, os.environ["_HANDLER"]])
"""


def debugged(spec: SandboxSpec) -> tuple[str, ...]:
    """What stands between an interpreter and its program: with a debugger, `inside/debugged.py` and its arguments."""
    if spec.debugger is None:
        return ()
    return ("-Xfrozen_modules=off", DEBUGGED, str(spec.debugger.port), json.dumps(spec.debugger.paths))


def debugged_source() -> str:
    return resources.files("lading.sandbox.inside").joinpath("debugged.py").read_text("utf-8")
