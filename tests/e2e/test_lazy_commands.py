"""`lading image …` as people use it: layouts, sound and hostile, into folders and buckets; shared, mounted, exported, freed."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import LADING, Command, Ran
from serve_support import REGION, client, service

from lading.lazy import mount

Member = tuple[str, bytes, dict[str, Any]]
EMPTY = b""


def noise(seed: object, size: int) -> bytes:
    return hashlib.shake_256(repr(seed).encode()).digest(size)


def file(name: str, content: bytes, **attributes: Any) -> Member:
    return name, content, attributes


BASE = (
    *(file(f"opt/base/m{number:03}.py", noise(number, 3000 + 97 * number), mtime=number) for number in range(120)),
    file("opt/base/lib.so", noise("lib", 2_500_000), mode=0o755),
    file("opt/base/zeros", bytes(3 << 20)),
    file("etc/gone", b"removed by the layer above"),
)
CODE = (
    file("etc/.wh.gone", EMPTY),
    file("var/task/app.py", b"def handler(event, context):\n    return event\n"),
    file("var/task/data.bin", noise("data", 700_000), uid=1000, gid=1000),
    file("var/task/link", EMPTY, type=tarfile.SYMTYPE, linkname="app.py"),
    file("var/task/same", EMPTY, type=tarfile.LNKTYPE, linkname="var/task/data.bin"),
    file("var/task/\udcff", b"a name that is not UTF-8\n" * 10),
)
CHANGED = (CODE[0], file("var/task/app.py", b"def handler(event, context):\n    return 1\n" * 30), *CODE[2:])


def tar_of(members: Sequence[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, attributes in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class Lies:
    """What a layout says that isn't so. `blob` changes the last layer's bytes after they were described."""

    diff_id: str = ""
    media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip"
    blob: Callable[[bytes], bytes | None] = bytes


def write_layout(folder: Path, tars: Sequence[bytes], lies: Lies | None = None) -> str:
    """An OCI image layout; the digest of its manifest."""
    lies = lies or Lies()
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def keep(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    layers = [keep(gzip.compress(tar, 1, mtime=0), lies.media_type) for tar in tars]
    last = blobs / str(layers[-1]["digest"]).removeprefix("sha256:")
    damaged = lies.blob(last.read_bytes())
    last.unlink() if damaged is None else last.write_bytes(damaged)
    plain = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["app.handler"]},
        "rootfs": {"type": "layers", "diff_ids": [*plain[:-1], lies.diff_id or plain[-1]]},
    }
    image = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{image}.manifest.v1+json",
        "config": keep(json.dumps(config).encode(), f"{image}.config.v1+json"),
        "layers": layers,
    }
    described = keep(json.dumps(manifest).encode(), f"{image}.manifest.v1+json")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return str(described["digest"])


class Place:
    """A store, a key and a cache of its own."""

    def __init__(self, lading: Command, folder: Path) -> None:
        self._lading, self.folder = lading.with_cache(folder / "cache"), folder
        self.store = folder / "store"
        self.extra = {"LADING_LAZY_STORE": str(self.store), "LADING_LAZY_KEY": str(folder / "key")}

    def __call__(self, *arguments: str | Path, code: int | None = 0) -> Ran:
        return self._lading("image", *arguments, cwd=self.folder, env=self.extra, code=code)

    def environment(self) -> dict[str, str]:
        """Of a command that is started and not waited for."""
        return self._lading.environment(self.extra)

    def layout(self, name: str, *layers: Sequence[Member], lies: Lies | None = None) -> Path:
        write_layout(self.folder / name, [tar_of(layer) for layer in layers], lies)
        return self.folder / name

    def convert(self, layout: Path, *options: str) -> dict[str, Any]:
        found: dict[str, Any] = self("convert", layout, "--json", *options).json
        return found

    def chunks(self) -> set[str]:
        return {path.name for path in self.store.glob("roots/*/chunks/*/*")}

    @contextlib.contextmanager
    def mounted(self, digest: str, *options: str) -> Iterator[Path]:
        """Until the block ends: by `lading image unmount`, which must end the other command, too."""
        folder = self.folder / "mnt"
        folder.mkdir(exist_ok=True)
        command = subprocess.Popen(
            [LADING, "image", "mount", digest, folder, *options],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert command.stdout is not None and command.stderr is not None
            said = command.stdout.readline()
            assert "mounted" in said, command.stderr.read()
            yield folder
            self("unmount", folder)
            assert command.wait(60) == 0
        finally:
            command.send_signal(signal.SIGTERM)
            command.communicate(timeout=60)
            mount.unbind(folder)


@pytest.fixture
def place(lading: Command, tmp_path: Path) -> Place:
    return Place(lading, tmp_path)


def require_mounts() -> None:
    if problem := mount.find_problem():
        pytest.skip(f"lazy images can't be mounted here: {problem}")


def expected(*layers: Sequence[Member]) -> Mapping[str, bytes]:
    """Contents by path, as the layers' own rules give them."""
    found: dict[str, bytes] = {}
    for layer in layers:
        for name, content, attributes in layer:
            folder, _, base = name.rpartition("/")
            if base.startswith(".wh."):
                del found[f"{folder}/{base[4:]}"]
            elif attributes.get("type") == tarfile.LNKTYPE:
                found[name] = found[attributes["linkname"]]
            elif "type" not in attributes:
                found[name] = content
    return found


def read(root: Path) -> Mapping[str, bytes]:
    return {
        str((Path(folder) / name).relative_to(root)): Path(folder, name).read_bytes()
        for folder, _, names in os.walk(root)
        for name in names
        if not Path(folder, name).is_symlink()
    }


def test_what_is_there_is_not_sent_again(place: Place) -> None:
    layout = place.layout("one", BASE, CODE)
    first = place.convert(layout)
    assert not first["known"]
    assert first["data"]["unique"] > 8
    assert first["data"]["shared"] == 0
    assert first["data"]["zero"] == 6
    assert 0 < first["data"]["sent"] < first["data"]["unique_bytes"] + 4096

    second = place.convert(layout)
    assert second["known"]
    assert (second["data"]["unique"], second["data"]["sent"], second["metadata"]["sent"]) == (0, 0, 0)
    assert second["data"]["shared"] == first["data"]["unique"]

    before = place.chunks()
    again = place.convert(layout, "--again")
    assert not again["known"]
    assert (again["data"]["unique"], again["data"]["sent"], again["metadata"]["unique"]) == (0, 0, 0)
    assert again["data"]["shared"] == first["data"]["unique"]
    assert again["data"]["zero"] == 6
    assert place.chunks() == before

    other = place.convert(place.layout("other", BASE, CHANGED))
    assert (other["data"]["unique"], other["metadata"]["unique"]) == (1, 1)
    assert other["data"]["shared"] == first["data"]["unique"] - 1


def test_two_commands_convert_one_image_at_once(place: Place) -> None:
    place.convert(place.layout("base", BASE))
    layout = place.layout("one", BASE, CODE)
    command = [LADING, "image", "convert", layout, "--json"]
    environment = place.environment()
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    done = [json.loads(each.communicate(timeout=120)[0]) for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert len({each["digest"] for each in done}) == 1
    [line] = (one for one in place("stats", "--json").json["images"] if one["digest"] == done[0]["digest"])
    assert {(one["root"], one["data"]["shared"] + one["data"]["unique"]) for one in done} == {
        (line["root"], line["chunks"] - 1)
    }
    assert exported(place, done[0]["digest"]) == expected(BASE, CODE)
    assert not [path for path in place.store.glob("roots/*/leases/*") if path.is_file()]
    assert not list((place.store / "temporary").glob("*"))


@pytest.mark.root
def test_a_huge_sparse_file_takes_what_is_in_it(place: Place) -> None:
    require_mounts()
    size, marks = (4 << 30) + 12_345, (0, 3 << 30, (4 << 30) + 12_000)
    huge = place.folder / "huge"
    with huge.open("wb") as written:
        for mark in marks:
            written.seek(mark)
            written.write(b"%d" % mark)
        written.truncate(size)
    tar = subprocess.run(["tar", "-cSf", "-", "-C", place.folder, "huge"], check=True, capture_output=True).stdout
    assert len(tar) < 1 << 20
    write_layout(place.folder / "layout", [tar])
    done = place.convert(place.folder / "layout")
    assert done["data"]["unique"] == 3 and done["data"]["zero"] == (4 << 30) // (512 << 10) + 1 - 3
    with place.mounted(done["digest"]) as root:
        assert (root / "huge").stat().st_size == size
        with (root / "huge").open("rb") as opened:
            for mark in marks:
                before = min(mark, 5)
                opened.seek(mark - before)
                assert opened.read(before + 20) == (bytes(before) + b"%d" % mark).ljust(before + 20, b"\0")


def test_what_is_sent_is_said(place: Place) -> None:
    layout = place.layout("one", BASE, CODE)
    first = place("convert", layout)
    assert first.out.startswith("sha256:") and len(first.out) == 72
    assert "0 shared, 0 repeated, 6 zero; sent" in first.err
    assert "100.00% of its chunks new" in first.err
    second = place("convert", layout)
    assert second.out == first.out
    assert "the store has this image already" in second.err
    assert " 0 unique" in second.err and "0.00% of its chunks new" in second.err


def test_stats_count_what_is_shared_once(place: Place) -> None:
    one, other = place.convert(place.layout("one", BASE, CODE)), place.convert(place.layout("other", BASE, CHANGED))
    found = place("stats", "--json").json
    assert {line["digest"] for line in found["images"]} == {one["digest"], other["digest"]}
    assert found["content"] > 6_000_000
    assert found["distinct"] < found["content"] * 0.7
    assert found["chunks"] == len(place.chunks())
    on_disk = sum(path.stat().st_size for path in place.store.glob("roots/*/chunks/*/*"))
    manifests = sum(path.stat().st_size for path in place.store.glob("roots/*/images/*/*"))
    assert found["stored"] == on_disk + manifests
    assert all(0 < line["own"] < line["content"] / 2 for line in found["images"])
    text = place("stats").out
    assert "2 images" in text and one["digest"] in text
    assert place("stats", "--account", "111122223333").err.strip() == "and 2 images of other accounts"
    place.convert(place.folder / "one", "--account", "111122223333")
    both = place("stats", "--also-account", "111122223333")
    assert "3 images" in both.out and both.out.count("account 111122223333") == 1 and not both.err
    all_of_them = place("stats", "--also-account", "111122223333", "--json").json
    assert all_of_them["distinct"] == found["distinct"] and all_of_them["chunks"] == found["chunks"]


def test_a_layer_by_umoci_insert_is_converted(place: Place) -> None:
    """It has no end mark, and its last file no padding."""
    umoci = shutil.which("umoci") or pytest.skip("umoci is not installed")
    source = place.folder / "source"
    source.mkdir()
    for number in range(3):
        (source / f"f{number}").write_bytes(noise(number, 70_000))
    layout = place.folder / "layout"
    steps: Sequence[Sequence[str | Path]] = (
        ["init", "--layout", layout],
        ["new", "--image", f"{layout}:a"],
        ["insert", "--image", f"{layout}:a", source, "/opt/t"],
    )
    for arguments in steps:
        subprocess.run([umoci, *arguments], check=True, capture_output=True)
    digest = place.convert(layout)["digest"]
    assert {name: len(data) for name, data in exported(place, digest).items()} == {
        f"opt/t/f{number}": 70_000 for number in range(3)
    }


def exported(place: Place, digest: str) -> Mapping[str, bytes]:
    """The image's files, as erofs-utils read what `lading image export` wrote."""
    fsck = shutil.which("fsck.erofs") or pytest.skip("fsck.erofs is not installed")
    out, tree = place.folder / f"out-{digest[7:15]}", place.folder / f"tree-{digest[7:15]}"
    assert place("export", digest, out).out == f"{out}\n"
    subprocess.run(
        [fsck, f"--device={out / 'data'}", f"--extract={tree}", out / "metadata.erofs"], check=True, capture_output=True
    )
    return read(tree)


def test_an_export_is_read_by_erofs_utils_and_openssl(place: Place) -> None:
    digest = place.convert(place.layout("one", BASE, CODE))["digest"]
    assert exported(place, digest) == expected(BASE, CODE)
    out = place.folder / f"out-{digest[7:15]}"
    assert stat.S_IMODE((out / "chunks.tsv").stat().st_mode) == 0o600
    header, *lines = [line.split("\t") for line in (out / "chunks.tsv").read_text().splitlines()]
    assert {line[5] for line in lines} == place.chunks()
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed")
    space, offset, length, stored, _, name, key = next(one for one in lines if one[0] == "data" and one[4] == "0")
    assert header == ["space", "offset", "length", "stored", "zstd", "name", "key"]
    [chunk] = place.store.glob(f"roots/*/chunks/*/{name}")
    assert (str(chunk.stat().st_size), hashlib.sha256(chunk.read_bytes()).hexdigest()) == (stored, name)
    plain = subprocess.run(
        [openssl, "enc", "-d", "-aes-256-ctr", "-K", key, "-iv", "0" * 32, "-in", chunk],
        check=True,
        capture_output=True,
    ).stdout
    assert plain == (out / space).read_bytes()[int(offset) : int(offset) + int(length)]


def test_gc_frees_what_nothing_refers_to_and_nothing_else(place: Place) -> None:
    one, other = place.convert(place.layout("one", BASE, CODE)), place.convert(place.layout("other", BASE, CHANGED))
    assert place("gc", "--json").json["deleted"] == 0
    before = place.chunks()
    assert place("remove", one["digest"]).out == f"removed {one['digest']}\n"
    assert place.chunks() == before
    assert place("remove", one["digest"], code=2).err.startswith(f"error: the store has no image {one['digest']}")

    moved = place("gc").out
    assert "new root" in moved and "1 image" in moved
    assert "kept for the grace" in place("gc").err
    removed = place("gc", "--grace", "0").out
    assert "removed" in removed and "deleted" in removed
    left = place.chunks()
    assert len(before) - len(left) == 2  # of the first: its code's chunk, its metadata
    assert exported(place, other["digest"]) == expected(BASE, CHANGED)
    assert left == {
        line.split("\t")[5]
        for line in (place.folder / f"out-{other['digest'][7:15]}" / "chunks.tsv").read_text().splitlines()[1:]
    }
    assert place("export", one["digest"], place.folder / "gone", code=None).err.startswith("error: ")
    assert not (place.folder / "gone").exists()
    # What was removed can come back: only what gc took is sent.
    back = place.convert(place.folder / "one")
    assert (back["data"]["unique"], back["metadata"]["unique"]) == (1, 1)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


HOSTILE: dict[str, tuple[Sequence[Member], Lies, str]] = {
    "path": ((file("../../etc/passwd", b"x"),), Lies(), "leads out of the image"),
    "hard link": ((file("a", EMPTY, type=tarfile.LNKTYPE, linkname="../../etc/shadow"),), Lies(), "hard link to"),
    "circle": (
        (*(file(one, EMPTY, type=tarfile.SYMTYPE, linkname=to) for one, to in ("ab", "ba")), file("a/x", b"1")),
        Lies(), "circle",
    ),
    "below a file": ((file("a", b"x" * 900), file("a/b", b"y")), Lies(), "below what is no folder"),
    "another tar": (CODE[1:4], Lies(diff_id=f"sha256:{'0' * 64}"), "not sha256:0000"),
    "cut": (BASE, Lies(blob=cut), "layer"),
    "flipped": (BASE, Lies(blob=flipped), "layer"),
    "gone": (BASE, Lies(blob=lambda data: None), "blob"),
    "compression": (BASE, Lies(media_type="application/x-brotli"), "unknown media type"),
}  # fmt: skip


def test_hostile_layouts_are_refused_and_leave_nothing(place: Place) -> None:
    place.convert(place.layout("good", CODE[1:4]))
    before = place.chunks()
    for name, (layer, lies, message) in HOSTILE.items():
        refused = place("convert", place.layout(name, layer, lies=lies), code=None)
        assert refused.code in (4, 5, 7), (name, refused)
        assert refused.err.startswith("error: ") and message in refused.err, (name, refused)
        assert "hint: " in refused.err and "Traceback" not in refused.err, (name, refused)
        assert refused.out == "", name
    assert len(place("stats", "--json").json["images"]) == 1
    assert not list((place.store / "temporary").glob("*"))
    assert place("gc").code == 0
    assert before <= place.chunks()


@pytest.mark.root
def test_a_mounted_image_its_trace_and_its_heat(place: Place) -> None:
    require_mounts()
    digest = place.convert(place.layout("one", BASE, CODE))["digest"]
    with place.mounted(digest) as root:
        task = root / "var/task"
        assert (task / "data.bin").read_bytes() == noise("data", 700_000)
        assert (task / "data.bin").stat().st_uid == 1000
        assert (task / "same").samefile(task / "data.bin")
        assert (task / "link").readlink() == Path("app.py")
        assert (root / "opt/base/lib.so").stat().st_mode & 0o7777 == 0o755
        assert not (root / "etc/gone").exists()
        with pytest.raises(OSError, match="Read-only"):
            (task / "new").touch()
    picture = place("heat", digest, "--output", "heat.svg")
    assert "chunks touched" in picture.out
    tree = ElementTree.parse(place.folder / "heat.svg")
    cells = [one.attrib["fill"] for one in tree.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert f"of {len(cells)} chunks" in picture.out
    touched = len(cells) - cells.count("#e6e8eb")
    assert 0 < touched < len(cells), "the library was not read"
    assert f"  {digest}  " in place("stats").out.partition("read on this machine")[2]
    [trace] = place.folder.glob("cache/**/traces/*")
    place("heat", trace, "--output", "heat.png")
    assert (place.folder / "heat.png").read_bytes().startswith(b"\x89PNG")
    [kept] = place.store.glob("roots/*/traces/*/*")
    assert kept.read_bytes().startswith(b"LDLZTRAC")
    kept.unlink()
    place("convert", place.folder / "one", "--trace", trace)
    assert kept.exists()
    other = place.layout("other", BASE)
    assert "another image" in place("convert", other, "--trace", trace, code=2).err
    with place.mounted(digest) as root:
        assert read(root) == expected(BASE, CODE)


def test_what_is_no_trace_is_said(place: Place) -> None:
    (place.folder / "trace").write_text('{"version": 1, "of": -5, "chunks": ["x"]}')
    assert "is no start-up trace" in place("heat", "trace", code=2).err
    assert "no trace 'nothing'" in place("heat", "nothing", code=2).err
    digest = place.convert(place.layout("good", CODE[1:4]))["digest"]
    unknown = place("heat", digest, code=2).err
    assert "no start of" in unknown and f"hint: read in it: lading image mount {digest}" in unknown
    assert "has no image" in place("heat", f"sha256:{'0' * 64}", code=4).err
    assert "no picture format" in place("heat", "trace", "--output", "heat.gif", code=2).err


def test_a_bucket_holds_images(place: Place) -> None:
    with service(neighbours={}) as url:
        client(url, "s3").create_bucket(Bucket="images", CreateBucketConfiguration={"LocationConstraint": REGION})
        place.extra |= {
            "LADING_LAZY_STORE": "s3://images/lazy/of/tests",
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
        }
        one = place.convert(place.layout("one", BASE, CODE))
        other = place.convert(place.layout("other", BASE, CHANGED))
        assert (other["data"]["unique"], other["metadata"]["unique"]) == (1, 1)
        place("remove", one["digest"])
        assert "new root" in place("gc").out
        assert "removed" in place("gc", "--grace", "0").out
        if mount.find_problem() is None:
            with place.mounted(other["digest"]) as root:
                assert read(root) == expected(BASE, CHANGED)
        else:
            assert exported(place, other["digest"]) == expected(BASE, CHANGED)
        # A bucket that isn't there is said.
        place.extra["LADING_LAZY_STORE"] = "s3://nobody/has-this"
        missing = place("convert", place.folder / "one", code=None)
        assert missing.code and "s3://nobody/" in missing.err and "hint: " in missing.err
