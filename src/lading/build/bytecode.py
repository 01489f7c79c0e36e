"""Bytecode for a prepared bundle: a bundle of its own, compiled once per content, interpreter and place, kept deflated.

Sources come from the bundle, so that whatever the artifact holds is what was compiled. Together with the bytecode, what
the sources import is kept for the audit.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lading.audit import imports
from lading.build import bundle as bundles
from lading.build import compiler
from lading.build.bundle import Bundle, BundleWriter
from lading.build.records import FILE_MODE, Member
from lading.build.workers import CompilerPool, Source, Worker
from lading.errors import StoreError
from lading.model.blobs import Actions, Blobs
from lading.resolve.interpreters import Interpreter

if TYPE_CHECKING:
    from concurrent.futures import Future

LARGEST_SOURCE = 32 << 20
"""Bytes; larger files named .py are data, and are left as they are."""


@dataclass(frozen=True)
class Place:
    """Where an artifact is unpacked on Lambda (`mount`) and where imports begin in it (`prefix`)."""

    prefix: str = ""
    mount: str = "/var/task"


FUNCTION = Place()
LAYER = Place("python/", "/opt")


@dataclass(frozen=True)
class _Piece:
    """One source's outcome: facts (a JSON object, as text: thousands wait for the others), and the member where it compiled."""

    facts: bytes
    member: Member | None = None
    packed: bytes = b""
    digest: bytes = b""


def bytecode_key(bundle: Bundle, place: Place, interpreter: Interpreter, *, legacy: bool = False) -> str:
    """Names the bytecode of a bundle in the store."""
    import zlib

    parts = [
        f"bytecode-{bundles.FORMAT}",
        bundle.index,
        place.prefix,
        place.mount,
        interpreter.version,
        interpreter.magic,
    ]
    return "|".join(
        [*parts, interpreter.tag, _code_digest(), zlib.ZLIB_RUNTIME_VERSION, "legacy" if legacy else "pycache"]
    )


def recall_bytecode(
    bundle: Bundle, place: Place, interpreter: Interpreter, blobs: Blobs, actions: Actions, *, legacy: bool = False
) -> Bundle | None:
    """The bytecode of a bundle, where it has been prepared before. Starts no process."""
    return bundles.recall(bytecode_key(bundle, place, interpreter, legacy=legacy), blobs, actions)


def prepare_bytecode(
    bundle: Bundle, place: Place, pool: CompilerPool, blobs: Blobs, actions: Actions, *, legacy: bool = False
) -> Bundle:
    """Bytecode of a bundle's sources, compiled now or remembered. `legacy`: `mod.pyc` in place of `mod.py` (PEP 3147).

    Thread-safe: several bundles may be prepared at once with one pool. Sources that don't compile are counted in
    `skipped`; their facts say why. Raises CompilerError, StoreError.
    """
    interpreter = pool.interpreter
    known = recall_bytecode(bundle, place, interpreter, blobs, actions, legacy=legacy)
    if known is not None:
        return known
    if legacy:
        made = _move(prepare_bytecode(bundle, place, pool, blobs, actions), interpreter, blobs)
    else:
        made = _compile(bundle, place, pool, blobs, actions)
    kept = bundles.keep(made, bytecode_key(bundle, place, interpreter, legacy=legacy), blobs, actions)
    if bundle.kind == "folder" and not legacy:
        actions.put("bytecode-last", _last_key(bundle, place, interpreter), kept.index.encode())
    return kept


def compiled_sources(bytecode: Bundle, interpreter: Interpreter) -> frozenset[str]:
    """Names of the sources that a bytecode bundle stands for: what `bytecode = "only"` leaves out of the artifact."""
    return frozenset(source_name(name, interpreter.tag) for name in bytecode.names)


def bytecode_name(source: str, tag: str) -> str:
    """`p/mod.py` → `p/__pycache__/mod.cpython-313.pyc`."""
    folder, slash, file = source.rpartition("/")
    return f"{folder}{slash}__pycache__/{file.removesuffix('.py')}.{tag}.pyc"


def source_name(bytecode: str, tag: str) -> str:
    """The other way round, from either layout."""
    folder, _, file = bytecode.rpartition("/")
    if folder.rpartition("/")[2] != "__pycache__":
        return bytecode[:-1]
    return f"{folder.removesuffix('__pycache__')}{file.removesuffix(f'.{tag}.pyc')}.py"


@functools.cache
def _code_digest() -> str:
    """Changes with the code that makes bytecode and facts."""
    files = (compiler.__file__, imports.__file__)
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:16]


def _last_key(bundle: Bundle, place: Place, interpreter: Interpreter) -> str:
    return "|".join([bundle.name, place.prefix, place.mount, interpreter.version, interpreter.magic, _code_digest()])


def _compile(bundle: Bundle, place: Place, pool: CompilerPool, blobs: Blobs, actions: Actions) -> Bundle:
    """Every source of the bundle, in its order; what an earlier bundle of the same folder has is copied."""
    sources = [number for number, name in enumerate(bundle.names) if _is_source(name, bundle.sizes[number])]
    earlier = _Earlier.find(bundle, place, pool.interpreter, blobs, actions)
    descriptor = os.open(blobs.path(bundle.data), os.O_RDONLY | os.O_CLOEXEC)
    pending: dict[int, Future[_Piece]] = {}
    try:
        job = functools.partial(
            _compile_one, bundle=bundle, place=place, descriptor=descriptor, tag=pool.interpreter.tag
        )
        pending |= {number: pool.submit(job, number) for number in sources if not earlier.has(bundle, number)}
        with blobs.writer() as output:
            writer = BundleWriter(output)
            facts, skipped = [], 0
            for number in sources:
                piece = pending.pop(number).result() if number in pending else earlier.piece(bundle.names[number])
                facts.append(piece.facts)
                skipped += piece.member is None
                if piece.member is not None:
                    writer.add(piece.member, piece.packed, piece.digest)
            kept = blobs.put([b"[", b",".join(facts), b"]"])
            return writer.finish(
                "bytecode", bundle.name, bundle.version, origin=bundle.index, facts=kept, skipped=skipped
            )
    except bundles.DamagedBundleError:
        raise blobs.corrupt(bundle.data) from None
    finally:
        for future in pending.values():
            if not future.cancel():
                future.exception()
        os.close(descriptor)


def _is_source(name: str, size: int) -> bool:
    return name.endswith(".py") and size <= LARGEST_SOURCE


def _compile_one(worker: Worker, number: int, *, bundle: Bundle, place: Place, descriptor: int, tag: str) -> _Piece:
    name = bundle.names[number]
    content = _content(bundle, number, descriptor)
    module, is_package = module_name(name, place.prefix)
    compiled = worker.compile(Source(f"{place.mount}/{name}", module, is_package, content))
    where = {"path": name, "name": module, "is_package": is_package}
    facts = _text(where)[:-1] + b"," + compiled.facts[1:]
    if compiled.bytecode is None:
        return _Piece(facts)
    member, packed = bundles.pack(bytecode_name(name, tag), FILE_MODE, compiled.bytecode)
    return _Piece(facts, member, packed, hashlib.sha256(compiled.bytecode).digest())


def _text(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode()


def module_name(path: str, prefix: str) -> tuple[str, bool]:
    """Dotted name of a source below `prefix`, and whether it is a package's `__init__`."""
    parts = path.removeprefix(prefix).removesuffix(".py").split("/")
    is_package = len(parts) > 1 and parts[-1] == "__init__"
    return ".".join(parts[:-1] if is_package else parts), is_package


def _content(bundle: Bundle, number: int, descriptor: int) -> bytes:
    offset, length = bundle.span(number)
    content = bundles.unpack(bundle.member(number), os.pread(descriptor, length, offset))
    if hashlib.sha256(content).digest() != bundle.digest(number):
        raise bundles.DamagedBundleError(
            f"{bundle.names[number]} is damaged in the cache", hint="run the command again"
        )
    return content


def _move(bytecode: Bundle, interpreter: Interpreter, blobs: Blobs) -> Bundle:
    """The same bytecode where sources would be."""
    with blobs.open(bytecode.data) as source, blobs.writer() as output:
        writer = BundleWriter(output)
        for number, member in enumerate(bytecode.members()):
            source.seek(bytecode.span(number)[0])
            moved = replace(member, name=f"{source_name(member.name, interpreter.tag)}c")
            writer.add(moved, source.read(member.packed), bytecode.digest(number))
        return writer.finish(
            "bytecode",
            bytecode.name,
            bytecode.version,
            origin=bytecode.origin,
            facts=bytecode.facts,
            skipped=bytecode.skipped,
        )


@dataclass(frozen=True)
class _Earlier:
    """What was compiled for the same folder before: pieces by source name, and the sources' digests then."""

    digests: dict[str, bytes]
    bytecode: Bundle | None
    facts: dict[str, dict[str, Any]]
    blobs: Blobs
    tag: str

    @classmethod
    def find(cls, bundle: Bundle, place: Place, interpreter: Interpreter, blobs: Blobs, actions: Actions) -> _Earlier:
        none = cls({}, None, {}, blobs, interpreter.tag)
        if bundle.kind != "folder":
            return none
        last = actions.get("bytecode-last", _last_key(bundle, place, interpreter))
        try:
            if last is None:
                return none
            bytecode = bundles.load(last.decode("ascii", "replace"), blobs)
            origin = bundles.load(bytecode.origin, blobs)
            with blobs.open(bytecode.facts) as file:
                facts = {entry["path"]: entry for entry in json.loads(file.read())}
        except (StoreError, ValueError):
            return none
        if not blobs.has(bytecode.data):
            return none
        digests = {name: origin.digest(number) for number, name in enumerate(origin.names)}
        return cls(digests, bytecode, facts, blobs, interpreter.tag)

    def has(self, bundle: Bundle, number: int) -> bool:
        name = bundle.names[number]
        return name in self.facts and self.digests.get(name) == bundle.digest(number)

    def piece(self, name: str) -> _Piece:
        """The outcome then, verified."""
        place = self.bytecode.positions_by_name.get(bytecode_name(name, self.tag)) if self.bytecode else None
        if self.bytecode is None or place is None:
            return _Piece(_text(self.facts[name]))
        member = self.bytecode.member(place)
        offset, length = self.bytecode.span(place)
        with self.blobs.open(self.bytecode.data) as file:
            file.seek(offset)
            packed = file.read(length)
        try:
            bundles.unpack(member, packed)
        except bundles.DamagedBundleError:
            raise self.blobs.corrupt(self.bytecode.data) from None
        return _Piece(_text(self.facts[name]), member, packed, self.bytecode.digest(place))
