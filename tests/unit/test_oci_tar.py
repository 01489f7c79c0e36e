"""Tar headers as written, read by Python's own reader; tars by Python's writer, read by the walker; broken ones refused."""

from __future__ import annotations

import io
import random
import tarfile

import pytest
from oci_samples import tar_of

from lading.oci import tar
from lading.oci.tar import TarError, Walker

LONG = "package/" + "deep/" * 40 + "module.py"


def pieces(data: bytes, size: int = 700) -> Walker:
    return Walker(data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("name", ["a", "x" * 100, "x" * 101, LONG, "ünï/cödé.py"])
def test_headers_are_read_back_by_tarfile(name: str) -> None:
    data = tar.header(name, tar.FILE, 0o755, 5) + b"hello" + tar.padding(5)
    data += tar.header(f"{name}.link", tar.LINK, 0o777, link=name) + tar.END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file, link = archive.getmembers()
        assert (file.name, file.mode, file.size, file.uid, file.mtime) == (name, 0o755, 5, 0, tar.TIME)
        assert archive.extractfile(file).read() == b"hello"  # type: ignore[union-attr]
        assert link.issym() and link.linkname == name


def test_a_file_beyond_8_gib_has_its_size_in_a_pax_record() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar.header("big", tar.FILE, 0o644, 9 << 30))) as archive:
        assert archive.next().size == 9 << 30  # type: ignore[union-attr]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("step", [1, 511, 10_000])
def test_the_walker_reads_what_tarfile_writes(form: int, step: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, kind, link in [
            ("d", tarfile.DIRTYPE, ""), ("d/f", tarfile.REGTYPE, ""), ("l", tarfile.SYMTYPE, "d/f"),
            ("h", tarfile.LNKTYPE, "d/f"), ("n", tarfile.CHRTYPE, ""), ("d/" + "y" * 90 + "/" + "z" * 90, tarfile.REGTYPE, ""),
        ]:  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.uid = kind, link, 7
            content = b"c" * 1500 if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    walker = pieces(buffer.getvalue(), step)
    seen = [(entry.name, entry.kind, entry.link, entry.uid, entry.size) for entry in walker]
    assert seen == [
        ("d/", "folder", "", 7, 0), ("d/f", "file", "", 7, 1500), ("l", "link", "d/f", 7, 0),
        ("h", "hard link", "d/f", 7, 0), ("n", "character device", "", 7, 0),
        ("d/" + "y" * 90 + "/" + "z" * 90, "file", "", 7, 1500),
    ]  # fmt: skip
    assert walker.rest() > 0


def test_content_can_be_taken_or_left() -> None:
    data = tar_of([("a", {}, b"1" * 1000), ("b", {}, b"2" * 600), ("c", {}, b"3")])
    walker, taken = pieces(data), {}
    for entry in walker:
        if entry.name != "b":
            taken[entry.name] = b"".join(walker.content(entry))
    assert taken == {"a": b"1" * 1000, "c": b"3"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:700], "ends in the middle"),
        (lambda data: data[:10] + b"X" + data[11:], "wrong checksum"),
        (lambda data: b"", "ends in the middle"),
    ],
)
def test_a_damaged_tar_is_refused(damage: object, message: str) -> None:
    data = damage(tar_of([("a", {}, b"1" * 1000)]))  # type: ignore[operator]
    with pytest.raises(TarError, match=message):
        list(pieces(data))


@pytest.mark.parametrize("kept", [2 * 512 + 488, 2 * 512 + 500, 3 * 512, 3 * 512 + 512, 3 * 512 + 1024])
@pytest.mark.parametrize("taken", [True, False])
def test_the_end_mark_and_the_last_padding_may_be_missing(kept: int, taken: bool) -> None:
    """As in layers that umoci insert writes."""
    walker = pieces(tar_of([("a", {}, b"1" * 1000)])[:kept])
    found = [(entry.name, b"".join(walker.content(entry)) if taken else b"") for entry in walker]
    assert found == [("a", b"1" * 1000 if taken else b"")]


@pytest.mark.parametrize("kept", [2 * 512 + 487, 3 * 512 + 1, 3 * 512 + 511])
def test_content_and_headers_may_not_be_missing(kept: int) -> None:
    with pytest.raises(TarError, match="ends in the middle"):
        list(pieces(tar_of([("a", {}, b"1" * 1000)])[:kept]))


def test_a_tar_may_not_end_between_an_extended_header_and_its_entry() -> None:
    data = tar.header("x" * 120, tar.FILE, 0o644)
    assert len(data) == 3 * 512
    with pytest.raises(TarError, match="ends in the middle"):
        list(pieces(tar.header("a", tar.FILE, 0o644) + data[: 2 * 512]))


def test_a_giant_extended_header_is_refused_before_it_is_read() -> None:
    head = bytearray(tar.header("x", b"x", 0o644, 1 << 30))
    with pytest.raises(TarError, match="extended tar header of"):
        list(Walker(iter([bytes(head)])))


def test_noise_never_does_anything_but_raise_tar_errors() -> None:
    source = random.Random(7)
    good = tar_of([("a" * 120, {"uid": 1 << 40}, b"1" * 1000), ("b", {"type": tarfile.SYMTYPE, "linkname": "a"}, b"")])
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(source.randint(1, 6)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            walker = pieces(bytes(data))
            list(walker)
        except TarError:
            pass
