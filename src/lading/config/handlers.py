"""Finds a handler in Python sources without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from lading.config.problems import BrokenFileError
from lading.config.reading import read_text

MODULES = ("lambda_function", "handler", "app", "main")
"""File names that are looked at, in order. The first is what AWS's console makes."""
FUNCTIONS = ("lambda_handler", "handler")


def find_handler(folder: Path, package: str = "") -> str:
    """ "module.function" of the first module in the folder, then in `package` below it, that defines one; or empty.

    A lambda_function.py counts in any case: that its function is missing is for the audit to say.
    """
    for path, module in _candidates(folder, package):
        if path.is_file():
            function = handler_in(path)
            if function or module == MODULES[0]:
                return f"{module}.{function or FUNCTIONS[0]}"
    return ""


def _candidates(folder: Path, package: str) -> Iterator[tuple[Path, str]]:
    for module in MODULES:
        yield folder / f"{module}.py", module
    if package:
        for module in MODULES:
            yield folder / package / f"{module}.py", f"{package}.{module}"


def handler_in(path: Path) -> str:
    """`lambda_handler`, else `handler`, as the file binds it at top level; empty when neither, or when it doesn't parse."""
    text = read_text(path)
    if not any(name in text for name in FUNCTIONS):
        return ""
    try:
        names = _bound(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return next((name for name in FUNCTIONS if name in names), "")


def _bound(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
                names.add(name)
            case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
                names |= {alias.asname or alias.name for alias in aliases}
            case _:
                pass
    return names


def holds_module(folder: Path, handler: str) -> bool:
    """Is the handler's module a file or a package of the folder?"""
    module = handler.rpartition(".")[0].replace(".", "/")
    try:
        return (folder / f"{module}.py").is_file() or (folder / module / "__init__.py").is_file()
    except OSError as error:
        raise BrokenFileError(f"can't look into {folder}: {error.strerror}", hint="check its permissions") from error
