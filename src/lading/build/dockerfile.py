"""An image by a Dockerfile: buildah, podman or docker does the work; the result is a layout like lading's own.

The builder's storage is the user's. What is made is copied out, validated and then put in place; nothing of it is changed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lading.build.image import NAME
from lading.build.image_base import platform_of
from lading.build.image_sbom import attach
from lading.build.packing import replacing_text
from lading.errors import BuildError
from lading.model.artifact import Artifact, Manifest, PackedPackage, manifest_path
from lading.model.finding import errors
from lading.model.project import FunctionConfig
from lading.oci.descriptor import Platform
from lading.oci.docker_archive import read_docker_archive
from lading.oci.image import Image
from lading.oci.imports import ImageAudit, audit_image
from lading.oci.layer import Layer
from lading.oci.layout import Layout, write_layout
from lading.oci.leftovers import unfinished
from lading.oci.reference import DOCKER_HUB
from lading.oci.registry import scheme
from lading.oci.tar import Walker
from lading.oci.validate import validate
from lading.oci.verdict import is_unreadable
from lading.store import Store
from lading.store.folder import disk_errors

BUILDERS = ("buildah", "podman", "docker")
AWS_PUBLIC = "public.ecr.aws"
LINES = 15
"""Of a failed builder's output that are shown."""
LONGEST = 3600.0
"""Seconds a builder may take."""
_FROM = re.compile(
    r"^\s*FROM\s+(?:--\S+\s+)*([a-z0-9][a-z0-9.-]*\.[a-z0-9.-]+(?::\d+)?|localhost(?::\d+)?)/", re.I | re.M
)
_PULLING = re.compile(
    r"initializing source|pinging container registry|failed to resolve|pull access denied|manifest unknown"
)


class NoBuilderError(BuildError):
    """Nothing on this machine builds Dockerfiles."""


class DockerfileError(BuildError):
    """A builder failed on a Dockerfile."""


@dataclass(frozen=True)
class DockerfileOptions:
    """How to build. `mirror`: a registry (HOST[:PORT][/PREFIX]) that is asked first for what the Dockerfile stands on."""

    mirror: str = ""
    allowed: frozenset[str] = frozenset()
    labels: Mapping[str, str] | None = None


def build_dockerfile(function: FunctionConfig, destination: Path, store: Store, options: DockerfileOptions) -> Artifact:
    """The layout at `destination`, with its manifest beside it; neither is touched when a finding is an error.

    Raises NoBuilderError, DockerfileError, ImageFormatError, StoreError.
    """
    builder = find_builder()
    platform = platform_of(function.target)
    with _scratch(destination) as scratch:
        run = _Run(builder, function, platform, scratch, options)
        image = run.image(store)
        refused = validate(image, platform)
        audit = ImageAudit() if is_unreadable(refused) else audit_image(image, scratch)
        findings = tuple(one for one in (*refused, *audit.findings) if one.code not in options.allowed)
        manifest = _described(function, image, audit)
        reason = f"built by {builder.name}"
        if errors(findings):
            return Artifact(destination, manifest, findings, built=False, reason=f"{reason}; not written")
        with replacing_text(manifest_path(destination), manifest.to_json()):
            write_layout(destination, [image], attach(image, manifest), name=NAME)
    return Artifact(destination, manifest, findings, reason=reason)


@contextmanager
def _scratch(destination: Path) -> Iterator[Path]:
    """A folder beside the artifact, so that what is copied out is linked and not copied again. Raises StoreError.

    Its name is one that the next build of the artifact removes where this one is killed.
    """
    made = unfinished(destination)
    with disk_errors(f"can't write to {destination.parent}"):
        made.mkdir(parents=True)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def find_builder() -> Path:
    """Raises NoBuilderError."""
    for name in BUILDERS:
        if found := shutil.which(name):
            return Path(found)
    raise NoBuilderError(
        f"a Dockerfile needs one of {', '.join(BUILDERS)}, and none is on PATH",
        hint="apt-get install buildah; or build without a Dockerfile: lading build --package image --base IMAGE",
    )


class _Run:
    """One run of a builder."""

    def __init__(
        self, builder: Path, function: FunctionConfig, platform: Platform, scratch: Path, options: DockerfileOptions
    ) -> None:
        assert function.dockerfile is not None
        self._builder = builder
        self._file = function.dockerfile
        self._labels = function.labels
        self._tag = f"lading-{function.name.lower()}:{platform.architecture}"
        self._platform = platform
        self._scratch = scratch
        self._options = options

    def image(self, store: Store) -> Image:
        """The image that the Dockerfile makes. Raises DockerfileError."""
        docker = self._builder.name == "docker"
        command = [str(self._builder), "build", *(self._docker() if docker else self._buildah())]
        for name, value in sorted({**self._labels, **(self._options.labels or {})}.items()):
            command += ["--label", f"{name}={value}"]
        command += ["--platform", str(self._platform), "-t", self._tag, "-f", str(self._file), str(self._file.parent)]
        with self._environment() as environment:
            self._run(command, environment)
        if docker:
            archive = self._scratch / "image.tar"
            self._run([str(self._builder), "save", "--output", str(archive), self._tag], None)
            return read_docker_archive(archive, store.blobs, store.actions)
        layout = self._scratch / "layout"
        self._run([str(self._builder), "push", "--quiet", self._tag, f"oci:{layout}:{NAME}"], None)
        return Layout(layout).image(self._platform)

    def _docker(self) -> list[str]:
        """Without attestations, which Lambda refuses."""
        if self._options.mirror:
            raise DockerfileError(
                f"docker has its mirrors in its daemon's settings, so --mirror {self._options.mirror} can't be used",
                hint="install buildah, or tag the base in docker as the Dockerfile names it",
            )
        return ["--provenance=false"]

    def _buildah(self) -> list[str]:
        """chroot: needs no OCI runtime, and works inside containers."""
        return ["--isolation", "chroot", "--layers", "--format", "oci"]

    @contextmanager
    def _environment(self) -> Iterator[dict[str, str] | None]:
        """With a registries.conf of this run's own where there is a mirror."""
        if not self._options.mirror:
            yield None
            return
        known = _registries_conf()
        text = known.read_text("utf-8") if known is not None else ""
        path = self._scratch / "registries.conf"
        path.write_text(f"{text}\n{mirrored(self._file.read_text('utf-8', 'replace'), self._options.mirror)}", "utf-8")
        yield {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(path)}

    def _run(self, command: list[str], environment: dict[str, str] | None) -> None:
        import subprocess

        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=LONGEST,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DockerfileError(f"{self._builder.name} failed: {error}", hint="run it by hand") from None
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace")
            raise DockerfileError(
                f"{self._builder.name} failed on {self._file} with exit code {done.returncode}",
                details=[line for line in said.splitlines() if line.strip()][-LINES:],
                hint=self._hint(said),
            )

    def _hint(self, said: str) -> str:
        if _PULLING.search(said):
            return (
                "where the base can't be pulled, make one (lading base build RUNTIME), push it to a registry here under the "
                "same name, and build with --mirror HOST:PORT"
            )
        return f"see what it says; by hand: {self._builder.name} build -f {self._file} {self._file.parent}"


def _registries_conf() -> Path | None:
    """The file that the builder would read. Source: containers-registries.conf(5)."""
    stated = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "containers", "registries.conf")
    candidates = [Path(stated)] if stated else [own, Path("/etc/containers/registries.conf")]
    return next((path for path in candidates if path.is_file()), None)


def mirrored(dockerfile: str, mirror: str) -> str:
    """Lines of a registries.conf: what the Dockerfile's FROM lines name is asked of the mirror first."""
    hosts = {AWS_PUBLIC, DOCKER_HUB, *(match.lower() for match in _FROM.findall(dockerfile))}
    insecure = "true" if scheme(mirror.partition("/")[0]) == "http" else "false"
    lines = []
    for host in sorted(hosts):
        lines += ["[[registry]]", f'prefix = "{host}"', f'location = "{host}"', "[[registry.mirror]]",
                  f'location = "{mirror}"', f"insecure = {insecure}", ""]  # fmt: skip
    return "\n".join(lines)


def _described(function: FunctionConfig, image: Image, audit: ImageAudit) -> Manifest:
    """What can be said of an image that somebody else put together: its distributions as their metadata names them."""
    sizes = [size for layer in image.layers for size in _files(layer)]
    digest = image.digest.removeprefix("sha256:")
    command = image.process.get("Cmd")
    handler = command[0] if isinstance(command, list) and len(command) == 1 else ""
    return Manifest(
        name=function.name,
        kind="function",
        runtime=function.target.runtime.name,
        architecture=function.target.architecture.value,
        handler=str(handler),
        sha256=digest,
        code_sha256=digest,
        size=image.size,
        unzipped=sum(sizes),
        files=len(sizes),
        packages=tuple(_packages(audit)),
        package="image",
    )


def _packages(audit: ImageAudit) -> Iterator[PackedPackage]:
    """Each once: two folders may have the same one."""
    known = {(one.name, one.version): one for one in audit.packages if one.name}
    for (name, version), facts in sorted(known.items()):
        yield PackedPackage(name, version, sha256="", size=facts.size, compressed=facts.compressed)


def _files(layer: Layer) -> Iterator[int]:
    for entry in Walker(layer.uncompressed()):
        if entry.kind == "file":
            yield entry.size
