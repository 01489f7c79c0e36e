"""Images into stores: the same bytes on every machine, nothing sent twice, and what goes wrong says so."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from lazy_samples import KEY, MASTER, Member, MemoryObjects, converted, file, folder, hard, image_of, link

from lading.lazy.chunk import decode_chunk
from lading.lazy.collect import Collector
from lading.lazy.export import export
from lading.lazy.fault import ChunkError, LazyFormatError, ObjectMissingError, ObjectStoreError, WrongKeyError
from lading.lazy.manifest import Manifest, open_manifest
from lading.lazy.objects import FolderObjects
from lading.lazy.roots import ImageStore, Root
from lading.lazy.stats import measure
from lading.oci.descriptor import ImageFormatError


def noise(seed: object, size: int) -> bytes:
    return hashlib.shake_256(repr(seed).encode()).digest(size)


def package(name: str, files: int = 60, version: int = 1) -> tuple[Member, ...]:
    """Files of 200 bytes to 40 KB, and a library of 1.3 MB."""
    sizes = random.Random(name)
    members = [folder(f"site/{name}"), file(f"site/{name}/lib.so", noise((name, version), 1_300_000))]
    for number in range(files):
        members.append(file(f"site/{name}/m{number:03}.py", noise((name, number), sizes.randrange(200, 40_000))))
    return tuple(members)


BASE = (*package("base"), folder("etc"), file("etc/passwd", "root:x:0:0\n"), link("lib", "site"))


def store_of(objects: MemoryObjects | None = None) -> ImageStore:
    """With a root of a fixed salt, so that stores can be compared."""
    store = ImageStore(objects or MemoryObjects())
    store.new_root(b"s" * 16)
    return store


def manifest_of(store: ImageStore, digest: str) -> tuple[Root, Manifest]:
    root, sealed = store.find(KEY.id, digest)
    return root, open_manifest(sealed, KEY)


def test_the_same_layers_give_the_same_bytes(tmp_path: Path) -> None:
    image = image_of(BASE, package("app"))
    one, other = store_of(), store_of()
    first = converted(image, one, tmp_path, threads=1)
    second = converted(image, other, tmp_path, threads=4)
    assert first.manifest == second.manifest

    def names(store: ImageStore) -> dict[str, bytes]:
        """Without the root's name, which has the time."""
        return {
            key.split("/", 2)[2]: store.objects.get(key) for key in store.objects.list("roots/") if "/chunks/" in key
        }

    assert names(one) == names(other)
    assert one.find(KEY.id, image.digest)[1] == other.find(KEY.id, image.digest)[1]


def test_a_second_conversion_sends_nothing(tmp_path: Path) -> None:
    image, store = image_of(BASE), store_of()
    first = converted(image, store, tmp_path)
    assert first.data.unique > 0
    assert first.data.shared == 0
    assert converted(image, store, tmp_path).known
    again = converted(image, store, tmp_path, again=True)
    assert (again.data.unique, again.data.sent, again.metadata.unique) == (0, 0, 0)
    assert again.data.shared == first.data.unique


def test_images_with_a_common_base_share_it(tmp_path: Path) -> None:
    store = store_of()
    first = converted(image_of(BASE, package("one")), store, tmp_path)
    second = converted(image_of(BASE, package("two")), store, tmp_path)
    base = converted(image_of(BASE), store_of(), tmp_path)
    assert second.data.shared == base.data.total
    assert first.data.total > base.data.total


def test_a_changed_file_costs_the_chunk_it_lies_in(tmp_path: Path) -> None:
    store = store_of()
    packages = tuple(member for name in "abcdefgh" for member in package(name))
    before = converted(image_of(BASE, packages), store, tmp_path)
    changed = tuple(
        file(name, b"changed" * 100) if name == "site/d/m030.py" else (name, attributes, content)
        for name, attributes, content in packages
    )
    after = converted(image_of(BASE, changed), store, tmp_path)
    assert before.data.total > 30
    assert after.data.unique <= 2


def test_a_new_package_costs_its_own_chunks_and_two(tmp_path: Path) -> None:
    store = store_of()
    names = "abdefgh"
    converted(image_of(BASE, tuple(m for name in names for m in package(name))), store, tmp_path)
    alone = converted(image_of(package("c")), store_of(), tmp_path)
    after = converted(image_of(BASE, tuple(m for name in sorted(f"{names}c") for m in package(name))), store, tmp_path)
    assert after.data.unique <= alone.data.total + 3


def test_zeros_and_repeats_are_not_stored(tmp_path: Path) -> None:
    big = noise("big", 2 << 20)
    image = image_of((file("zeros", bytes(5 << 20)), file("one", big), file("two", big)))
    done = converted(image, store_of(), tmp_path)
    assert (done.data.zero, done.data.unique, done.data.repeated) == (10, 4, 4)


def test_the_manifest_says_what_to_run(tmp_path: Path) -> None:
    store, image = store_of(), image_of(BASE)
    converted(image, store, tmp_path)
    _, manifest = manifest_of(store, image.digest)
    assert manifest.process["Cmd"] == ["app.handler"]
    assert manifest.digest == image.digest
    assert manifest.annex["platform"] == {"architecture": "amd64", "os": "linux"}


def test_a_trace_packs_its_files_first(tmp_path: Path) -> None:
    packages = tuple(member for name in "abcdef" for member in package(name))
    first = [f"/site/{name}/m01{digit}.py" for name in "fdb" for digit in range(3)]
    store, image = store_of(), image_of(packages)
    done = converted(image, store, tmp_path, first=[*first, "site/not/there"])
    root, manifest = manifest_of(store, image.digest)
    content = {name: data for name, _, data in packages}
    start = decode_chunk(manifest.data[0], store.objects.get(root.chunk(manifest.data[0].name)))
    position = 0
    for path in first:
        data = content[path.strip("/")]
        assert start[position : position + len(data)] == data
        position += -(-len(data) // 4096) * 4096
    plain = converted(image, store_of(), tmp_path)
    assert done.manifest.data.content_bytes == pytest.approx(plain.manifest.data.content_bytes, rel=0.05)


def test_two_converters_of_one_image(tmp_path: Path) -> None:
    image, objects = image_of(BASE, package("app")), FolderObjects(tmp_path / "store")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            converted(image, ImageStore(objects), tmp_path, again=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    store = ImageStore(objects)
    root, manifest = manifest_of(store, image.digest)
    for record in [*manifest.metadata, *manifest.data]:
        decode_chunk(record, objects.get(root.chunk(record.name)))
    assert not list((tmp_path / "store" / "temporary").iterdir())
    assert not list(objects.list(root.key("leases")))


def test_what_a_power_cut_left_is_written_again(tmp_path: Path) -> None:
    image, objects = image_of(BASE), MemoryObjects()
    converted(image, store_of(objects), tmp_path)
    victim = next(key for key in objects.objects if "/chunks/" in key)
    whole = objects.objects[victim]
    objects.objects[victim] = b""
    again = converted(image, ImageStore(objects), tmp_path, again=True)
    assert again.data.unique + again.metadata.unique == 1
    assert objects.objects[victim] == whole


def test_a_layer_that_is_not_what_its_config_says(tmp_path: Path) -> None:
    from oci_samples import MemoryContent, layer_of, tar_of
    from oci_samples import image_of as image_of_layers

    store = store_of()
    layer = layer_of(MemoryContent(), tar_of(BASE), diff_id=f"sha256:{'0' * 64}")
    with pytest.raises(ImageFormatError, match="unpacks to"):
        converted(image_of_layers(layer), store, tmp_path)
    cut = layer_of(MemoryContent(), tar_of(BASE)[:-20000])
    with pytest.raises(ImageFormatError, match="middle"):
        converted(image_of_layers(cut), store, tmp_path)
    with pytest.raises(ObjectMissingError):
        store.find(KEY.id, image_of_layers(cut).digest)


class FullObjects(MemoryObjects):
    """A disk that fills up after so many objects."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def put(self, key: str, data: bytes) -> None:
        if "/chunks/" in key and len(self.objects) >= self.room:
            raise ObjectStoreError("can't write: No space left on device", hint="free space")
        super().put(key, data)


def test_a_full_store_stops_the_conversion_and_the_next_one_goes_on(tmp_path: Path) -> None:
    objects, image = FullObjects(8), image_of(BASE, package("app"))
    store = store_of(objects)
    with pytest.raises(ObjectStoreError, match="No space left"):
        converted(image, store, tmp_path)
    with pytest.raises(ObjectMissingError):
        store.find(KEY.id, image.digest)
    objects.room = 10_000
    done = converted(image, store, tmp_path)
    assert done.data.shared > 0
    assert not list(objects.list(f"roots/{done.root.id}/leases"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("a small disk needs root on Linux: it is a tmpfs")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_under_store_and_workshop(tmp_path: Path, small_disk: Path) -> None:
    from lading.errors import LadingError

    image = image_of(BASE, package("app"))
    with pytest.raises(ObjectStoreError, match="No space left") as caught:
        converted(image, ImageStore(FolderObjects(small_disk)), tmp_path)
    assert "gc" in caught.value.hint
    with pytest.raises(LadingError, match="No space left"):
        converted(image, store_of(), small_disk)


def test_every_object_may_be_damaged_and_none_is_believed(tmp_path: Path) -> None:
    image, store = image_of(BASE), store_of()
    converted(image, store, tmp_path)
    root, manifest = manifest_of(store, image.digest)
    chance = random.Random(7)
    for record in [*manifest.metadata, *manifest.data]:
        data = bytearray(store.objects.get(root.chunk(record.name)))
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with pytest.raises(ChunkError):
            decode_chunk(record, bytes(data))


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    image, store = image_of(BASE), store_of()
    converted(image, store, tmp_path)
    stranger = MASTER.account("somebody else")
    with pytest.raises(ObjectMissingError):
        store.find(stranger.id, image.digest)
    with pytest.raises(WrongKeyError):
        open_manifest(store.find(KEY.id, image.digest)[1], stranger)


def test_accounts_share_chunks_and_no_manifest(tmp_path: Path) -> None:
    image, store = image_of(BASE), store_of()
    converted(image, store, tmp_path)
    other = converted(image, store, tmp_path, account="999999999999")
    assert (other.data.unique, other.known) == (0, False)
    assert measure(store, KEY).foreign == 1


def test_statistics_count_what_is_shared(tmp_path: Path) -> None:
    store = store_of()
    for name in ("one", "two", "three"):
        converted(image_of(BASE, package(name)), store, tmp_path)
    found = measure(store, KEY)
    assert len(found.images) == 3
    assert found.content == sum(line.content for line in found.images)
    assert found.distinct < found.content * 0.7
    chunks = [data for key, data in store.objects.objects.items() if "/chunks/" in key]
    assert found.chunks == len(chunks)
    assert found.stored == sum(map(len, chunks)) + sum(line.manifest for line in found.images)


def test_a_collection_after_a_removal_frees_what_only_that_image_had(tmp_path: Path) -> None:
    store = store_of()
    kept, gone = image_of(BASE, package("kept")), image_of(BASE, package("gone"))
    converted(kept, store, tmp_path)
    converted(gone, store, tmp_path)
    assert store.remove(KEY.id, gone.digest)
    collector = Collector(store, MASTER, ["123456789012"], grace=0.0)
    deadline = time.monotonic() + 30
    collector.collect()
    while len(store.roots()) > 1 and time.monotonic() < deadline:  # ages are counted in the store's clock
        collector.collect()
    root, manifest = manifest_of(store, kept.digest)
    chunks = [key for key in store.objects.list("roots/") if "/chunks/" in key]
    assert sorted(chunks) == sorted(root.chunk(name) for name in manifest.names())
    for record in [*manifest.metadata, *manifest.data]:
        decode_chunk(record, store.objects.get(root.chunk(record.name)))


def test_standard_tools_read_an_exported_image(tmp_path: Path) -> None:
    """sha256sum's name, openssl's decryption and the data file at the offset that the list says."""
    store, image = ImageStore(FolderObjects(tmp_path / "store")), image_of(BASE, (hard("copy", "etc/passwd"),))
    converted(image, store, tmp_path)
    root, manifest = manifest_of(store, image.digest)
    export(store, root, manifest, tmp_path / "out")
    data = (tmp_path / "out" / "data").read_bytes()
    lines = [line.split("\t") for line in (tmp_path / "out" / "chunks.tsv").read_text().splitlines()[1:]]
    assert len(lines) == len(manifest.data) + len(manifest.metadata)
    for space, offset, length, stored, zstd, name, key in lines:
        path = tmp_path / "store" / root.chunk(bytes.fromhex(name))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name
        assert path.stat().st_size == int(stored)
        if space == "data" and zstd == "0":
            command = ["openssl", "enc", "-d", "-aes-256-ctr", "-K", key, "-iv", "0" * 32, "-in", str(path)]
            plain = subprocess.run(command, capture_output=True, check=True).stdout
            assert plain == data[int(offset) : int(offset) + int(length)]


def test_a_manifest_cut_anywhere_is_refused(tmp_path: Path) -> None:
    image, store = image_of(BASE), store_of()
    converted(image, store, tmp_path)
    sealed = store.find(KEY.id, image.digest)[1]
    for length in range(0, len(sealed), 7):
        with pytest.raises(LazyFormatError):
            open_manifest(sealed[:length], KEY)
