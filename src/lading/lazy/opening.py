"""From the digest of an image to what a mount needs: its manifest, where its chunks are, a lease that keeps them, its trace.

A store may be far: what needs no other answer is asked for at once, and the lease is confirmed while the image is being mounted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from lading.lazy.fault import LazyFormatError, ObjectMissingError
from lading.lazy.images import ImageSource
from lading.lazy.keys import AccountKey
from lading.lazy.manifest import identify, open_manifest
from lading.lazy.recorded import keep_trace
from lading.lazy.roots import ImageStore, Lease, Root
from lading.lazy.sealed_trace import open_trace

_AT_ONCE = 6
"""Requests: roots, format, manifest, trace, lease; then the confirmation."""


@dataclass(frozen=True)
class Opening:
    """`lease` is to be confirmed once the image is mounted, kept (`Lease.keep`) while it is, and released afterwards."""

    source: ImageSource
    lease: Lease
    _confirmed: Future[None]

    def confirm(self) -> None:
        """The root had not expired when the lease was there. Raises ObjectMissingError: nothing of it may be used then."""
        self._confirmed.result()


def open_source(store: ImageStore, key: AccountKey, digest: str) -> Opening:
    """digest: "sha256:…" of the OCI manifest. Raises ObjectMissingError, WrongKeyError, ManifestError, ObjectStoreError."""
    threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lazy-open")
    try:
        guess = store.newest
        listed = threads.submit(store.living)
        if guess:  # most likely it is still there: so it is asked while the roots are being listed
            opening = None
            with contextlib.suppress(ObjectMissingError):
                opening = _open(store, key, digest, Root(guess, b""), threads)
            if opening is not None:
                if guess in _settle(listed, opening):
                    return opening
                opening.lease.release()
        for name in listed.result():
            if name != guess:
                with contextlib.suppress(ObjectMissingError):
                    # a reader needs no salt, so the root's record isn't asked for
                    return _open(store, key, digest, Root(name, b""), threads)
        raise store.unknown(digest)
    finally:
        threads.shutdown(wait=False)


def _settle(listed: Future[list[str]], opening: Opening) -> list[str]:
    """The roots; where they can't be had no lease is left."""
    try:
        return listed.result()
    except BaseException:
        with contextlib.suppress(Exception):
            opening.lease.release()
        raise


def publish_trace(store: ImageStore, key: AccountKey, opening: Opening, order: Sequence[int]) -> bool:
    """Keeps a recorded start beside its manifest, for other machines; False where it adds nothing to what is there."""
    known = set(opening.source.trace)
    if not any(index not in known for index in order):
        return False
    keep_trace(store, key, opening.lease.root, opening.source.manifest, order)
    return True


def _open(store: ImageStore, key: AccountKey, digest: str, root: Root, threads: ThreadPoolExecutor) -> Opening:
    """Raises ObjectMissingError where the root has no such image."""
    checked = threads.submit(store.check_format)
    image = threads.submit(store.objects.get, root.image(key.id, digest))
    trace = threads.submit(store.objects.get, root.trace(key.id, digest))
    leased = threads.submit(store.announce, root)
    try:
        checked.result()
        manifest = open_manifest(image.result(), key)
        order: list[int] = []
        # What is damaged of a trace costs time only.
        with contextlib.suppress(ObjectMissingError, LazyFormatError):
            order = open_trace(trace.result(), len(manifest.data), identify(manifest), key)
        lease = leased.result()
    except BaseException:
        with contextlib.suppress(Exception):
            leased.result().release()
        raise
    return Opening(ImageSource(manifest, root.key("chunks"), tuple(order)), lease, threads.submit(store.confirm, lease))
