"""ECR's own way to send and get layers, in JSON. They block. Clients of images use the distribution API instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lading.errors import DownloadError, StoreError
from lading.oci.descriptor import DIGEST
from lading.service.contract.errors import ApiError
from lading.service.registry.content import Upload
from lading.service.registry.ecr_call import EcrCall, Operation, Parameters, Result
from lading.service.registry.names import Place
from lading.service.registry.pulling import layer_link
from lading.service.registry.pushing import LARGEST_BLOB, WAIT
from lading.service.registry.refusals import layers_missing

PART = 10_485_760
"""Bytes of a part, as InitiateLayerUpload proposes it."""
SMALLEST_PART = 5_242_880
"""Bytes of every part but the last (LayerPartTooSmallException)."""


def batch_check_layer_availability(call: EcrCall, parameters: Parameters) -> Result:
    place, _ = call.repository(parameters)
    layers: list[Any] = []
    failures = []
    for digest in parameters["layerDigests"]:
        if not DIGEST.fullmatch(digest):
            reason = "Invalid request parameters: layer digest is not sha256 and 64 hex digits"
            failures.append({"layerDigest": digest, "failureCode": "InvalidLayerDigest", "failureReason": reason})
        elif stored := call.catalog.asked_for_blob(place, digest):
            size = call.content.blobs.path(stored).stat().st_size
            layers.append({"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": size})
        else:
            layers.append({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"})
    return {"layers": layers, "failures": failures}


def initiate_layer_upload(call: EcrCall, parameters: Parameters) -> Result:
    place, _ = call.repository(parameters)
    return {"uploadId": call.content.begin(place).identity, "partSize": PART}


def upload_layer_part(call: EcrCall, parameters: Parameters) -> Result:
    place, _ = call.repository(parameters)
    first, last, data = (parameters[name] for name in ("partFirstByte", "partLastByte", "layerPartBlob"))
    with _writing(call, place, parameters["uploadId"]) as upload:
        if first != upload.size or last - first + 1 != len(data) or upload.size + len(data) > LARGEST_BLOB:
            message = f"Invalid layer part upload: {upload.size} bytes have arrived, and {len(data)} came as {first} to {last}"
            fields = {**call.named(place), "uploadId": upload.identity, "lastValidByteReceived": upload.size - 1}
            raise ApiError("InvalidLayerPartException", message, fields=fields)
        if upload.last_part and upload.last_part < SMALLEST_PART:
            raise ApiError("LayerPartTooSmallException", "Layer parts must be at least 5 MiB in size.")
        upload.last_part = len(data)
        upload.write(data)
        return {**call.named(place), "uploadId": upload.identity, "lastByteReceived": upload.size - 1}


@contextmanager
def _writing(call: EcrCall, place: Place, identity: str) -> Iterator[Upload]:
    upload = call.content.upload(place, identity)
    if not upload.busy.acquire(timeout=WAIT):
        raise ApiError("ServerException", "another request is writing this upload", status=500)
    try:
        yield upload
    except StoreError as error:
        call.content.end(upload)
        raise ApiError("ServerException", f"the registry can't keep it: {error.message}", status=500) from None
    finally:
        upload.busy.release()


def complete_layer_upload(call: EcrCall, parameters: Parameters) -> Result:
    place, _ = call.repository(parameters)
    digest = parameters["layerDigests"][0]
    with _writing(call, place, parameters["uploadId"]) as upload:
        if not upload.size:
            raise ApiError("EmptyUploadException", "The specified layer upload does not contain any layer parts.")
        if not DIGEST.fullmatch(digest):
            raise ApiError("InvalidLayerException", f"'{digest[:200]}' is not sha256 and 64 hex digits")
        if call.catalog.has_blob(place, digest):
            call.content.end(upload)
            message = f"Layer with digest '{digest}' already exists in the repository with name '{place.name}'"
            raise ApiError("LayerAlreadyExistsException", message)
        try:
            call.content.finish(upload, digest, lambda stored: call.catalog.use_blob(place, digest, stored))
        except DownloadError as error:
            raise ApiError("InvalidLayerException", "; ".join((error.message, *error.details))) from None
    return {**call.named(place), "uploadId": parameters["uploadId"], "layerDigest": digest}


def get_download_url_for_layer(call: EcrCall, parameters: Parameters) -> Result:
    """A link that works without credentials for an hour."""
    place, _ = call.repository(parameters)
    digest = parameters["layerDigest"]
    if not DIGEST.fullmatch(digest) or not call.catalog.asked_for_blob(place, digest):
        raise layers_missing(place, [digest])
    link = layer_link(call.catalog.state, digest, call.catalog.now())
    return {"downloadUrl": f"{call.endpoint}{link}", "layerDigest": digest}


OPERATIONS: dict[str, Operation] = {
    "BatchCheckLayerAvailability": batch_check_layer_availability,
    "InitiateLayerUpload": initiate_layer_upload,
    "UploadLayerPart": upload_layer_part,
    "CompleteLayerUpload": complete_layer_upload,
    "GetDownloadUrlForLayer": get_download_url_for_layer,
}
