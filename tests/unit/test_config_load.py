"""Projects as people have them → what lading understands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lading.config import load
from lading.errors import ConfigError
from lading.model.project import Bundled, Bytecode, LayerReference
from lading.model.requirements import RequirementKind

HANDLER = "def lambda_handler(event, context):\n    return event\n"


def make(root: Path, files: dict[str, str]) -> Path:
    (root / ".git").mkdir(exist_ok=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


def test_a_folder_with_requirements(tmp_path: Path) -> None:
    root = tmp_path / "my.orders"
    root.mkdir()
    make(root, {"lambda_function.py": HANDLER, "requirements.txt": "requests\n"})
    project = load(root)
    (function,) = project.functions
    assert (function.name, function.handler) == ("my-orders", "lambda_function.lambda_handler")
    assert str(function.target) == "python3.13 on x86_64"
    assert function.source.root == root
    assert function.requirements.kind is RequirementKind.FILE
    assert function.requirements.path == root / "requirements.txt"
    assert project.output == root / "dist"
    assert "/dist/" in function.source.exclude


def test_overrides_reach_functions_and_layers(tmp_path: Path) -> None:
    text = '[tool.lading.functions.a]\nsource="a"\nruntime="python3.12"\n[tool.lading.layers.l]\nrequirements=["six"]\n'
    make(tmp_path, {"a/lambda_function.py": HANDLER, "pyproject.toml": text})
    project = load(tmp_path, runtime="python3.11", architecture="arm64", handler="other.run")
    assert {str(part.target) for part in (*project.functions, *project.layers)} == {"python3.11 on arm64"}
    assert project.functions[0].handler == "other.run"


@pytest.mark.parametrize("override", [{"runtime": "python3.31"}, {"architecture": "arm65"}, {"handler": "nodots"}])
def test_a_wrong_override_is_an_error(tmp_path: Path, override: dict[str, str]) -> None:
    make(tmp_path, {"lambda_function.py": HANDLER})
    with pytest.raises(ConfigError, match=next(iter(override.values()))):
        load(tmp_path, **override)


FULL = """
[project]
name = "shop"
dependencies = ["requests"]
optional-dependencies = { fast = ["orjson"] }
[dependency-groups]
report = ["pandas", { include-group = "base" }]
base = ["six"]
[tool.lading]
runtime = "python3.12"
memory = 256
exclude = ["*.md"]
output = "out"
environment = { STAGE = "dev", LEVEL = "info" }
[tool.lading.functions.orders]
source = "orders"
extras = ["fast"]
layers = ["shared", "arn:aws:lambda:eu-west-1:123456789012:layer:tools:7"]
environment = { LEVEL = "debug" }
timeout = 30
bytecode = "only"
[tool.lading.functions.report]
source = "report"
handler = "app.run"
groups = ["report"]
architecture = "arm64"
exclude = ["data/", "!*.pyc"]
[tool.lading.functions.inline]
source = "orders"
requirements = { packages = ["six>=1.16"] }
bundled = "drop"
botocore-services = ["s3"]
[tool.lading.layers.shared]
requirements = ["jinja2[i18n]>=3; python_version>'3'", "tabulate"]
content = "shared"
"""


def full(tmp_path: Path) -> Path:
    files = {"pyproject.toml": FULL, "orders/lambda_function.py": HANDLER, "report/app.py": "", "shared/bin/x": ""}
    return make(tmp_path, files)


def test_functions_layers_and_defaults(tmp_path: Path) -> None:
    project = load(full(tmp_path))
    orders, report, inline = project.functions
    assert (orders.memory, orders.timeout, orders.options.bytecode) == (256, 30, Bytecode.ONLY)
    assert orders.environment == {"STAGE": "dev", "LEVEL": "debug"}
    arn = "arn:aws:lambda:eu-west-1:123456789012:layer:tools:7"
    assert orders.layers == (LayerReference(name="shared"), LayerReference(arn=arn))
    assert orders.requirements.kind is RequirementKind.PYPROJECT
    assert orders.requirements.extras == ("fast",)
    assert (report.handler, report.requirements.groups) == ("app.run", ("report",))
    assert str(report.target) == "python3.12 on arm64"
    assert {"*.md", "data/"} <= set(report.source.exclude)
    assert "*.pyc" not in report.source.exclude
    assert inline.requirements.specifiers == ("six>=1.16",)
    assert (inline.options.bundled, inline.options.botocore_services) == (Bundled.DROP, ("s3",))
    (layer,) = project.layers
    assert layer.content is not None
    assert layer.content.root == tmp_path / "shared"
    assert len(layer.requirements.specifiers) == 2
    assert project.output == tmp_path / "out"
    assert load(tmp_path / "orders") == project


def test_the_search_stops_at_the_repository(tmp_path: Path) -> None:
    make(tmp_path, {"pyproject.toml": "[tool.lading]\nmemory = 512\n"})
    (tmp_path / "inner").mkdir()
    inner = make(tmp_path / "inner", {"lambda_function.py": HANDLER})
    assert load(inner).functions[0].memory == 128


def test_a_src_layout(tmp_path: Path) -> None:
    text = '[project]\nname = "my-shop"\ndependencies = ["six"]\nrequires-python = ">=3.9,<3.12"\n'
    make(tmp_path, {"pyproject.toml": text, "src/my_shop/__init__.py": "", "src/my_shop/app.py": "handler = print\n"})
    (function,) = load(tmp_path / "pyproject.toml").functions
    assert (function.name, function.handler) == ("my-shop", "my_shop.app.handler")
    assert function.source.root == tmp_path / "src"
    assert function.target.runtime.name == "python3.11"
    assert function.requirements.path == tmp_path / "pyproject.toml"


@pytest.mark.parametrize(
    ("python_version", "requires", "runtime"),
    [
        ("3.12.4\n", "", "python3.12"),
        ("3.11", ">=3.12", "python3.13"),
        ("", ">=3.14", "python3.14"),
        ("", ">=3.13.2", "python3.13"),
    ],
)
def test_the_default_runtime(tmp_path: Path, python_version: str, requires: str, runtime: str) -> None:
    files = {
        "lambda_function.py": HANDLER,
        "pyproject.toml": f'[project]\nname = "a"\nrequires-python = "{requires}"\n',
    }
    make(tmp_path, files | ({".python-version": python_version} if python_version else {}))
    assert load(tmp_path).functions[0].target.runtime.name == runtime


@pytest.mark.parametrize(
    ("present", "kind"),
    [
        (["requirements.txt", "uv.lock"], RequirementKind.UV_LOCK),
        (["poetry.lock", "requirements.txt"], RequirementKind.POETRY_LOCK),
        (["pdm.lock"], RequirementKind.PDM_LOCK),
        (["Pipfile.lock", "Pipfile"], RequirementKind.PIPFILE_LOCK),
        (["pylock.toml", "uv.lock"], RequirementKind.PYLOCK),
        (["requirements.txt"], RequirementKind.FILE),
    ],
)
def test_a_lock_beats_what_stands_beside_it(tmp_path: Path, present: list[str], kind: RequirementKind) -> None:
    make(tmp_path, {"lambda_function.py": HANDLER, **dict.fromkeys(present, "")})
    assert load(tmp_path).functions[0].requirements.kind is kind
    assert load(tmp_path / present[0]).functions[0].requirements.path == tmp_path / present[0]


SCRIPT = (
    '# /// script\n# dependencies = ["six"]\n# requires-python = ">=3.12"\n#\n# [tool.lading]\n# memory = 300\n# ///\n'
)


def test_a_script(tmp_path: Path) -> None:
    make(tmp_path, {"job.py": f"{SCRIPT}handler = lambda event, context: 1\n", "requirements.txt": "boto3"})
    (function,) = load(tmp_path / "job.py").functions
    assert (function.name, function.handler, function.memory) == ("job", "job.handler", 300)
    assert function.source.root == tmp_path / "job.py"
    assert function.requirements.kind is RequirementKind.SCRIPT


def test_a_file_without_a_block_takes_what_stands_beside_it(tmp_path: Path) -> None:
    make(tmp_path, {"app.py": HANDLER, "requirements.txt": "boto3"})
    (function,) = load(tmp_path / "app.py").functions
    assert function.handler == "app.lambda_handler"
    assert function.requirements.path == tmp_path / "requirements.txt"


def test_a_script_without_dependencies_needs_none(tmp_path: Path) -> None:
    make(tmp_path, {"job.py": f"# /// script\n# ///\n{HANDLER}", "requirements.txt": "boto3"})
    assert load(tmp_path / "job.py").functions[0].requirements.is_empty


def test_only_layers_make_no_function(tmp_path: Path) -> None:
    make(tmp_path, {"pyproject.toml": '[tool.lading.layers.a]\nrequirements = ["six"]\n'})
    project = load(tmp_path)
    assert not project.functions
    assert [layer.name for layer in project.layers] == ["a"]


def test_a_sibling_in_the_repository_may_be_the_source(tmp_path: Path) -> None:
    text = '[tool.lading.functions.a]\nsource = "../code"\n'
    make(tmp_path, {"code/lambda_function.py": HANDLER, "deploy/pyproject.toml": text})
    assert load(tmp_path / "deploy").functions[0].source.root == tmp_path / "code"


def test_loading_a_pyproject_imports_no_yaml(tmp_path: Path) -> None:
    full(tmp_path)
    code = """
import sys
from pathlib import Path
from lading.config import load
load(Path(sys.argv[1]))
print("yaml" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
