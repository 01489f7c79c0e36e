"""Sends an image to the repository: only the blobs that it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lading.aws.account import Account
from lading.aws.images import registry_login
from lading.errors import DeployError
from lading.model.progress import Progress
from lading.oci.credentials import Login
from lading.oci.layout import Layout
from lading.oci.push import push
from lading.oci.reference import parse_reference


def push_image(account: Account, parameters: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Raises DeployError when the layout isn't what was planned, RegistryError where the registry refuses."""
    layout, digest = Path(parameters["Layout"]), f"sha256:{parameters['Digest']}"
    images = list(Layout(layout).images())
    if len(images) != 1 or images[0].digest != digest:
        raise DeployError(f"{layout} isn't what was planned: it changed meanwhile", hint="plan again")
    login = Login(*registry_login(account)) if parameters["Login"] else None
    reference = parse_reference(f"{parameters['Repository']}@{digest}")
    pushed = push(images, [], reference, progress, login=login)
    progress.note(f"sent {pushed.sent:,} bytes of {layout.name} in {pushed.blobs} blobs; {pushed.present} were there")
    return {"ImageUri": str(reference)}
