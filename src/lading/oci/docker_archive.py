"""A docker-archive (`docker save`, `podman save`): read into a store as an image with gzip layers. Extracts nothing to paths.

Source: Docker image specification 1.2, "combined image JSON + filesystem changeset format"; later versions of Docker put an OCI
layout in the same tar, and manifest.json still names the files.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lading.model.blobs import Actions, Blobs
from lading.oci import media
from lading.oci.descriptor import ImageFormatError, decode
from lading.oci.image import Image, compose, read_diff_ids, read_image
from lading.oci.layer import Layer, Pieces, gunzip, plain
from lading.oci.layer_writer import compress
from lading.oci.tar import Entry, Walker
from lading.oci.validate import LARGEST_IMAGE

LARGEST_LIST = 4 << 20
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class _Contents:
    """Names of the parts of the one image of an archive."""

    config: str
    layers: tuple[str, ...]


def read_docker_archive(path: Path, blobs: Blobs, actions: Actions) -> Image:
    """The one image of an archive, its layers compressed into the store; once per state of the file.

    Raises ImageFormatError for an archive that is broken, holds several images, or is larger than an image may be.
    """
    facts = path.stat()
    key = f"{path}|{facts.st_size}|{facts.st_mtime_ns}|{facts.st_ino}"
    known = actions.get("docker-archive", key)
    if known is not None and (image := _recall(known, blobs)) is not None:
        return image
    image = _import(path, blobs)
    blobs.put([image.config])
    actions.put("docker-archive", key, image.manifest)
    return image


def _recall(manifest: bytes, blobs: Blobs) -> Image | None:
    config = decode(manifest, "the manifest", limit=media.LARGEST_MANIFEST)["config"]["digest"]
    if not blobs.has(config.removeprefix("sha256:")):
        return None
    image = read_image(manifest, blobs)
    return image if all(blobs.has(layer.descriptor.hex) for layer in image.layers) else None


def _import(path: Path, blobs: Blobs) -> Image:
    small, links = _documents(path)
    if "manifest.json" not in small:
        raise _broken(path, "has no manifest.json")
    contents = _contents(path, small["manifest.json"])
    config = _follow(contents.config, links)
    if config not in small:
        raise _broken(path, f"has no {contents.config}")
    settings = decode(small[config], f"the config in {path}", limit=media.LARGEST_CONFIG)
    wanted = [_follow(name, links) for name in contents.layers]
    diff_ids = read_diff_ids(settings)
    if len(diff_ids) != len(wanted):
        raise _broken(path, f"has {len(wanted)} layers and {len(diff_ids)} diff_ids")
    layers = _layers(path, dict(zip(wanted, diff_ids, strict=True)), blobs)
    return compose(settings, [layers[name] for name in wanted], {}, docker=False)


def _documents(path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Files small enough for a manifest or config, and links, by normal name."""
    small: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for walker, entry in _entries(path):
        name = posixpath.normpath(entry.name)
        if entry.kind == "file" and entry.size <= LARGEST_LIST and _is_document(name) and len(small) < 1000:
            small[name] = b"".join(walker.content(entry))
        elif entry.kind in ("link", "hard link"):
            folder = posixpath.dirname(name) if entry.kind == "link" else ""
            links[name] = posixpath.normpath(posixpath.join(folder, entry.link))
    return small, links


def _is_document(name: str) -> bool:
    return name.endswith(".json") or "/" not in name or name.startswith("blobs/")


def _follow(name: str, links: Mapping[str, str]) -> str:
    name = posixpath.normpath(name)
    for _ in range(8):
        if name not in links:
            break
        name = links[name]
    return name


def _contents(path: Path, data: bytes) -> _Contents:
    try:
        entries: Any = json.loads(data)
        if len(entries) != 1:
            raise _broken(path, f"holds {len(entries)} images", hint="save one image")
        (entry,) = entries
        config, layers = entry["Config"], entry["Layers"]
        if not isinstance(config, str) or not all(isinstance(layer, str) for layer in layers):
            raise TypeError("names that aren't strings")
        if len(layers) > media.MOST_LAYERS:
            raise _broken(path, f"has {len(layers)} layers")
        return _Contents(config, tuple(layers))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _broken(path, f"has a manifest.json that can't be read: {error}") from None


def _layers(path: Path, wanted: Mapping[str, str], blobs: Blobs) -> dict[str, Layer]:
    """Compress the wanted members; by name."""
    found: dict[str, Layer] = {}
    left = LARGEST_IMAGE
    for walker, entry in _entries(path):
        name = posixpath.normpath(entry.name)
        if name in wanted and entry.kind == "file" and name not in found:
            layer, size = compress(_unpacked(walker.content(entry), name), blobs, left, "imported")
            left -= size
            if layer.diff_id != wanted[name]:
                raise _broken(path, f"holds {name} with the digest {layer.diff_id}, not {wanted[name]}")
            found[name] = layer
    missing = [name for name in wanted if name not in found]
    if missing:
        raise _broken(path, f"has no {missing[0]}")
    return found


def _entries(path: Path) -> Iterator[tuple[Walker, Entry]]:
    """The members of the archive, which may itself be gzipped."""
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        walker = Walker((gunzip if zipped else plain)(file, str(path)))
        for entry in walker:
            yield walker, entry


def _unpacked(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    """A layer's tar; the member may be gzipped."""
    first = next(pieces, b"")
    whole = chain([first], pieces)
    return gunzip(Pieces(whole), what) if first[:2] == GZIP_MAGIC else whole


def _broken(path: Path, why: str, *, hint: str = "save the image again") -> ImageFormatError:
    return ImageFormatError(f"{path} {why}", hint=hint)
