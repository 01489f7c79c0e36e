"""What is known of one distribution: files, native code, modules, requirements. Values, and the form they are kept in.

Facts are loaded on every build, so modules stay in a compact text form until one is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lading.model.facts import ElfFacts

FORMAT = 1
"""Raised when the meaning of the stored bytes changes; older ones are gathered again."""

_EXTENSION = re.compile(r"\.(?:so|pyd)$")
_KINDS = {"a": "always", "g": "guarded", "l": "lazy"}


class Import(NamedTuple):
    """A module that is imported, and when: kind is "always" (at import), "guarded" (may fail) or "lazy" (when called)."""

    module: str
    kind: str
    line: int
    members: tuple[str, ...]


class Module(NamedTuple):
    """What a source imports and defines; its dotted name is the key it stands under."""

    is_package: bool
    imports: tuple[Import, ...]
    defines: tuple[str, ...] | None
    error: str


class Bytecode(NamedTuple):
    """A .pyc's header (PEP 552). `state`: "unchecked", "checked", "fresh" or "stale"."""

    magic: int
    state: str


@dataclass(frozen=True)
class PackageFacts:
    """One distribution, or the user's own files (name ""). Paths are relative to its install root."""

    name: str
    """Normalized (PEP 503)."""
    version: str = ""
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    """Path → (size, compressed size) in bytes."""
    elf: tuple[ElfFacts, ...] = ()
    modules: Mapping[str, Module] = field(default_factory=dict, hash=False)
    """Dotted name → facts, for every importable source; values may be read when first asked for."""
    requires: tuple[str, ...] = ()
    """Requires-Dist lines."""
    requires_python: str = ""
    foreign: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Native files of another system, or broken ones: path → what is wrong."""
    damaged: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Files whose bytes could not be read: path → why."""
    bytecode: Mapping[str, Bytecode] = field(default_factory=dict, hash=False)
    unreadable: tuple[str, ...] = ()
    """Files that only their owner may read: on Lambda the function's user is another."""
    not_executable: tuple[str, ...] = ()
    """Files under extensions/ or bin/ without an x bit for others."""
    root: str = ""
    """Install root inside the artifact: "" for a function, "python" or longer for a layer's packages."""

    @property
    def extensions(self) -> Iterator[str]:
        """Paths of extension modules, by name."""
        return (path for path in self.files if _EXTENSION.search(path))

    @property
    def size(self) -> int:
        return sum(size for size, _ in self.files.values())

    @property
    def compressed(self) -> int:
        return sum(compressed for _, compressed in self.files.values())

    @property
    def top_level(self) -> tuple[str, ...]:
        """Importable names without a dot, sorted."""
        names = {name.partition(".")[0] for name in self.modules}
        names.update(name.partition(".")[0] for name, _ in map(extension_module, self.extensions) if name)
        return tuple(sorted(names))

    def to_json(self) -> bytes:
        """Everything, as `from_json` takes it. Reads every module."""
        return json.dumps(
            {
                "format": FORMAT,
                "name": self.name,
                "version": self.version,
                "files": self.files,
                "elf": [[e.path, e.machine, e.soname, e.needed, e.runpath, e.versions, e.executable] for e in self.elf],
                "modules": {name: _pack(module) for name, module in self.modules.items()},
                "requires": self.requires,
                "requires-python": self.requires_python,
                "foreign": self.foreign,
                "damaged": self.damaged,
                "bytecode": self.bytecode,
                "unreadable": self.unreadable,
                "not-executable": self.not_executable,
                "root": self.root,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode("utf-8", "surrogatepass")

    @classmethod
    def from_json(cls, data: bytes) -> PackageFacts | None:
        """None when the bytes are of another format: gather again."""
        try:
            value = json.loads(data.decode("utf-8", "surrogatepass"))
            return cls._from_value(value) if value.get("format") == FORMAT else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def _from_value(cls, value: Mapping[str, Any]) -> PackageFacts:
        return cls(
            name=value["name"],
            version=value["version"],
            files=value["files"],
            elf=tuple(
                ElfFacts(path, machine, soname, tuple(needed), tuple(runpath), tuple(versions), executable)
                for path, machine, soname, needed, runpath, versions, executable in value["elf"]
            ),
            modules=PackedModules(value["modules"]),
            requires=tuple(value["requires"]),
            requires_python=value["requires-python"],
            foreign=value["foreign"],
            damaged=value["damaged"],
            bytecode={path: Bytecode(*header) for path, header in value["bytecode"].items()},
            unreadable=tuple(value["unreadable"]),
            not_executable=tuple(value["not-executable"]),
            root=value["root"],
        )


class PackedModules(Mapping[str, Module]):
    """Modules as stored text; one is unpacked when it is asked for."""

    def __init__(self, packed: Mapping[str, str]) -> None:
        self._packed = packed

    def __getitem__(self, name: str) -> Module:
        return _unpack(self._packed[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def module_name(path: str) -> tuple[str, bool]:
    """Dotted name and whether it is a package, of a .py or .pyc path; ("", False) for what import can't reach."""
    stem, _, suffix = path.rpartition(".")
    parts = stem.split("/")
    if suffix not in ("py", "pyc") or any("." in part for part in parts) or "__pycache__" in parts:
        return "", False
    if parts[-1] == "__init__":
        return ".".join(parts[:-1]), True
    return ".".join(parts), False


def extension_module(path: str) -> tuple[str, str]:
    """Dotted name and tag ("cpython-313-x86_64-linux-gnu", "abi3", "") of an extension module; ("", "") if it isn't one."""
    folder, _, base = path.rpartition("/")
    name, *tags = base.split(".")
    if not tags or tags[-1] not in ("so", "pyd") or len(tags) > 2 or "." in folder:
        return "", ""
    dotted = f"{folder.replace('/', '.')}.{name}" if folder else name
    return dotted, tags[0] if len(tags) == 2 else ""


def source_of_bytecode(path: str) -> str:
    """`a/b.py` of `a/__pycache__/b.cpython-313.pyc`; empty for a .pyc that stands in place of its source."""
    folder, _, base = path.rpartition("/")
    if folder != "__pycache__" and not folder.endswith("/__pycache__"):
        return ""
    parent = folder[: -len("__pycache__")]
    return f"{parent}{base.split('.')[0]}.py"


def _pack(module: Module) -> str:
    """Lines: "p" or "m" and the error; defined names or "*"; then one import each: kind letter and line, module, members."""
    error = " ".join(module.error.split())
    lines = [f"{'p' if module.is_package else 'm'}{error}", "*" if module.defines is None else " ".join(module.defines)]
    lines += [" ".join((f"{i.kind[0]}{i.line}", i.module, *i.members)) for i in module.imports]
    return "\n".join(lines)


def _unpack(text: str) -> Module:
    head, defines, *rest = text.split("\n")
    imports = []
    for line in rest:
        place, module, *members = line.split(" ")
        imports.append(Import(module, _KINDS[place[0]], int(place[1:]), tuple(members)))
    return Module(head[0] == "p", tuple(imports), None if defines == "*" else tuple(defines.split()), head[1:])
