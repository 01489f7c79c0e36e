"""Images into a registry: only what it lacks, blobs in parallel, mounted from another repository where that can be, resumed.

Manifests go last, so that nothing half-sent becomes visible. Memory: a MiB for each connection.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO
from urllib.parse import urljoin

from lading.model.progress import Progress
from lading.oci import media
from lading.oci.client import Answer, Body, Part, ShortFileError
from lading.oci.credentials import Login
from lading.oci.descriptor import Content, Descriptor, encode
from lading.oci.image import Image
from lading.oci.layout import Document, index_of, read_index
from lading.oci.reference import Reference
from lading.oci.registry import TRIES, Registry, RegistryError

CONNECTIONS = 4
PART = 64 << 20
"""Bytes of one request; larger blobs go in several, so that a broken one costs no more than this."""


@dataclass
class Pushed:
    """What was sent. Sizes in bytes; `present` and `mounted` count blobs that needed no sending."""

    digest: str = ""
    sent: int = 0
    blobs: int = 0
    present: int = 0
    mounted: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


@dataclass(frozen=True)
class _Blob:
    descriptor: Descriptor
    open: Callable[[], BinaryIO]


def push(
    images: Sequence[Image],
    attached: Sequence[Document],
    reference: Reference,
    progress: Progress,
    *,
    mount_from: str = "",
    login: Login | None = None,
) -> Pushed:
    """Send images (several become an index) and what is attached to them. `mount_from`: a repository with the base;
    `login`: in place of those that podman and docker keep.

    Raises RegistryError, UnauthorizedError, ImageFormatError.
    """
    with closing(Registry(reference, "pull,push", login)) as registry:
        if mount_from and mount_from != reference.repository:
            registry.also_pull(mount_from)
        pusher = _Pusher(registry, progress, mount_from)
        pusher.send([blob for image in images for blob in _blobs(image)])
        single = len(images) == 1
        for image in images:
            pusher.manifest(image.manifest, image.media_type, reference.target if single else image.digest)
        pushed = pusher.pushed
        pushed.digest = images[0].digest
        if not single:
            index = index_of(images)
            pusher.manifest(index.data, index.descriptor.media_type, reference.target)
            pushed.digest = index.descriptor.digest
        pusher.attach(attached)
        return pushed


def _blobs(image: Image) -> Iterator[_Blob]:
    yield _Blob(image.config_descriptor, lambda: BytesIO(image.config))
    for layer in image.layers:
        yield _Blob(layer.descriptor, layer.compressed)


def read_attached(content: Content, descriptors: Sequence[Descriptor]) -> list[Document]:
    """The documents that a layout's attached manifests are made of, and the manifests themselves. Small by contract."""
    from lading.oci.descriptor import read_descriptor, read_document

    documents: list[Document] = []
    for descriptor in descriptors:
        manifest = read_document(content, descriptor, "an attached manifest", limit=media.LARGEST_MANIFEST)
        document = json.loads(manifest)
        for entry in [document.get("config"), *(document.get("layers") or ())]:
            inner = read_descriptor(entry, "an attached blob")
            data = read_document(content, inner, "an attached blob", limit=LARGEST_ATTACHED)
            documents.append(Document(inner, data))
        documents.append(Document(descriptor, manifest))
    return documents


LARGEST_ATTACHED = 64 << 20


class _Pusher:
    """One push in progress."""

    def __init__(self, registry: Registry, progress: Progress, mount_from: str) -> None:
        self._registry = registry
        self._progress = progress
        self._mount_from = mount_from
        self.pushed = Pushed()

    def send(self, blobs: Sequence[_Blob]) -> None:
        unique = {blob.descriptor.digest: blob for blob in blobs}
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="push") as threads:
            jobs = [threads.submit(self._send, blob) for blob in unique.values()]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def manifest(self, data: bytes, media_type: str, target: str) -> Answer:
        headers = {"Content-Type": media_type}
        response = self._registry.request("PUT", f"/manifests/{target}", headers=headers, body=data)
        if response.status not in (200, 201, 202):
            raise self._registry.refuse(response, f"manifest {target}")
        return response

    def attach(self, documents: Sequence[Document]) -> None:
        """Blobs, then manifests; where the registry has no referrers API, the specification's fallback tag as well."""
        manifests = [entry for entry in documents if entry.descriptor.media_type in media.MANIFESTS]
        self.send([_as_blob(entry) for entry in documents if entry.descriptor.media_type not in media.MANIFESTS])
        for entry in manifests:
            response = self.manifest(entry.data, entry.descriptor.media_type, entry.descriptor.digest)
            subject = json.loads(entry.data).get("subject")
            if subject and "OCI-Subject" not in response.headers:
                self._list_referrer(subject["digest"].replace(":", "-"), entry.descriptor)

    def _list_referrer(self, tag: str, descriptor: Descriptor) -> None:
        found = self._registry.request("GET", f"/manifests/{tag}", headers={"Accept": media.OCI_INDEX})
        known = list(read_index(found.read(), f"index {tag}")) if found.status == 200 else []
        if descriptor.digest not in {entry.digest for entry in known}:
            entries = [entry.as_dict() for entry in (*known, descriptor)]
            index = encode({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries})
            self.manifest(index, media.OCI_INDEX, tag)

    def _send(self, blob: _Blob) -> None:
        digest = blob.descriptor.digest
        response = self._registry.request("HEAD", f"/blobs/{digest}")
        if response.status == 200:
            self._count(present=1)
            return
        if response.status != 404:
            raise self._registry.refuse(response, f"looking for blob {digest}")
        for attempt in range(1, TRIES + 1):
            if self._upload(blob, last=attempt == TRIES):
                return

    def _upload(self, blob: _Blob, *, last: bool) -> bool:
        """One upload session; False where it broke and another may do better."""
        start = self._start(blob.descriptor.digest)
        if start.status == 201:
            self._count(mounted=1)
            return True
        if start.status != 202:
            raise self._registry.refuse(start, "starting an upload")
        task = self._progress.start(f"push {blob.descriptor.digest[7:19]}", blob.descriptor.size)
        finished = _Session(self._registry, location_of(start), blob).run(
            lambda count: self._progress.advance(task, count)
        )
        self._progress.finish(task)
        if finished.status == 201:
            self._count(blobs=1, sent=blob.descriptor.size)
            return True
        if last or finished.status not in (400, 404, 408, 416, 500, 502, 503, 504):
            raise self._registry.refuse(finished, f"upload of blob {blob.descriptor.digest}")
        return False

    def _start(self, digest: str) -> Answer:
        if not self._mount_from:
            return self._registry.request("POST", "/blobs/uploads/")
        mounted = self._registry.request("POST", f"/blobs/uploads/?mount={digest}&from={self._mount_from}")
        # Some registries refuse a mount that they can't do, in place of beginning an upload.
        return mounted if mounted.status in (201, 202) else self._registry.request("POST", "/blobs/uploads/")

    def _count(self, *, sent: int = 0, blobs: int = 0, present: int = 0, mounted: int = 0) -> None:
        with self.pushed.lock:
            self.pushed.sent += sent
            self.pushed.blobs += blobs
            self.pushed.present += present
            self.pushed.mounted += mounted


def location_of(response: Answer) -> str:
    """Where an upload goes on. Raises RegistryError for a registry that doesn't say."""
    location = response.headers.get("Location", "")
    if not location:
        raise RegistryError("the registry began an upload and did not say where", hint="report it to the registry")
    return urljoin(response.asked.url, location)


def _as_blob(document: Document) -> _Blob:
    return _Blob(document.descriptor, lambda: BytesIO(document.data))


class _Session:
    """An upload in parts; a broken part is asked about and gone on with."""

    def __init__(self, registry: Registry, location: str, blob: _Blob) -> None:
        self._registry = registry
        self._location = location
        self._blob = blob

    def run(self, told: Callable[[int], None]) -> Answer:
        """The answer that ended it, 201 where it went well."""
        size, position, resumed = self._blob.descriptor.size, 0, 0
        while size - position > PART:
            response = self._part(position, PART)
            if response.status == 416 and resumed < TRIES:
                resumed += 1
                position = self._resume()
                continue
            if response.status not in (202, 204):
                return response
            self._location = location_of(response)
            position += PART
            told(PART)
        separator = "&" if "?" in self._location else "?"
        url = f"{self._location}{separator}digest={self._blob.descriptor.digest}"
        headers = {"Content-Type": "application/octet-stream"}
        if position:
            headers["Content-Range"] = f"{position}-{size - 1}"
        told(size - position)
        return self._send("PUT", url, headers, position, size - position)

    def _part(self, position: int, length: int) -> Answer:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{position}-{position + length - 1}",
        }
        return self._send("PATCH", self._location, headers, position, length)

    def _send(self, method: str, url: str, headers: dict[str, str], position: int, length: int) -> Answer:
        try:
            body: Body = Part(self._blob.open, position, length)
            return self._registry.request(method, url, headers=headers, body=body)
        except ShortFileError:
            raise RegistryError(
                f"blob {self._blob.descriptor.digest} ended early", hint="the image is damaged: build it anew"
            ) from None

    def _resume(self) -> int:
        """How many bytes the registry has."""
        response = self._registry.request("GET", self._location)
        if response.status != 204:
            raise self._registry.refuse(response, "the state of an upload")
        if "Location" in response.headers:
            self._location = location_of(response)
        end = response.headers.get("Range", "").rpartition("-")[2]
        return int(end) + 1 if end.isdigit() and int(end) else 0
