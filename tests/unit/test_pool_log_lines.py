"""A process's output becomes log events: one per line, and of a line that is too long several, as CloudWatch takes them."""

from __future__ import annotations

import pytest

from lading.service.pool.logs import MAXIMUM_LINE, LineCutter


def cut(*pieces: bytes) -> list[str]:
    events: list[str] = []
    cutter = LineCutter(events.append)
    for piece in pieces:
        cutter.feed(piece)
    cutter.flush()
    return events


def test_the_limit_is_cloudwatchs_less_what_an_event_takes_itself():
    assert MAXIMUM_LINE == 256 * 1024 - 26


def test_lines_are_events_however_they_come():
    assert cut(b"one\ntw", b"o\n\nthree") == ["one", "two", "", "three"]


@pytest.mark.parametrize("size", [1, 65_536, MAXIMUM_LINE, 2 * MAXIMUM_LINE + 5])
@pytest.mark.parametrize("ending", [b"\n", b""])
def test_a_long_line_goes_on_in_the_next_event(size: int, ending: bytes):
    text = b"x" * (2 * MAXIMUM_LINE + 3) + ending
    events = cut(*(text[at : at + size] for at in range(0, len(text), size or 1))) if size > 1 else cut(text)
    assert [len(event) for event in events] == [MAXIMUM_LINE, MAXIMUM_LINE, 3]


def test_a_line_of_just_the_limit_is_one_event():
    assert [len(event) for event in cut(b"x" * MAXIMUM_LINE + b"\nyy\n")] == [MAXIMUM_LINE, 2]


@pytest.mark.parametrize("character", ["é", "€", "😀"])
def test_no_character_is_cut(character: str):
    text = "x" + character * (MAXIMUM_LINE // len(character.encode()) + 10)
    events = cut(text.encode() + b"\n")
    assert "".join(events) == text
    assert len(events) == 2
    assert MAXIMUM_LINE - 4 < len(events[0].encode()) <= MAXIMUM_LINE


def test_what_is_no_text_is_cut_at_the_limit():
    assert [len(event) for event in cut(b"\x80" * (MAXIMUM_LINE + 1) + b"\n")] == [MAXIMUM_LINE, 1]
