"""`lading check`: audit any zip, folder or layer, made by lading or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading.errors import AuditError, UsageError

if TYPE_CHECKING:
    from lading.audit.inspection import Inspection
    from lading.model.finding import Finding

SCHEMA_VERSION = 1


@click.command(name="check")
@click.argument("path", metavar="PATH|IMAGE")
@click.option("--runtime", default="", metavar="RUNTIME", help="Such as python3.13; else the manifest's, else guessed.")
@click.option("--architecture", default="", metavar="ARCH", help="x86_64 or arm64; else the manifest's, else guessed.")
@click.option(
    "--handler", default="", metavar="MODULE.FUNCTION", help="What Lambda calls; else from the manifest, else guessed."
)
@click.option(
    "--layer", "layers", multiple=True, type=click.Path(path_type=Path), metavar="ZIP",
    help="A layer the function uses, zip or folder, in order (repeatable).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print findings and packages as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Advice and what was assumed.")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Would PATH, a zip or folder, import on Lambda? Would IMAGE be taken by it?

    IMAGE is an OCI layout, the file that `docker save` writes, or a reference in a registry; imports are audited against its
    own interpreter and libraries. Says everything that is wrong at once. Exit code 0 when nothing would fail, 5 when something
    would.
    """
    import datetime as dt

    from lading.audit.inspection import Wanted, inspect
    from lading.model.finding import errors
    from lading.oci.verdict import is_image

    if is_image(given["path"]):
        check_image(ctx, given["path"], given["architecture"], as_json=given["as_json"], verbose=given["verbose"])
        return
    wanted = Wanted(given["runtime"], given["architecture"], given["handler"], given["layers"])
    with inspect(Path(given["path"]), wanted) as inspection:
        findings = inspection.findings(dt.datetime.now(dt.UTC).date())
        if given["as_json"]:
            import json

            click.echo(json.dumps(check_as_dict(inspection, findings), indent=2))
        else:
            print_check(inspection, findings, verbose=given["verbose"])
    if errors(findings):
        ctx.exit(AuditError.exit_code)


def check_image(ctx: click.Context, text: str, architecture: str, *, as_json: bool, verbose: bool) -> None:
    """What Lambda would refuse of an image, or the function fail at; exit code 5 where it is something."""
    from lading.cli.progress import choose_progress
    from lading.cli.report import print_findings
    from lading.cli.text import count, size
    from lading.model.finding import errors
    from lading.oci.descriptor import Platform
    from lading.oci.verdict import judge
    from lading.store import open_store

    known = {"": None, "x86_64": Platform("linux", "amd64"), "arm64": Platform("linux", "arm64")}
    if architecture not in known:
        raise UsageError(f"{architecture!r} is no architecture of Lambda's", hint="x86_64 or arm64")
    store = open_store()
    with choose_progress() as progress:
        verdict = judge(text, known[architecture], store, progress)
    wrong = errors(verdict.findings)
    if as_json:
        import json

        result = {
            "schema_version": SCHEMA_VERSION,
            "artifact": text,
            "kind": "image",
            "images": [
                {"digest": one.digest, "platform": str(one.platform), "size": one.size} for one in verdict.images
            ],
            "notes": list(verdict.notes),
            "failed": bool(wrong),
            "findings": [finding.as_dict() for finding in verdict.findings],
        }
        click.echo(json.dumps(result, indent=2))
    else:
        for note in verdict.notes:
            click.echo(f"note: {note}", err=True)
        print_findings(text, verdict.findings, verbose=verbose)
        refused = any(finding.code.startswith("image-") for finding in wrong)
        says = "Lambda would refuse it" if refused else "would fail on Lambda" if wrong else "Lambda would take it"
        total = size(sum(one.size for one in verdict.images))
        click.echo(f"{text}: image, {total}, {says} ({count(len(wrong), 'error')})")
    if wrong:
        ctx.exit(AuditError.exit_code)


def check_as_dict(inspection: Inspection, findings: tuple[Finding, ...]) -> dict[str, Any]:
    """The `--json` form; its schema is lading/audit/findings.schema.json."""
    from lading.model.finding import errors

    subject = inspection.subject
    packages = sorted(subject.packages, key=lambda package: (-package.size, package.name))
    return {
        "schema_version": SCHEMA_VERSION,
        "artifact": str(inspection.opened.path),
        "kind": "layer" if subject.layer else "function",
        "runtime": subject.target.runtime.name,
        "architecture": subject.target.architecture.value,
        "handlers": list(subject.handlers),
        "size": inspection.opened.zipped_size,
        "unzipped": inspection.opened.unzipped_size,
        "notes": inspection.notes,
        "failed": bool(errors(findings)),
        "findings": [finding.as_dict() for finding in findings],
        "packages": [
            {
                "name": package.name,
                "version": package.version,
                "size": package.size,
                "compressed": package.compressed,
                "files": len(package.files),
            }
            for package in packages
        ],
    }


def print_check(inspection: Inspection, findings: tuple[Finding, ...], *, verbose: bool) -> None:
    """Findings to stderr, the verdict to stdout."""
    from collections import Counter

    from lading.cli.report import print_findings
    from lading.cli.text import count, size

    for note in inspection.notes:
        click.echo(f"note: {note}", err=True)
    print_findings(inspection.opened.path.name, findings, verbose=verbose)
    by_severity = Counter(finding.severity.value for finding in findings)
    subject = inspection.subject
    verdict = "would fail" if by_severity["error"] else "imports"
    kind = "layer" if subject.layer else "function"
    click.echo(
        f"{inspection.opened.path.name}: {kind}, {size(inspection.opened.unzipped_size)} unzipped, {verdict} on {subject.target} "
        f"({count(by_severity['error'], 'error')}, {count(by_severity['warning'], 'warning')}, {by_severity['advice']} advice)"
    )
