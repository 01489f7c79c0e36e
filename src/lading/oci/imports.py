"""Would a function import in its image? The audit of zips, against the image's own interpreter, search path and libraries.

Images of other processes than AWS's Python client are not audited, and say so.
"""

from __future__ import annotations

import io
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from lading.audit.installed import gather_function
from lading.audit.inventory import LARGEST_ELF, Entry
from lading.audit.package import PackageFacts
from lading.audit.run import audit
from lading.audit.subject import Subject
from lading.model.finding import Finding
from lading.model.target import Architecture, OperatingSystem, Target, runtimes
from lading.oci.files import File, ImageFiles, read_files
from lading.oci.image import Image
from lading.sandbox.image import ENTRYPOINT, SEARCH_PATH
from lading.store.folder import disk_errors

WRAPPERS = (
    "/usr/bin/env",
    "lading-rie",
    "aws-lambda-rie",
    "/usr/local/bin/lading-rie",
    "/usr/local/bin/aws-lambda-rie",
)
ARCHITECTURES = {"amd64": Architecture.X86_64, "arm64": Architecture.ARM64}
_PYTHON = re.compile(r"python3\.(\d+)")
_LIBRARY = re.compile(r"\.so(?:\.[0-9.]+)?$")
_SYSTEM = ("usr/", "lib/", "lib64/", "var/lang/", "etc/")
"""Where no function's own code is, but in folders of packages."""
_KEPT = re.compile(r"\.py$|\.so(?:\.[0-9.]+)?$|\.dist-info/(?:METADATA|RECORD)$")
_C_LIBRARY = re.compile(r"(?:^|/)(?:libc[.-][^/]*so[^/]*|libstdc\+\+\.so\.6[^/]*)$")
_SYMBOL = re.compile(rb"\0(GLIBC|GLIBCXX|CXXABI)_(\d+(?:\.\d+)+)(?=\0)")
_LOADER_FILES = re.compile(r"^etc/ld\.so\.conf(?:\.d/[^/]+\.conf)?$")
_LARGEST_LIBRARY = 64 << 20


@dataclass(frozen=True)
class ImageAudit:
    """Findings, what the image holds, and what was not looked at."""

    findings: tuple[Finding, ...] = ()
    packages: tuple[PackageFacts, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Client:
    """AWS's Python client as an image starts it: which interpreter, and what it is to import from where."""

    version: str
    """ "python3.13"."""
    home: str
    """The interpreter's prefix, such as "usr/local"."""
    handler: str
    folder: str
    """Where the function's own code is, such as "var/task"."""
    is_base: bool


def audit_image(image: Image, scratch: Path) -> ImageAudit:
    """Reads every layer once; `scratch` is a folder for what has to be at hand until this returns.

    Raises ImageFormatError, StoreError for a full disk.
    """
    with disk_errors("can't look into the image"), tempfile.TemporaryFile(dir=scratch) as spool:
        return _audit(image, cast(BinaryIO, spool))


def _audit(image: Image, spool: BinaryIO) -> ImageAudit:
    variables = _variables(image)
    folder = (variables.get("LAMBDA_TASK_ROOT") or _text(image.process.get("WorkingDir")) or "/var/task").strip("/")
    files = read_files(image, spool, _wanted)
    client = find_client(image, files, variables, folder)
    if client is None:
        return ImageAudit(notes=("its process is not AWS's Python client, so its imports are not audited",))
    architecture = ARCHITECTURES.get(image.platform.architecture)
    if client.version not in runtimes() or architecture is None:
        return ImageAudit(notes=(f"nothing is known of {client.version} on {image.platform}: imports are not audited",))
    runtime = replace(runtimes()[client.version], bundled={}, os=_system(files, client, variables))
    handlers = (client.handler,) if client.handler else ()
    code = gather_function(_entries(files, client.folder), handlers, root=_root(client.folder))
    installed = [package for place in _site_packages(client, variables) for package in _gather(files, place)]
    provided = _gather(files, "var/runtime") if client.is_base else ()
    subject = Subject(Target(runtime, architecture), handlers, (*code, *installed), tuple(provided), image=True)
    return ImageAudit(audit(subject), (*code, *installed, *provided))


def find_client(image: Image, files: ImageFiles, variables: Mapping[str, str], folder: str) -> Client | None:
    """What ENTRYPOINT and CMD start, where that is the client."""
    entry, arguments = _words(image.process.get("Entrypoint")), _words(image.process.get("Cmd"))
    command = [*entry, *arguments]
    if command[:1] == [ENTRYPOINT]:
        names = {match[0] for path in files.files if (match := _PYTHON.fullmatch(path.removeprefix("var/lang/bin/")))}
        return Client(names.pop(), "var/lang", "".join(command[1:2]), folder, is_base=True) if len(names) == 1 else None
    while command[:1] and command[0] in WRAPPERS:
        command = command[1:]
    if command[1:3] != ["-m", "awslambdaric"]:
        return None
    for place in [command[0]] if "/" in command[0] else _on_path(command[0], variables):
        program = files.resolve(place)
        match = _PYTHON.fullmatch(posixpath.basename(program))
        if match is not None and files.find(program) is not None:
            home = posixpath.dirname(posixpath.dirname(program))
            return Client(match[0], home, "".join(command[3:4]), _working_folder(image), is_base=False)
    return None


def _working_folder(image: Image) -> str:
    """Where `python -m awslambdaric` looks first: the folder that it is started in."""
    return _text(image.process.get("WorkingDir")).strip("/")


def _on_path(name: str, variables: Mapping[str, str]) -> list[str]:
    return [f"{folder}/{name}" for folder in variables.get("PATH", SEARCH_PATH).split(":") if folder]


def _wanted(path: str) -> int:
    """Bytes that the audit reads: sources, headers of bytecode, native files, metadata; the C library, for what it has."""
    if path.startswith(_SYSTEM) and "-packages/" not in path:
        return _LARGEST_LIBRARY if _C_LIBRARY.search(path) or _LOADER_FILES.match(path) else 0
    if path.endswith(".pyc"):
        return 16
    return LARGEST_ELF if _KEPT.search(path) else 0


def _site_packages(client: Client, variables: Mapping[str, str]) -> list[str]:
    """Where installed packages are looked for, in order, beside the function's own folder."""
    tail = f"lib/{client.version}/site-packages"
    places = [f"opt/python/{tail}", "opt/python"] if client.is_base else []
    places += [entry.strip("/") for entry in variables.get("PYTHONPATH", "").split(":") if entry.startswith("/")]
    places += [f"{client.home}/{tail}".lstrip("/")]
    if client.home == "usr":
        places += [f"usr/local/lib/{client.version}/dist-packages", "usr/lib/python3/dist-packages"]
    return [place for place in dict.fromkeys(places) if place not in (client.folder, "var/runtime")]


def _gather(files: ImageFiles, place: str) -> tuple[PackageFacts, ...]:
    entries = list(_entries(files, place))
    if place == "opt/python":
        entries = [entry for entry in entries if not entry.path.startswith("lib/")]
    return gather_function(entries, root=_root(place)) if entries else ()


def _root(place: str) -> str:
    """Packages' roots are from /var/task, or absolute."""
    return "" if place == "var/task" else f"/{place}"


def _entries(files: ImageFiles, folder: str) -> Iterator[Entry]:
    for path, file in files.below(folder):
        yield Entry(path, file.size, file.size, _Opener(file), file.mode, file.time)


@dataclass(frozen=True)
class _Opener:
    file: File

    def __call__(self) -> BinaryIO:
        # What was not kept is no source and no library: nobody reads more than its first bytes.
        return self.file.kept.open() if self.file.kept is not None else io.BytesIO()


def _system(files: ImageFiles, client: Client, variables: Mapping[str, str]) -> OperatingSystem:
    """The image's own libraries and the versions of symbols that they have."""
    folders = {files.resolve(folder) for folder in _library_folders(files, client, variables)}
    libraries = {posixpath.basename(path) for path in files.files if _LIBRARY.search(path) and _lies_in(path, folders)}
    versions: dict[str, str] = {}
    for path, file in files.files.items():
        if file.kept is not None and _C_LIBRARY.search(path) and _lies_in(path, folders):
            _note_symbols(file, versions)
    glibc = tuple(map(int, versions.get("GLIBC", "2.0").split(".")[:2]))
    return OperatingSystem("the image's", (glibc[0], glibc[1]), versions, frozenset(libraries))


def _lies_in(path: str, folders: set[str]) -> bool:
    return posixpath.dirname(path) in folders


def _library_folders(files: ImageFiles, client: Client, variables: Mapping[str, str]) -> Iterator[str]:
    """Where the loader looks. Source: ld.so(8); Debian's and Amazon Linux's own folders."""
    yield from ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib", f"{client.home}/lib")
    for machine in ("x86_64", "aarch64"):
        yield from (f"lib/{machine}-linux-gnu", f"usr/lib/{machine}-linux-gnu", f"usr/local/lib/{machine}-linux-gnu")
    yield from (entry for entry in variables.get("LD_LIBRARY_PATH", "").split(":") if entry.startswith("/"))
    for path, file in files.files.items():
        if file.kept is not None and _LOADER_FILES.match(path):
            lines = file.kept.open().read(65536).decode("utf-8", "replace").splitlines()
            yield from (line.strip() for line in lines if line.strip().startswith("/"))


def _note_symbols(file: File, versions: dict[str, str]) -> None:
    """The newest version of each family that a C library names: its own, since it needs nothing newer than itself."""
    assert file.kept is not None
    for family, number in _SYMBOL.findall(file.kept.open().read(_LARGEST_LIBRARY)):
        name, text = family.decode(), number.decode()
        if _pair(text) > _pair(versions.get(name, "0")):
            versions[name] = text


def _pair(number: str) -> tuple[int, ...]:
    return tuple(map(int, number.split(".")))


def _variables(image: Image) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in _words(image.process.get("Env")))
    return {name: value for name, _, value in pairs}


def _words(value: object) -> list[str]:
    return (
        [word for word in value if isinstance(word, str)]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else []
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
