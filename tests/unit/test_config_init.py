"""What `lading init` writes is a project; the reference is what the schema says."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lading.cli.init import FILES, ExistsError, command
from lading.config import load
from lading.config.reference import reference
from lading.errors import ConfigError, LadingError, UsageError
from lading.model.requirements import RequirementKind


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments))
    if isinstance(result.exception, LadingError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_new_project_loads(tmp_path: Path) -> None:
    said = run(str(tmp_path / "hello world"), "--runtime", "python3.12")
    project = load(tmp_path / "hello world")
    (function,) = project.functions
    assert (function.name, function.handler) == ("hello-world", "lambda_function.lambda_handler")
    assert function.target.runtime.name == "python3.12"
    assert function.requirements.kind is RequirementKind.PYPROJECT
    assert "lading build" in said
    compile((tmp_path / "hello world/lambda_function.py").read_text(), "lambda_function.py", "exec")


def test_a_name_of_its_own(tmp_path: Path) -> None:
    run(str(tmp_path), "--name", "orders")
    assert load(tmp_path).functions[0].name == "orders"


@pytest.mark.parametrize("name", ["a b", "x" * 65, "", 'a"\nb'])
def test_a_wrong_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not a name"):
        run(str(tmp_path / "new"), "--name", name)
    assert not (tmp_path / "new").exists()


def test_an_unknown_runtime(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown runtime"):
        run(str(tmp_path), "--runtime", "python2.7")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text("mine")
    with pytest.raises(ExistsError, match=r"event\.json"):
        run(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["event.json"]
    run(str(tmp_path), "--force")
    assert (tmp_path / "event.json").read_text() != "mine"
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/event.json").symlink_to(tmp_path / "other")
    run(str(tmp_path / "new"), "--force")
    assert (tmp_path / "other").read_text() == "mine"


def test_the_reference_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs/reference/configuration.md"
    assert page.read_text("utf-8") == reference(), (
        "run: python -m lading.config.reference docs/reference/configuration.md"
    )
