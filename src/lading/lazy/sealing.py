"""What is kept for one account only: encrypted and authenticated as a whole (AES-256-GCM). No I/O.

The nonce is made of the content: equal texts, equal bytes, and no nonce serves two (docs/design/lazy-format.md, "Manifest").
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from typing import Any

from lading.lazy.chunk import cryptography_missing
from lading.lazy.fault import LazyFormatError, WrongKeyError
from lading.lazy.keys import AccountKey

VERSION = 1
_HEAD = struct.Struct("<8sHH8s12s")
_TAG = 16


@dataclass(frozen=True)
class Kind:
    """A kind of sealed object. `name` as in messages, `hint` for one that is damaged."""

    magic: bytes
    name: str
    largest: int
    fault: type[LazyFormatError]
    hint: str

    def broken(self, why: str) -> LazyFormatError:
        return self.fault(f"the {self.name} of the lazy image is damaged: {why}", hint=self.hint)


def seal(kind: Kind, plain: bytes, key: AccountKey) -> bytes:
    nonce = hmac.digest(key.nonce, plain, "sha256")[:12]
    head = _HEAD.pack(kind.magic, VERSION, 0, key.id, nonce)
    return head + bytes(_gcm(key).encrypt(nonce, plain, head))


def unseal(kind: Kind, data: bytes, key: AccountKey) -> bytes:
    """Raises WrongKeyError, the kind's fault for anything else that is wrong."""
    if len(data) < _HEAD.size + _TAG or len(data) > kind.largest:
        raise kind.broken(f"it has {len(data):,} bytes")
    head = data[: _HEAD.size]
    magic, version, _, key_id, nonce = _HEAD.unpack(head)
    if magic != kind.magic:
        raise kind.broken("it does not begin like one")
    if version != VERSION:
        raise kind.fault(
            f"the {kind.name} is sealed as version {version}; this lading reads version {VERSION}", hint="update lading"
        )
    if key_id != key.id:
        raise WrongKeyError(
            f"the {kind.name} was sealed under the key {key_id.hex()}, not {key.id.hex()}",
            hint="name the account and the key file that it was converted with: --key FILE",
        )
    gcm = _gcm(key)
    from cryptography.exceptions import InvalidTag

    try:
        return bytes(gcm.decrypt(nonce, data[_HEAD.size :], head))
    except InvalidTag:
        raise kind.broken("it was changed or cut short") from None


def _gcm(key: AccountKey) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise cryptography_missing() from None
    return AESGCM(key.seal)
