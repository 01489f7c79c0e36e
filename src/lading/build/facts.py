"""What the audit must know of a bundle, gathered once and remembered: reads prepared members, never the original files."""

from __future__ import annotations

import functools
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from lading.audit.installed import gather_layer
from lading.audit.inventory import Entry, gather
from lading.audit.package import FORMAT, PackageFacts
from lading.build import bundle as bundles
from lading.build.bundle import Bundle
from lading.build.records import DEFLATED, Member
from lading.errors import StoreError
from lading.model.blobs import Actions, Blobs
from lading.model.target import Target

CHUNK = 256 << 10
IN_MEMORY = 1 << 20
"""Bytes of a member that is unpacked at once."""


def wheel_facts(
    bundle: Bundle, bytecode: Bundle | None, root: str, blobs: Blobs, actions: Actions
) -> tuple[PackageFacts, ...]:
    """A distribution's facts. `root` is where imports begin in the artifact: "" or "python"."""

    def gather_one() -> tuple[PackageFacts, ...]:
        prefix = f"{root}/" if root else ""
        entries = [entry._replace(path=entry.path.removeprefix(prefix)) for entry in _entries(bundle, bytecode, blobs)]
        scans = {path.removeprefix(prefix): scan for path, scan in _scans(bytecode, blobs).items()}
        return (gather(entries, name=bundle.name, version=bundle.version, scans=scans, root=root),)

    return _remembered(f"wheel|{root}", bundle, bytecode, actions, gather_one)


def function_facts(bundle: Bundle, bytecode: Bundle | None, blobs: Blobs, actions: Actions) -> tuple[PackageFacts, ...]:
    """A function's own code (the package without a name)."""

    def gather_own() -> tuple[PackageFacts, ...]:
        return (gather(_entries(bundle, bytecode, blobs), scans=_scans(bytecode, blobs)),)

    return _remembered("function", bundle, bytecode, actions, gather_own)


def layer_facts(
    bundle: Bundle, bytecode: Bundle | None, target: Target, blobs: Blobs, actions: Actions
) -> tuple[PackageFacts, ...]:
    """A layer's own content: what lies under python/, and the rest."""

    def gather_content() -> tuple[PackageFacts, ...]:
        return gather_layer(_entries(bundle, bytecode, blobs), target)

    return _remembered(f"layer|{target.runtime.name}", bundle, bytecode, actions, gather_content)


def _remembered(
    what: str, bundle: Bundle, bytecode: Bundle | None, actions: Actions, make: Callable[[], tuple[PackageFacts, ...]]
) -> tuple[PackageFacts, ...]:
    key = f"{FORMAT}|{what}|{bundle.index}|{bytecode.index if bytecode else ''}"
    kept = actions.get("facts", key)
    if kept is not None:
        read = [PackageFacts.from_json(line) for line in kept.split(b"\n")]
        if all(facts is not None for facts in read):
            return tuple(facts for facts in read if facts is not None)
    made = make()
    actions.put("facts", key, b"\n".join(facts.to_json() for facts in made))
    return made


def _entries(bundle: Bundle, bytecode: Bundle | None, blobs: Blobs) -> Iterator[Entry]:
    for part in (bundle, bytecode):
        if part is None:
            continue
        for number, member in enumerate(part.members()):
            opener = functools.partial(open_member, part, number, blobs)
            mode = member.mode & 0o777
            yield Entry(member.name, member.size, member.packed, opener, mode, link=_is_link(member.mode))


def _is_link(mode: int) -> bool:
    return mode & 0o170000 == 0o120000


def open_member(bundle: Bundle, number: int, blobs: Blobs) -> BinaryIO:
    """A member's content as a stream. Reading raises DamagedBundleError when it is not what the record says."""
    offset, length = bundle.span(number)
    member = bundle.member(number)
    data = blobs.open(bundle.data)
    data.seek(offset)
    if member.size > IN_MEMORY and member.method == DEFLATED:
        return io.BufferedReader(_Inflating(data, member), CHUNK)
    with data:
        return io.BytesIO(bundles.unpack(member, data.read(length)))


class _Inflating(io.RawIOBase):
    """A large member unpacked as it is read, and verified at its end: a library of 25 MB is never in memory as a whole."""

    def __init__(self, data: BinaryIO, member: Member) -> None:
        self._data = data
        self._left = member.packed
        self._member = member
        self._inflater = zlib.decompressobj(-15)
        self._size = self._crc = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        try:
            content = self._next(len(buffer))
        except zlib.error:
            raise self._damaged() from None
        self._size += len(content)
        self._crc = zlib.crc32(content, self._crc)
        if not content and (self._size, self._crc) != (self._member.size, self._member.crc):
            raise self._damaged()
        buffer[: len(content)] = content
        return len(content)

    def _next(self, most: int) -> bytes:
        content = b""
        while not content and not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._data.read(min(self._left, CHUNK))
            if not packed:
                break
            if not self._inflater.unconsumed_tail:
                self._left -= len(packed)
            content = self._inflater.decompress(packed, most)
        return content

    def _damaged(self) -> bundles.DamagedBundleError:
        hint = "lading cache prune --older-than 0"
        return bundles.DamagedBundleError(f"{self._member.name} is damaged in the cache", hint=hint)

    def close(self) -> None:
        self._data.close()
        super().close()


def _scans(bytecode: Bundle | None, blobs: Blobs) -> Mapping[str, Mapping[str, Any]]:
    """What the compiler saw in the sources, by path."""
    if bytecode is None:
        return {}
    with blobs.open(bytecode.facts) as file:
        try:
            return {entry["path"]: entry for entry in json.loads(file.read())}
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"what the compiler saw in {bytecode.name} is not readable: {error}",
                hint="lading cache prune --older-than 0",
            ) from error
