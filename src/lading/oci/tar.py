"""Tar as layers use it: headers written in one fixed way, archives of strangers walked without unpacking. No I/O of its own.

After POSIX.1-2017 pax (ustar with extended headers) and GNU's long names. Every length comes from the archive: each is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lading.oci import sparse
from lading.oci.descriptor import ImageFormatError

BLOCK = 512
END = bytes(2 * BLOCK)
TIME = 315532800
"""mtime of everything written here: 1980-01-01 00:00 UTC, the same as in zips."""
MOST_ENTRIES = 2_000_000
LARGEST_EXTENSION = 1 << 20
"""Bytes of one extended header."""
_LARGEST_OCTAL = 0o77777777777
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12s")
FILE, HARD_LINK, LINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO = (bytes([c]) for c in b"0123456")
_FILES = (b"0", b"\0", b"7", b"S")
_SPARSE = "GNU.sparse."
_ZEROS = bytes(1 << 20)
_KINDS = {
    HARD_LINK: "hard link",
    LINK: "link",
    CHARACTER: "character device",
    BLOCK_DEVICE: "block device",
    FOLDER: "folder",
    FIFO: "fifo",
}


class TarError(ImageFormatError):
    """A layer's tar is damaged or uses what no image builder writes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of a layer. `name` and `link` as written; `kind`: file, folder, link, hard link, a device, fifo."""

    name: str
    kind: str
    mode: int
    size: int
    link: str = ""
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    pax: dict[str, str] = field(default_factory=dict)
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device."""
    pieces: tuple[sparse.Piece, ...] | None = None
    """Of a sparse file: where the stored bytes belong. All else reads as zeros."""

    @property
    def stored(self) -> int:
        """Bytes of content in the tar: fewer than `size` where the file is sparse."""
        return self.size if self.pieces is None else sum(length for _, length in self.pieces)

    @property
    def moment(self) -> int:
        """mtime in ns: pax times have a fraction."""
        whole, _, fraction = self.pax.get("mtime", "").partition(".")
        digits = fraction[:9].ljust(9, "0")
        exact = int(digits) if whole and not whole.startswith("-") and digits.isdigit() and digits.isascii() else 0
        return min(self.mtime, 1 << 33) * 1_000_000_000 + exact


def header(name: str, kind: bytes, mode: int, size: int = 0, link: str = "") -> bytes:
    """The header blocks of a member owned by root with the fixed time; pax records where ustar has no room."""
    records = b""
    raw, target = name.encode(), link.encode()
    if len(raw) > 100 or not raw.isascii():
        records += _record("path", raw)
    if len(target) > 100 or not target.isascii():
        records += _record("linkpath", target)
    if size > _LARGEST_OCTAL:
        records += _record("size", str(size).encode())
    if not records:
        return _block(raw, kind, mode, size, target)
    extended = _block(b"././@PaxHeader", b"x", 0o644, len(records), b"")
    shown = min(size, _LARGEST_OCTAL)
    return extended + records + padding(len(records)) + _block(raw[:100], kind, mode, shown, target[:100])


def padding(size: int) -> bytes:
    """What fills a member's last block."""
    return bytes(-size % BLOCK)


def _record(key: str, value: bytes) -> bytes:
    """A pax record: its own length in decimal, which counts itself."""
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _block(name: bytes, kind: bytes, mode: int, size: int, link: bytes) -> bytes:
    fields = [
        name, b"%07o\0" % (mode & 0o7777), b"0000000\0", b"0000000\0", b"%011o\0" % size, b"%011o\0" % TIME,
        b"        ", kind, link, b"ustar\0", b"00", b"", b"", b"0000000\0", b"0000000\0", b"", b"",
    ]  # fmt: skip
    block = _HEADER.pack(*fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


class Walker:
    """Reads a tar from pieces, entry by entry; contents are skipped unless asked for. Memory: a few pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""
        self._at = 0
        """What of the buffer is taken. The rest isn't copied at each header."""
        self._left = 0
        """Bytes of the current member not yet taken, padding included."""
        self._padding = 0
        """How many of those are padding."""
        self.entries = 0
        self.position = 0
        """Bytes of the tar taken so far: at an entry, where its content begins."""

    def __iter__(self) -> Iterator[Entry]:
        pax: dict[str, str] = {}
        shared: dict[str, str] = {}
        while (block := self._next_header(first=not self.entries or bool(pax))) is not None:
            kind, size = block[156:157], _number(block[124:136])
            if kind in (b"x", b"g"):
                records = _records(self._extension(size))
                (pax if kind == b"x" else shared).update(records)
                continue
            if kind in (b"L", b"K"):
                text = self._extension(size).rstrip(b"\0").decode("utf-8", "surrogateescape")
                pax["path" if kind == b"L" else "linkpath"] = text
                continue
            entry = self._sparse(_entry(block, kind, size, {**shared, **pax}), block)
            pax = {}
            self._padding = len(padding(entry.stored)) if entry.kind == "file" else 0
            self._left = entry.stored + self._padding if entry.kind == "file" else 0
            yield entry
            self._skip()

    def content(self, entry: Entry) -> Iterator[bytes]:
        """The current file's content; to be taken before the next entry. Holes are zeros."""
        end = 0
        for start, length in ((0, entry.size),) if entry.pieces is None else (*entry.pieces, (entry.size, 0)):
            for at in range(end, start, len(_ZEROS)):
                yield _ZEROS[: start - at]
            end = start + length
            left = length
            while left:
                piece = self._some(left)
                left -= len(piece)
                self._left -= len(piece)
                yield piece

    def rest(self) -> int:
        """Drain what follows the end mark; its length in bytes."""
        length = len(self._buffer) - self._at
        for piece in self._pieces:
            length += len(piece)
        self._buffer, self._at = b"", 0
        return length

    def _sparse(self, entry: Entry, block: bytes) -> Entry:
        """The entry as it is once a map of its pieces has been read; most have none."""
        pax, size = entry.pax, entry.size
        old = block[156:157] == b"S"
        if not old and not any(key.startswith(_SPARSE) for key in pax):
            return entry
        try:
            if old:
                real, pieces = sparse.old_map(block, lambda: self._exactly(BLOCK, "a map"), _number)
            elif f"{_SPARSE}major" in pax:
                if (pax[f"{_SPARSE}major"], pax.get(f"{_SPARSE}minor")) != ("1", "0"):
                    raise ValueError("a map of an unknown format")
                blocks, pieces = sparse.leading_map(lambda: self._exactly(BLOCK, "a map"))
                real, size = _decimal(pax.get(f"{_SPARSE}realsize", "")), size - blocks * BLOCK
            else:
                real, pieces = _decimal(pax.get(f"{_SPARSE}size", "")), sparse.listed_map(pax.get(f"{_SPARSE}map", ""))
            kept = sparse.checked(real, pieces, size)
        except ValueError as error:
            raise TarError(f"{entry.name!r} is a sparse file with {error}", hint="the layer is damaged") from None
        return replace(entry, name=pax.get(f"{_SPARSE}name", entry.name), size=real, pieces=kept)

    def _next_header(self, *, first: bool) -> bytes | None:
        """None at the end mark, or where the tar ends without one: umoci insert writes such layers, and Docker takes them.

        What was cut there by accident has another digest; `first` says that a header must come.
        """
        if not first and not self._more():
            return None
        block = self._exactly(BLOCK, "a header")
        if not block.strip(b"\0"):
            return None
        stated = _number(block[148:156])
        if stated != sum(block) - sum(block[148:156]) + 8 * 32:
            raise TarError("a tar header has a wrong checksum", hint="the layer is damaged")
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise TarError(f"the tar has more than {MOST_ENTRIES:,} entries", hint="no Lambda image has as many")
        return block

    def _extension(self, size: int) -> bytes:
        if size > LARGEST_EXTENSION:
            raise TarError(f"an extended tar header of {size:,} bytes", hint="the layer is broken")
        data = self._exactly(size, "an extended header")
        self._exactly(len(padding(size)), "an extended header")
        return data

    def _exactly(self, size: int, what: str) -> bytes:
        start, end = self._at, self._at + size
        if end <= len(self._buffer):  # as nearly always
            self._at = end
            self.position += size
            return self._buffer[start:end]
        parts: list[bytes] = []
        left = size
        while left:
            piece = self._some(left)
            parts.append(piece)
            left -= len(piece)
        data = b"".join(parts)
        assert len(data) == size, what
        return data

    def _some(self, most: int) -> bytes:
        """At least one byte and at most `most`. Raises TarError at the end."""
        if not self._more():
            raise _cut()
        taken = self._buffer[self._at : self._at + most]
        self._at += len(taken)
        self.position += len(taken)
        return taken

    def _more(self) -> bool:
        """Whether another byte is there."""
        while self._at == len(self._buffer):
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._buffer, self._at = piece, 0
        return True

    def _skip(self) -> None:
        """Past the rest of the member, copying none of it; the last padding may be missing."""
        while self._left and (self._left > self._padding or self._more()):
            if not self._more():
                raise _cut()
            taken = min(self._left, len(self._buffer) - self._at)
            self._at += taken
            self.position += taken
            self._left -= taken


def _cut() -> TarError:
    return TarError("the tar ends in the middle", hint="the layer is cut short; pull it anew")


def _entry(block: bytes, kind: bytes, size: int, pax: dict[str, str]) -> Entry:
    name, link = _text(block[:100]), _text(block[157:257])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    if kind not in _FILES and kind not in _KINDS:
        raise TarError(f"{name!r} is a tar member of the unknown type {kind!r}", hint="no image builder writes it")
    name = pax.get("path", name)
    shown = "file" if kind in _FILES else _KINDS[kind]
    if shown == "file" and name.endswith("/"):
        shown = "folder"  # as old tars write them
    return Entry(
        name=name,
        kind=shown,
        mode=_number(block[100:108]),
        size=_decimal(pax["size"]) if "size" in pax else size,
        link=pax.get("linkpath", link),
        uid=_decimal(pax["uid"]) if "uid" in pax else _number(block[108:116]),
        gid=_decimal(pax["gid"]) if "gid" in pax else _number(block[116:124]),
        mtime=_decimal(pax["mtime"].partition(".")[0]) if "mtime" in pax else _number(block[136:148]),
        pax=pax,
        device=(_number(block[329:337]), _number(block[337:345])) if shown.endswith("device") else (0, 0),
    )


def _records(data: bytes) -> dict[str, str]:
    """Pax records. Raises TarError."""
    found: dict[str, str] = {}
    pieces: list[str] = []
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or not len(length) < int(length[:8]) <= len(data):
            raise TarError("an extended tar header is not readable", hint="the layer is damaged")
        record, data = data[: int(length)], data[int(length) :]
        key, equals, value = record[len(length) + 1 :].removesuffix(b"\n").partition(b"=")
        if not equals:
            raise TarError("an extended tar header has a record without value", hint="the layer is damaged")
        name, text = key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        if name in (f"{_SPARSE}offset", f"{_SPARSE}numbytes"):  # format 0.0 repeats them
            pieces.append(text)
        else:
            found[name] = text
    if pieces:
        found[f"{_SPARSE}map"] = ",".join(pieces)
    return found


def _number(text: bytes) -> int:
    """A number field: octal, or base 256 where the first bit is set (GNU). Negative ones count as 0."""
    if text[0] & 0x80:
        return int.from_bytes(text[1:], "big") if text[0] == 0x80 else 0
    digits = text.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise TarError(f"a tar header holds {text!r} for a number", hint="the layer is damaged") from None


def _decimal(text: str) -> int:
    if not text.lstrip("-").isdigit() or len(text) > 20:
        raise TarError(f"an extended tar header holds {text[:40]!r} for a number", hint="the layer is damaged")
    return max(int(text), 0)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
