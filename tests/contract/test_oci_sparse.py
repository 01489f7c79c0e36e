"""Sparse members of layers, as GNU tar writes them in each of its formats: read, unpacked and converted as the file they are."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from oci_samples import MemoryContent, image_of, layer_of

from lading.lazy.flatten import ImageRefusedError, flatten
from lading.lazy.spool import Tar
from lading.oci.tar import Entry, TarError, Walker
from lading.oci.unpack import ImageTrees
from lading.oci.validate import LARGEST_IMAGE

FORMATS = {
    "gnu": ["--format=gnu"],
    "0.0": ["--format=pax", "--sparse-version=0.0"],
    "0.1": ["--format=pax", "--sparse-version=0.1"],
    "1.0": ["--format=pax", "--sparse-version=1.0"],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with no, two and many pieces, one that is a hole, and a plain one behind them."""
    folder = tmp_path_factory.mktemp("sparse")
    chance = random.Random(4)
    for name, pieces, size in (("hole", 0, 3 << 20), ("two", 2, 2 << 20), ("many", 60, 6 << 20)):
        with (folder / name).open("wb") as file:
            for number in range(pieces):
                file.seek(size * number // pieces // 4096 * 4096)
                file.write(chance.randbytes(chance.randrange(1, 9000)))
            file.truncate(size)
    (folder / "plain").write_bytes(b"plain\n" * 1000)
    return folder


def tar_of(source: Path, form: str) -> bytes:
    command = ["tar", "-cSf", "-", *FORMATS[form], "-C", str(source), "hole", "two", "many", "plain"]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_read_unpacked_and_converted_as_the_file_it_is(source: Path, tmp_path: Path, form: str) -> None:
    tar = tar_of(source, form)
    assert len(tar) < 2 << 20, "tar wrote no sparse members"
    names = ["hole", "two", "many", "plain"]
    walker = Walker(iter([tar[at : at + 7000] for at in range(0, len(tar), 7000)]))
    assert {entry.name: b"".join(walker.content(entry)) for entry in walker} == {
        name: (source / name).read_bytes() for name in names
    }
    [folder] = ImageTrees(tmp_path / "trees").unpack(image_of(layer_of(MemoryContent(), tar)))
    assert all((folder / name).read_bytes() == (source / name).read_bytes() for name in names)
    with (tmp_path / "tar").open("w+b", buffering=0) as file:
        file.write(tar)
        spooled = Tar(file, len(tar))
        root = flatten([spooled.entries()])
        chance = random.Random(form)
        for name in names:
            node, content = root.entries[name.encode()], (source / name).read_bytes()
            assert node.size == len(content)
            for _ in range(20):
                start = chance.randrange(node.size)
                length = min(chance.randrange(1, 1 << 20), node.size - start)
                assert spooled.content(node, start, length) == content[start : start + length]


def pax(stored: int = 8, **records: str) -> bytes:
    """A member with such records and so many bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("file")
        info.size = stored
        info.pax_headers = {f"GNU.sparse.{name}": value for name, value in records.items()}
        archive.addfile(info, io.BytesIO(b"1\n0\n8\n".ljust(512, b"\0") + bytes(stored)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("tar", "message"),
    [
        (pax(size="100", map="0,4,2,4"), "overlap"),
        (pax(size="100", map="96,8"), "behind its end"),
        (pax(size="100", map="0,4"), "8 bytes stored"),
        (pax(size="100", map="0,8,9"), "not readable"),
        (pax(size="100", map="0,-8"), "'-8'"),
        (pax(size="1" + "0" * 19, map="0,8"), "8 bytes stored"),
        (pax(map="0,8"), "for a number"),
        (pax(major="2", minor="0", realsize="9"), "unknown format"),
        (pax(520, major="1", minor="0", realsize="4"), "behind its end"),
        (pax(size="10", map=",".join(["0,0"] * 30_000)), "more than 20,000 pieces"),
    ],
)
def test_a_map_that_can_t_be_is_refused(tar: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        list(Walker(iter([tar])))


def test_a_map_without_end_is_refused() -> None:
    tar = pax(520, major="1", minor="0", realsize="9")
    head = tar[: tar.index(b"1\n0\n8\n")]
    with pytest.raises(TarError, match=r"no end|pieces|number"):
        list(Walker(iter([head, b"20000\n" + b"1\n" * 600_000])))
    with pytest.raises(TarError, match="more than 20,000 pieces"):
        list(Walker(iter([head, b"20001\n".ljust(512, b"\0")])))


def test_holes_count_as_what_they_unpack_to() -> None:
    hole = Entry("hole", "file", 0o644, LARGEST_IMAGE // 2, pieces=())
    assert hole.stored == 0
    with pytest.raises(ImageRefusedError, match="larger than"):
        flatten([[(hole, 0), (Entry("next", "file", 0o644, LARGEST_IMAGE, pieces=()), 0)]])
