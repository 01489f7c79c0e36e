"""The pictures in the docs are drawn from the tables, and the tables hang together."""

from __future__ import annotations

from pathlib import Path

from lading.runtimeapi.states import EXTENSION, RUNTIME, ExtensionState, RuntimeState, draw

PAGE = Path(__file__).parents[2] / "docs" / "design" / "lifecycle.md"


def test_the_page_shows_the_tables() -> None:
    text = PAGE.read_text("utf-8")
    for picture in (draw(RUNTIME, RuntimeState.STARTED), draw(EXTENSION, ExtensionState.LAUNCHED)):
        assert f"```mermaid\n{picture}\n```" in text, f"put this into {PAGE.name}:\n{picture}"


def test_every_state_is_reached_by_some_step() -> None:
    assert {RuntimeState.STARTED, *RUNTIME.values()} == set(RuntimeState)
    assert {ExtensionState.LAUNCHED, *EXTENSION.values()} == set(ExtensionState)
