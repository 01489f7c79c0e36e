"""How long does a container image take without a daemon, beside buildah on the equivalent Dockerfile?"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.harness import projects
from bench.harness.compare import Side, Table, interleave, ratio, wall_row
from bench.harness.peers import system_command, uv, versions
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
    ours = [changed(workshop, base), anew(workshop, base)]
    theirs = [with_buildah(workshop, base, keep=False), with_buildah(workshop, base, keep=True)]
    costs = interleave([*ours, *theirs], workshop.rounds)
    code, first, whole, kept = (wall_row(side, costs) for side in (*ours, *theirs))
    yield Table(
        "pandas + boto3 on the base of `lading base build`, wheels on this machine on every side, whole processes",
        [code, first, whole, kept],
        [ratio(code, whole, LIMIT_TO_BUILDAH), ratio(first, whole), ratio(code, kept)],
        [
            "lading's image has bytecode, an SBOM and an audit; buildah's has bytecode by pip and neither of the others",
            "buildah writes to its own storage, layers not compressed; lading an OCI layout with gzip layers, ready to push",
            *versions({"buildah": [system_command("buildah"), "--version"]}),
        ],
    )


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
        workshop.environment,
        prepare,
    )


def anew(workshop: Workshop, base: Path) -> Side:
    """A project never seen: wheels in uv's cache, nothing of lading's own."""
    root = workshop.project("anew", _files())
    cache = workshop.folder / "anew-cache"
    return Side(
        "lading build --package image, first ever",
        [build_command(workshop, base)],
        root,
        "lading's cache empty, no lock; wheels in uv's cache: resolves, compiles all bytecode, makes every layer",
        {**workshop.environment, "LADING_CACHE_DIR": str(cache)},
        lambda: remove(cache, root / "dist", *root.glob("pylock*.toml")),
        rounds=2,
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
