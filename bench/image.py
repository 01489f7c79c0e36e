"""How long does a container image take without a daemon, beside buildah on the equivalent Dockerfile?"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.harness import projects
from bench.harness.compare import Row, Side, Table, command_line, interleave, ratio, wall_row
from bench.harness.peers import system_command, uv, versions
from bench.harness.process import run
from bench.harness.workshop import Workshop, remove

LIMIT_TO_BUILDAH = 1 / 10
REQUIREMENTS = "pandas==2.3.3\nboto3==1.40.4\n"
HANDLER = "import boto3\nimport pandas\n\n\ndef lambda_handler(event, context):\n    return pandas.__version__\n"
DOCKERFILE = """\
FROM oci:{base}:latest
COPY requirements.txt ${{LAMBDA_TASK_ROOT}}
RUN pip install --no-index --find-links /wheels -r requirements.txt --target ${{LAMBDA_TASK_ROOT}}
COPY lambda_function.py ${{LAMBDA_TASK_ROOT}}
CMD ["lambda_function.lambda_handler"]
"""


def measure(workshop: Workshop) -> Iterator[Table]:
    base = made_base(workshop)
    first = first_ever(workshop, base)
    ours = [changed(workshop, base), unknown(workshop, base)]
    theirs = [with_buildah(workshop, base, keep=False), with_buildah(workshop, base, keep=True)]
    costs = interleave([*ours, *theirs], workshop.rounds)
    code, project, whole, kept = (wall_row(side, costs) for side in (*ours, *theirs))
    yield Table(
        "pandas + boto3 on the base of `lading base build`, wheels on this machine on every side, whole processes",
        [code, project, first, whole, kept],
        [ratio(code, whole, LIMIT_TO_BUILDAH), ratio(project, whole, LIMIT_TO_BUILDAH), ratio(first, whole),
         ratio(code, kept)],
        [
            "lading's image has bytecode, an SBOM and an audit; buildah's has bytecode by pip and neither of the others",
            "buildah writes to its own storage, layers not compressed; lading an OCI layout with gzip layers, ready to push",
            *versions({"buildah": [system_command("buildah"), "--version"]}),
        ],
    )  # fmt: skip


def made_base(workshop: Workshop) -> Path:
    base = workshop.folder / "base"
    command = [workshop.lading, "base", "build", projects.RUNTIME, "--output", str(base)]
    subprocess.run(command, env=_environment(workshop), check=True, capture_output=True)
    return base


def _environment(workshop: Workshop) -> dict[str, str]:
    import os

    return {**os.environ, **workshop.environment}


def _files() -> dict[str, str]:
    return {"requirements.txt": REQUIREMENTS, "lambda_function.py": HANDLER}


def build_command(workshop: Workshop, base: Path) -> list[str]:
    return [workshop.lading, "build", "--package", "image", "--base", str(base), "--runtime", projects.RUNTIME]


def own_cache(workshop: Workshop) -> dict[str, str]:
    """lading's cache without what went into the base."""
    return {**workshop.environment, "LADING_CACHE_DIR": str(workshop.folder / "own-cache")}


def first_ever(workshop: Workshop, base: Path) -> Row:
    """One run, which also warms the cache for the others."""
    root, command = workshop.project("first", _files()), build_command(workshop, base)
    state = "lading's cache empty, no lock; wheels in uv's cache: resolves, compiles all bytecode, makes every layer"
    wall = run(command, root, own_cache(workshop)).wall
    return Row("lading build --package image, first ever", [wall], state=state, command=command_line([command]))


def changed(workshop: Workshop, base: Path) -> Side:
    """As in daily work: the handler has changed, the artifact is gone."""
    root = workshop.project("ours", _files())
    revisions = itertools.count(1)

    def prepare() -> None:
        (root / "lambda_function.py").write_text(f"{HANDLER}\n# revision {next(revisions)}\n")
        remove(root / "dist")

    return Side(
        "lading build --package image",
        [build_command(workshop, base)],
        root,
        "the handler changed, no artifact; dependency layers remembered",
        own_cache(workshop),
        prepare,
    )


def unknown(workshop: Workshop, base: Path) -> Side:
    """A project never seen, whose packages were built into another one before."""
    root = workshop.project("unknown", _files())
    return Side(
        "lading build --package image, a new project",
        [build_command(workshop, base)],
        root,
        "no lock and no artifact: resolves anew; wheels and layers remembered",
        own_cache(workshop),
        lambda: remove(root / "dist", *root.glob("pylock*.toml")),
    )


def with_buildah(workshop: Workshop, base: Path, *, keep: bool) -> Side:
    """`buildah bud` with its storage in the workshop's folder. `keep`: with its layer cache, only the handler changed."""
    name = "buildah-kept" if keep else "buildah"
    root = workshop.project(name, {**_files(), "Dockerfile": DOCKERFILE.format(base=base)})
    wheels = wheelhouse(workshop)
    revisions = itertools.count(1)
    storage = ["--storage-driver", "vfs", "--root", str(root / "storage"), "--runroot", str(root / "run")]
    bud = [system_command("buildah"), *storage, "bud", "--isolation", "chroot", "--quiet", "-v", f"{wheels}:/wheels:ro"]

    def prepare() -> None:
        (root / "lambda_function.py").write_text(f"{HANDLER}\n# revision {next(revisions)}\n")

    # An untimed turn and one timed one: each copies the whole tree several times.
    return Side(
        "buildah bud --layers" if keep else "buildah bud",
        [[*bud, *(["--layers"] if keep else ["--no-cache"]), "-f", "Dockerfile", "-t", "bench", "."]],
        root,
        f"the handler changed; base in its storage{', dependency layer kept' if keep else ', nothing else kept'}",
        workshop.environment,
        prepare,
        rounds=1,
    )


def wheelhouse(workshop: Workshop) -> Path:
    """The wheels that pip installs inside, downloaded before the clock runs."""
    folder = workshop.folder / "wheels"
    if not folder.is_dir():
        environment = workshop.folder / "wheel-python"
        subprocess.run([uv(), "venv", "--quiet", "--seed", str(environment)], check=True, capture_output=True)
        download = [str(environment / "bin" / "python"), "-m", "pip", "download", "--quiet", "--dest", str(folder)]
        target = ["--python-version", projects.VERSION, "--only-binary", ":all:"]
        subprocess.run([*download, *target, *REQUIREMENTS.split()], check=True, capture_output=True)
    return folder
