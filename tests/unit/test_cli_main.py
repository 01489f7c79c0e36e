"""The command line's frame: help without loading commands, errors with hints, exit codes by kind."""

from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from lading.cli import main as cli
from lading.cli.cache import parse_size
from lading.cli.text import count, seconds, size
from lading.errors import ConfigError, LadingError, UsageError


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_listed_command_is_there(name: str) -> None:
    command = importlib.import_module(f"lading.cli.{name}").command
    assert isinstance(command, click.Command)
    assert command.name == name


def test_help_loads_no_command() -> None:
    program = "import sys; from lading.cli.main import main; main(['--help']); print(sorted(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "build" in printed
    for heavy in ("rich", "httpx", "yaml", "asyncio", "lading.build", "lading.resolve", "importlib.metadata"):
        assert f"'{heavy}'" not in printed, heavy


def test_a_misspelt_command_is_corrected() -> None:
    result = CliRunner().invoke(cli.lading, ["biuld"])
    assert result.exit_code == 2
    assert "did you mean 'build'?" in result.output


def test_errors_become_message_hint_and_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise ConfigError("no handler 'x'", details=["app.py has: handler"], hint='write handler = "app.handler"')

    monkeypatch.setattr(cli.lading, "main", fail)
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: no handler 'x'",
        "  app.py has: handler",
        'hint: write handler = "app.handler"',
    ]


def test_every_error_class_has_an_exit_code_of_its_kind() -> None:
    kinds = [error for error in LadingError.__subclasses__() if error.__module__ == "lading.errors"]
    codes = {error.__name__: error.exit_code for error in kinds}
    assert codes["ConfigError"] == codes["UsageError"] == 2
    assert codes["AuditError"] == 5
    assert all(code in range(2, 9) for code in codes.values())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = CliRunner().invoke(cli.lading, ["completion", shell], prog_name="lading")
    assert result.exit_code == 0
    assert "_LADING_COMPLETE" in result.output


@pytest.mark.parametrize(("text", "number"), [("1000", 1000), ("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("3k", 3000)])
def test_sizes_are_read(text: str, number: int) -> None:
    assert parse_size(text) == number


@pytest.mark.parametrize("text", ["", "GB", "-1", "1x", "1 GiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


def test_numbers_read_well() -> None:
    assert [size(number) for number in (0, 999, 1000, 48_200_000, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "48.2 MB",
        "3000.0 GB",
    ]
    assert [seconds(time) for time in (0.004, 1.234)] == ["4 ms", "1.23 s"]
    assert [count(1, "file"), count(2, "file"), count(2, "library", "libraries")] == [
        "1 file",
        "2 files",
        "2 libraries",
    ]
