"""How long does a project with native packages take to become a zip, beside the usual builders?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.harness import projects
from bench.harness.compare import Side, Table, interleave, ratio, wall_row
from bench.harness.peers import interpreter, peer, system_command, uv, versions
from bench.harness.workshop import Workshop, remove

LIMIT_TO_SAM = 1 / 30
LIMIT_TO_UV = 1 / 10


def measure(workshop: Workshop) -> Iterator[Table]:
    ours = [built(workshop), built_anew(workshop)]
    theirs = [with_sam(workshop), with_uv(workshop)]
    costs = interleave([*ours, *theirs], workshop.rounds)
    warm, first, sam, target = (wall_row(side, costs) for side in (*ours, *theirs))
    yield Table(
        "pandas + requests + boto3 + pydantic, python3.13, whole processes; wheels cached but for the first ever",
        [warm, first, sam, target],
        [ratio(warm, sam, LIMIT_TO_SAM), ratio(warm, target, LIMIT_TO_UV), ratio(first, sam), ratio(first, target)],
        [
            "lading's zips hold bytecode and have been audited; the others' have neither",
            *versions(
                {"sam": [peer("sam"), "--version"], "uv": [uv(), "--version"], "zip": ["zip", "-h"]},
            ),
        ],
    )


def built(workshop: Workshop) -> Side:
    """lading as in daily work: the handler has changed, the artifact is gone."""
    root = workshop.project("ours", projects.data_project())
    change = changed(root / "lambda_function.py")

    def prepare() -> None:
        change()
        remove(root / "dist")

    return Side(
        "lading build",
        [[workshop.lading, "build", "--runtime", projects.RUNTIME]],
        root,
        "the handler changed, no artifact; in lading's cache: packed wheels with bytecode; the lock is kept",
        workshop.environment,
        prepare,
    )


def built_anew(workshop: Workshop) -> Side:
    """lading on a machine it has never run on: it downloads into its own cache, so this side has no wheels cached."""
    root = workshop.project("anew", projects.data_project())
    cache = workshop.folder / "anew-cache"
    return Side(
        "lading build, first ever",
        [[workshop.lading, "build", "--runtime", projects.RUNTIME]],
        root,
        "lading's cache empty, no lock: downloads every wheel (the others do not), resolves, compiles, packs",
        {**workshop.environment, "LADING_CACHE_DIR": str(cache)},
        lambda: remove(cache, root / "dist", *root.glob("pylock*.toml")),
        rounds=2,
    )


def with_sam(workshop: Workshop) -> Side:
    root = workshop.project("sam", projects.data_project_for_sam())
    change = changed(root / "src/lambda_function.py")
    path = workshop.path_with(interpreter(projects.VERSION))

    def prepare() -> None:
        change()
        remove(root / ".aws-sam", root / "sam.zip")

    return Side(
        "sam build + zip",
        [
            [peer("sam"), "build"],
            ["env", "-C", ".aws-sam/build/Bench", system_command("zip"), "-q", "-r", "../../../sam.zip", "."],
        ],
        root,
        "the handler changed, .aws-sam removed; wheels in pip's cache",
        {**workshop.environment, "PATH": path},
        prepare,
        rounds=3,
    )


def with_uv(workshop: Workshop) -> Side:
    root = workshop.project("uv", projects.data_project())
    change = changed(root / "lambda_function.py")

    def prepare() -> None:
        change()
        remove(root / "package", root / "uv.zip")

    install = [uv(), "pip", "install", "--quiet", "--target", "package", "--python-version", projects.VERSION]
    return Side(
        "uv pip install --target + zip -r",
        [
            [*install, "--python-platform", projects.PLATFORM, "--only-binary", ":all:", "-r", "requirements.txt"],
            ["cp", "lambda_function.py", "package"],
            ["env", "-C", "package", system_command("zip"), "-q", "-r", "../uv.zip", "."],
        ],
        root,
        "the handler changed, target removed; wheels unpacked in uv's cache",
        workshop.environment,
        prepare,
        rounds=3,
    )


def changed(path: Path) -> Callable[[], None]:
    """A step that changes one line of the handler, differently each time."""
    revisions = itertools.count(1)
    text = path.read_text("utf-8")

    def change() -> None:
        path.write_text(text.replace('"revision": 0', f'"revision": {next(revisions)}'), "utf-8")

    return change
