"""The import rule of docs/design: a module imports only what stands below it, and nothing imports in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "lading"
FLOORS = [
    {"cli", "web", "testing"},
    {"service"},
    {"build", "deploy", "lazy"},
    {"oci"},
    {"config", "resolve", "store", "audit", "aws", "sandbox", "runtimeapi"},
    {"model"},
    {"errors"},
]
HEIGHT = {room: len(FLOORS) - index for index, floor in enumerate(FLOORS) for room in floor}
FORBIDDEN = {("deploy", "service"), ("service", "deploy")}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(path: Path, known: set[str]) -> set[str]:
    """Modules of lading that a file imports anywhere, lazy imports included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "lading"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import at line {node.lineno}"
            if node.module and node.module.split(".")[0] == "lading":
                members = {f"{node.module}.{alias.name}" for alias in node.names} & known
                found |= members or {node.module}
    return found


GRAPH = {name: imports(path, set(files())) for name, path in files().items()}


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_a_module_imports_only_from_lower_floors(module: str) -> None:
    here = room(module)
    if here is None:
        return
    assert here in HEIGHT, f"{module} belongs to no floor of the design"
    for imported in GRAPH[module]:
        there = room(imported)
        if there in (None, here):
            continue
        assert HEIGHT[there] < HEIGHT[here], f"{module} imports {imported}: sideways or up"
        assert (here, there) not in FORBIDDEN


def test_no_circles() -> None:
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module in done:
            return
        for imported in GRAPH.get(module, ()):
            visit(imported, (*trail, module))
        done.add(module)

    for module in GRAPH:
        visit(module, ())
