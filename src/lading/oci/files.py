"""An image's files as a function will see them, layer over layer; the content of those that are asked for, kept in one file.

Names only meet names here: nothing is written under a path of the image's, nothing is followed outside of it.
Source: OCI image specification 1.1, "image layer filesystem changeset".
"""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from lading.oci.image import Image
from lading.oci.layer import Layer
from lading.oci.layer_tree import OPAQUE, WHITEOUT, ImageRefusedError
from lading.oci.tar import MOST_ENTRIES, Entry, Walker
from lading.oci.validate import LARGEST_IMAGE
from lading.sandbox.merged import resolve_links


@dataclass(frozen=True)
class File:
    """A file or a link of the image. `kept`: its content, where that was asked for."""

    path: str
    size: int = 0
    mode: int = 0
    time: int = 0
    link: str = ""
    """Of a symbolic link: what it says."""
    kept: Kept | None = None


@dataclass(frozen=True)
class Kept:
    """Bytes of a file that is open."""

    file: BinaryIO
    start: int
    length: int

    def open(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Section(self)))


class _Section(io.RawIOBase):
    """The bytes of a Kept as a file of their own."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._kept.length}[whence], 0)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        most = min(len(buffer), max(self._kept.length - self._at, 0))
        data = os.pread(self._kept.file.fileno(), most, self._kept.start + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class ImageFiles:
    """All files by path, without a leading slash."""

    def __init__(self, files: Mapping[str, File]) -> None:
        self.files = files

    def resolve(self, path: str) -> str:
        """The path without links; it need not exist. Links in a circle lead nowhere: they stay."""
        try:
            return resolve_links(path, self._link)
        except OSError:
            return path.strip("/")

    def _link(self, path: str) -> str | None:
        known = self.files.get(path)
        return known.link or None if known is not None else None

    def find(self, path: str) -> File | None:
        """What a path leads to; None where that is no file."""
        found = self.files.get(self.resolve(path))
        return None if found is None or found.link else found

    def below(self, folder: str) -> Iterator[tuple[str, File]]:
        """(path from the folder, file) of what lies in a folder, links as what they lead to."""
        start = f"{self.resolve(folder)}/".lstrip("/")
        for path, file in self.files.items():
            if path.startswith(start):
                aim = self.find(path) if file.link else file
                if aim is not None:
                    yield path[len(start) :], aim


def read_files(image: Image, spool: BinaryIO, wanted: Callable[[str], int]) -> ImageFiles:
    """Reads every layer once. `wanted`: how many bytes of the content at a path are kept at most, in `spool`.

    Raises ImageFormatError for a damaged layer, ImageRefusedError beyond the bounds of an image, OSError for a full disk.
    """
    files: dict[str, File] = {}
    reading = _Reading(spool, wanted)
    for layer in image.layers:
        files = reading.over(files, layer)
    spool.flush()
    return ImageFiles(files)


class _Reading:
    """What layers have in common: bounds, and the file that content is kept in."""

    def __init__(self, spool: BinaryIO, wanted: Callable[[str], int]) -> None:
        self._spool = spool
        self._wanted = wanted
        self._left = LARGEST_IMAGE
        self._entries = MOST_ENTRIES
        self._end = 0

    def over(self, lower: dict[str, File], layer: Layer) -> dict[str, File]:
        """The files once the layer lies on them."""
        fresh = _Layer(ImageFiles(lower))
        walker = Walker(self._pieces(layer))
        for entry in walker:
            self._entries -= 1
            if self._entries < 0:
                raise ImageRefusedError(f"the image has more than {MOST_ENTRIES:,} entries", hint="leave some out")
            self._add(fresh, entry, walker)
        return fresh.merged()

    def _pieces(self, layer: Layer) -> Iterator[bytes]:
        for piece in layer.uncompressed():
            self._left -= len(piece)
            if self._left < 0:
                raise ImageRefusedError(
                    f"the image unpacks to more than {LARGEST_IMAGE:,} bytes", hint="Lambda takes no larger one"
                )
            yield piece

    def _add(self, fresh: _Layer, entry: Entry, walker: Walker) -> None:
        path = fresh.place(entry.name)
        name = posixpath.basename(path)
        if not path or ".." in entry.name.split("/"):
            return  # `validate` says so
        if name == OPAQUE:
            fresh.opaque.add(posixpath.dirname(path))
        elif name.startswith(WHITEOUT):
            fresh.hidden.add(posixpath.join(posixpath.dirname(path), name.removeprefix(WHITEOUT)))
        elif entry.kind == "folder":
            fresh.folders.add(path)
        elif entry.kind == "link":
            fresh.put(File(path, link=entry.link, time=entry.mtime))
        elif entry.kind == "hard link":
            same = fresh.known(fresh.place(entry.link))
            if same is not None:
                fresh.put(File(path, same.size, same.mode, same.time, same.link, same.kept))
        elif entry.kind == "file":
            most = self._wanted(path)
            kept = self._keep(entry, walker, most) if most else None
            fresh.put(File(path, entry.size, entry.mode & 0o7777, entry.mtime, kept=kept))

    def _keep(self, entry: Entry, walker: Walker, most: int) -> Kept:
        start = self._end
        for piece in walker.content(entry):
            self._end += self._spool.write(piece[: start + most - self._end])
            if self._end == start + most:
                break
        return Kept(self._spool, start, self._end - start)


@dataclass
class _Layer:
    """A layer on what lies below it, as far as it was read."""

    below: ImageFiles
    own: dict[str, File] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    places: dict[str, str] = field(default_factory=dict)

    def place(self, name: str) -> str:
        """Where an entry goes: its folder may be a link of a lower layer, its own name is never followed."""
        folder, _, last = "/".join(part for part in name.split("/") if part not in ("", ".")).rpartition("/")
        if not folder:
            return last
        if folder not in self.places:
            self.places[folder] = self.below.resolve(folder)
        return f"{self.places[folder]}/{last}".lstrip("/")

    def known(self, path: str) -> File | None:
        return self.own.get(path) or self.below.files.get(path)

    def put(self, file: File) -> None:
        self.own[file.path] = file
        self.hidden.add(file.path)  # a folder below gives way, and all that is in it

    def merged(self) -> dict[str, File]:
        if not self.below.files:
            return self.own
        covered: dict[str, bool] = {}
        kept = {
            path: file
            for path, file in self.below.files.items()
            if path not in self.hidden
            and path not in self.folders
            and not self._covers(posixpath.dirname(path), covered)
        }
        return kept | self.own

    def _covers(self, folder: str, known: dict[str, bool]) -> bool:
        """Whether what lower layers have in a folder is gone."""
        if folder not in known:
            gone = folder in self.opaque or folder in self.hidden
            known[folder] = gone or (bool(folder) and self._covers(posixpath.dirname(folder), known))
        return known[folder]
