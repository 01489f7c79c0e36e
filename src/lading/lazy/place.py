"""Where each file's content lies in the data space, and how that is cut into chunks. Decides; reads nothing.

Files are placed so that images with common layers, and versions of one image, have the same chunks (decision 13).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lading.lazy import starting
from lading.lazy.chunk import BLOCK, LARGEST_CHUNK
from lading.lazy.erofs_image import is_inline
from lading.lazy.tree import Node, count_links, walk_by_path

SMALLEST_PACK = 128 << 10
"""Bytes of small files after which a chunk may end early."""
LARGEST_TOGETHER = 8 << 20
"""Bytes of a file that are fetched at once when a start touches it. What is behind them in a larger one (libpython with its
symbols has 30 MB) is most likely never read."""
LARGEST_FIRST = 48 << 20
"""Bytes of what is fetched before anything is touched. It is about 30 MB, half of that as stored."""
_ONE_IN = 32
"""So many files, one ends a chunk: after the smallest pack, on average less than the largest chunk holds."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` bytes from `start` of a file's content, at `at` of its chunk."""

    node: Node
    start: int
    length: int
    at: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A chunk: where it begins in the data space, its bytes, what it is made of."""

    offset: int
    length: int
    pieces: tuple[Piece, ...]


class Layout:
    """Chunks in the order of the data space. `size`, `together` and `first` are right once `plans` has been read to its end.

    `together`: where what starts read lies, from byte to byte: who reads some of such a piece will read the rest.
    """

    def __init__(self, root: Node, first: Sequence[bytes] = ()) -> None:
        """`first`: paths that a start-up trace touched, in its order; they are placed before all others."""
        self._hot, self._rest = _sort(root, first)
        self._turns = _take_turns(self._rest)
        self._wanted: list[tuple[int, int, int]] = []
        self.size = 0
        self.together: list[tuple[int, int]] = []

    @property
    def first(self) -> list[tuple[int, int]]:
        """Pieces of the data that nearly every start reads, from byte to byte, in the order of a start."""
        found: list[tuple[int, int]] = []
        left = LARGEST_FIRST
        for _, start, end in sorted(self._wanted):
            left -= end - start
            if left < 0:
                break
            if found and found[-1][1] == start:
                start = found.pop()[0]
            found.append((start, end))
        return found

    def plans(self) -> Iterator[Plan]:
        """Gives each file its block as it goes."""
        yield from self._group(self._hot)
        for layer in sorted(self._rest):
            early, *others = self._rest[layer].groups()
            before: int | None = None
            for plan in self._keep_together(early):
                yield plan
                before = self._want(plan, before)
            for files in others:
                for plan in self._group(files):
                    yield plan
                    before = self._want(plan, before)

    def _want(self, plan: Plan, before: int | None) -> int | None:
        """Notes a chunk that any start reads. before: the turn of the one in front of it, if it has one; its own is returned."""
        first = plan.pieces[0]
        files = [id(piece.node) for piece in plan.pieces] if first.start < LARGEST_TOGETHER else []
        own = min((self._turns[one] for one in files if one in self._turns), default=None)
        # The kernel reads ahead: out of a file into what lies behind it.
        reached = before if first.start == 0 else None
        turn = min((one for one in (own, reached) if one is not None), default=None)
        if turn is not None:
            self._wanted.append((turn, plan.offset, plan.offset + _rounded(plan.length)))
        return own

    def _keep_together(self, files: _Files) -> Iterator[Plan]:
        """Notes the packs of small files as one piece, and the beginning of each large file."""
        pieces: dict[int, tuple[int, int]] = {}
        for plan in self._group(files):
            yield plan
            node = plan.pieces[0].node
            if plan.pieces[0].start < LARGEST_TOGETHER:
                number = node.block if node.size >= LARGEST_CHUNK else -1
                pieces[number] = (pieces.get(number, (plan.offset, 0))[0], plan.offset + plan.length)
        self.together += [(start, end) for start, end in pieces.values() if end - start > LARGEST_CHUNK]

    def _group(self, files: _Files) -> Iterator[Plan]:
        """Packs of small files, and large ones in chunks of their own. A group ends its last chunk."""
        pack: list[Node] = []
        filled = 0
        large: list[Node] = []
        for node, ends in zip(files.nodes, files.ends, strict=True):
            if node.size >= LARGEST_CHUNK:
                large.append(node)
                continue
            if filled + node.size > LARGEST_CHUNK:
                yield self._pack(pack)
                pack, filled = [], 0
            pack.append(node)
            filled += _rounded(node.size)
            if filled >= SMALLEST_PACK and ends:
                yield self._pack(pack)
                pack, filled = [], 0
        if pack:
            yield self._pack(pack)
        for node in large:
            yield from self._cut(node)

    def _pack(self, nodes: list[Node]) -> Plan:
        pieces, at = [], 0
        for node in nodes:
            node.block = (self.size + at) // BLOCK
            pieces.append(Piece(node, 0, node.size, at))
            at += _rounded(node.size)
        length = pieces[-1].at + pieces[-1].length
        plan = Plan(self.size, length, tuple(pieces))
        self.size += at
        return plan

    def _cut(self, node: Node) -> Iterator[Plan]:
        node.block = self.size // BLOCK
        for start in range(0, node.size, LARGEST_CHUNK):
            length = min(LARGEST_CHUNK, node.size - start)
            yield Plan(self.size, length, (Piece(node, start, length, 0),))
            self.size += _rounded(length)


@dataclass(slots=True)
class _Files:
    """Of one group, in order; of each whether its name ends a chunk. Paths aren't kept: there may be a million."""

    nodes: list[Node] = field(default_factory=list)
    ends: bytearray = field(default_factory=bytearray)

    def add(self, path: bytes, node: Node) -> None:
        self.nodes.append(node)
        self.ends.append(_ends(path))


@dataclass(slots=True)
class _Layer:
    """Files of a layer."""

    early: list[tuple[int, bytes, Node]] = field(default_factory=list)
    """Ranks, paths and files of what nearly every start reads."""
    _code: _Files = field(default_factory=_Files)
    _others: _Files = field(default_factory=_Files)

    def add(self, path: bytes, node: Node) -> None:
        """In the order of paths."""
        number = starting.rank(path)
        if number >= 0:
            self.early.append((number, path, node))
        else:
            (self._code if starting.is_code(path) else self._others).add(path, node)

    def groups(self) -> tuple[_Files, _Files, _Files]:
        """What nearly every start reads, in its order; what imports may read; the rest."""
        return _in_order(self.early), self._code, self._others


def _sort(root: Node, first: Sequence[bytes]) -> tuple[_Files, dict[int, _Layer]]:
    """Files with content apart from the metadata: those of the trace in its order, the others by layer."""
    count_links(root)
    rank = {path: number for number, path in reversed(list(enumerate(first)))}
    hot: list[tuple[int, bytes, Node]] = []
    taken: set[int] = set()
    for path, node in walk_by_path(root) if rank else ():
        if path in rank and _has_data(node) and id(node) not in taken:
            taken.add(id(node))
            hot.append((rank[path], path, node))
    rest: dict[int, _Layer] = {}
    for path, node in walk_by_path(root):
        if _has_data(node) and id(node) not in taken:
            if node.links > 1:
                taken.add(id(node))
            rest.setdefault(node.layer, _Layer()).add(path, node)
    return _in_order(hot), rest


def _take_turns(layers: dict[int, _Layer]) -> dict[int, int]:
    """When in a start each of the files is read that one does read; of several copies, that of the lowest layer."""
    early = [
        (path, node)
        for number in sorted(layers)
        for _, path, node in sorted(layers[number].early, key=lambda one: one[1])
    ]
    version = next((found for path, _ in early if (found := starting.client_version(path))), b"")
    turns: dict[int, int] = {}
    roles: set[bytes] = set()
    for path, node in early:
        turn = starting.turn(path, version)
        if turn and turn.role not in roles:
            roles.add(turn.role)
            turns[id(node)] = turn.number
    return turns


def _in_order(ranked: Iterable[tuple[int, bytes, Node]]) -> _Files:
    files = _Files()
    for _, path, node in sorted(ranked, key=lambda one: one[:2]):
        files.add(path, node)
    return files


def _has_data(node: Node) -> bool:
    return node.is_file and node.size > 0 and not is_inline(node)


def _ends(path: bytes) -> bool:
    return hashlib.sha256(path).digest()[0] % _ONE_IN == 0


def _rounded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
