"""Which operations make the root of an environment that is an image: its folders, and over them what the service lays.

Looks at the image's folders, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lading.errors import SandboxError
from lading.sandbox import operations as do
from lading.sandbox.environment import UID, USER
from lading.sandbox.image import ImageRoot
from lading.sandbox.merged import Merged
from lading.sandbox.operations import Operation

LARGEST_TABLE = 1 << 20
"""Bytes of an image's /etc/passwd that is read."""
TREE = "image"
"""The name of the mount tree that is sent along for an image that its owner has mounted."""
_FOLDERS = ("dev", "proc", "tmp", "etc")


def root_operations(image: ImageRoot, servers: tuple[str, ...], devices: Iterator[Operation]) -> Iterator[Operation]:
    """Between Stage and Enter. `devices` fill an empty /dev."""
    view = image.view
    sources = () if image.mounted else tuple(path.resolve() for path in image.folders)
    yield do.Root(sources, _laid_over(view, servers), _missing(view), TREE if image.mounted else "")
    yield do.Tmpfs("/dev", "mode=0755,size=64k,nr_inodes=32")
    yield from devices


def _missing(view: Merged) -> tuple[str, ...]:
    """Folders to mount on that the image lacks."""
    etc = view.find("etc")
    if etc is not None and (etc.is_symlink() or not etc.is_dir()):
        raise SandboxError("the image's /etc is not a folder", hint="build the image on a base with an ordinary /etc")
    found = {name: view.find(name) for name in _FOLDERS}
    return tuple(name for name, path in found.items() if path is None or path.is_symlink() or not path.is_dir())


def _laid_over(view: Merged, servers: tuple[str, ...]) -> dict[str, str]:
    """The service's own files of /etc, by name from the root."""
    return {
        "etc/hosts": "127.0.0.1 localhost\n127.0.0.1 sandbox.localdomain sandbox\n",
        "etc/resolv.conf": "".join(f"nameserver {server}\n" for server in servers),
        "etc/passwd": _with_line(
            view, "etc/passwd", "root:x:0:0:root:/root:/bin/sh", f"{USER}:x:{UID}:{UID}::/:/bin/sh"
        ),
        "etc/group": _with_line(view, "etc/group", "root:x:0:", f"{USER}:x:{UID}:"),
    }


def _with_line(view: Merged, name: str, root: str, own: str) -> str:
    """The image's table, with the function's user in it."""
    path = view.follow(name)
    text = _read(path) if path is not None else f"{root}\n"
    number = own.split(":")[2]
    if any(line.split(":")[2:3] == [number] for line in text.splitlines()):
        return text
    return f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{own}\n"


def _read(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        data = file.read(LARGEST_TABLE + 1)
    if len(data) > LARGEST_TABLE:
        raise SandboxError(f"the image's {path.name} is larger than 1 MiB", hint="what made it so large?")
    return data.decode("utf-8", "replace")
