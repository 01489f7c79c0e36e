"""What can be wrong with a lazy image, its store or its keys: one class each, so that a reader can tell what to do next."""

from __future__ import annotations

from lading.errors import DownloadError, StoreError


class LazyFormatError(StoreError):
    """A manifest or chunk is not what the format says: truncated, changed, or of another version."""


class ManifestError(LazyFormatError):
    """A manifest can't be opened: not one, cut short, changed, of another version, or inconsistent."""


class WrongKeyError(LazyFormatError):
    """The manifest was sealed for another account or under another key file."""


class ChunkError(LazyFormatError):
    """A chunk's bytes are not what the manifest says. Another tier may still have the right ones."""


class KeyFileError(StoreError):
    """The key file is missing, unreadable, open to others, or not one."""


class CryptographyMissingError(StoreError):
    """The extra that lazy images need is not installed."""


class ObjectMissingError(DownloadError):
    """The store does not have an object: a chunk, a manifest, a root."""


class ObjectStoreError(DownloadError):
    """The store can't be reached, refuses, or its disk is full."""
