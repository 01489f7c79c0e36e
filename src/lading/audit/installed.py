"""An artifact's files sorted into the distributions they came with, by the RECORD each one left; the rest is own code."""

from __future__ import annotations

import csv
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from lading.audit.inventory import Entry, gather
from lading.audit.package import PackageFacts
from lading.errors import LadingError
from lading.model.names import normalize
from lading.model.target import Target

_LARGEST_RECORD = 32 << 20
_DIST_INFO = re.compile(r"^([^/]+)-([^/-]+)\.dist-info/")
_LAYER_ROOT = re.compile(r"^python/(?:lib/python(\d\.\d+)/site-packages/)?")


def gather_function(
    entries: Iterable[Entry], handlers: tuple[str, ...] = (), *, root: str = ""
) -> tuple[PackageFacts, ...]:
    """The distributions of a function's code folder, own code first (name ""). `root`: an absolute one in its place."""
    return _gather_root(list(entries), root, handlers)


def gather_layer(entries: Iterable[Entry], target: Target) -> tuple[PackageFacts, ...]:
    """The distributions of a layer: what lies under python/ as the target looks there, and the rest as plain files."""
    roots: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        match = _LAYER_ROOT.match(entry.path)
        usable = match is not None and match[1] in (None, target.runtime.python_version)
        # Another version's site-packages are on no path: plain files, and a finding of their own.
        root = match[0] if match is not None and usable else ""
        roots[root].append(entry._replace(path=entry.path[len(root) :]))
    packages: list[PackageFacts] = []
    for root, members in sorted(roots.items(), key=lambda item: -len(item[0])):
        if root:
            packages += _gather_root(members, root.rstrip("/"), ())
        else:
            packages.append(gather(members, importable=False))
    return tuple(packages)


def _gather_root(entries: list[Entry], root: str, handlers: tuple[str, ...]) -> tuple[PackageFacts, ...]:
    owners = _Owners(entries)
    groups: dict[str, list[Entry]] = defaultdict(list)
    lonely = not owners.names
    own = {handler.replace("/", ".").partition(".")[0] for handler in handlers}
    for entry in entries:
        groups[owners.of(entry.path) or (_stand_in(entry.path, own) if lonely else "")].append(entry)
    packages = []
    for key, members in sorted(groups.items()):
        name, version = owners.names.get(key, (key, ""))
        packages.append(gather(members, name=name, version=version, root=root))
    return tuple(packages)


def _stand_in(path: str, own: set[str]) -> str:
    """Without any metadata, a top-level package that holds no handler is taken for somebody else's."""
    top, slash, _ = path.partition("/")
    return normalize(top) if slash and own and top not in own else ""


class _Owners:
    """Which distribution a path belongs to: by RECORD, by its folder, by the name of a .dist-info or .libs folder."""

    def __init__(self, entries: list[Entry]) -> None:
        self.names: dict[str, tuple[str, str]] = {}
        self.paths: dict[str, str] = {}
        self.folders: dict[str, str] = {}
        for entry in entries:
            match = _DIST_INFO.match(entry.path)
            if match:
                key = normalize(match[1])
                self.names.setdefault(key, (key, match[2]))
                if entry.path.endswith(".dist-info/RECORD"):
                    self._add_record(entry, key)

    def _add_record(self, entry: Entry, key: str) -> None:
        for path in _read_record(entry):
            self.paths[path] = key
            folder = posixpath.dirname(path)
            while folder:
                known = self.folders.setdefault(folder, key)
                if known != key:
                    self.folders[folder] = ""
                folder = posixpath.dirname(folder)

    def of(self, path: str) -> str:
        known = self.paths.get(path)
        if known is not None:
            return known
        match = _DIST_INFO.match(path)
        if match:
            return normalize(match[1])
        top = path.partition("/")[0]
        if top.endswith(".libs") and normalize(top[:-5]) in self.names:
            return normalize(top[:-5])
        folder = posixpath.dirname(path)
        if posixpath.basename(folder) == "__pycache__":
            folder = posixpath.dirname(folder)
            source = posixpath.join(folder, posixpath.basename(path).partition(".")[0] + ".py")
            if source in self.paths:
                return self.paths[source]
        return self.folders.get(folder, "") if folder else ""


def _read_record(entry: Entry) -> Iterator[str]:
    """Paths a RECORD lists inside the install root; what it says of others, and broken lines, are passed over."""
    try:
        with entry.open() as stream:
            text = stream.read(_LARGEST_RECORD).decode("utf-8", "replace")
    except (LadingError, OSError):
        return
    try:
        for row in csv.reader(text.splitlines()):
            if row and row[0] and not row[0].startswith(("/", "..")):
                yield row[0]
    except csv.Error:
        return
