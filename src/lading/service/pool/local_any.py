"""Prepares what `lading invoke` runs, whatever it is packaged as: a zip, a folder, or a built image."""

from __future__ import annotations

from lading.model.progress import Progress
from lading.oci.find import is_layout
from lading.service.pool import local
from lading.service.pool.function import FunctionVersion
from lading.service.pool.image_function import Overrides
from lading.service.pool.local import LocalFunction, LocalOptions, check_snap_start, restored_from_snapshots
from lading.service.pool.local_image import LocalImage, prepare_image
from lading.store import Store


def prepare(function: LocalFunction, options: LocalOptions, store: Store, progress: Progress) -> FunctionVersion:
    """As local.prepare and prepare_image. A handler stands in for the image's CMD; layers are in the image already."""
    if not is_layout(function.artifact):
        return local.prepare(function, options, store, progress)
    if function.snap_start:
        check_snap_start(None, function.ephemeral_storage)
    image = LocalImage(
        name=function.name,
        source=str(function.artifact),
        overrides=Overrides(command=(function.handler,) if function.handler else None),
        environment=function.environment,
        memory=function.memory,
        timeout=function.timeout,
        ephemeral_storage=function.ephemeral_storage,
        log_format=function.log_format,
    )
    version = prepare_image(image, options, store, progress)
    return restored_from_snapshots(version) if function.snap_start else version
