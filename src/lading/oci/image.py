"""An image as a value: manifest and config as the bytes they are, layers, changes that give another. Reads blobs, no more."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lading.oci import media
from lading.oci.descriptor import (
    Content,
    Descriptor,
    ImageFormatError,
    Platform,
    decode,
    digest_of,
    encode,
    read_annotations,
    read_descriptor,
    read_document,
    read_platform,
)
from lading.oci.layer import Layer

EPOCH = "1980-01-01T00:00:00Z"
"""`created` of what is made here, unless the caller knows better: the same inputs must give the same digest."""


@dataclass(frozen=True)
class Image:
    """A single-platform image. `manifest` and `config` are the exact bytes whose digests count."""

    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]
    media_type: str = media.OCI_MANIFEST

    @functools.cached_property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @functools.cached_property
    def document(self) -> Mapping[str, Any]:
        """The manifest, parsed."""
        return decode(self.manifest, "the manifest", limit=media.LARGEST_MANIFEST)

    @functools.cached_property
    def settings(self) -> Mapping[str, Any]:
        """The config, parsed: architecture, os, config, rootfs, history."""
        return decode(self.config, "the config", limit=media.LARGEST_CONFIG)

    @property
    def process(self) -> Mapping[str, Any]:
        """What a container of it runs: Entrypoint, Cmd, Env, WorkingDir, Labels … in Docker's spelling."""
        value = self.settings.get("config")
        return value if isinstance(value, Mapping) else {}

    @property
    def platform(self) -> Platform:
        return read_platform(self.settings) or Platform("", "")

    @property
    def descriptor(self) -> Descriptor:
        """What points at the manifest."""
        return Descriptor(self.media_type, self.digest, len(self.manifest), self.platform)

    @property
    def config_descriptor(self) -> Descriptor:
        return read_descriptor(self.document.get("config"), "the manifest's config")

    @property
    def annotations(self) -> Mapping[str, str]:
        return read_annotations(self.document.get("annotations"), "the manifest")

    @property
    def size(self) -> int:
        """Bytes that a registry stores for it."""
        return len(self.manifest) + len(self.config) + sum(layer.size for layer in self.layers)

    def append(self, layers: Sequence[Layer]) -> Image:
        """With more layers on top, each with its line of history."""
        settings = dict(self.settings)
        settings["rootfs"] = {
            "type": "layers",
            "diff_ids": [layer.diff_id for layer in (*self.layers, *layers)],
        }
        lines = [{"created": EPOCH, "created_by": layer.created_by or "lading"} for layer in layers]
        settings["history"] = [*(self.settings.get("history") or ()), *lines]
        return self._with(settings, (*self.layers, *layers))

    def configure(self, process: Mapping[str, Any], *, created: str = "") -> Image:
        """With these entries of `process` in place of those of the same name; None removes one."""
        merged = {**self.process, **process}
        settings = dict(self.settings)
        settings["config"] = {key: value for key, value in merged.items() if value is not None}
        if created:
            settings["created"] = created
        return self._with(settings, self.layers)

    def annotate(self, annotations: Mapping[str, str]) -> Image:
        """With these annotations on its manifest."""
        return compose(self.settings, self.layers, {**self.annotations, **annotations}, docker=self._docker)

    def convert(self, *, docker: bool) -> Image:
        """The same layers and config under OCI's or Docker's media types; itself when it already is so."""
        if docker == self._docker:
            return self
        return compose(self.settings, self.layers, self.annotations, docker=docker)

    @property
    def _docker(self) -> bool:
        return self.media_type == media.DOCKER_MANIFEST

    def _with(self, settings: Mapping[str, Any], layers: tuple[Layer, ...]) -> Image:
        return compose(settings, layers, self.annotations, docker=self._docker)


def empty(platform: Platform) -> Image:
    """An image without layers, to append to."""
    settings = {**platform.as_dict(), "created": EPOCH, "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    return compose(settings, (), {}, docker=False)


def compose(
    settings: Mapping[str, Any], layers: Sequence[Layer], annotations: Mapping[str, str], *, docker: bool
) -> Image:
    """An image of these parts. Docker's schema has no annotations and no zstd: zstd layers keep OCI's type there."""
    kinds = media.TO_DOCKER if docker else media.TO_OCI
    layers = tuple(
        replace(layer, descriptor=replace(layer.descriptor, media_type=kinds.get(layer.media_type, layer.media_type)))
        for layer in layers
    )
    config = encode(settings)
    media_type = media.DOCKER_MANIFEST if docker else media.OCI_MANIFEST
    config_type = media.DOCKER_CONFIG if docker else media.OCI_CONFIG
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": Descriptor(config_type, digest_of(config), len(config)).as_dict(),
        "layers": [layer.descriptor.as_dict() for layer in layers],
    }
    if annotations and not docker:
        document["annotations"] = dict(annotations)
    return Image(encode(document), config, layers, media_type)


def read_image(manifest: bytes, content: Content, media_type: str = "") -> Image:
    """The image of a manifest whose blobs are in `content`.

    Raises ImageFormatError for what is not an image manifest. Contradictions between its parts are `validate`'s to tell.
    """
    document = decode(manifest, "the manifest", limit=media.LARGEST_MANIFEST)
    kind = kind_of(document, media_type)
    if kind not in media.MANIFESTS:
        raise ImageFormatError(
            f"not an image manifest: its media type is {kind or 'not stated'!r}", hint=_hint_for(kind)
        )
    config_descriptor = read_descriptor(document.get("config"), "the manifest's config")
    config = read_document(content, config_descriptor, "the config", limit=media.LARGEST_CONFIG)
    return Image(manifest, config, _layers(document, config, content), kind)


def kind_of(document: Mapping[str, Any], media_type: str = "") -> str:
    """A manifest's or index's media type: as stated inside, else as told by who brought it, else by its shape."""
    stated = document.get("mediaType")
    if isinstance(stated, str) and stated:
        return stated
    if media_type in media.MANIFESTS | media.INDEXES:
        return media_type
    if "manifests" in document:
        return media.OCI_INDEX
    return media.OCI_MANIFEST if "config" in document else media_type


def _layers(document: Mapping[str, Any], config: bytes, content: Content) -> tuple[Layer, ...]:
    entries = document.get("layers")
    if not isinstance(entries, list) or len(entries) > media.MOST_LAYERS:
        raise ImageFormatError(
            f"the manifest's layers are no list of at most {media.MOST_LAYERS}", hint="the image is broken"
        )
    descriptors = [read_descriptor(entry, f"layer {number}") for number, entry in enumerate(entries)]
    settings = decode(config, "the config", limit=media.LARGEST_CONFIG)
    diff_ids = read_diff_ids(settings)
    diff_ids += [""] * (len(descriptors) - len(diff_ids))
    lines = _created_by(settings)
    lines += [""] * (len(descriptors) - len(lines))
    return tuple(
        Layer(descriptor, diff_id, content, line)
        for descriptor, diff_id, line in zip(descriptors, diff_ids, lines, strict=False)
    )


def read_diff_ids(settings: Mapping[str, Any]) -> list[str]:
    """The config's diff_ids; entries that are no strings read as ""."""
    rootfs = settings.get("rootfs")
    values = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    if not isinstance(values, list):
        return []
    return [value if isinstance(value, str) else "" for value in values]


def _created_by(settings: Mapping[str, Any]) -> list[str]:
    """The lines of history that stand for layers."""
    history = settings.get("history")
    lines = [line for line in history if isinstance(line, Mapping)] if isinstance(history, list) else []
    return [str(line.get("created_by", "")) for line in lines if not line.get("empty_layer")]


def _hint_for(kind: str) -> str:
    if kind in media.INDEXES:
        return "it is an index of several images; choose one platform"
    if "v1" in kind and "docker" in kind:
        return "schema 1 images are no longer in use; push it again with a current client"
    return "give an image"
