"""FUSE's messages as bytes: built as the kernel would, read as it would."""

from __future__ import annotations

import struct

import pytest

from lading.lazy import fuse_protocol as protocol
from lading.lazy.fuse_protocol import File, Opcode, ProtocolError

FILES = [File(2, "2", 10_000), File(3, "3", 4_096)]


def request(opcode: int, body: bytes = b"", node: int = 1, unique: int = 77) -> memoryview:
    return memoryview(struct.pack("<IIQQIIIHH", 40 + len(body), opcode, unique, node, 0, 0, 0, 0, 0) + body)


def start(minor: int = 45, flags: int = (1 << 64) - 1, major: int = 7) -> protocol.Request:
    body = struct.pack("<IIIII44x", major, minor, 131_072, flags & 0xFFFFFFFF, flags >> 32)
    return protocol.parse_request(request(Opcode.INIT, body))


def test_negotiation_takes_only_what_it_knows_and_asks_for_large_reads():
    answer, agreed = protocol.negotiate(start(), background=64)
    assert agreed == protocol.Negotiated(protocol.MINOR, resend=True)
    length, error, unique = struct.unpack_from("<IiQ", answer)
    assert (length, error, unique) == (len(answer), 0, 77)
    assert len(answer) == 16 + 64
    _, minor, ahead, flags, background, _, _, _, pages, _, more = struct.unpack_from("<IIIIHHIIHHI", answer, 16)
    assert (minor, ahead, background, pages) == (protocol.MINOR, protocol.MAX_READ, 64, 256)
    assert flags & protocol.MAX_PAGES
    assert more == protocol.HAS_RESEND >> 32


def test_an_older_kernel_is_spoken_to_without_what_it_lacks():
    known = protocol.MAX_PAGES | protocol.ASYNC_READ
    answer, agreed = protocol.negotiate(start(minor=31, flags=known), background=8)
    assert agreed == protocol.Negotiated(31, resend=False)
    assert struct.unpack_from("<I", answer, 28)[0] == known


@pytest.mark.parametrize("first", [start(minor=30), start(major=6), protocol.parse_request(request(Opcode.GETATTR))])
def test_what_cant_be_spoken_is_refused(first: protocol.Request):
    with pytest.raises(ProtocolError):
        protocol.negotiate(first, background=8)


@pytest.mark.parametrize("raw", [b"", bytes(39), struct.pack("<IIQQIIIHH", 99, 3, 1, 1, 0, 0, 0, 0, 0)])
def test_a_torn_request_is_refused(raw: bytes):
    with pytest.raises(ProtocolError):
        protocol.parse_request(memoryview(raw))


def test_a_torn_read_is_refused():
    with pytest.raises(ProtocolError):
        protocol.parse_read(protocol.parse_request(request(Opcode.READ, bytes(39))))


def test_reads_names_and_failures():
    body = struct.pack("<QQIIQII", 9, 8_192, 4_096, 0, 0, 0, 0)
    assert protocol.parse_read(protocol.parse_request(request(Opcode.READ, body, node=3))) == (77, 3, 8_192, 4_096)
    assert protocol.parse_name(protocol.parse_request(request(Opcode.LOOKUP, b"\xff2\0"))) == "\udcff2"
    assert struct.unpack("<IiQ", protocol.failure(77, 5)) == (16, -5, 77)
    assert protocol.parse_unique(protocol.header(1 << 63 | 4, 100)) == 1 << 63 | 4


def test_attributes_of_a_file_and_of_the_folder():
    file = protocol.attributes(5, FILES[0])
    assert len(file) == 16 + 104
    assert struct.unpack_from("<QQQ", file, 32) == (2, 10_000, 20)
    assert struct.unpack_from("<I", file, 32 + 60)[0] == 0o100400
    assert struct.unpack_from("<I", protocol.attributes(5, None), 32 + 60)[0] == 0o040500
    assert len(protocol.entry(5, FILES[1])) == 16 + 128
    assert len(protocol.statistics(5, FILES)) == 16 + 80


def test_a_listing_continues_where_the_last_one_ended():
    names: list[bytes] = []
    offset = 0
    for _ in range(10):
        body = struct.pack("<QQIIQII", 0, offset, 64, 0, 0, 0, 0)
        content = protocol.listing(protocol.parse_read(protocol.parse_request(request(Opcode.READDIR, body))), FILES)[
            16:
        ]
        if not content:
            break
        place = 0
        while place < len(content):
            _, offset, length, _ = struct.unpack_from("<QQII", content, place)
            names.append(content[place + 24 : place + 24 + length])
            place += -(-(24 + length) // 8) * 8
    assert names == [b".", b"..", b"2", b"3"]
