"""What the scanner says of sources: which imports are certain, and which names a module defines."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.audit import imports
from lading.audit.imports import scan


def kinds(source: str, name: str = "shop.cart", *, is_package: bool = False) -> dict[str, str]:
    return {module: kind for module, kind, _, _ in scan(source.encode(), name, is_package)["imports"]}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b", {"a.b": "always"}),
        ("if x:\n import a", {"a": "guarded"}),
        ("if True:\n import a\nelse:\n import b", {"a": "always"}),
        ("if TYPE_CHECKING:\n import a\nelse:\n import b", {"b": "always"}),
        ("if not typing.TYPE_CHECKING:\n import a", {"a": "always"}),
        ("if TYPE_CHECKING and x:\n import a", {}),
        ("if __name__ == '__main__':\n import a", {"a": "lazy"}),
        ("try:\n import a\nexcept ImportError:\n import b", {"a": "guarded", "b": "guarded"}),
        ("try:\n import a\nexcept (KeyError, ModuleNotFoundError):\n pass", {"a": "guarded"}),
        ("try:\n import a\nexcept:\n pass", {"a": "guarded"}),
        ("try:\n import a\nexcept ValueError:\n pass", {"a": "always"}),
        ("try:\n import a\nexcept ImportError:\n raise", {"a": "always"}),
        ("try:\n pass\nfinally:\n import a", {"a": "always"}),
        ("with suppress(ImportError):\n import a", {"a": "guarded"}),
        ("with contextlib.suppress(Exception):\n import a", {"a": "guarded"}),
        ("with open('x') as f:\n import a", {"a": "always"}),
        ("def f():\n import a\n try:\n  import b\n except ImportError: pass", {"a": "lazy", "b": "lazy"}),
        ("async def f():\n import a", {"a": "lazy"}),
        ("class C:\n import a\n def m(self):\n  import b", {"a": "always", "b": "lazy"}),
        ("for x in y:\n import a", {"a": "always"}),
        ("m = importlib.import_module('a')", {"a": "always"}),
        ("__import__('a')", {"a": "always"}),
        ("import_module('.a', __name__)", {"shop.a": "always"}),
        ("import_module(name)", {}),
        ("from . import a", {"shop": "always"}),
        ("from .a import b", {"shop.a": "always"}),
        ("from ..a import b", {}),
        ("from __future__ import annotations", {}),
    ],
)
def test_kind_of_an_import(source: str, expected: dict[str, str]) -> None:
    assert kinds(source) == expected


def test_relative_imports_of_a_package_start_at_itself() -> None:
    assert kinds("from .a import b", "shop", is_package=True) == {"shop.a": "always"}


def test_members_and_lines_are_merged() -> None:
    assert scan(b"from a import x\n\nfrom a import y, x", "m", False)["imports"] == [["a", "always", 1, ["x", "y"]]]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b, (c, *d) = 1\ne: int = 1\nf += 1", ["a", "b", "c", "d", "e", "f"]),
        ("def g(): inner = 1\nasync def h(): pass\nclass K: attribute = 1", ["K", "g", "h"]),
        ("import a.b\nimport c.d as e\nfrom f import g as h, i", ["a", "e", "h", "i"]),
        ("if x:\n a = 1\nelse:\n b = 1\ntry:\n c = 1\nexcept E:\n d = 1", ["a", "b", "c", "d"]),
        ("for a, b in x: c = 1\nwith x as d: e = 1\nwhile x: f = 1", ["a", "b", "c", "d", "e", "f"]),
        ("def f():\n global late\n late = 1", ["f", "late"]),
        ("if (n := 1): pass", ["n"]),
        ("if TYPE_CHECKING:\n a = 1", []),
        ("from a import *", None),
        ("globals()['a'] = 1", None),
        ("globals().update(x)", None),
        ("sys.modules['x'] = y", None),
        ("exec(code)", None),
        ("def __getattr__(name): ...", None),
    ],
)
def test_what_a_module_defines(source: str, expected: list[str] | None) -> None:
    assert scan(source.encode(), "m", False)["defines"] == expected


@pytest.mark.parametrize("source", [b"def (", b"\0", b"# coding: nonsense\nx", b"x = '\xff'", b"(" * 1000])
def test_broken_sources_say_where_and_who_read_them(source: bytes) -> None:
    result = scan(source, "m", False)
    assert result["imports"] == []
    assert result["defines"] is None
    assert result["error"].startswith("line ")
    assert result["error"].endswith(f"(Python {sys.version_info[0]}.{sys.version_info[1]})")


def test_deep_sources_do_not_end_the_scanner() -> None:
    chain = "if a:\n import m0\n" + "".join(f"elif a{i}:\n import m{i}\n" for i in range(1, 600))
    result = scan(chain.encode(), "m", False)
    assert result["error"] or len(result["imports"]) == 600


def test_a_huge_source_is_not_parsed() -> None:
    assert "not read" in scan(b"#" * (imports.LARGEST_SOURCE + 1), "m", False)["error"]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer(source: bytes) -> None:
    assert set(scan(source, "a.b", False)) == {"imports", "defines", "error"}


def test_every_import_statement_of_real_sources_is_found() -> None:
    """Against a plain walk of the tree, over every twelfth of this project's own sources."""
    root = Path(imports.__file__).parents[1]
    for path in sorted(root.rglob("*.py"))[::12]:
        tree = ast.parse(path.read_bytes())
        walked = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        walked |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module} - {
            "__future__"
        }
        typed = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
            if isinstance(inner, ast.Import | ast.ImportFrom)
            for name in ([inner.module] if isinstance(inner, ast.ImportFrom) else [alias.name for alias in inner.names])
        }
        assert walked - typed <= {module for module, *_ in scan(path.read_bytes(), "lading.x", False)["imports"]}, path


def test_runs_alone_in_other_interpreters(other_interpreters: list[str]) -> None:
    """By path, with the standard library only, on every Python that is here from 3.9 on."""
    code = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('scanner', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(json.dumps(module.scan(b'from .a import b\\nx = 1', 'p.q', False)))"
    )
    for python in other_interpreters:
        run = subprocess.run(
            [python, "-I", "-S", "-c", code, imports.__file__], capture_output=True, text=True, check=True
        )
        assert json.loads(run.stdout) == {"imports": [["p.a", "always", 1, ["b"]]], "defines": ["b", "x"], "error": ""}


def test_stdlib_table_agrees_with_interpreters(other_interpreters: list[str]) -> None:
    from lading.audit.stdlib import stdlib_modules

    code = (
        "import json, sys; print(json.dumps([sys.version_info[:2], sorted(getattr(sys, 'stdlib_module_names', []))]))"
    )
    not_on_linux = {"_android_support", "_ios_support", "_msi", "_overlapped", "_scproxy", "_winapi", "_wmi"} | {
        "msilib", "msvcrt", "nt", "winreg", "winsound",
    }  # fmt: skip
    seen = 0
    for python in other_interpreters:
        version, names = json.loads(
            subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
        )
        if names:
            assert stdlib_modules((version[0], version[1])) - {"__main__"} == set(names) - not_on_linux, version
            seen += 1
    assert seen


@pytest.fixture
def other_interpreters() -> list[str]:
    """Executables of CPython 3.9 to 3.13 found on PATH or under pyenv's folder."""
    import shutil

    found = {}
    pyenv = shutil.which("pyenv")
    root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip() if pyenv else ""
    for minor in range(9, 14):
        places = sorted(Path(root, "versions").glob(f"3.{minor}.*/bin/python")) if root else []
        executable = str(places[-1]) if places else shutil.which(f"python3.{minor}")
        if executable:
            found[minor] = executable
    if not found:
        pytest.skip("no other Python is here")
    return list(found.values())
