"""A minimal base image like AWS's, made from this machine's interpreter: for tests and where AWS's can't be pulled.

Not Amazon Linux: the C library is this machine's. Same folders, variables, entry point and client. Downloads wheels, no more.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lading.build.archive import Selection
from lading.build.base_libraries import closure, facts_of
from lading.build.bundle import Bundle, BundleWriter, keep
from lading.build.bytecode import Place, prepare_bytecode
from lading.build.image import lambda_variables
from lading.build.image_base import platform_of
from lading.build.image_layers import LayerPlan, make_layers
from lading.build.records import EXECUTABLE_MODE, FILE_MODE, LINK_MODE
from lading.build.wheel import Recipe, prepare_wheel
from lading.build.workers import CompilerPool
from lading.errors import BuildError
from lading.model.progress import Progress
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import Target
from lading.oci.image import Image, empty
from lading.oci.layer import Layer
from lading.oci.layer_writer import LayerWriter
from lading.resolve import LockPlace, Policy, fetch, lock
from lading.resolve.interpreters import Interpreter, find_interpreter
from lading.store import Store

LEFT_OUT = re.compile(
    r"(?:^|/)(?:__pycache__|test|tests|idlelib|turtledemo|tkinter|lib2to3|ensurepip|site-packages|config-[^/]*)(?:/|$)"
    r"|(?:^|/)_tkinter\.|\.a$|\.pyc$"
)
"""Of the standard library: what AWS's images lack as well, and what is made anew here."""
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
BUNDLE = "etc/pki/tls/certs/ca-bundle.crt"
ENTRYPOINT = """\
#!/bin/sh
# Starts the function's client: on Lambda, or wherever the Runtime API is; else under an emulator of it, at port 8080.
if [ $# -ne 1 ]; then
    echo "this image wants the handler as its only argument, such as CMD [\\"app.handler\\"]" >&2
    exit 142
fi
export _HANDLER="$1"
if [ -z "$AWS_LAMBDA_RUNTIME_API" ]; then
    exec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap
fi
exec /var/runtime/bootstrap
"""
START = """\
#!/bin/sh
exec /var/lang/bin/python{version} /var/runtime/bootstrap.py
"""
BOOTSTRAP = """\
import os
import sys

sys.path = {search_path!r}
from awslambdaric.__main__ import main

main(["bootstrap", os.environ["_HANDLER"]])
"""
PIP = """\
#!/var/lang/bin/python{version}
import sys

from pip._internal.cli.main import main

sys.exit(main())
"""
TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    "sbx_user1051:x:993:990::/home/sbx_user1051:/bin/sh\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\nsbx_user1051:x:990:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/os-release": 'NAME="lading base"\nID=lading\nPRETTY_NAME="lading base image (not Amazon Linux)"\n',
}
FOLDERS = ("dev", "etc", "home", "opt", "proc", "root", "sys", "usr", "usr/bin", "usr/lib", "usr/lib64", "usr/local",
           "usr/local/bin", "var", "var/lang", "var/runtime", "var/task")  # fmt: skip
LINKS = {"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}


class BaseBuildError(BuildError):
    """This machine lacks what a base is made of."""


@dataclass(frozen=True)
class _Machine:
    """What is taken from here."""

    interpreter: Interpreter
    prefix: Path
    shell: Path
    version: str

    @property
    def library(self) -> Path:
        return self.prefix / "lib" / f"python{self.version}"


def build_base(target: Target, store: Store, policy: Policy, progress: Progress) -> Image:
    """The base of a target: system, interpreter and runtime layers, all in the store. Deterministic for one machine.

    Raises BaseBuildError, LibraryMissingError, ResolveError, DownloadError.
    """
    machine = _machine(target, store)
    with CompilerPool(machine.interpreter) as compilers:
        layers = [
            _system_layer(target, machine, store),
            *_prepared_layers(target, machine, store, compilers, _wheels(target, store, policy, progress)),
        ]
    variables = [f"{name}={value}" for name, value in lambda_variables().items()]
    process = {"Entrypoint": ["/lambda-entrypoint.sh"], "WorkingDir": "/var/task", "Env": variables}
    return empty(platform_of(target)).append(layers).configure(process)


def emulator_source(interpreter: str) -> str:
    """lading-rie as a program of that interpreter, from Python 3.9 on."""
    emulator, extensions = (
        resources.files(__package__).joinpath(f"base_{name}.py").read_text("utf-8")
        for name in ("emulator", "extensions")
    )
    _, future, inlined = extensions.partition("from __future__ import annotations\n")
    before, _, after = emulator.partition("from lading.build.base_extensions import ")
    assert future and after, "the two modules are written to be joined"
    return f"#!{interpreter}\n{before.partition(chr(10))[2]}{inlined}{after.partition(chr(10))[2]}"


def _machine(target: Target, store: Store) -> _Machine:
    version = target.runtime.python_version
    interpreter = find_interpreter(target.runtime.python, store.actions)
    if interpreter is None:
        raise BaseBuildError(
            f"{target.runtime.name} needs a CPython {version}, and there is none on this machine",
            hint=f"uv python install {version}",
        )
    program = Path(interpreter.path).resolve()
    facts = facts_of(program)
    if facts is None or facts.machine != target.architecture.machine:
        raise BaseBuildError(
            f"a base for {target.architecture} can't be made here: {program} is for {facts.machine if facts else 'no ELF'}",
            hint="make it on such a machine, or use AWS's base: it can be pulled from anywhere",
        )
    shell = next((path for name in ("dash", "sh") if (path := shutil.which(name))), None)
    if shell is None:
        raise BaseBuildError("no /bin/sh on this machine, which the entry point needs", hint="install dash")
    return _Machine(interpreter, program.parent.parent, Path(shell).resolve(), version)


def _system_layer(target: Target, machine: _Machine, store: Store) -> Layer:
    """The loader, libraries, a shell, certificates, and the few files of /etc that the C library reads."""
    programs = [Path(machine.interpreter.path).resolve(), machine.shell, *_extensions(machine)]
    libraries = closure(programs, sorted(target.runtime.os.libraries), target.architecture.machine)
    contents = {name: (0o644, text.encode()) for name, text in TEXTS.items()}
    contents["usr/bin/sh"] = (0o755, machine.shell.read_bytes())
    contents["lambda-entrypoint.sh"] = (0o755, ENTRYPOINT.encode())
    contents["usr/local/bin/lading-rie"] = (0o755, emulator_source(f"/var/lang/bin/python{machine.version}").encode())
    links = {
        **LINKS,
        "usr/local/bin/aws-lambda-rie": "lading-rie",
        f"usr/lib/{target.architecture.machine}-linux-gnu": "../lib64",
    }
    for soname, path in libraries.items():
        if path.is_relative_to(machine.prefix):
            links[f"usr/lib64/{soname}"] = f"/var/lang/{path.relative_to(machine.prefix)}"
        else:
            contents[f"usr/lib64/{soname}"] = (0o755, path.read_bytes())
    if "ld-linux-aarch64.so.1" in libraries:
        links["usr/lib/ld-linux-aarch64.so.1"] = "../lib64/ld-linux-aarch64.so.1"
    certificates = next((Path(path) for path in CERTIFICATES if Path(path).is_file()), None)
    if certificates:
        contents[BUNDLE] = (0o644, certificates.read_bytes())
        links |= dict.fromkeys(
            ("etc/ssl/certs/ca-certificates.crt", "etc/ssl/cert.pem", "usr/lib/ssl/cert.pem"), f"/{BUNDLE}"
        )
    with store.blobs.writer() as output:
        writer = LayerWriter(output, "gzip")
        folders = {*FOLDERS, *(str(above) for name in (*contents, *links) for above in Path(name).parents)} - {"."}
        for folder in sorted(folders):
            writer.folder(folder)
        writer.folder("tmp", 0o1777)
        for name, (mode, content) in sorted(contents.items()):
            writer.file(name, mode, content)
        for name, link in sorted(links.items()):
            writer.link(name, link)
        return writer.finish(store.blobs, "lading base build: system")


def _extensions(machine: _Machine) -> list[Path]:
    return [path for path in sorted((machine.library / "lib-dynload").glob("*.so")) if not LEFT_OUT.search(path.name)]


def _wheels(target: Target, store: Store, policy: Policy, progress: Progress) -> tuple[Bundle, ...]:
    """The client and the SDK that the runtime brings, in the versions of runtimes.toml."""
    pins = tuple(f"{name}=={version}" for name, version in sorted(target.runtime.bundled.items()))
    requirements = Requirements(RequirementKind.INLINE, specifiers=pins)
    with tempfile.TemporaryDirectory(dir=store.temporary) as scratch:
        locked = lock(requirements, target, LockPlace(Path(scratch), "runtime"), policy, progress)
        wheels = fetch(locked, target, store.blobs, store.actions, policy=policy, progress=progress)
    return tuple(prepare_wheel(wheel, Recipe(), store.blobs, store.actions) for wheel in wheels)


def _prepared_layers(
    target: Target, machine: _Machine, store: Store, compilers: CompilerPool, wheels: tuple[Bundle, ...]
) -> tuple[Layer, ...]:
    """/var/lang and /var/runtime, with bytecode: the image is read-only on Lambda."""
    blobs, actions = store.blobs, store.actions

    def compiled(bundle: Bundle, place: Place) -> list[Selection]:
        if not any(name.endswith(".py") for name in bundle.names):
            return [Selection(bundle)]
        return [Selection(bundle), Selection(prepare_bytecode(bundle, place, compilers, blobs, actions))]

    library = f"lib/python{machine.version}/"
    language = _bundle("interpreter", machine.interpreter.version, _interpreter_files(machine), store)
    client = _bundle("bootstrap", "", _bootstrap_files(target, machine), store)
    runtime = [part for bundle in (*wheels, client) for part in compiled(bundle, Place("", "/var/runtime"))]
    plans = (
        LayerPlan(
            f"Python {machine.interpreter.version}", "var/lang", tuple(compiled(language, Place(library, "/var/lang")))
        ),
        LayerPlan("runtime client and SDK", "var/runtime", tuple(runtime)),
    )
    return make_layers(plans, "gzip", blobs, actions)


def _bundle(name: str, version: str, files: Iterator[tuple[str, int, bytes]], store: Store) -> Bundle:
    with store.blobs.writer() as output:
        writer = BundleWriter(output)
        for path, mode, content in sorted(files):
            writer.add_content(path, mode, content)
        bundle = writer.finish("base", name, version)
    return keep(bundle, f"base|{name}|{bundle.data}", store.blobs, store.actions)


def _interpreter_files(machine: _Machine) -> Iterator[tuple[str, int, bytes]]:
    """Below /var/lang: program, shared library, standard library, pip. Where it was built is rewritten to where it is."""
    version, prefix = machine.version, str(machine.prefix).encode()
    yield f"bin/python{version}", EXECUTABLE_MODE, Path(machine.interpreter.path).resolve().read_bytes()
    for name in ("python3", "python"):
        yield f"bin/{name}", LINK_MODE, f"python{version}".encode()
    for path in (machine.prefix / "lib").glob(f"libpython{version}*.so*"):
        if path.is_symlink():
            yield f"lib/{path.name}", LINK_MODE, path.resolve().name.encode()
        else:
            yield f"lib/{path.name}", EXECUTABLE_MODE, path.read_bytes()
    for path in machine.library.rglob("*"):
        name = path.relative_to(machine.library).as_posix()
        if path.is_file() and not LEFT_OUT.search(name):
            content = path.read_bytes()
            if name.startswith("_sysconfigdata"):
                content = content.replace(prefix, b"/var/lang")
            yield f"lib/python{version}/{name}", EXECUTABLE_MODE if path.suffix == ".so" else FILE_MODE, content
    yield from _pip_files(machine)


def _pip_files(machine: _Machine) -> Iterator[tuple[str, int, bytes]]:
    """The pip that the interpreter itself carries for `ensurepip`, where it does."""
    for wheel in sorted((machine.library / "ensurepip" / "_bundled").glob("pip-*.whl"))[-1:]:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield f"lib/python{machine.version}/site-packages/{entry.filename}", FILE_MODE, archive.read(entry)
        for name in ("pip", "pip3"):
            yield f"bin/{name}", EXECUTABLE_MODE, PIP.format(version=machine.version).encode()


def _bootstrap_files(target: Target, machine: _Machine) -> Iterator[tuple[str, int, bytes]]:
    program = BOOTSTRAP.format(search_path=list(target.runtime.search_path))
    yield "bootstrap", EXECUTABLE_MODE, START.format(version=machine.version).encode()
    yield "bootstrap.py", FILE_MODE, program.encode()
