"""An image out of a store, for standard tools: metadata, data as a sparse file, the list of chunks. Verifies all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lading.lazy.chunk import decode_chunk
from lading.lazy.manifest import ChunkTable, Manifest
from lading.lazy.roots import ImageStore, Root
from lading.store.folder import disk_errors

METADATA, DATA, CHUNKS = "metadata.erofs", "data", "chunks.tsv"
HEADER = "space\toffset\tlength\tstored\tzstd\tname\tkey\n"


def export(store: ImageStore, root: Root, manifest: Manifest, folder: Path) -> None:
    """Into a folder, made if need be. Raises ChunkError, ObjectMissingError for what is damaged or gone."""
    with disk_errors(f"can't write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CHUNKS).write_text("".join([HEADER, *_lines(manifest)]), "ascii")
        (folder / CHUNKS).chmod(0o600)  # it holds the keys
        _write(store, root, manifest.metadata, folder / METADATA)
        _write(store, root, manifest.data, folder / DATA)


def _write(store: ImageStore, root: Root, table: ChunkTable, path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(table.size)
        for record in table:
            file.seek(record.offset)
            file.write(decode_chunk(record, store.objects.get(root.chunk(record.name))))


def _lines(manifest: Manifest) -> Iterator[str]:
    for name, table in (("metadata", manifest.metadata), ("data", manifest.data)):
        for record in table:
            yield (
                f"{name}\t{record.offset}\t{record.length}\t{record.stored}\t{int(record.compressed)}"
                f"\t{record.hex}\t{record.key.hex()}\n"
            )
