"""Images for tests that run them, layer by layer: a shell and what it needs, a Python with AWS's client."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conftest import require_client, require_interpreter

from lading.build.base_libraries import closure
from lading.oci import media
from lading.oci.descriptor import Descriptor, Platform, digest_of
from lading.oci.image import empty
from lading.oci.layer import Layer
from lading.oci.layout import write_layout
from lading.store import Store

MACHINE = "x86_64"


def copy_program(root: Path, program: Path, place: str) -> None:
    """A program of this machine and the libraries it loads."""
    target = root / place
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(program.resolve(), target)
    for soname, path in closure([program.resolve()], [], MACHINE).items():
        folder = "lib64" if soname.startswith("ld-") else f"lib/{MACHINE}-linux-gnu"
        (root / folder).mkdir(parents=True, exist_ok=True)
        if not (root / folder / soname).exists():
            shutil.copy2(path, root / folder / soname)


def shell_layer(folder: Path) -> Path:
    """A root with /bin/sh and a few programs; no /etc, /dev, /proc, /tmp."""
    for name in ("dash", "cat", "ls", "id", "env", "sleep"):
        program = Path(shutil.which(name) or f"/bin/{name}")
        copy_program(folder, program, f"bin/{'sh' if name == 'dash' else name}")
    return folder


def python_layer(folder: Path, version: str = "3.13", prefix: str = "usr/local") -> Path:
    """An interpreter as Debian's images have it, below /usr/local, with awslambdaric in its site-packages."""
    home = require_interpreter(version)
    copy_program(folder, home / f"bin/python{version}", f"{prefix}/bin/python{version}")
    (folder / prefix / "bin/python3").symlink_to(f"python{version}")
    (folder / prefix / "bin/python").symlink_to("python3")
    library = home / f"lib/python{version}"
    ignored = shutil.ignore_patterns(
        "test", "tests", "idlelib", "site-packages", "config-*", "ensurepip", "__pycache__", "*.a"
    )
    shutil.copytree(library, folder / prefix / f"lib/python{version}", ignore=ignored, symlinks=True)
    client = require_client(version)
    packages = folder / prefix / f"lib/python{version}/site-packages"
    packages.mkdir()
    for entry in client.iterdir():
        if entry.name.startswith(("awslambdaric", "runtime_client", "snapshot_restore", "simplejson")):
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, packages / entry.name)
    extensions = [path for path in (folder / prefix).rglob("*.so") if "tkinter" not in path.name]
    for soname, path in closure(extensions, [], MACHINE).items():
        target = folder / f"lib/{MACHINE}-linux-gnu" / soname
        if not target.exists() and not soname.startswith("ld-"):
            shutil.copy2(path, target)
    return folder


def write_layer(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return folder


def write_image(store: Store, folders: list[Path], layout: Path, process: Mapping[str, Any]) -> Path:
    """An OCI layout of these layers, every file root's, as builders make it."""
    layers = []
    for folder in folders:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(folder, ".", filter=_owned_by_root)
        tar = buffer.getvalue()
        blob = gzip.compress(tar, 1, mtime=0)
        store.blobs.put([blob])
        descriptor = Descriptor(media.OCI_LAYER_GZIP, digest_of(blob), len(blob))
        layers.append(Layer(descriptor, digest_of(tar), store.blobs, "test"))
    image = empty(Platform("linux", "amd64")).append(layers).configure(process)
    write_layout(layout, [image], name="latest")
    return layout


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
