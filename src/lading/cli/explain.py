"""`lading explain`: what is in an artifact, by package, why each is there, and what takes the space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.tree import Tree

    from lading.audit.inspection import Inspection
    from lading.audit.package import PackageFacts
    from lading.audit.reasons import Branch, Reason

SCHEMA_VERSION = 1
_SMALLEST_SHARE = 0.01
_MOST_BRANCHES = 12


@click.command(name="explain")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--depth", type=click.IntRange(1, 12), default=2, show_default=True, help="Levels of the size tree.")
@click.option("--runtime", default="", metavar="RUNTIME", help="Such as python3.13; else the manifest's, else guessed.")
@click.option("--architecture", default="", metavar="ARCH", help="x86_64 or arm64; else the manifest's, else guessed.")
@click.option("--json", "as_json", is_flag=True, help="Print packages, reasons and sizes as JSON.")
def command(path: Path, depth: int, runtime: str, architecture: str, *, as_json: bool) -> None:
    """Show what is in PATH, a zip or folder: packages with sizes, who asked for each, and the largest folders."""
    from lading.audit.inspection import Wanted, inspect
    from lading.audit.reasons import explain, size_tree

    with inspect(path, Wanted(runtime, architecture)) as inspection:
        subject = inspection.subject
        manifest = inspection.manifest
        direct = [package.name for package in manifest.packages if package.direct] if manifest else []
        reasons = explain(subject.packages, subject.target, direct)
        tree = size_tree(subject.packages, depth)
        if as_json:
            import json

            click.echo(json.dumps(explanation_as_dict(inspection, reasons, tree), indent=2))
        else:
            print_explanation(inspection, reasons, tree)


def explanation_as_dict(inspection: Inspection, reasons: tuple[Reason, ...], tree: Branch) -> dict[str, Any]:
    """The `--json` form: packages largest first, own code last, then the size tree. Sizes in bytes."""
    own = [package for package in inspection.subject.packages if not package.name]
    return {
        "schema_version": SCHEMA_VERSION,
        "artifact": str(inspection.opened.path),
        "kind": "layer" if inspection.subject.layer else "function",
        "runtime": inspection.subject.target.runtime.name,
        "architecture": inspection.subject.target.architecture.value,
        "size": inspection.opened.zipped_size,
        "unzipped": inspection.opened.unzipped_size,
        "packages": [
            {
                "name": reason.package.name,
                "version": reason.package.version,
                "size": reason.package.size,
                "compressed": reason.package.compressed,
                "files": len(reason.package.files),
                "because": list(reason.path[:-1]),
                "optional": reason.optional,
            }
            for reason in reasons
        ],
        "own": {
            "size": sum(package.size for package in own),
            "compressed": sum(package.compressed for package in own),
            "files": sum(len(package.files) for package in own),
        },
        "tree": _branch_as_dict(tree),
    }


def _branch_as_dict(branch: Branch) -> dict[str, Any]:
    return {
        "name": branch.name,
        "size": branch.size,
        "compressed": branch.compressed,
        "branches": [_branch_as_dict(below) for below in branch.branches],
    }


def print_explanation(inspection: Inspection, reasons: tuple[Reason, ...], tree: Branch) -> None:
    """A table of packages, then the tree; plain where the terminal can't do more."""
    from lading.cli.text import table

    for note in inspection.notes:
        click.echo(f"note: {note}", err=True)
    rows = [
        (f"{reason.package.name} {reason.package.version}".strip(), *_sizes(reason.package), why(reason))
        for reason in reasons
    ]
    for package in inspection.subject.packages:
        if not package.name and package.files:
            rows.append(("(own code)", *_sizes(package), ""))
    for line in table(("package", "unzipped", "zipped", "why"), rows):
        click.echo(line)
    click.echo()
    _print_tree(inspection, tree)


def _sizes(package: PackageFacts) -> tuple[str, str]:
    from lading.cli.text import size

    return size(package.size), size(package.compressed)


def why(reason: Reason) -> str:
    """ "asked for", or the way to it: "pandas → python-dateutil"."""
    if reason.is_root:
        return "asked for, or required by nobody here"
    return "required by " + " → ".join(reason.path[:-1]) + (" (an extra)" if reason.optional else "")


def _print_tree(inspection: Inspection, tree: Branch) -> None:
    from rich.console import Console
    from rich.tree import Tree

    from lading.cli.text import size

    shown = Tree(f"{inspection.opened.path.name}  {size(tree.size)}", highlight=False)
    _grow(shown, tree, tree.size)
    Console(highlight=False, markup=False, emoji=False, soft_wrap=True).print(shown)


def _grow(shown: Tree, branch: Branch, total: int) -> None:
    from rich.text import Text

    from lading.cli.text import size

    large = [below for below in branch.branches if below.size >= total * _SMALLEST_SHARE][:_MOST_BRANCHES]
    for below in large:
        _grow(shown.add(Text(f"{below.name}  {size(below.size)}  {below.size / max(total, 1):.0%}")), below, total)
    rest = branch.branches[len(large) :]
    if rest:
        shown.add(Text(f"{len(rest)} more  {size(sum(below.size for below in rest))}", style="dim"))
