"""The images of functions: found in this registry or any other, fetched, made ready once, opened for the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lading.errors import LadingError, StoreError
from lading.model.progress import Silent
from lading.oci import media
from lading.oci.descriptor import ImageFormatError, read_descriptor
from lading.oci.image import Image
from lading.oci.pull import fetch_manifest, pull
from lading.oci.reference import ImageReferenceError, parse_reference
from lading.oci.registry import NotInRegistryError, UnauthorizedError
from lading.oci.validate import validate_manifest
from lading.sandbox.image import ImageRoot
from lading.service.contract.errors import ApiError
from lading.service.control.images import ImageProblemError, Pin, is_image, pin_of
from lading.service.control.names import Scope
from lading.service.control.refusal import invalid
from lading.service.pool.image_function import Overrides, OwnedImage, RootLease, Roots, root_of
from lading.service.registry.registry import LocalRegistry
from lading.service.state import Record

NO_ACCESS = "Lambda does not have permission to access the ECR image. Check the ECR permissions."


class FunctionImages:
    """The control plane's `Images`, and what the engine opens. Safe between threads; blocks."""

    def __init__(self, registry: LocalRegistry, roots: Roots) -> None:
        self._registry = registry
        self._roots = roots

    def pin(self, uri: str, scope: Scope, endpoint: str) -> Pin:
        """AWS takes an image that is there, and a single one of types it knows. Raises ApiError."""
        try:
            found = self._registry.resolve(uri, scope, endpoint)
        except ImageReferenceError:
            raise _not_valid(uri) from None
        except ApiError:
            raise _not_there(uri) from None
        manifest, kind = (found.manifest, found.media_type) if found else self._remote(uri)
        if validate_manifest(manifest, kind) or not _is_taken(manifest):
            raise invalid(unsupported(uri))
        return Pin(uri, f"sha256:{self._registry.content.blobs.put([manifest])}", kind)

    def _remote(self, uri: str) -> tuple[bytes, str]:
        try:
            return fetch_manifest(parse_reference(uri))
        except UnauthorizedError:
            raise ApiError("AccessDeniedException", NO_ACCESS, status=403) from None
        except NotInRegistryError:
            raise _not_there(uri) from None
        except LadingError as error:
            raise ApiError(_not_valid(uri).code, f"{_not_valid(uri).message} {error.message}") from None

    def prepare(self, configuration: Mapping[str, Any], account: str) -> None:
        pin = pin_of(configuration)
        try:
            self._roots.prepare(OwnedImage(self._whole(pin), account))
        except UnauthorizedError:
            raise ImageProblemError("ImageAccessDenied", NO_ACCESS) from None
        except NotInRegistryError:
            raise ImageProblemError("ImageDeleted", f"The image {pin.resolved_uri} was deleted.") from None
        except ImageFormatError as error:
            raise ImageProblemError("InvalidImage", f"The image {pin.uri} can't be used: {error.message}") from None
        except (LadingError, OSError) as error:
            raise ImageProblemError("InternalError", f"The image {pin.uri} could not be made ready: {error}") from None

    def open(self, configuration: Mapping[str, Any], account: str) -> tuple[ImageRoot, RootLease]:
        """What a version's environments stand on; to be released. Raises LadingError."""
        lease = self._roots.open(OwnedImage(self._whole(pin_of(configuration)), account))
        config = configuration.get("ImageConfigResponse", {}).get("ImageConfig", {})
        try:
            return root_of(self._image(pin_of(configuration)), Overrides.of(config), lease), lease
        except BaseException:
            lease.release()
            raise

    def keep_only_roots_of(self, versions: Iterable[Record]) -> None:
        """Of these versions and what serves while they are updated. At a start, when nothing runs."""
        self._roots.keep_only(self._images_of(versions))

    def sweep(self, versions: Iterable[Record]) -> None:
        """The same while the service runs, where the roots can."""
        self._roots.sweep(self._images_of(versions))

    def metrics(self) -> str:
        """Of images that are loaded lazily, as Prometheus' text. Blocks."""
        return self._roots.metrics()

    async def close(self) -> None:
        """When no environment lives any more."""
        await asyncio.to_thread(self._roots.close)

    def _images_of(self, versions: Iterable[Record]) -> Iterator[OwnedImage]:
        for version in versions:
            for one in (version.document, version.document.get("_serving", {})):
                if is_image(one):
                    try:
                        yield OwnedImage(self._image(pin_of(one)), version.key.account)
                    except LadingError:
                        continue  # what is gone has no use for its root

    def _image(self, pin: Pin) -> Image:
        """Raises StoreError where something of it is missing."""
        return self._registry.pinned(pin.uri, pin.digest, pin.media_type).open()

    def _whole(self, pin: Pin) -> Image:
        """All its blobs at hand; those of another registry are fetched."""
        blobs = self._registry.content.blobs
        try:
            image = self._image(pin)
            if all(blobs.has(layer.descriptor.hex) for layer in image.layers):
                return image
        except StoreError:
            pass
        reference = parse_reference(pin.resolved_uri)
        return pull(reference, None, blobs, Silent())


def unsupported(uri: str) -> str:
    return f"The image manifest, config or layer media type for the source image {uri} is not supported."


def _is_taken(manifest: bytes) -> bool:
    """Whether config and layers are of types that Lambda runs: no artifact, no uncompressed layer."""
    import json

    try:
        document = json.loads(manifest)
        config = read_descriptor(document.get("config"), "the config")
        layers = [read_descriptor(layer, "a layer") for layer in document.get("layers", ())]
    except (ValueError, TypeError, ImageFormatError):
        return False
    return config.media_type in media.CONFIGS and all(media.COMPRESSION.get(one.media_type) for one in layers)


def _not_valid(uri: str) -> ApiError:
    return invalid(f"Source image {uri} is not valid. Provide a valid source image.")


def _not_there(uri: str) -> ApiError:
    return invalid(f"Source image {uri} does not exist. Provide a valid source image.")
