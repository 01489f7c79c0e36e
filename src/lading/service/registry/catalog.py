"""Repositories, and what is in them: images by digest, tags, and the blobs that a repository may use. In the service's SQLite.

Every method is a transaction or part of one; they block. Bytes are elsewhere: see content.py.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from typing import Any

from lading.service.control.names import Scope
from lading.service.registry.manifest import ManifestFacts
from lading.service.registry.names import Place
from lading.service.registry.refusals import (
    images_missing,
    layers_missing,
    no_image,
    no_repository,
    repository_exists,
    repository_not_empty,
    tag_is_immutable,
)
from lading.service.state import Key, Record, State

Document = dict[str, Any]
REPOSITORY, IMAGE, IMAGE_TAG, BLOB = "repository", "repository-image", "repository-tag", "repository-blob"
KINDS = (IMAGE, IMAGE_TAG, BLOB)
"""Of records below a repository."""
RENEWAL = 600.0
"""Seconds after which another use of a blob, or pull of an image, is written down."""


class Catalog:
    """Over a state; `now` gives seconds since the epoch."""

    def __init__(self, state: State, now: Callable[[], float]) -> None:
        self.state = state
        self.now = now

    # Repositories

    def repository(self, place: Place) -> Document:
        """Its settings. Raises RepositoryNotFoundException."""
        found = self.state.get(_key(place.scope, REPOSITORY, "", place.name))
        if found is None:
            raise no_repository(place)
        return found

    def repositories(self, scope: Scope, *, after: str = "", limit: int = 1000) -> list[Record]:
        return self.state.list_by_name(_key(scope, REPOSITORY), after=after, limit=limit)

    def nearest(self, home: Scope, name: str) -> Scope:
        """Where an account has a repository: at home, else in the first region that has one of that name; home if none has."""
        found = self.state.find_named(REPOSITORY, home.account, name)
        regions = sorted(record.key.region for record in found)
        return home if home.region in regions or not regions else Scope(home.account, regions[0])

    def create(self, place: Place, settings: Document) -> Document:
        """Raises RepositoryAlreadyExistsException."""
        with self.state.transaction():
            key = _key(place.scope, REPOSITORY, "", place.name)
            if self.state.get(key) is not None:
                raise repository_exists(place)
            document = {name: value for name, value in settings.items() if value is not None} | {"created": self.now()}
            self.state.put(key, document)
            return document

    def change(self, place: Place, **settings: Any) -> Document:
        """With these settings in place of those of the same name; None removes one."""
        with self.state.transaction():
            document = self.repository(place) | settings
            document = {name: value for name, value in document.items() if value is not None}
            self.state.put(_key(place.scope, REPOSITORY, "", place.name), document)
            return document

    def delete(self, place: Place, *, force: bool) -> Document:
        """Raises RepositoryNotEmptyException for one with images, unless forced."""
        with self.state.transaction():
            document = self.repository(place)
            if not force and self.state.list_by_name(_key(place.scope, IMAGE, place.name), limit=1):
                raise repository_not_empty(place)
            for kind in KINDS:
                self.state.delete_children(_key(place.scope, kind, place.name))
            self.state.delete(_key(place.scope, REPOSITORY, "", place.name))
            return document

    # Blobs that a repository may use

    def has_blob(self, place: Place, digest: str) -> bool:
        return self.stored_blob(place, digest) is not None

    def stored_blob(self, place: Place, digest: str) -> str | None:
        """The name in the content store of a blob that the repository has."""
        found = self.state.get(_key(place.scope, BLOB, place.name, digest))
        return stored_as(found) if found is not None else None

    def use_blob(self, place: Place, digest: str, stored: str) -> None:
        """From now on the repository has the blob, and has just asked for it: nothing collects it for a while."""
        with self.state.transaction():
            self.repository(place)
            document = {"digest": digest, "used": self.now(), **_stored(digest, stored)}
            self.state.put(_key(place.scope, BLOB, place.name, digest), document)

    def asked_for_blob(self, place: Place, digest: str) -> str | None:
        """As `stored_blob`; where there is one, nothing collects it for a while."""
        found = self.state.get(_key(place.scope, BLOB, place.name, digest))
        if found is None:
            return None
        if self.now() - found["used"] > RENEWAL:
            self.use_blob(place, digest, stored_as(found))
        return stored_as(found)

    def drop_blob(self, place: Place, digest: str) -> None:
        self.state.delete(_key(place.scope, BLOB, place.name, digest))

    def blobs(self, place: Place) -> list[Record]:
        """By digest; each says when it was last asked for."""
        return self.state.list_by_name(_key(place.scope, BLOB, place.name))

    def users_of_blob(self, place: Place, digest: str) -> list[str]:
        """Digests of the repository's images that are made of a blob."""
        return [record.key.name for record in self.images(place) if digest in record.document["blobs"]]

    # Images and tags

    def put_image(self, place: Place, facts: ManifestFacts, tag: str = "") -> bool:
        """Keep an image whose manifest's bytes are in the content store; whether anything changed.

        Raises LayersNotFoundException, ReferencedImagesNotFoundException, ImageTagAlreadyExistsException.
        """
        with self.state.transaction():
            repository = self.repository(place)
            if missing := [digest for digest in facts.blobs if not self.has_blob(place, digest)]:
                raise layers_missing(place, missing)
            if missing := [one.digest for one in facts.children if self.image(place, one.digest) is None]:
                raise images_missing(place, missing)
            changed = self.image(place, facts.digest) is None
            if changed:
                self.state.put(_key(place.scope, IMAGE, place.name, facts.digest), self._described(facts))
            if tag:
                changed |= self._tag(place, repository, tag, facts.digest)
            return changed

    def _described(self, facts: ManifestFacts) -> Document:
        return {
            "digest": facts.digest,
            "mediaType": facts.media_type,
            "manifestSize": facts.size,
            "size": facts.image_size,
            "blobs": list(facts.blobs),
            "children": [one.digest for one in facts.children],
            "subject": facts.subject.digest if facts.subject else "",
            "artifactType": facts.artifact_type,
            "configType": facts.config.media_type if facts.config else "",
            "annotations": dict(facts.annotations),
            "pushed": self.now(),
            **_stored(facts.digest, facts.stored),
        }

    def _tag(self, place: Place, repository: Document, tag: str, digest: str) -> bool:
        key = _key(place.scope, IMAGE_TAG, place.name, tag)
        known = self.state.get(key)
        if known is not None and known["digest"] == digest:
            return False
        if known is not None and is_immutable(repository, tag):
            raise tag_is_immutable(place, tag)
        self.state.put(key, {"digest": digest})
        return True

    def image(self, place: Place, digest: str) -> Document | None:
        return self.state.get(_key(place.scope, IMAGE, place.name, digest))

    def find(self, place: Place, *, tag: str = "", digest: str = "") -> Document:
        """By one of the two. Raises RepositoryNotFoundException, ImageNotFoundException."""
        wanted = digest
        if not digest:
            found = self.state.get(_key(place.scope, IMAGE_TAG, place.name, tag))
            wanted = found["digest"] if found else ""
        image = self.image(place, wanted) if wanted else None
        if image is None:
            self.repository(place)
            raise no_image(place, tag=tag, digest=digest)
        return image

    def images(self, place: Place, *, after: str = "", limit: int = 2**62) -> list[Record]:
        """By digest."""
        return self.state.list_by_name(_key(place.scope, IMAGE, place.name), after=after, limit=limit)

    def tags(self, place: Place, *, after: str = "", limit: int = 2**62) -> list[Record]:
        """By name; each has its digest."""
        return self.state.list_by_name(_key(place.scope, IMAGE_TAG, place.name), after=after, limit=limit)

    def tags_of(self, place: Place, digest: str) -> list[str]:
        return [record.key.name for record in self.tags(place) if record.document["digest"] == digest]

    def referrers(self, place: Place, digest: str) -> list[Document]:
        """Manifests whose subject is this one, whether it is there or not."""
        return [record.document for record in self.images(place) if record.document["subject"] == digest]

    def parents(self, place: Place, digest: str) -> list[str]:
        """Digests of the indexes that list a manifest."""
        return [record.key.name for record in self.images(place) if digest in record.document["children"]]

    def pulled(self, place: Place, digest: str) -> None:
        """Note the time of a pull."""
        with self.state.transaction():
            image = self.image(place, digest)
            if image is not None and self.now() - image.get("pulled", 0.0) > RENEWAL:
                self.state.put(_key(place.scope, IMAGE, place.name, digest), image | {"pulled": self.now()})

    def delete_tag(self, place: Place, tag: str) -> None:
        self.state.delete(_key(place.scope, IMAGE_TAG, place.name, tag))

    def delete_image(self, place: Place, digest: str) -> None:
        """With its tags."""
        with self.state.transaction():
            for tag in self.tags_of(place, digest):
                self.delete_tag(place, tag)
            self.state.delete(_key(place.scope, IMAGE, place.name, digest))

    def everywhere(self) -> Iterator[Place]:
        """Every repository of every account and region."""
        for record in self.state.list_everywhere(REPOSITORY):
            yield Place(Scope(record.key.account, record.key.region), record.key.name)


def _key(scope: Scope, kind: str, parent: str = "", name: str = "") -> Key:
    return Key(scope.account, scope.region, kind, parent, name)


def stored_as(document: Document) -> str:
    """The name in the content store (hex of sha256) of what a record of a blob or image is about."""
    return str(document.get("stored") or document["digest"].removeprefix("sha256:"))


def _stored(digest: str, stored: str) -> Document:
    """That name where the digest doesn't say it: of another algorithm."""
    return {} if digest == f"sha256:{stored}" else {"stored": stored}


def is_immutable(repository: Document, tag: str) -> bool:
    """By the repository's mutability and the patterns that are left out of it ("*" stands for anything)."""
    mutability = repository.get("imageTagMutability", "MUTABLE")
    filters = [one["filter"] for one in repository.get("imageTagMutabilityExclusionFilters", ())]
    excluded = any(fnmatch.fnmatchcase(tag, pattern) for pattern in filters)
    if mutability == "IMMUTABLE_WITH_EXCLUSION":
        return not excluded
    return mutability == "IMMUTABLE" or (mutability == "MUTABLE_WITH_EXCLUSION" and excluded)
