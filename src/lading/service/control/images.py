"""Functions that are images: what their requests may say, how their code is set and shown. Bytes are the `Images`' affair.

Messages are AWS's, as quoted in public issue trackers (terraform-aws-lambda 741, aws-lambda-roadmap 82, pulumi-aws 5439,
terraform-aws-lambda-datadog 2, boto3 2705, lambda-action 28) and recorded in LocalStack's test suite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lading.service.contract.errors import ApiError
from lading.service.control.names import Scope
from lading.service.control.refusal import invalid, not_here

PIN = "_pin"
"""Where a request carries what its ImageUri was found to mean, before its turn came."""
MEMBERS = ("Runtime", "Handler", "Layers")


@dataclass(frozen=True)
class Pin:
    """An image by what its URI meant when it was asked: `digest` is "sha256:…" of its manifest."""

    uri: str
    digest: str
    media_type: str

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    @property
    def resolved_uri(self) -> str:
        """The repository as it was written, at the digest."""
        name = self.uri.partition("@")[0]
        head, colon, _ = name.rpartition(":")
        return f"{head if colon and '/' not in name[len(head) :] else name}@{self.digest}"


class ImageProblemError(Exception):
    """Why an image can't be used: `code` is AWS's StateReasonCode."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Images(Protocol):
    """Finds images and makes them ready. Methods block."""

    def pin(self, uri: str, scope: Scope, endpoint: str) -> Pin:
        """What a URI means now. Raises ApiError in AWS's words."""
        ...

    def prepare(self, configuration: Mapping[str, Any], account: str) -> None:
        """Fetch the image of an account's version and make it ready. Raises ImageProblemError."""
        ...


def is_image(configuration: Mapping[str, Any]) -> bool:
    return configuration.get("PackageType") == "Image"


def image_uri(operation: str, parameters: Mapping[str, Any]) -> str:
    """The image that a request is about, or nothing."""
    if operation == "CreateFunction":
        return str(parameters.get("Code", {}).get("ImageUri", "")) if is_image(parameters) else ""
    return str(parameters.get("ImageUri", "")) if operation == "UpdateFunctionCode" else ""


def check_creation(parameters: Mapping[str, Any]) -> None:
    """Raises ApiError for what can't be said of a new function of its package type."""
    code = parameters["Code"]
    if not is_image(parameters):
        if "Runtime" not in parameters or "Handler" not in parameters:
            raise invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        if "ImageUri" in code:
            raise invalid("Please provide a source for function code.")
        if parameters.get("ImageConfig"):
            raise invalid("Please don't provide ImageConfig when the intended function PackageType is Zip.")
        return
    if any(parameters.get(member) for member in MEMBERS):
        raise invalid(
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
        )
    if "CodeSigningConfigArn" in parameters:
        raise no_signing()
    if any(member in code for member in ("ZipFile", "S3Bucket", "S3Key")) or not code.get("ImageUri"):
        raise invalid("Please provide ImageUri when the intended function PackageType is Image.")


def check_change(old: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """The same of a configuration's update."""
    if not is_image(old):
        if parameters.get("ImageConfig"):
            raise invalid("Please don't provide ImageConfig when updating a function with packageType Zip.")
        return
    if parameters.get("Layers"):
        raise invalid("Lambda layers are not supported for functions created with container images.")
    if any(parameters.get(member) for member in MEMBERS):
        raise invalid("Please don't provide Handler or Runtime when updating a function with packageType Image.")


def check_code(old: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """The same of an update of code."""
    if is_image(old):
        if not parameters.get("ImageUri"):
            raise invalid("Please provide ImageUri when updating a function with packageType Image.")
    elif "ImageUri" in parameters:
        raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")


def no_signing() -> ApiError:
    return invalid("Code signing is not supported for functions created with container images.")


def pinned(images: Images | None, parameters: Mapping[str, Any], uri: str, where: tuple[Scope, str]) -> Pin:
    """What the request's image was found to mean. Raises ApiError."""
    found = parameters.get(PIN)
    if isinstance(found, Pin):
        return found
    if images is None:
        raise not_here("a container image (PackageType Image)", "serve it with its registry: lading serve")
    return images.pin(uri, *where)


def set_image(configuration: dict[str, Any], pin: Pin) -> None:
    """The image is the function's code from now on. `_image` keeps its blobs (see registry/garbage.py)."""
    configuration |= {
        "CodeSha256": pin.hex,
        "CodeSize": 0,
        "_digest": pin.hex,
        "_unzipped": 0,
        "_image": pin.digest,
        "_image_uri": pin.uri,
        "_image_type": pin.media_type,
    }


def pin_of(configuration: Mapping[str, Any]) -> Pin:
    return Pin(configuration["_image_uri"], configuration["_image"], configuration["_image_type"])


def shown_code(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """GetFunction's `Code`."""
    pin = pin_of(configuration)
    return {"RepositoryType": "ECR", "ImageUri": pin.uri, "ResolvedImageUri": pin.resolved_uri}


def set_config(configuration: dict[str, Any], value: Mapping[str, Any]) -> None:
    """ImageConfig; what is empty is not kept, and leaves the image's own."""
    kept = {name: value[name] for name in ("EntryPoint", "Command", "WorkingDirectory") if value.get(name)}
    if kept:
        configuration["ImageConfigResponse"] = {"ImageConfig": kept}
    else:
        configuration.pop("ImageConfigResponse", None)
