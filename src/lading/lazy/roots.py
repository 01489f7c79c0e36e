"""A store's roots: each complete in itself, the newest written to, older ones read until all that is wanted has left them.

docs/design/lazy-format.md, "Roots", says who must write what before looking at what. Deletes nothing but leases and manifests.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from lading.errors import StoreError
from lading.lazy.fault import LazyFormatError, ObjectMissingError
from lading.lazy.objects import Objects

FORMAT = b"lading lazy store 1\n"
FORMAT_KEY = "format"
WRITER_SECONDS = 600.0
READER_SECONDS = 3600.0
MARGIN_SECONDS = 300.0
"""For clocks that differ, and for a put that was begun just before its lease ended."""
_ROOT = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")

Clock = Callable[[], float]


class LeaseLostError(StoreError):
    """A converter or reader was held up for longer than its lease."""


class StoreFormatError(LazyFormatError):
    """The folder or bucket is no image store, or one of another version."""


@dataclass(frozen=True)
class Root:
    """`expired`: since when, in seconds since 1970, or None."""

    id: str
    salt_id: bytes
    expired: float | None = None

    @property
    def record(self) -> str:
        """What makes it a root. Records stand apart: listing them must not list chunks."""
        return f"index/{self.id}.root"

    @property
    def end(self) -> str:
        return f"index/{self.id}.expired"

    def key(self, *parts: str) -> str:
        return "/".join(("roots", self.id, *parts))

    def chunk(self, name: bytes) -> str:
        text = name.hex()
        return self.key("chunks", text[:2], text)

    def image(self, key_id: bytes, digest: str) -> str:
        """`digest` as "sha256:…"."""
        return self.key("images", key_id.hex(), digest.removeprefix("sha256:"))

    def trace(self, key_id: bytes, digest: str) -> str:
        return self.key("traces", key_id.hex(), digest.removeprefix("sha256:"))


class Lease:
    """A mark that somebody works with a root. `keep` renews it in time."""

    def __init__(self, objects: Objects, root: Root, kind: str, clock: Clock) -> None:
        self.root = root
        self._objects, self._clock = objects, clock
        self._key = root.key("leases", f"{kind}-{secrets.token_hex(8)}")
        self._seconds = WRITER_SECONDS if kind == "writer" else READER_SECONDS
        self._until = 0.0
        self._write()

    def keep(self) -> None:
        """To be called often; costs a request each third of the lease. Raises LeaseLostError when it is too late."""
        self.check()
        if self._until - self._clock() < self._seconds * 2 / 3:
            self._write()

    def check(self) -> None:
        """Raises LeaseLostError when it is too late."""
        if self._clock() >= self._until:
            raise LeaseLostError(
                f"the work on root {self.root.id} was held up beyond its lease", hint="run the command again"
            )

    def release(self) -> None:
        self._objects.delete(self._key)

    def _write(self) -> None:
        until = self._clock() + self._seconds
        self._objects.put(self._key, f"{until:.0f}\n".encode())
        self._until = until


class ImageStore:
    """Images by digest, in roots. Safe between threads, processes and machines."""

    def __init__(self, objects: Objects, clock: Clock = time.time) -> None:
        self.objects = objects
        self._clock = clock
        self.newest = ""
        """Of the roots that had not expired when they were last listed; it may have since."""

    def roots(self) -> list[Root]:
        """All, the oldest first. Raises StoreFormatError for what is no store."""
        keys = {key.removeprefix("index/") for key in self.objects.list("index/")}
        names = sorted(key.removesuffix(".root") for key in keys if key.endswith(".root"))
        if names:
            self.check_format()
        found = []
        for name in names:
            with contextlib.suppress(ObjectMissingError):  # deleted meanwhile
                if _ROOT.fullmatch(name):
                    found.append(self._read(name, expired=f"{name}.expired" in keys))
        return found

    def new_root(self, salt_id: bytes | None = None) -> Root:
        """The active one from now on; with a salt of its own unless told which."""
        if self.objects.size(FORMAT_KEY) is None:
            self.objects.put(FORMAT_KEY, FORMAT)
        newest = max((root.id for root in self.roots()), default="")
        moment = datetime.fromtimestamp(self._clock(), UTC)
        name = f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        if name <= newest:
            # Made within one second, or by a clock that is behind.
            stamp, number = newest.split("-")
            name = f"{stamp}-{min(int(number, 16) + 1 + secrets.randbelow(1 << 16), 0xFFFF_FFFF):08x}"
        root = Root(name, salt_id or secrets.token_bytes(16))
        self.objects.put(root.record, f"{root.salt_id.hex()}\n".encode())
        return root

    @contextlib.contextmanager
    def writing(self) -> Iterator[Lease]:
        """A lease on the active root, which is made where there is none."""
        lease = self._take("writer", lambda roots: roots[-1] if roots else self.new_root())
        try:
            yield lease
        finally:
            lease.release()

    def reading(self, root: Root) -> Lease:
        """A reader's lease on a root, to be kept and released by the caller. Raises ObjectMissingError once it has expired."""
        lease = self.announce(root)
        try:
            self.confirm(lease)
        except BaseException:
            lease.release()
            raise
        return lease

    def announce(self, root: Root) -> Lease:
        """A reader's lease, which counts once it is confirmed."""
        return Lease(self.objects, root, "reader", self._clock)

    def confirm(self, lease: Lease) -> None:
        """A collector may have expired the root before it saw the lease. Raises ObjectMissingError then."""
        if lease.root.id not in self.living():
            raise ObjectMissingError(f"root {lease.root.id} has expired", hint="open the image again")

    def living(self) -> list[str]:
        """Ids of the roots that have not expired, the newest first. One request: `roots` asks for each record as well."""
        keys = {key.removeprefix("index/") for key in self.objects.list("index/")}
        names = {key.removesuffix(".root") for key in keys if key.endswith(".root")}
        found = sorted(
            (name for name in names if _ROOT.fullmatch(name) and f"{name}.expired" not in keys), reverse=True
        )
        self.newest = found[0] if found else ""
        return found

    def check_format(self) -> None:
        """Raises StoreFormatError."""
        found = self.objects.get(FORMAT_KEY)
        if found != FORMAT:
            raise StoreFormatError(
                f"{self.objects} is a store of the format {found[:60]!r}, not {FORMAT!r}", hint="update lading"
            )

    def publish(self, lease: Lease, key_id: bytes, digest: str, manifest: bytes) -> None:
        """The last step of a conversion: all chunks are there. Raises LeaseLostError."""
        self.objects.flush()
        self.name(lease, key_id, digest, manifest)

    def name(self, lease: Lease, key_id: bytes, digest: str, manifest: bytes) -> None:
        """The same where all chunks are known to survive a power cut. Raises LeaseLostError."""
        lease.keep()
        self.objects.put(lease.root.image(key_id, digest), manifest)
        # Whoever was stopped before the put may have published into a root that had expired meanwhile.
        lease.check()

    def images(self, root: Root) -> list[tuple[bytes, str]]:
        """(key id, digest) of every image in a root."""
        found = []
        for key in self.objects.list(root.key("images") + "/"):
            parts = key.split("/")
            if len(parts) == 5 and re.fullmatch("[0-9a-f]{16}", parts[3]) and re.fullmatch("[0-9a-f]{64}", parts[4]):
                found.append((bytes.fromhex(parts[3]), f"sha256:{parts[4]}"))
        return sorted(found)

    def find(self, key_id: bytes, digest: str) -> tuple[Root, bytes]:
        """The newest root with an image, and its sealed manifest. Raises ObjectMissingError."""
        for root in reversed(self.roots()):
            with contextlib.suppress(ObjectMissingError):
                if root.expired is None:
                    return root, self.objects.get(root.image(key_id, digest))
        raise self.unknown(digest)

    def unknown(self, digest: str) -> ObjectMissingError:
        return ObjectMissingError(
            f"the image store {self.objects} has no image {digest} of this account",
            hint="convert it: lading image convert",
        )

    def remove(self, key_id: bytes, digest: str) -> bool:
        """Forget an image; its chunks go with a later collection. Whether there was one."""
        removed = False
        for root in self.roots():
            for key in (root.trace(key_id, digest), root.image(key_id, digest)):
                if self.objects.size(key) is not None:
                    self.objects.delete(key)
                    removed = True
        return removed

    def leases(self, root: Root, kind: str = "") -> bool:
        """Whether a root has a live lease (of a kind)."""
        now = self._clock()
        for key in self.objects.list(root.key("leases") + "/"):
            if not key.rpartition("/")[2].startswith(kind):
                continue
            try:
                until = float(self.objects.get(key))
            except ObjectMissingError:
                continue
            except ValueError:
                return True  # not readable: somebody's all the same
            if now < until + MARGIN_SECONDS:
                return True
        return False

    def _take(self, kind: str, choose: Callable[[list[Root]], Root]) -> Lease:
        """First the lease, then another look: a collector does it the other way round, so one of the two sees the other."""
        while True:
            lease = Lease(self.objects, choose(self.roots()), kind, self._clock)
            newest = self.roots()[-1:]  # none where all that were listed went before they were read
            if newest and newest[0].id == lease.root.id and newest[0].expired is None:
                return lease
            lease.release()

    def _read(self, name: str, *, expired: bool) -> Root:
        text = self.objects.get(f"index/{name}.root")
        try:
            salt_id = bytes.fromhex(text.decode().strip())
            if len(salt_id) != 16:
                raise ValueError
            since = float(self.objects.get(f"index/{name}.expired")) if expired else None
        except ValueError:
            raise StoreFormatError(f"root {name} of {self.objects} is damaged", hint="restore it from a copy") from None
        return Root(name, salt_id, since)
