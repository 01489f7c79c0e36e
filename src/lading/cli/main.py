"""`lading`: the commands by name, loaded when called, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from lading.errors import LadingError

COMMANDS = {
    "base": "Make a base image where AWS's can't be pulled.",
    "build": "Build every function and layer: artifacts that will import on Lambda.",
    "cache": "Show or prune the cache.",
    "check": "Audit any zip, folder or layer: would it import on Lambda?",
    "clock": "Show or drive the clock of a running `lading serve`.",
    "completion": "Print the completion script of a shell.",
    "deploy": "Bring AWS to what the project says.",
    "destroy": "Remove what lading made of the project on AWS.",
    "explain": "Show what is in an artifact, by package, and why each is there.",
    "export": "Write files for Terraform, CloudFormation, SAM or the CDK.",
    "image": "Convert images to lazy ones; show and tidy the store that holds them.",
    "init": "Make a minimal project.",
    "invoke": "Run a function here, in an isolated execution environment.",
    "logs": "Print the log of a function of a running `lading serve`, or of a deployed one.",
    "plan": "Show what deploying would do, field by field.",
    "ps": "Show the functions and environments of a running `lading serve`.",
    "push": "Push an image to a registry: only what it lacks.",
    "rollback": "Point aliases back at an earlier version.",
    "run": "Serve one function as AWS's Runtime Interface Emulator does.",
    "serve": "Serve AWS Lambda's API on this machine for unmodified clients.",
    "status": "Show what of the project runs where on AWS.",
}
"""Name → one line of help; the module is `lading.cli.NAME`, its click command is `command`."""


class Commands(click.Group):
    """Loads a command's module only when that command runs: start-up stays short however many there are."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"lading.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from lading.model.suggest import did_you_mean

            ctx.fail(f"no such command {args[0]!r}: {did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lading", prog_name="lading", message="%(prog)s %(version)s")
def lading() -> None:
    """Pack Python for AWS Lambda, run it here as Lambda would, and ship it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code. Errors go to stderr as `error:` and `hint:`."""
    try:
        code = lading.main(args=arguments, prog_name="lading", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except LadingError as error:
        report(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run() -> None:
    """The installed command's entry point."""
    sys.exit(main())


def report(error: LadingError) -> None:
    """`error:` with its details, then `hint:` with the next step. Readable without colour."""
    colour = None if not os.environ.get("NO_COLOR") else False
    click.echo(click.style("error", fg="red", bold=True) + f": {error.message}", err=True, color=colour)
    for line in error.details:
        click.echo(f"  {line}", err=True, color=colour)
    if error.hint:
        click.echo(click.style("hint", fg="cyan") + f": {error.hint}", err=True, color=colour)
    if error.docs:
        click.echo(f"docs: {error.docs}", err=True, color=colour)


if __name__ == "__main__":
    run()
