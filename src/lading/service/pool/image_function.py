"""Functions that are images: what such a function runs, where its root comes from, and why it could not be started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lading.errors import ConfigError
from lading.oci.image import Image
from lading.oci.unpack import ImageTrees, chain_of
from lading.sandbox.image import ImageProcess, ImageRoot, Mounted, find_client
from lading.sandbox.spec import ProcessEnded, SandboxSpec
from lading.service.pool.faults import Fault

MOST_ARGUMENTS = 1500
"""Of ENTRYPOINT or CMD (API reference, "ImageConfig")."""


class ImageProcessError(ConfigError):
    """An image's config says nothing to run, or says it in no readable way."""


@dataclass(frozen=True)
class Overrides:
    """A function's ImageConfig; None leaves the image's own."""

    entry: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    folder: str | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Overrides:
        """From the API's shape. An empty list or string leaves the image's own, as on Lambda."""
        entry, command = (tuple(config.get(name) or ()) or None for name in ("EntryPoint", "Command"))
        return cls(entry, command, config.get("WorkingDirectory") or None)


class RootLease:
    """An image's folders, kept mounted or unpacked while somebody holds them. Made held once; safe between threads."""

    def __init__(
        self, folders: tuple[Path, ...], close: Callable[[], None] = lambda: None, mounted: Mounted | None = None
    ) -> None:
        self.folders = folders
        self.mounted = mounted
        self._close = close
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        with self._lock:
            if not self._holders:
                raise ValueError("the root was released")
            self._holders += 1

    def release(self) -> None:
        """The last one ends it."""
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last:
            self._close()


@dataclass(frozen=True)
class OwnedImage:
    """An image, and the account whose function it is: 12 digits."""

    image: Image
    account: str


class Roots(Protocol):
    """Gives images' roots as folders of this machine, by digest; a lazily mounted one is one folder. Safe between threads."""

    def prepare(self, owned: OwnedImage) -> None:
        """Does ahead what takes long. Raises ImageFormatError, StoreError."""
        ...

    def open(self, owned: OwnedImage) -> RootLease:
        """Blocks until the root can be used. Raises ImageFormatError, StoreError, SandboxError."""
        ...

    def keep_only(self, images: Iterable[OwnedImage]) -> None:
        """Remove what was prepared of others and nobody has open. What is asked for all the same is prepared again."""
        ...

    def sweep(self, images: Iterable[OwnedImage]) -> None:
        """Remove what was prepared of others and is in nobody's use, as far as that can be done while others work."""
        ...

    def metrics(self) -> str:
        """What reads of mounted images found, as Prometheus' text; empty where none is ever mounted. Blocks."""
        ...

    def close(self) -> None:
        """Nothing is mounted any more."""
        ...


class UnpackedRoots:
    """Whole images on the disk, layer by layer, each once, whoever's they are."""

    def __init__(self, trees: ImageTrees) -> None:
        self._trees = trees

    def prepare(self, owned: OwnedImage) -> None:
        self._trees.unpack(owned.image)

    def open(self, owned: OwnedImage) -> RootLease:
        held = self._trees.hold(owned.image)
        return RootLease(held.folders, held.release)

    def keep_only(self, images: Iterable[OwnedImage]) -> None:
        self._trees.keep_only({name for owned in images for name in chain_of(owned.image)})

    def sweep(self, images: Iterable[OwnedImage]) -> None:
        self.keep_only(images)

    def metrics(self) -> str:
        return ""

    def close(self) -> None:
        """Folders stay."""


def process_of(image: Image, overrides: Overrides) -> ImageProcess:
    """What a function of this image runs. USER counts for nothing: Lambda runs every function as its own least
    privileged user (developer guide, "Create a function using a container image", requirements).

    Raises ImageProcessError.
    """
    own = image.process
    entry = overrides.entry if overrides.entry is not None else _words(own.get("Entrypoint"), "Entrypoint")
    command = overrides.command if overrides.command is not None else _words(own.get("Cmd"), "Cmd")
    folder = overrides.folder or own.get("WorkingDir") or "/"
    if not entry and not command:
        raise ImageProcessError(
            "the image has neither ENTRYPOINT nor CMD", hint="set one in the image, or in ImageConfig"
        )
    if not isinstance(folder, str) or "\0" in folder:
        raise ImageProcessError(f"the image's WorkingDir is {folder!r}", hint="set WORKDIR to an absolute path")
    return ImageProcess(entry, command, folder, _variables(own.get("Env")))


def _words(value: object, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    words = value if isinstance(value, Sequence) and not isinstance(value, str) else None
    if (
        words is None
        or len(words) > MOST_ARGUMENTS
        or not all(isinstance(word, str) and "\0" not in word for word in words)
    ):
        raise ImageProcessError(f"the image's {name} is no list of words", hint="write it in the form of a JSON list")
    return tuple(words)


def _variables(value: object) -> dict[str, str]:
    entries = value if isinstance(value, list) else []
    pairs = [entry.partition("=") for entry in entries if isinstance(entry, str) and "\0" not in entry]
    return {name: text for name, equals, text in pairs if name and equals}


def root_of(image: Image, overrides: Overrides, lease: RootLease) -> ImageRoot:
    """The root of a function's environments. Raises ImageProcessError."""
    process = process_of(image, overrides)
    return ImageRoot(lease.folders, process, find_client(lease.folders, process), lease.mounted)


def judge_image(spec: SandboxSpec, ended: ProcessEnded) -> Fault | None:
    """Why an image's process could not be started, in AWS's words (its emulator's simple_bootstrap.go; logs in public
    issue trackers, such as aws-cli 5785); None where it ran."""
    if spec.image is None or not ended.refused:
        return None
    process, reason = spec.image.process, ended.refused
    if reason.startswith("chdir: "):
        if not process.folder.startswith("/"):
            message = f"the working directory '{process.folder}' is invalid, it needs to be an absolute path"
        else:
            message = f"the working directory doesn't exist: {process.folder}"
        return Fault("Runtime.InvalidWorkingDir", message)
    program = process.command[0]
    if "$PATH" in reason:
        return Fault("Runtime.InvalidEntrypoint", f"Couldn't find valid bootstrap(s): [{program}]")
    return Fault("Runtime.InvalidEntrypoint", f"fork/exec {program}: {reason}")


def launch_error(spec: SandboxSpec, fault: Fault) -> str:
    """The line that Lambda logs for it."""
    assert spec.image is not None, "only images have one"
    process = spec.image.process
    said = (
        f"Entrypoint: [{' '.join(process.entry)}]",
        f"Cmd: [{' '.join(process.arguments)}]",
        f"WorkingDir: [{process.folder}]",
    )
    return "\t".join(["IMAGE", f"Launch error: {fault.message}", *said])
