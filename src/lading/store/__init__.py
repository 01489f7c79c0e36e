"""The cache on disk: content-addressed blobs and the small results of finished actions. Shared by all projects of a user."""

from lading.store.folder import FolderActions, FolderBlobs, Store, default_root, open_store

__all__ = ["FolderActions", "FolderBlobs", "Store", "default_root", "open_store"]
