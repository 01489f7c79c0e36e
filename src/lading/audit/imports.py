"""What a Python source imports and defines, read from its syntax tree; nothing is run.

Standard library only, Python 3.9 syntax, no lading imports: it is also loaded by path inside a target's interpreter.
"""

from __future__ import annotations

import ast
import sys
import warnings
from typing import Any

ALWAYS, GUARDED, LAZY = "always", "guarded", "lazy"
LARGEST_SOURCE = 32 * 1024 * 1024
"""Bytes of the largest source that is parsed; a bigger one is data in disguise."""

_CATCHES_IMPORT_ERROR = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
_OTHER_BUILTIN_ERRORS = {
    "AttributeError", "KeyError", "LookupError", "NameError", "NotImplementedError", "OSError", "IOError", "RuntimeError",
    "SyntaxError", "TypeError", "ValueError", "IndexError", "UnicodeError", "UnicodeDecodeError",
}  # fmt: skip

_Work = tuple[list[ast.stmt], str, bool]
"""Statements still to read, the kind of an import among them, and whether names bound there are the module's."""


def scan(source: bytes, name: str, is_package: bool) -> dict[str, Any]:  # noqa: FBT001 - called from generated code
    """`scan_tree` of a source, as JSON-able data; a syntax error is returned in "error" with the parser's version."""
    version = f"(Python {sys.version_info[0]}.{sys.version_info[1]})"
    if len(source) > LARGEST_SOURCE:
        return {"imports": [], "defines": None, "error": f"larger than {LARGEST_SOURCE} bytes, not read"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except SyntaxError as error:
        return {"imports": [], "defines": None, "error": f"line {error.lineno or 0}: {error.msg} {version}"}
    except (ValueError, RecursionError, MemoryError) as error:
        return {"imports": [], "defines": None, "error": f"line 0: {error or type(error).__name__} {version}"}
    return scan_tree(tree, name, is_package)


def scan_tree(tree: ast.AST, name: str, is_package: bool) -> dict[str, Any]:  # noqa: FBT001
    """{"imports": [[module, kind, line, [members…]], …], "defines": [names…] or None, "error": ""}, sorted.

    Modules are absolute: relative imports are resolved from `name`, the dotted name of the module. Imports for type
    checkers only are left out. Equal module and kind are merged into the first line.
    """
    reader = _Reader(name, is_package=is_package)
    reader.read(getattr(tree, "body", []))
    imports = [
        [module, kind, line, sorted(members)]
        for (module, kind), (line, members) in sorted(reader.imports.items(), key=lambda item: (item[1][0], item[0]))
    ]
    return {"imports": imports, "defines": None if reader.dynamic else sorted(reader.defines), "error": ""}


class _Reader:
    """Walks statements with a stack of its own, so that no source is nested too deep for it."""

    def __init__(self, name: str, *, is_package: bool) -> None:
        parts = name.split(".") if name else []
        self.package = parts if is_package else parts[:-1]
        self.imports: dict[tuple[str, str], tuple[int, set[str]]] = {}
        self.defines: set[str] = set()
        self.dynamic = False
        self.work: list[_Work] = []

    def read(self, body: list[ast.stmt]) -> None:
        self.work.append((body, ALWAYS, True))
        while self.work:
            statements, kind, top = self.work.pop()
            for statement in statements:
                handler = _HANDLERS.get(type(statement))
                if handler is not None:
                    handler(self, statement, kind, top)

    def note(self, module: str, kind: str, line: int, members: set[str]) -> None:
        known = self.imports.get((module, kind))
        if known is None:
            self.imports[module, kind] = (line, members)
        else:
            self.imports[module, kind] = (min(line, known[0]), known[1] | members)

    def absolute(self, module: str, level: int) -> str:
        """The absolute name of a relative one; empty when it leaves the top package, which Python refuses as well."""
        if level == 0:
            return module
        keep = len(self.package) - (level - 1)
        if keep < 1:
            return ""
        return ".".join([*self.package[:keep], *([module] if module else [])])

    # One method per kind of statement.

    def import_(self, node: ast.Import, kind: str, top: bool) -> None:  # noqa: FBT001
        for alias in node.names:
            self.note(alias.name, kind, node.lineno, set())
            if top:
                self.defines.add(alias.asname or alias.name.partition(".")[0])

    def import_from(self, node: ast.ImportFrom, kind: str, top: bool) -> None:  # noqa: FBT001
        module = self.absolute(node.module or "", node.level)
        if module and module != "__future__":
            self.note(module, kind, node.lineno, {alias.name for alias in node.names})
        if top:
            for alias in node.names:
                if alias.name == "*":
                    self.dynamic = True
                else:
                    self.defines.add(alias.asname or alias.name)

    def function(self, node: Any, kind: str, top: bool) -> None:  # noqa: FBT001
        if top:
            self.defines.add(node.name)
            # A module's own __getattr__ answers for names that no statement binds (PEP 562).
            self.dynamic = self.dynamic or node.name == "__getattr__"
        self.work.append((node.body, LAZY, False))

    def class_(self, node: ast.ClassDef, kind: str, top: bool) -> None:  # noqa: FBT001
        if top:
            self.defines.add(node.name)
        self.work.append((node.body, kind, False))

    def global_(self, node: ast.Global, kind: str, top: bool) -> None:  # noqa: FBT001
        self.defines.update(node.names)

    def if_(self, node: ast.If, kind: str, top: bool) -> None:  # noqa: FBT001
        verdict = _verdict(node.test)
        inner = GUARDED if kind == ALWAYS else kind
        if _is_main(node.test):
            self.work.append((node.body, LAZY, top))
            self.work.append((node.orelse, kind, top))
        elif verdict is None:
            self.bind_walrus(node.test, top=top)
            self.work.append((node.body, inner, top))
            self.work.append((node.orelse, inner, top))
        else:
            self.work.append((node.body if verdict else node.orelse, kind, top))

    def try_(self, node: Any, kind: str, top: bool) -> None:  # noqa: FBT001
        inner = GUARDED if kind == ALWAYS else kind
        planned = any(_catches(handler) and not _raises(handler) for handler in node.handlers)
        self.work.append((node.body, inner if planned else kind, top))
        self.work.append((node.orelse, inner if planned else kind, top))
        self.work.append((node.finalbody, kind, top))
        for handler in node.handlers:
            self.work.append((handler.body, inner, top))

    def with_(self, node: Any, kind: str, top: bool) -> None:  # noqa: FBT001
        suppressed = any(_suppresses(item.context_expr) for item in node.items)
        if top:
            for item in node.items:
                self.bind(item.optional_vars)
        self.work.append((node.body, GUARDED if suppressed and kind == ALWAYS else kind, top))

    def loop(self, node: Any, kind: str, top: bool) -> None:  # noqa: FBT001
        if top:
            self.bind(getattr(node, "target", None))
        self.work.append((node.body, kind, top))
        self.work.append((node.orelse, kind, top))

    def match(self, node: Any, kind: str, top: bool) -> None:  # noqa: FBT001
        for case in node.cases:
            self.work.append((case.body, GUARDED if kind == ALWAYS else kind, top))

    def assign(self, node: Any, kind: str, top: bool) -> None:  # noqa: FBT001
        if top:
            for target in getattr(node, "targets", None) or [node.target]:
                self.bind(target)
                if isinstance(target, ast.Subscript) and _is_namespace(target.value):
                    self.dynamic = True
        self.value(node.value, kind, top)

    def type_alias(self, node: Any, kind: str, top: bool) -> None:  # noqa: FBT001
        if top:
            self.bind(node.name)

    def expression(self, node: Any, kind: str, top: bool) -> None:  # noqa: FBT001
        self.value(node.value, kind, top)

    def value(self, node: ast.expr | None, kind: str, top: bool) -> None:  # noqa: FBT001
        """Calls that import by a literal name, or that bind names no statement shows."""
        self.bind_walrus(node, top=top)
        if not isinstance(node, ast.Call):
            return
        function = node.func
        called = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if top and (
            called in ("exec", "setattr") or (called == "update" and _is_namespace(getattr(function, "value", None)))
        ):
            self.dynamic = True
        if called in ("import_module", "__import__") and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value:
                module = first.value.lstrip(".")
                absolute = self.absolute(module, len(first.value) - len(module))
                if absolute:
                    self.note(absolute, kind, node.lineno, set())

    def bind(self, target: ast.AST | None) -> None:
        pending = [target]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.Name):
                self.defines.add(node.id)
            elif isinstance(node, (ast.Tuple, ast.List)):
                pending.extend(node.elts)
            elif isinstance(node, ast.Starred):
                pending.append(node.value)

    def bind_walrus(self, node: ast.AST | None, *, top: bool) -> None:
        if top and isinstance(node, ast.NamedExpr):
            self.bind(node.target)


_HANDLERS: dict[type, Any] = {
    ast.Import: _Reader.import_,
    ast.ImportFrom: _Reader.import_from,
    ast.FunctionDef: _Reader.function,
    ast.AsyncFunctionDef: _Reader.function,
    ast.ClassDef: _Reader.class_,
    ast.Global: _Reader.global_,
    ast.If: _Reader.if_,
    ast.Try: _Reader.try_,
    ast.With: _Reader.with_,
    ast.AsyncWith: _Reader.with_,
    ast.For: _Reader.loop,
    ast.AsyncFor: _Reader.loop,
    ast.While: _Reader.loop,
    ast.Assign: _Reader.assign,
    ast.AnnAssign: _Reader.assign,
    ast.AugAssign: _Reader.assign,
    ast.Expr: _Reader.expression,
    ast.Return: _Reader.expression,
}
for _name, _method in (("TryStar", _Reader.try_), ("Match", _Reader.match), ("TypeAlias", _Reader.type_alias)):
    if hasattr(ast, _name):
        _HANDLERS[getattr(ast, _name)] = _method


def _verdict(test: ast.expr) -> bool | None:
    """What a condition is while the program runs: True, False, or None when only running tells."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _verdict(test.operand)
        return None if inner is None else not inner
    if isinstance(test, ast.Constant):
        return bool(test.value)
    name = test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")
    if name == "TYPE_CHECKING":
        return False
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) and any(_verdict(v) is False for v in test.values):
        return False
    return None


def _is_main(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def _catches(handler: ast.ExceptHandler) -> bool:
    """Whether ImportError may end here. An unknown name may be an alias of it, so it counts."""
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(_error_name(kind) not in _OTHER_BUILTIN_ERRORS for kind in kinds)


def _raises(handler: ast.ExceptHandler) -> bool:
    """`except ImportError: raise RuntimeError("install x")` plans nothing: the import is still needed."""
    return any(isinstance(statement, ast.Raise) for statement in handler.body)


def _suppresses(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or _error_name(node.func) != "suppress":
        return False
    return any(_error_name(argument) in _CATCHES_IMPORT_ERROR for argument in node.args)


def _error_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else str(getattr(node, "attr", ""))


def _is_namespace(node: ast.AST | None) -> bool:
    """`globals()`, `vars()`, `locals()`, or `sys.modules`: writing to it binds names nobody can list."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("globals", "vars", "locals")
    return isinstance(node, ast.Attribute) and node.attr == "modules"
