"""`lading build`: find the project, build it, print the table and what the audit says."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading.errors import AuditError, UsageError

if TYPE_CHECKING:
    from lading.build.run import BuildOptions, Report
    from lading.model.artifact import Artifact
    from lading.model.progress import Progress
    from lading.model.project import Project
    from lading.oci.push import Pushed
    from lading.store import Store

FAILED_AUDIT = AuditError.exit_code


@click.command(name="build")
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@click.option("-n", "--name", "names", multiple=True, metavar="NAME", help="Only this function or layer (repeatable).")
@click.option(
    "--runtime", metavar="RUNTIME", help="Build for this runtime, such as python3.13, whatever the project says."
)
@click.option(
    "--architecture", "architectures", multiple=True, metavar="ARCH",
    help="x86_64 or arm64, whatever the project says; for images repeatable, and an index is made as well.",
)  # fmt: skip
@click.option("--handler", metavar="MODULE.FUNCTION", help="The handler, whatever the project says.")
@click.option("--package", type=click.Choice(["zip", "image"]), help="Kind of artifact, whatever the project says.")
@click.option("--base", metavar="IMAGE", help="For images: reference, layout folder or docker-archive to stand on.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE", help="For images: a label and annotation (repeatable)."
)
@click.option(
    "--mirror",
    metavar="HOST",
    default="",
    envvar="LADING_MIRROR",
    help="For Dockerfiles: registry to ask first for their bases, such as 127.0.0.1:4566.  [env: LADING_MIRROR]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the artifacts, in place of the project's.",
)
@click.option(
    "--push",
    "reference",
    metavar="REFERENCE",
    help="Push the image that was built there, such as ghcr.io/team/orders:v1.",
)
@click.option("--offline", is_flag=True, help="Use the cache only, never the network.")
@click.option("--frozen", is_flag=True, help="Fail when the kept lock would change.")
@click.option("--upgrade", is_flag=True, help="Resolve anew: newest versions, in place of the kept lock.")
@click.option(
    "--upgrade-package",
    "upgrade_packages",
    multiple=True,
    metavar="NAME",
    help="Resolve this package anew (repeatable).",
)
@click.option(
    "--share-dependencies",
    is_flag=True,
    help="Build a layer of what several functions have in common, and leave it out of them.",
)
@click.option(
    "--allow", "allowed", multiple=True, metavar="CODE", help="Build in spite of errors with this code (repeatable)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--flat", is_flag=True, help="With --json: one table of texts, as Terraform's `external` data source reads."
)
@click.option("-v", "--verbose", is_flag=True, help="Advice, reasons and the time of each step.")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Build every function and layer of the project in PATH (a folder or a file; default: here).

    Artifacts are audited before they are written: an error leaves the previous one untouched and the exit code is 5.
    """
    if given["flat"] and not given["as_json"]:
        raise UsageError("--flat without --json", hint="add --json: --flat is a form of it")
    report = run_build(given)
    pushed = push_built(report, given["reference"]) if given["reference"] and not report.failed else None
    if given["flat"] and not report.failed:
        click.echo(json.dumps(flat_report(report), indent=2))
    elif given["as_json"] and not given["flat"]:
        from lading.cli.push import pushed_as_dict

        document = report_as_dict(report)
        sent = {"pushed": pushed_as_dict(given["reference"], pushed)} if pushed is not None else {}
        click.echo(json.dumps({**document, **sent}, indent=2))
    else:
        from lading.cli.report import print_report

        print_report(report, verbose=given["verbose"])
        if pushed is not None:
            from lading.cli.push import print_pushed

            print_pushed(given["reference"], pushed)
    if report.failed:
        ctx.exit(FAILED_AUDIT)


def push_built(report: Report, reference: str) -> Pushed:
    """The one image of a build; the index where there is one. Raises UsageError where it isn't clear which."""
    images = [artifact for artifact in report.artifacts if artifact.manifest.package in ("image", "index")]
    chosen = [artifact for artifact in images if artifact.manifest.package == "index"] or images
    if len(chosen) != 1:
        names = ", ".join(artifact.manifest.name for artifact in chosen)
        raise UsageError(
            f"--push is for one image, and this build has {names or 'none'}",
            hint="choose one with --name, or push each: lading push dist/NAME.oci REFERENCE"
            if chosen
            else "add --package image",
        )
    from lading.cli.push import push_image

    return push_image(chosen[0].path, reference)


def run_build(given: dict[str, Any]) -> Report:
    """Load and build as the options say."""
    from lading.build.run import BuildOptions
    from lading.cli.progress import choose_progress
    from lading.config import load
    from lading.resolve import Policy
    from lading.store import open_store

    project = load(
        given["path"], runtime=given["runtime"], architecture=given["architectures"], handler=given["handler"]
    )
    project = with_package(project, given["package"], given["base"])
    check_architectures(project, given["architectures"])
    options = BuildOptions(
        names=given["names"],
        policy=Policy(
            offline=given["offline"],
            frozen=given["frozen"],
            upgrade=given["upgrade"],
            upgrade_packages=given["upgrade_packages"],
        ),
        output=given["output"].absolute() if given["output"] else None,
        allowed=frozenset(given["allowed"]),
        share_dependencies=given["share_dependencies"],
        labels=parse_labels(given["labels"]),
        mirror=given["mirror"],
        today=dt.datetime.now(dt.UTC).date(),
    )
    with choose_progress() as progress:
        for skipped in project.skipped:
            progress.note(f"left out: {skipped}")
        return build_with(project, open_store(), options, progress)


def build_with(project: Project, store: Store, options: BuildOptions, progress: Progress) -> Report:
    """What joins images is loaded only where a function has several."""
    if any(len(function.architectures) > 1 and function.package == "image" for function in project.functions):
        from lading.build.architectures import build_architectures

        return build_architectures(project, store, options, progress)
    from lading.build.run import build_project

    return build_project(project, store, options, progress)


def check_architectures(project: Project, asked: Sequence[str]) -> None:
    """Raises UsageError where several are asked for and nothing that is built can have them."""
    if len(set(asked)) > 1 and not any(function.package == "image" for function in project.functions):
        raise UsageError(
            f"{' and '.join(asked)} at once, and the project has no image: a zip is for one architecture",
            hint="add --package image, or build once for each with an --output of its own",
        )


def with_package(project: Project, package: str | None, base: str | None) -> Project:
    """The functions as the command line wants them; a path is meant from here, not from the project."""
    from dataclasses import replace

    changes: dict[str, Any] = {"package": package} if package else {}
    if base:
        changes["base"] = str(Path(base).absolute()) if Path(base).exists() else base
    if not changes:
        return project
    return replace(project, functions=tuple(replace(function, **changes) for function in project.functions))


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Raises UsageError for one without a name or an equals sign."""
    labels = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"not a label: {text!r}", hint="write --label org.opencontainers.image.revision=abc123")
        labels[name] = value
    return labels


def report_as_dict(report: Report) -> dict[str, Any]:
    """The `--json` form: artifacts in build order, then the wall time of each step in seconds."""
    return {
        "artifacts": [artifact_as_dict(artifact) for artifact in report.artifacts],
        "seconds": {step: round(time, 4) for step, time in report.seconds.items()},
        "failed": report.failed,
    }


def flat_report(report: Report) -> dict[str, str]:
    """NAME.path, NAME.sha256 (hex), NAME.code_sha256 (base64, as `source_code_hash` wants it), NAME.size (bytes).

    Of an image for several architectures, NAME is that of the function's own.
    """
    found: dict[str, str] = {}
    for artifact in reversed(report.artifacts):
        manifest = artifact.manifest
        values = {"sha256": manifest.sha256, "code_sha256": manifest.code_sha256, "size": manifest.size}
        for key, value in {"path": artifact.path, **values}.items():
            found[f"{manifest.name}.{key}"] = str(value)
    return found


def artifact_as_dict(artifact: Artifact) -> dict[str, Any]:
    from dataclasses import asdict

    manifest = asdict(artifact.manifest)
    return {
        "path": str(artifact.path),
        "built": artifact.built,
        "reason": artifact.reason,
        "saved": artifact.saved,
        **manifest,
        "findings": [finding.as_dict() for finding in artifact.findings],
    }
