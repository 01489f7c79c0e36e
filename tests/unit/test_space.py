"""Bytecode under the size limit: all of it when there is room, else what the handler imports first."""

from __future__ import annotations

from array import array

from lading.build.bundle import Bundle
from lading.build.space import fit


def bundle(name: str, **sizes: int) -> Bundle:
    return Bundle(
        kind="bytecode",
        name=name,
        version="1",
        data="00" * 32,
        size=sum(sizes.values()),
        names=tuple(sizes),
        offsets=array("Q"),
        positions=array("I"),
        sizes=array("I", sizes.values()),
        checksum=0,
        digests=b"",
        central=b"",
    )


def kept(fitted: object) -> dict[str, list[str]]:
    return {
        selection.bundle.name: [name for name in selection.bundle.names if name not in selection.exclude]
        for selection in fitted.selections  # type: ignore[attr-defined]
    }


A, B = bundle("a", a1=40, a2=40), bundle("b", b1=40, b2=40)


def test_all_of_it_when_there_is_room() -> None:
    fitted = fit([A, B], (), 160)
    assert kept(fitted) == {"a": ["a1", "a2"], "b": ["b1", "b2"]}
    assert fitted.left_out == ()


def test_what_is_imported_goes_first() -> None:
    fitted = fit([A, B], {"b2", "a2"}, 90)
    assert kept(fitted) == {"a": ["a2"], "b": ["b2"]}
    assert fitted.left_out == ("a", "b")


def test_the_rest_fills_the_room_in_order() -> None:
    assert kept(fit([A, B], {"b2"}, 120)) == {"a": ["a1", "a2"], "b": ["b2"]}


def test_no_room_leaves_all_of_it_out() -> None:
    fitted = fit([A, B], {"a1"}, 0)
    assert kept(fitted) == {"a": [], "b": []}
    assert fitted.left_out == ("a", "b")
