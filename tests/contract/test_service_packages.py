"""Uploaded zips, hostile ones above all: nothing leaves the folder, nothing is written through a link, all is bounded."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from lading.service.contract.errors import ApiError
from lading.service.control import packages
from lading.service.control.packages import Packages

BAD = "Could not unzip uploaded file. Please check your file, then try to upload again."


def archive(*members: tuple[str, bytes, int], stored: bool = False) -> bytes:
    """A zip of (name, content, mode) members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as made:
        for name, content, mode in members:
            member = zipfile.ZipInfo(name, (2020, 2, 3, 4, 5, 6))
            member.external_attr = mode << 16
            made.writestr(member, content, made.compression)
    return buffer.getvalue()


@pytest.fixture
def kept(tmp_path: Path) -> Packages:
    return Packages(tmp_path / "state")


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()


def refused(kept: Packages, data: bytes) -> str:
    with pytest.raises(ApiError) as caught:
        kept.tree(kept.add(data).digest)
    return caught.value.message


def test_a_tree_has_content_modes_and_times(kept: Packages) -> None:
    data = archive(("bin/run", b"#!", 0o100755), ("a.py", b"x", 0o100644), ("d/", b"", 0o40755))
    package = kept.add(data)
    tree = kept.tree(package.digest)
    assert kept.tree(package.digest) == tree
    assert (tree / "a.py").read_bytes() == b"x"
    modes = {name: stat.S_IMODE((tree / name).stat().st_mode) for name in ("bin/run", "a.py", "d")}
    assert modes == {"bin/run": 0o755, "a.py": 0o644, "d": 0o755}
    assert zipfile.ZipInfo.from_file(tree / "a.py").date_time == (2020, 2, 3, 4, 5, 6)
    assert kept.open(package.digest).read() == data
    assert (package.size, package.unzipped) == (len(data), 3)


def test_special_bits_are_dropped(kept: Packages) -> None:
    tree = kept.tree(kept.add(archive(("suid", b"x", 0o104755))).digest)
    assert stat.S_IMODE((tree / "suid").stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a/../x"])
def test_names_that_lead_out(kept: Packages, name: str) -> None:
    assert refused(kept, archive((name, b"x", 0o100644))) == BAD


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + b"\0" * 10, os.urandom(1000)])
def test_what_is_no_zip(kept: Packages, data: bytes) -> None:
    assert refused(kept, data) == BAD


def test_nothing_is_written_through_a_link(kept: Packages, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = ("link", str(outside).encode(), stat.S_IFLNK | 0o777)
    assert refused(kept, archive(link, ("link/evil", b"x", 0o100644))) == BAD
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = archive(link, ("link", b"x", 0o100644))
    assert refused(kept, twice) == BAD
    assert list(outside.iterdir()) == []


def test_a_link_alone_is_kept_as_a_link(kept: Packages) -> None:
    tree = kept.tree(kept.add(archive(("to", b"a.py", stat.S_IFLNK | 0o777), ("a.py", b"x", 0o100644))).digest)
    assert (tree / "to").readlink() == Path("a.py")


def test_damaged_content_is_found_and_leaves_nothing(kept: Packages, tmp_path: Path) -> None:
    data = bytearray(archive(("a.py", b"some content to damage", 0o100644), stored=True))
    data[data.index(b"content")] ^= 0xFF
    assert refused(kept, bytes(data)) == BAD
    assert list((tmp_path / "state" / "trees").iterdir()) == []


def test_sizes_are_bounded(kept: Packages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAXIMUM_UNZIPPED", 1000)
    assert refused(kept, archive(("a", b"\0" * 1001, 0o100644))) == "Unzipped size must be smaller than 1000 bytes"
    monkeypatch.setattr(packages, "MAXIMUM_ZIPPED", 50)
    assert refused(kept, archive(("a", b"x", 0o100644))) == "Zipped size must be smaller than 50 bytes"


def test_a_directory_that_lies_about_sizes_is_found(kept: Packages, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive(("a", b"\0" * 5000, 0o100644))
    lying = data.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != data
    assert refused(kept, lying) == BAD


def test_members_are_counted(kept: Packages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAXIMUM_MEMBERS", 2)
    assert "3 members" in refused(kept, archive(*((name, b"", 0o100644) for name in "abc")))


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    kept = Packages(tmp_path / "state")
    leftover = tmp_path / "state" / "trees" / ".new-left"
    leftover.mkdir()
    Packages(tmp_path / "state")
    assert not leftover.exists()
    assert kept is not None
