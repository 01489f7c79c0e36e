"""What is in an image as a CycloneDX document, and the artifact manifest that attaches it. No times: it is reproducible."""

from __future__ import annotations

from typing import Any

from lading import __version__
from lading.model.artifact import Manifest, PackedPackage
from lading.oci import media
from lading.oci.descriptor import Descriptor, encode
from lading.oci.image import Image
from lading.oci.layout import Document

CYCLONEDX = "application/vnd.cyclonedx+json"


def attach(image: Image, manifest: Manifest) -> tuple[Document, ...]:
    """The SBOM, the empty config that OCI wants beside it, and the manifest that refers to the image."""
    sbom = Document.of(CYCLONEDX, encode(cyclonedx(image, manifest)))
    nothing = Document.of(media.OCI_EMPTY, b"{}")
    subject = Descriptor(image.media_type, image.digest, len(image.manifest))
    document = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": CYCLONEDX,
        "config": nothing.descriptor.as_dict(),
        "layers": [sbom.descriptor.as_dict()],
        "subject": subject.as_dict(),
    }
    return sbom, nothing, Document.of(media.OCI_MANIFEST, encode(document), artifact_type=CYCLONEDX)


def cyclonedx(image: Image, manifest: Manifest) -> dict[str, Any]:
    """A CycloneDX 1.5 bill of materials: the image, and one library for each distribution in it."""
    name = f"pkg:oci/{manifest.name}@{image.digest}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "lading", "version": __version__}]},
            "component": {
                "type": "container",
                "bom-ref": name,
                "name": manifest.name,
                "version": image.digest,
                "purl": name.replace("@sha256:", "@sha256%3A"),
            },
        },
        "components": [_component(package) for package in manifest.packages],
        "dependencies": [
            {"ref": name, "dependsOn": [_purl(package) for package in manifest.packages if package.direct]}
        ],
    }


def _component(package: PackedPackage) -> dict[str, Any]:
    # Of what somebody else installed no wheel is known.
    hashes = {"hashes": [{"alg": "SHA-256", "content": package.sha256}]} if package.sha256 else {}
    return {
        "type": "library",
        "bom-ref": _purl(package),
        "name": package.name,
        "version": package.version,
        "purl": _purl(package),
        **hashes,
    }


def _purl(package: PackedPackage) -> str:
    return f"pkg:pypi/{package.name}@{package.version}"
