"""How much memory does a build take at its peak, the first time and later, for small and large artifacts?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import projects
from bench.harness.compare import Row, Table, Verdict
from bench.harness.process import watch
from bench.harness.workshop import Workshop, remove

LIMIT_MB = 150.0
PROJECTS = {
    "one small package": {
        "lambda_function.py": "def lambda_handler(event, context):\n    return event\n",
        "requirements.txt": "idna\n",
    },
    "pandas + requests + boto3 + pydantic": projects.data_project(),
}


def measure(workshop: Workshop) -> Iterator[Table]:
    for number, (title, files) in enumerate(PROJECTS.items()):
        root = workshop.project(f"project{number}", files)
        command = [workshop.lading, "build", "--runtime", projects.RUNTIME]
        environment = {**workshop.environment, "LADING_CACHE_DIR": str(workshop.folder / f"cache{number}")}
        rows, verdicts = [], []
        for state in ("first build, lading's cache empty", "again, artifact removed"):
            remove(root / "dist")
            peak = watch(command, root, environment)
            rows.append(Row(f"{state}: all processes", [peak.together / 1e6], "MB", "PSS, summed over the family"))
            rows.append(Row(f"{state}: largest process", [peak.largest / 1e6], "MB", "resident set"))
            verdicts.append(Verdict(f"MB, all processes, {state}", peak.together / 1e6, LIMIT_MB))
        yield Table(title, rows, verdicts)
