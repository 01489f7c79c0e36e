"""`python -m bench [NAME…]`: runs benchmarks, prints medians and ratios, can write them as Markdown."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pkgutil
import platform
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import bench
from bench.harness.compare import Table
from bench.harness.output import as_markdown, as_text
from bench.harness.peers import PeerMissingError
from bench.harness.process import CommandError, output_of
from bench.harness.workshop import Workshop


def main(arguments: Sequence[str] | None = None) -> int:
    names = [
        module.name for module in pkgutil.iter_modules(bench.__path__) if module.name not in ("__main__", "harness")
    ]
    parser = argparse.ArgumentParser(prog="python -m bench", description=bench.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(names)} (all, if none is given)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each side (default 5)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there as well")
    parser.add_argument("--strict", action="store_true", help="exit code 1 where a promised limit is not kept")
    given = parser.parse_args(arguments)
    if unknown := sorted({name.replace("-", "_") for name in given.names} - set(names)):
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(names)}")
    for line in machine():
        print(line)
    written, broken = [*machine(), ""], 0
    for name in [given_name.replace("-", "_") for given_name in given.names] or names:
        question, tables, failed = run_one(name, given.rounds)
        written += as_markdown(name, question, tables)
        broken += failed + sum(not verdict.kept for table in tables for verdict in table.verdicts)
    if given.markdown:
        given.markdown.write_text("# Benchmarks\n\n" + "\n".join(written), "utf-8")
    if broken:
        print(f"\n{broken} not kept or not run", file=sys.stderr)
    return 1 if broken and given.strict else 0


def run_one(name: str, rounds: int) -> tuple[str, list[Table], int]:
    """Runs one benchmark and prints as it goes: its question, its tables, and 1 if it had to stop."""
    module = importlib.import_module(f"bench.{name}")
    question = (module.__doc__ or "").strip()
    print(f"\n=== {name}: {question}")
    tables: list[Table] = []
    with _folder() as folder:
        try:
            for table in measure(module, Workshop(folder, rounds)):
                tables.append(table)
                print("\n".join(as_text(table)), flush=True)
        except (PeerMissingError, CommandError) as error:
            print(f"  stopped: {error}", file=sys.stderr)
            return question, tables, 1
    return question, tables, 0


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary one whose path is part of a valid image's name, which buildah makes of it: tempfile's may end with "_"."""
    folder = Path(tempfile.gettempdir(), f"lading-bench-{secrets.token_hex(4)}")
    folder.mkdir(0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def measure(module: object, workshop: Workshop) -> Iterable[Table]:
    """A benchmark module's own `measure`."""
    yield from module.measure(workshop)  # type: ignore[attr-defined]


def machine() -> list[str]:
    """Where this was measured: a benchmark's numbers mean little without it."""
    load = f"{os.getloadavg()[0]:.1f}"
    lading = output_of([str(Path(sys.executable).with_name("lading")), "--version"])
    cores = len(os.sched_getaffinity(0))
    system = f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    return [f"{lading}, {system}, {cores} cores, load {load} at the start"]


if __name__ == "__main__":
    sys.exit(main())
