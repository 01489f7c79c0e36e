"""The bytes of all repositories: blobs in a content store, once each, and the uploads that become blobs. Files only.

A blob under way is a temporary file of the store's; what a kill leaves of it is invisible and removed at the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lading.errors import DownloadError
from lading.service.registry.names import Place
from lading.service.registry.refusals import no_upload
from lading.store import Store, open_store
from lading.store.folder import FolderBlobWriter, remove_tree

IDLE = 3600.0
"""Seconds after which an upload that nobody goes on with is given up."""
MOST_UPLOADS = 1000


@dataclass
class Upload:
    """A blob under way. One request at a time writes to it."""

    identity: str
    place: Place
    writer: FolderBlobWriter
    closing: contextlib.ExitStack
    size: int = 0
    """Bytes received."""
    last_part: int = 0
    """Bytes of the last part, in ECR's API."""
    touched: float = field(default_factory=time.monotonic)
    busy: threading.Lock = field(default_factory=threading.Lock)

    def write(self, data: bytes) -> None:
        """Raises StoreError where the disk refuses; then the upload is of no more use."""
        self.writer.write(data)
        self.size += len(data)
        self.touched = time.monotonic()


class Content:
    """Blobs by digest, and uploads by identity. Safe between threads."""

    def __init__(self, folder: Path) -> None:
        self._store: Store = open_store(folder, durable=True)
        self.blobs = self._store.blobs
        self._uploads: dict[str, Upload] = {}
        self._arriving: dict[str, int] = {}
        self._lock = threading.Lock()
        for leftover in list(self._store.leftovers()):
            remove_tree(leftover)

    @contextlib.contextmanager
    def arriving(self, digest: str) -> Iterator[None]:
        """While this lasts the blob is not garbage though nothing refers to it yet. `digest` is its name in the store."""
        with self._lock:
            self._arriving[digest] = self._arriving.get(digest, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._arriving[digest] -= 1
                if not self._arriving[digest]:
                    del self._arriving[digest]

    def is_arriving(self, digest: str) -> bool:
        return digest in self._arriving

    def begin(self, place: Place) -> Upload:
        """A new upload into a repository; the oldest idle one goes where there are too many."""
        self.give_up_idle()
        closing = contextlib.ExitStack()
        upload = Upload(str(uuid.uuid4()), place, closing.enter_context(self.blobs.writer()), closing)
        with self._lock:
            oldest = sorted(self._uploads.values(), key=lambda one: one.touched)
            excess = oldest[: max(len(oldest) + 1 - MOST_UPLOADS, 0)]
            self._uploads[upload.identity] = upload
        for one in excess:
            self._end_unless_busy(one)
        return upload

    def upload(self, place: Place, identity: str) -> Upload:
        """Raises UploadNotFoundException, also for one of another repository."""
        found = self._uploads.get(identity)
        if found is None or found.place != place:
            raise no_upload(place, identity)
        return found

    def finish(self, upload: Upload, digest: str, link: Callable[[str], None]) -> None:
        """The upload becomes a blob, and `link` records who has it, given the name that it has here. Over in any case.

        Raises DownloadError for content of another digest (with its algorithm) than this, StoreError.
        """
        algorithm, _, expected = digest.partition(":")
        try:
            if algorithm != "sha256" and (received := upload.writer.digest_by(algorithm)) != expected:
                raise DownloadError(
                    "the content has another digest than promised", details=(f"it has {algorithm}:{received}",)
                )
            name = upload.writer.digest
            with self.arriving(name):
                upload.writer.commit(expect=expected if algorithm == "sha256" else "")
                link(name)
        finally:
            self.end(upload)

    def keep(self, data: bytes, link: Callable[[], bool]) -> bool:
        """A small blob at hand (a manifest), and `link`, which says whether it changed anything."""
        with self.arriving(hashlib.sha256(data).hexdigest()):
            self.blobs.put([data])
            return link()

    def end(self, upload: Upload) -> None:
        """Nothing of it stays."""
        with self._lock:
            self._uploads.pop(upload.identity, None)
        upload.closing.close()

    def give_up_idle(self) -> None:
        for upload in [one for one in list(self._uploads.values()) if time.monotonic() - one.touched > IDLE]:
            self._end_unless_busy(upload)

    def _end_unless_busy(self, upload: Upload) -> None:
        if upload.busy.acquire(blocking=False):
            try:
                self.end(upload)
            finally:
                upload.busy.release()

    def close(self) -> None:
        for upload in list(self._uploads.values()):
            self.end(upload)
