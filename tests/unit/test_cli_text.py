"""Tables for people."""

from __future__ import annotations

import click

from lading.cli.text import table


def plain(*arguments: list[str]) -> list[str]:
    return [click.unstyle(line) for line in table(arguments[0], arguments[1:])]


def test_text_goes_to_the_left_and_numbers_to_the_right_and_nothing_is_cut() -> None:
    rows = [["short", "1.2 MB", "-", "2026-11-26"], ["a-very-long-name" * 9, "10 kB", "", "see 3"]]
    wide = len(rows[1][0])
    assert plain(["name", "size", "of", "changed"], *rows) == [
        f"{'name':<{wide}}    size  of  changed",
        f"{'short':<{wide}}  1.2 MB   -  2026-11-26",
        f"{rows[1][0]}   10 kB      see 3",
    ]


def test_names_stay_left_though_they_are_numbers_and_no_row_is_only_a_heading() -> None:
    assert plain(["name", "errors"], ["7", "12"]) == ["name  errors", "7         12"]
    assert plain(["name", "errors"]) == ["name  errors"]
