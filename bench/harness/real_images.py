"""Images made of what real ones hold: files of Debian packages and of wheels, as layers; downloads are kept between runs.

A filler of any size repeats those files, each time with another substitution of bytes: it compresses as the real ones do,
and shares no chunk with them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.harness.peers import PeerMissingError, cache_folder, system_command, uv
from lading.oci import media
from lading.oci.descriptor import Descriptor
from lading.oci.layer import Layer
from lading.oci.tar import END, FILE, header, padding
from lading.store import Store

DEBIAN = (
    "libc6", "libstdc++6", "libgcc-s1", "zlib1g", "libssl3", "perl-base", "coreutils", "bash", "libpython3.11-stdlib",
    "libpython3.11-minimal", "git", "libicu72", "libllvm14", "libgl1-mesa-dri", "libx265-199", "libboost-all-dev",
    "gcc-12", "cpp-12", "libgtk-3-0", "libqt5core5a", "libqt5gui5", "ghostscript", "imagemagick-6.q16", "ffmpeg",
)  # fmt: skip
WHEELS = (
    ("pandas==2.3.3",),
    ("boto3==1.40.4", "pydantic"),
    ("scipy==1.16.2",),
    ("requests", "sqlalchemy"),
    ("pillow",),
)
LAYER_BYTES = 512 << 20
"""Of filler, before compression."""
_LEVEL = 6
_FILLER_LEVEL = 1
"""Of gzip: a filler of 10 GB at 6 takes longer than all that is measured with it; it is pulled 8 % larger than it could be."""
_MOMENT = 315532800


@dataclass(frozen=True)
class File:
    """A regular file out of a package."""

    name: str
    mode: int
    content: bytes


def place() -> Path:
    folder = cache_folder() / "lazy"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def deb(name: str) -> bytes:
    """The tar inside a Debian package."""
    folder = place() / "debs"
    found = sorted(folder.glob(f"{name}_*.deb"))
    if not found:
        folder.mkdir(exist_ok=True)
        command = [system_command("apt-get"), "download", "-qq", "-o", "APT::Sandbox::User=root", name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        found = sorted(folder.glob(f"{name}_*.deb"))
        if not found:
            raise PeerMissingError(f"apt-get download {name}: {done.stderr.strip()[-300:]} (apt-get update first)")
    return subprocess.run(["dpkg-deb", "--fsys-tarfile", str(found[-1])], capture_output=True, check=True).stdout


def joined(tars: Sequence[bytes]) -> bytes:
    """One layer of several packages' files; a path that two bring is the first one's."""
    buffer = io.BytesIO()
    seen: set[str] = set()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for data in tars:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive:
                    if member.name not in seen:
                        seen.add(member.name)
                        out.addfile(member, archive.extractfile(member) if member.isreg() else None)
    return buffer.getvalue()


def wheels(requirements: Sequence[str], python: str = sys.executable, *, compiled: bool = False) -> bytes:
    """What uv installs for an interpreter, as files of one time below var/task. compiled: with bytecode that stays valid."""
    name = hashlib.sha256(" ".join([*requirements, python, str(compiled)]).encode()).hexdigest()[:12]
    target = place() / f"wheels-{name}"
    if not target.is_dir():
        fresh = place() / f".{name}"
        shutil.rmtree(fresh, ignore_errors=True)
        command = [uv(), "pip", "install", "--quiet", "--target", str(fresh), "--python", python, *requirements]
        subprocess.run([*command, "--only-binary", ":all:"], check=True)
        if compiled:
            compile_all = [python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
            subprocess.run([*compile_all, "-s", str(fresh), "-p", "/var/task", str(fresh)], check=True)
        fresh.rename(target)
    buffer = io.BytesIO()

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = _MOMENT
        return member

    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(target, "var/task", filter=plain)
    return buffer.getvalue()


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Files by path, of root's and one time."""
    members = (header(path, FILE, 0o644, len(data)) + data + padding(len(data)) for path, data in files.items())
    return b"".join([*members, END])


def layer_of(store: Store, tar: bytes, level: int = _LEVEL) -> Layer:
    """A gzip layer; level 0: not compressed."""
    blob = gzip.compress(tar, level, mtime=0) if level else tar
    kind = media.OCI_LAYER_GZIP if level else media.OCI_LAYER
    descriptor = Descriptor(kind, f"sha256:{store.blobs.put([blob])}", len(blob))
    return Layer(descriptor, f"sha256:{hashlib.sha256(tar).hexdigest()}", store.blobs)


def filler(store: Store, size: int, tars: Sequence[bytes]) -> Iterator[Layer]:
    """Layers of `size` bytes in all, out of the tars' files: as many repetitions as that takes, each of other bytes."""
    files = [file for tar in tars for file in files_of(tar)]
    shares = [min(LAYER_BYTES, size - start) for start in range(0, size, LAYER_BYTES)]
    with ThreadPoolExecutor(2) as threads:
        yield from threads.map(
            lambda number: _filled(store, files, f"{size}-{number}", shares[number]), range(len(shares))
        )


def files_of(tar: bytes) -> Iterator[File]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            if member.isreg() and (stream := archive.extractfile(member)):
                yield File(member.name.lstrip("./"), member.mode, stream.read())


def _filled(store: Store, files: Sequence[File], name: str, size: int) -> Layer:
    diff, length = hashlib.sha256(), 0

    def pieces() -> Iterator[bytes]:
        nonlocal length
        packer = zlib.compressobj(_FILLER_LEVEL, zlib.DEFLATED, 31)
        for piece in _tar(files, name, size):
            diff.update(piece)
            packed = packer.compress(piece)
            length += len(packed)
            yield packed
        packed = packer.flush()
        length += len(packed)
        yield packed

    digest = store.blobs.put(pieces())
    return Layer(
        Descriptor(media.OCI_LAYER_GZIP, f"sha256:{digest}", length), f"sha256:{diff.hexdigest()}", store.blobs
    )


def _tar(files: Sequence[File], name: str, size: int) -> Iterator[bytes]:
    """In pieces of about a MiB."""
    buffer, written, turn = bytearray(), 0, 0
    while written < size:
        chance = random.Random(f"{name}-{turn}")
        table = bytes(chance.sample(range(256), 256))
        start = chance.randrange(len(files))  # a layer that ends early must not always hold the same files
        for file in (*files[start:], *files[:start]):
            content = file.content.translate(table)
            buffer += header(f"opt/filler/{name}-{turn}/{file.name}", FILE, file.mode, len(content))
            buffer += content + padding(len(content))
            if len(buffer) >= 1 << 20:
                written += len(buffer)
                yield bytes(buffer)
                buffer.clear()
            if written >= size:
                break
        turn += 1
    yield bytes(buffer + END)
