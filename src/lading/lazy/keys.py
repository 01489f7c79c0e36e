"""The secrets of lazy images: one master key in a file, from which each account's key and each salt are derived (HKDF-SHA256).

Whoever has the store but not the file learns no content, and can't test a guess of one either: salts are secret too.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from lading.lazy.fault import KeyFileError

MAGIC = "lading-lazy-key-1"
DEFAULT_ACCOUNT = "000000000000"


@dataclass(frozen=True)
class AccountKey:
    """What seals and opens the manifests of one account."""

    seal: bytes = field(repr=False)
    nonce: bytes = field(repr=False)

    @property
    def id(self) -> bytes:
        """8 bytes that tell keys apart and say nothing of them."""
        return hashlib.sha256(b"lading lazy key id 1\0" + self.seal).digest()[:8]


@dataclass(frozen=True)
class MasterKey:
    """32 secret bytes."""

    secret: bytes = field(repr=False)

    def account(self, account: str = DEFAULT_ACCOUNT) -> AccountKey:
        """The key of an account, a name such as 123456789012."""
        return AccountKey(self._derive(f"seal {account}"), self._derive(f"nonce {account}"))

    def salt(self, salt_id: bytes) -> bytes:
        """The salt of a root of the store."""
        return self._derive(f"salt {salt_id.hex()}")

    def _derive(self, purpose: str) -> bytes:
        # HKDF (RFC 5869) with an empty salt; one block of output is all that 32 bytes need.
        extracted = hmac.digest(bytes(32), self.secret, "sha256")
        return hmac.digest(extracted, f"lading lazy 1 {purpose}".encode() + b"\x01", "sha256")


def default_key_file() -> Path:
    """$LADING_LAZY_KEY, or `lading/lazy.key` under the user's data folder ($XDG_DATA_HOME, ~/.local/share)."""
    chosen = os.environ.get("LADING_LAZY_KEY")
    if chosen:
        return Path(chosen).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data).absolute() / "lading" / "lazy.key"


def read_key(path: Path) -> MasterKey:
    """The key in a file. Raises KeyFileError where it is missing, damaged, or readable by others."""
    try:
        with path.open("r", encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(200)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it isn't text"
        raise KeyFileError(
            f"can't read the key file {path}: {why}", hint="name the one the images were made with: --key FILE"
        ) from None
    if mode & 0o077:
        raise KeyFileError(f"the key file {path} is open to others", hint=f"chmod 600 {path}")
    magic, _, digits = text.strip().partition(" ")
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        secret = b""
    if magic != MAGIC or len(secret) != 32:
        raise KeyFileError(f"{path} is not a key file of lading", hint="restore it from a copy")
    return MasterKey(secret)


def ensure_key(path: Path) -> MasterKey:
    """The key in a file, made at random where there is none. Several may do so at once: one wins."""
    if path.exists():
        return read_key(path)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{MAGIC} {secrets.token_hex(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    except OSError as error:
        raise KeyFileError(
            f"can't write the key file {path}: {error.strerror or error}", hint="choose another place: --key FILE"
        ) from error
    return read_key(path)
