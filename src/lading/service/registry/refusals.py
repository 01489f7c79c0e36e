"""The errors that ECR's API and the distribution API share, in ECR's codes and words.

Sources: Amazon ECR API reference; answers of ECR quoted in public issue trackers. Where none is known the words are ours.
"""

from __future__ import annotations

from collections.abc import Iterable

from lading.service.contract.errors import ApiError
from lading.service.registry.names import Place


def invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)


def _in(place: Place) -> str:
    return f"the repository with name '{place.name}' in the registry with id '{place.scope.account}'"


def no_repository(place: Place) -> ApiError:
    message = f"The repository with name '{place.name}' does not exist in the registry with id '{place.scope.account}'"
    return ApiError("RepositoryNotFoundException", message)


def repository_exists(place: Place) -> ApiError:
    message = f"The repository with name '{place.name}' already exists in the registry with id '{place.scope.account}'"
    return ApiError("RepositoryAlreadyExistsException", message)


def repository_not_empty(place: Place) -> ApiError:
    return ApiError(
        "RepositoryNotEmptyException",
        f"The repository with name '{place.name}' in registry with id '{place.scope.account}' cannot be deleted because it "
        "still contains images",
    )


def no_image(place: Place, *, tag: str = "", digest: str = "") -> ApiError:
    identity = f"{{imageDigest:'{digest or 'null'}', imageTag:'{tag or 'null'}'}}"
    return ApiError("ImageNotFoundException", f"The image with imageId {identity} does not exist within {_in(place)}")


def image_exists(place: Place, digest: str, tag: str) -> ApiError:
    return ApiError(
        "ImageAlreadyExistsException",
        f"Image with digest '{digest}' and tag '{tag or 'null'}' already exists in the repository with name '{place.name}' "
        f"in registry with id '{place.scope.account}'",
    )


def tag_is_immutable(place: Place, tag: str) -> ApiError:
    return ApiError(
        "ImageTagAlreadyExistsException",
        f"The image tag '{tag}' already exists in the '{place.name}' repository and cannot be overwritten because the tag "
        "is immutable.",
    )


def layers_missing(place: Place, digests: Iterable[str]) -> ApiError:
    named = ", ".join(digests)
    message = (
        f"Layers with digests '[{named}]' required for pushing image into repository with name '{place.name}' in the "
    )
    return ApiError("LayersNotFoundException", f"{message}registry with id '{place.scope.account}' do not exist")


def images_missing(place: Place, digests: Iterable[str]) -> ApiError:
    named = ", ".join(digests)
    message = (
        f"Images with digests '[{named}]' required for pushing image into repository with name '{place.name}' in the "
    )
    return ApiError(
        "ReferencedImagesNotFoundException", f"{message}registry with id '{place.scope.account}' do not exist"
    )


def unsupported_manifest(why: str) -> ApiError:
    """Of ECR's codes the nearest for what is no manifest, or none that a registry keeps."""
    return ApiError("UnsupportedImageTypeException", f"Invalid or unsupported manifest: {why}")


def no_upload(place: Place, identity: str) -> ApiError:
    message = f"Upload with id '{identity[:200]}' could not be found for {_in(place)}"
    return ApiError("UploadNotFoundException", message)


def no_repository_policy(place: Place) -> ApiError:
    message = f"Repository policy does not exist for {_in(place)}"
    return ApiError("RepositoryPolicyNotFoundException", message)


def no_lifecycle_policy(place: Place) -> ApiError:
    message = f"Lifecycle policy does not exist for {_in(place)}"
    return ApiError("LifecyclePolicyNotFoundException", message)


def no_scan(place: Place, identity: dict[str, str]) -> ApiError:
    shown = f"{{imageDigest:'{identity.get('imageDigest', 'null')}', imageTag:'{identity.get('imageTag', 'null')}'}}"
    message = f"Image scan does not exist for the image with '{shown}' in {_in(place)}"
    return ApiError("ScanNotFoundException", message)
