"""Facts for the audit come from prepared members: large ones are unpacked as they are read, and verified."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from lading.build.bundle import Bundle, BundleWriter, DamagedBundleError, keep
from lading.build.facts import IN_MEMORY, function_facts, open_member
from lading.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


def bundle_of(store: Store, files: dict[str, bytes]) -> Bundle:
    with store.blobs.writer() as output:
        writer = BundleWriter(output)
        for name, content in sorted(files.items()):
            writer.add_content(name, 0o644, content)
        made = writer.finish("folder", "own", "")
    return keep(made, "key", store.blobs, store.actions)


def large(seed: int = 1) -> bytes:
    """Compressible, and too large to be unpacked at once."""
    digits = random.Random(seed).randbytes((IN_MEMORY + 200_000) // 2).hex()
    return b"\x7fELF" + digits.encode()


@pytest.mark.parametrize("content", [b"", b"small", large(), b"\0" * (4 * IN_MEMORY)])
def test_a_member_reads_as_it_was(store: Store, content: bytes) -> None:
    bundle = bundle_of(store, {"file": content})
    with open_member(bundle, 0, store.blobs) as stream:
        assert stream.read() == content


def test_a_large_member_reads_in_pieces(store: Store) -> None:
    content = large(2)
    bundle = bundle_of(store, {"file": content})
    pieces = io.BytesIO()
    with open_member(bundle, 0, store.blobs) as stream:
        while piece := stream.read(10_007):
            pieces.write(piece)
    assert pieces.getvalue() == content


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_a_damaged_large_member_is_noticed(store: Store, place: float) -> None:
    bundle = bundle_of(store, {"file": large(3)})
    path = store.blobs.path(bundle.data)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x5A
    path.chmod(0o644)
    path.write_bytes(data)
    with open_member(bundle, 0, store.blobs) as stream, pytest.raises(DamagedBundleError):
        stream.read()


def test_a_damaged_library_is_a_finding_not_a_crash(store: Store) -> None:
    bundle = bundle_of(store, {"lib.so": large(4)})
    path = store.blobs.path(bundle.data)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x5A
    path.chmod(0o644)
    path.write_bytes(data)
    (facts,) = function_facts(bundle, None, store.blobs, store.actions)
    assert "lib.so" in {**facts.damaged, **facts.foreign}
