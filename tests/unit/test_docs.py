"""The documents tell what is: links lead somewhere, command lines parse, the reference is what the commands say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lading.cli.main import lading
from lading.cli.reference import reference

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = {"bash", "console", "sh"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines(text: str) -> Iterator[str]:
    """Every line of a shell block that calls lading, less its prompt, comment and redirections."""
    for language, block in FENCE.findall(text):
        if language not in SHELLS:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\|?|;|[12]?>{1,2}", line.removeprefix("$ ")):
                if part.strip().startswith("lading "):
                    yield part.strip()


def parse(line: str) -> None:
    """Raises click's UsageError when the command or one of its options isn't there. Runs nothing."""
    command: click.Command = lading
    words = shlex.split(line, comments=True)[1:]
    context = click.Context(command, info_name="lading")
    while True:
        _, rest, _ = command.make_parser(context).parse_args(args=list(words))
        if not isinstance(command, click.Group) or not rest:
            break
        child = command.get_command(context, rest[0])
        if child is None:
            raise click.UsageError(f"no such command: {rest[0]}")
        context = click.Context(child, info_name=rest[0], parent=context)
        command, words = child, rest[1:]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    for target in LINK.findall(without_code(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)} links to {target}: not there"
        if anchor:
            assert anchor in anchors(file), f"{name(page)} links to {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_command_lines_are_ones_that_lading_knows(page: Path) -> None:
    for line in command_lines(page.read_text("utf-8")):
        try:
            parse(line)
        except click.UsageError as error:
            pytest.fail(f"{name(page)}: `{line}`: {error.format_message()}")


def test_a_misspelt_option_would_be_found() -> None:
    [line] = command_lines("```console\n$ lading build --upgrad  # sic\n```\n")
    with pytest.raises(click.UsageError, match="upgrad"):
        parse(line)


def test_the_reference_is_what_the_commands_say() -> None:
    written = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    assert written == reference() + "\n", "run `make docs`"
