"""Chunks and manifests: what is written is read back, and nothing that was changed is ever taken for it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.lazy.chunk import LARGEST_CHUNK, ChunkRecord, chunk_compressor, decode_chunk, seal_chunk
from lading.lazy.fault import ChunkError, KeyFileError, LazyFormatError, ManifestError, WrongKeyError
from lading.lazy.keys import MasterKey, default_key_file, ensure_key, read_key
from lading.lazy.manifest import (
    LARGEST_FIRST,
    Manifest,
    decode_manifest,
    encode_manifest,
    make_table,
    open_manifest,
    seal_manifest,
)

MASTER = MasterKey(bytes(range(32)))
SALT = MASTER.salt(b"s" * 16)
TEXT = b"import os\n" * 5000
NOISE = hashlib.shake_256(b"noise").digest(70_000)


def sealed(plain: bytes, salt: bytes = SALT):
    return seal_chunk(plain, salt, chunk_compressor())


def record(offset: int, length: int = 4096, *, compressed: bool = True, stored: int = 100) -> ChunkRecord:
    name = hashlib.sha256(str(offset).encode()).digest()
    return ChunkRecord(offset, length, stored, name, name[::-1], compressed)


def manifest(count: int = 5) -> Manifest:
    metadata = make_table(300_000, [record(0, 300_000)])
    data = make_table(1 << 30, [record(number * 524288 + 4096, 100_000) for number in range(count)])
    return Manifest(b"d" * 32, b"s" * 16, metadata, data, {"process": {"Cmd": ["app.handler"]}, "files": 7})


@pytest.mark.parametrize(("plain", "compressed"), [(TEXT, True), (NOISE, False), (b"x", False), (bytes(9000), True)])
def test_a_chunk_comes_back_as_it_was(plain: bytes, compressed: bool) -> None:
    chunk = sealed(plain)
    assert chunk.compressed is compressed
    assert decode_chunk(chunk.at(8192, len(plain)), chunk.data) == plain


def test_equal_content_gives_equal_objects_under_one_salt_only() -> None:
    one, other = sealed(TEXT), sealed(TEXT, MASTER.salt(b"t" * 16))
    assert sealed(TEXT) == one
    assert one.name != other.name
    assert one.key != other.key


def test_the_object_does_not_hold_its_content() -> None:
    assert NOISE[:64] not in sealed(NOISE).data


@given(st.data())
@settings(max_examples=150)
def test_a_changed_chunk_is_never_taken_for_it(data: st.DataObject) -> None:
    chunk = sealed(data.draw(st.sampled_from([TEXT, NOISE])))
    damaged = bytearray(chunk.data)
    kind = data.draw(st.sampled_from(["flip", "cut", "longer"]))
    place = data.draw(st.integers(0, len(damaged) - 1))
    if kind == "flip":
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del damaged[place:]
    else:
        damaged += b"\0"
    plain = TEXT if chunk.compressed else NOISE
    with pytest.raises(ChunkError, match="chunk"):
        decode_chunk(chunk.at(0, len(plain)), bytes(damaged))


def test_a_chunk_of_another_length_than_the_manifest_says_is_refused() -> None:
    for plain in (TEXT, NOISE):
        chunk = sealed(plain)
        for length in (len(plain) - 1, len(plain) + 1):
            with pytest.raises(ChunkError):
                decode_chunk(chunk.at(0, length), chunk.data)


def test_a_manifest_comes_back_as_it_was() -> None:
    one = manifest()
    key = MASTER.account("123456789012")
    data = seal_manifest(one, key)
    assert data == seal_manifest(one, key)
    again = open_manifest(data, key)
    assert again == one
    assert again.process == {"Cmd": ["app.handler"]}
    assert again.digest == "sha256:" + (b"d" * 32).hex()
    assert list(again.data)[1] == record(524288 + 4096, 100_000)


def test_of_pieces_that_belong_together_only_possible_ones_are_believed() -> None:
    odd = [[1, 3], [3, 1], [-1, 2], [1], "ab", [True, 2], [1.0, 2], None, [5, 6]]
    one = replace(manifest(), annex={"together": odd})
    assert decode_manifest(encode_manifest(one)).together == [(4096, 12288), (20480, 24576)]
    assert replace(one, annex={"together": 7}).together == []
    assert manifest().together == []


def test_what_any_start_reads_is_believed_within_bounds() -> None:
    records = [record(number * LARGEST_CHUNK, LARGEST_CHUNK) for number in range(200)]
    one = replace(manifest(), data=make_table(200 * LARGEST_CHUNK, records))
    blocks = LARGEST_CHUNK // 4096
    known = replace(one, annex={"first": [[5 * blocks, 7 * blocks], [1, 2], [6 * blocks, 8 * blocks], [9, 1], "x"]})
    assert decode_manifest(encode_manifest(known)).first == [5, 6, 0, 7]
    assert len(replace(one, annex={"first": [[0, 1 << 40]]}).first) == LARGEST_FIRST // LARGEST_CHUNK
    assert replace(one, annex={"first": 7}).first == one.first == []


def test_a_manifest_hides_its_chunks() -> None:
    data = seal_manifest(manifest(), MASTER.account("1"))
    assert record(4096).name not in data
    assert record(4096).key not in data


def test_a_manifest_is_small() -> None:
    count = 20_000
    data = make_table(count * 524288, [record(n * 524288, 524288) for n in range(count)])
    size = len(seal_manifest(Manifest(b"d" * 32, b"s" * 16, make_table(0, []), data), MASTER.account("1")))
    assert size < 0.0005 * count * 524288


def test_find() -> None:
    one = manifest(3)
    assert one.find(0) == -1
    assert one.find(4096) == 0
    assert one.find(4096 + 99_999) == 0
    assert one.find(4096 + 100_000) == -1
    assert one.find(2 * 524288 + 5000) == 2
    assert one.find((1 << 30) - 1) == -1
    assert [index for index, _ in one.data.within(0, 600_000)] == [0, 1]
    assert [index for index, _ in one.data.within(200_000, 528_384)] == []
    assert [index for index, _ in one.data.within(4096 + 99_999, 528_385)] == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 9000)), max_size=20), st.integers(0, 2_000_000))
@settings(max_examples=150)
def test_find_agrees_with_a_plain_search(gaps: list[tuple[int, int]], offset: int) -> None:
    records, position = [], 0
    for gap, length in gaps:
        records.append(record(position + gap * 4096, length))
        position = (records[-1].end + 4095) // 4096 * 4096
    table = make_table(position, records)
    expected = next((n for n, one in enumerate(records) if one.offset <= offset < one.end), -1)
    assert table.find(offset) == expected
    assert table.first_at(offset) == next((n for n, one in enumerate(records) if one.end > offset), len(records))


@given(st.data())
@settings(max_examples=150)
def test_a_changed_or_cut_manifest_is_refused(data: st.DataObject) -> None:
    key = MASTER.account("1")
    damaged = bytearray(seal_manifest(manifest(), key))
    place = data.draw(st.integers(0, len(damaged) - 1))
    if data.draw(st.booleans()):
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[place:]
    with pytest.raises(LazyFormatError):
        open_manifest(bytes(damaged), key)


@given(st.data())
@settings(max_examples=200)
def test_a_hostile_plain_manifest_is_read_whole_or_refused(data: st.DataObject) -> None:
    """As whoever has the key could seal it: every number is checked, not only the tag."""
    damaged = bytearray(encode_manifest(manifest()))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode_manifest(bytes(damaged))
    except ManifestError:
        return
    end = 0
    for one in read.data:
        assert end <= one.offset < one.end <= read.data.size
        assert one.length <= 524288
        end = one.end


def test_another_key_is_named() -> None:
    data = seal_manifest(manifest(), MASTER.account("111111111111"))
    with pytest.raises(WrongKeyError, match="sealed under the key") as caught:
        open_manifest(data, MASTER.account("222222222222"))
    assert "--key" in caught.value.hint


def test_another_version_is_named() -> None:
    data = bytearray(encode_manifest(manifest()))
    data[8] = 9
    with pytest.raises(ManifestError, match="version 9"):
        decode_manifest(bytes(data))


def test_keys_differ_by_purpose_and_account() -> None:
    one, two = MASTER.account("1"), MASTER.account("2")
    assert len({one.seal, one.nonce, two.seal, two.nonce, SALT, MASTER.salt(b"t" * 16)}) == 6
    assert one.id != two.id
    assert "secret" not in repr(MASTER)


def test_the_key_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lazy.key"
    made = ensure_key(path)
    assert ensure_key(path) == made == read_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["lazy.key"]


def test_wrong_key_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lazy.key"
    with pytest.raises(KeyFileError, match="can't read the key file"):
        read_key(path)
    path.write_text("lading-lazy-key-1 abcd\n")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="is not a key file"):
        read_key(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        read_key(path)
    path.write_bytes(os.urandom(8) + b"\xff")
    with pytest.raises(KeyFileError):
        read_key(path)
    monkeypatch.setenv("LADING_LAZY_KEY", str(path))
    assert default_key_file() == path
