"""Which operations make an environment: its base (the same for every function of a runtime) and its own part.

A zygote stands in a finished base and its forks do only the own part; the exec path does both. Looks at the host's
folders, changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from lading.errors import SandboxError
from lading.sandbox import operations as do
from lading.sandbox.environment import DEBUGGED, SNAPSHOT, UID, USER, bootstrap_source, debugged_source, search_path
from lading.sandbox.image_layout import root_operations
from lading.sandbox.operations import Operation
from lading.sandbox.outgoing import Way, name_servers
from lading.sandbox.spec import EPHEMERAL_STORAGE, RUNTIME_API, Network, SandboxSpec

_SYSTEM = ("lib", "lib32", "lib64", "libx32", "bin", "sbin")
_USER_SYSTEM = ("usr/lib", "usr/lib32", "usr/lib64", "usr/libx32", "usr/bin", "usr/sbin", "usr/share/zoneinfo")
_CERTIFICATES = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_MASKED = ("kcore", "keys", "kallsyms", "sysrq-trigger", "timer_list")
"""What of /proc says something of the host; most of it is root's already."""


def base(spec: SandboxSpec) -> tuple[Operation, ...]:
    """The root that every environment of this interpreter and client shares. Ends inside, with the root read-only."""
    servers = name_servers() if spec.network is Network.OUTGOING else ()
    if spec.image:
        root = root_operations(spec.image, servers, _devices())
        return (do.Unshare(("mount",)), do.Stage(), *root, do.Proc(), do.Enter(), do.Seal("/dev"), do.Seal())
    return (
        do.Unshare(("mount",)),
        do.Stage(),
        *_skeleton(),
        *_system(),
        *_settings(servers),
        *_devices(),
        *(_language(spec) if spec.interpreter else ()),
        *(_client(spec) if spec.client else ()),
        do.Proc(),  # before the host's is gone: in a user namespace the kernel wants to see one to allow another
        do.Enter(),
        do.Seal(),
    )


def own(spec: SandboxSpec, user: int, way: Way | None = None) -> tuple[Operation, ...]:
    """What belongs to one environment. Runs inside a finished base."""
    return (*walls(user, way), *dress(spec, user))


def walls(user: int, way: Way | None = None) -> tuple[Operation, ...]:
    """An environment's processes, names, network and /tmp: the same for all functions, so they can stand ready."""
    return (
        do.Unshare(("mount", "uts", "ipc", "net")),
        do.Proc(),
        *((do.Link("network", way.link, way.address, way.gateway),) if way else ()),  # it switches something off there
        *(do.Mask(f"/proc/{name}") for name in _MASKED),
        do.Readonly("/proc/sys"),
        _temporary(EPHEMERAL_STORAGE.start, user),
        do.Hostname(RUNTIME_API[0].replace(".", "-")),
        do.Loopback(RUNTIME_API[0]),
    )


def dress(spec: SandboxSpec, user: int) -> tuple[Operation, ...]:
    """What a function brings: its code, its layers, a larger /tmp."""
    return (
        *((do.Attach("code", "/var/task"),) if spec.code else ()),
        *((do.Attach("layers", "/opt"),) if spec.layers else ()),
        *((_temporary(spec.ephemeral_storage, user),) if spec.ephemeral_storage > EPHEMERAL_STORAGE.start else ()),
    )


def _temporary(size: int, user: int) -> Operation:
    return do.Tmpfs("/tmp", f"mode=1777,size={size}m,uid={user},gid={user}")


def find_prefix(interpreter: Path) -> tuple[Path, str]:
    """The resolved prefix and the version ("3.13") of a CPython. Raises SandboxError where there is none."""
    prefix = interpreter.resolve()
    if prefix.is_file():
        prefix = prefix.parent.parent
    versions = [match[1] for path in (prefix / "bin").glob("python3.*") if (match := _PROGRAM.fullmatch(path.name))]
    usable = [version for version in versions if (prefix / "lib" / f"python{version}" / "os.py").is_file()]
    if len(usable) != 1:
        found = f"{len(usable)} interpreters" if usable else "no interpreter with its library"
        raise SandboxError(f"{prefix} has {found}", hint="give the folder that holds bin/python3.X and lib/python3.X")
    return prefix, usable[0]


_PROGRAM = re.compile(r"python(3\.\d+)")


def _skeleton() -> Iterator[Operation]:
    # The loader looks once whether a folder of its search path exists: a zygote must find those that its forks may have.
    for path in (
        "/var/task/lib",
        "/opt/lib",
        "/var/lang",
        "/var/runtime",
        "/var/empty",
        "/proc",
        "/dev",
        "/etc",
        "/run",
    ):
        yield do.Directory(path)
    yield do.Directory("/tmp", 0o1777)


def _system() -> Iterator[Operation]:
    """The host's loader, libraries and programs: what stands for Amazon Linux here."""
    for name in _USER_SYSTEM:
        source = Path("/") / name
        if source.is_dir() and not source.is_symlink():
            yield do.Directory(f"/{name}")
            yield do.Bind(source, f"/{name}")
    for name in _SYSTEM:
        source = Path("/") / name
        if source.is_symlink():
            yield do.Symlink(str(source.readlink()), f"/{name}")
        elif source.is_dir():
            yield do.Directory(f"/{name}")
            yield do.Bind(source, f"/{name}")


def _settings(servers: tuple[str, ...]) -> Iterator[Operation]:
    yield do.File("/etc/passwd", f"root:x:0:0:root:/root:/bin/bash\n{USER}:x:{UID}:{UID}::/home/{USER}:/sbin/nologin\n")
    yield do.File("/etc/group", f"root:x:0:\n{USER}:x:{UID}:\n")
    yield do.File("/etc/hosts", "127.0.0.1 localhost\n127.0.0.1 sandbox.localdomain sandbox\n")
    yield do.File("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    yield do.File("/etc/resolv.conf", "".join(f"nameserver {server}\n" for server in servers))
    certificates = next((path for path in _CERTIFICATES if path.is_file()), None)
    if certificates:
        yield do.Directory("/etc/ssl/certs")
        yield do.Directory("/etc/pki/tls/certs")
        for path in _CERTIFICATES:
            yield do.File(str(path), "")
            yield do.Bind(certificates.resolve(), str(path))
        yield do.Symlink("certs/ca-certificates.crt", "/etc/ssl/cert.pem")


def _devices() -> Iterator[Operation]:
    for name in _DEVICES:
        yield do.File(f"/dev/{name}", "")
        yield do.Device(f"/dev/{name}")
    yield do.Symlink("/proc/self/fd", "/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        yield do.Symlink(f"/proc/self/fd/{number}", f"/dev/{name}")


def _language(spec: SandboxSpec) -> Iterator[Operation]:
    assert spec.interpreter is not None
    prefix, version = find_prefix(spec.interpreter)
    yield do.Bind(prefix, "/var/lang")
    # whatever was installed into the host's interpreter isn't on Lambda, but for pip
    packages = f"lib/python{version}/site-packages"
    if (prefix / packages / "pip").is_dir():
        yield do.Tmpfs(f"/var/lang/{packages}", "mode=0755,size=64k")
        yield do.Directory(f"/var/lang/{packages}/pip")
        yield do.Readonly(f"/var/lang/{packages}")
        yield do.Bind(prefix / packages / "pip", f"/var/lang/{packages}/pip")
    else:
        yield do.Hide(f"/var/lang/{packages}")
    yield do.Hide("/var/lang/lib/python3/dist-packages")


def _client(spec: SandboxSpec) -> Iterator[Operation]:
    assert spec.client is not None
    files = {}
    if search_path(spec.runtime):
        snapshot = resources.files("lading.sandbox.inside").joinpath("snapshot.py").read_text("utf-8")
        files = {"bootstrap.py": bootstrap_source(spec.runtime), f"{SNAPSHOT}.py": snapshot}
    debugger: tuple[Path, ...] = ()
    if spec.debugger:
        files[Path(DEBUGGED).name] = debugged_source()
        debugger = (spec.debugger.folder.resolve(),)
    yield do.Overlay("/var/runtime", (spec.client.resolve(), *debugger), files)
