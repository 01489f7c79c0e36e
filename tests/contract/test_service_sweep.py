"""Packages that nothing uses go while the service runs; against a model of what must be there, and against uploads beside."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_zips import zipped
from test_service_garbage import ROLE, call, layer, on_disk, settle

from lading.service.clock import Clock
from lading.service.control.control import Control, open_control
from lading.service.sweep import Sweep

TEXTS = ("a", "b", "c", "d")
NAMES = ("one", "two", "three")


def digest(text: str) -> str:
    return hashlib.sha256(zipped({"app.py": text})).hexdigest()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = open_control(tmp_path)
    yield control
    control.close()


def put(control: Control, name: str, text: str) -> None:
    """A function with this code, whether it was there or not."""
    code = {"ZipFile": zipped({"app.py": text})}
    if any(one["FunctionName"] == name for one in call(control, "ListFunctions")["Functions"]):
        call(control, "UpdateFunctionCode", FunctionName=name, **code)
    else:
        call(
            control, "CreateFunction", FunctionName=name, Runtime="python3.13", Role=ROLE, Handler="a.h", Code=code
        )  # fmt: skip
    settle(control, name)


class Model:
    """What two looks in a row leave: references by function and version, and what environments hold."""

    def __init__(self) -> None:
        self.latest: dict[str, str] = {}
        self.published: dict[str, set[str]] = {}
        self.held: set[str] = set()
        self.there: set[str] = set()
        self.unused: set[str] = set()

    def look(self) -> set[str]:
        used = {*self.latest.values(), *self.held}.union(*self.published.values())
        unused = self.there - used
        gone = unused & self.unused
        self.there -= gone
        self.unused = unused
        return gone


@pytest.mark.parametrize("seed", range(4))
def test_what_two_looks_find_unused_goes_and_nothing_else(control: Control, tmp_path: Path, seed: int) -> None:
    chance, model = random.Random(seed), Model()
    removed = 0

    async def story() -> int:
        nonlocal removed
        sweep = Sweep(control, Clock(), lambda: {tmp_path / "trees" / digest(text) for text in model.held})
        for _ in range(60):
            name, text = chance.choice(NAMES), chance.choice(TEXTS)
            match chance.choice(("put", "put", "delete", "publish", "hold", "end", "look", "look", "look")):
                case "put":
                    await asyncio.to_thread(put, control, name, text)
                    model.latest[name] = text
                    model.there.add(text)
                case "delete" if name in model.latest:
                    call(control, "DeleteFunction", FunctionName=name)
                    model.latest.pop(name)
                    model.published.pop(name, None)
                case "publish" if name in model.latest:
                    call(control, "PublishVersion", FunctionName=name)
                    await asyncio.to_thread(settle, control, name)
                    model.published.setdefault(name, set()).add(model.latest[name])
                case "hold" if text in model.there:
                    model.held.add(text)
                case "end":
                    model.held.discard(text)
                case "look":
                    gone = await sweep.look()
                    assert gone == {digest(one) for one in model.look()}
                    removed += len(gone)
            assert on_disk(tmp_path) == {digest(one) for one in model.there}
        return removed

    assert asyncio.run(story()) > 0, "nothing ever went: the story shows nothing"


def test_an_upload_between_look_and_removal_wins(control: Control, tmp_path: Path) -> None:
    """The operations' turn is what decides: whichever side comes first, the function's package is there."""
    put(control, "f", "same")
    stop = threading.Event()
    trouble: list[str] = []

    def upload() -> None:
        try:
            for _ in range(60):
                call(control, "DeleteFunction", FunctionName="f")
                put(control, "f", "same")
                tree = tmp_path / "trees" / digest("same")
                if not control.packages.has(digest("same")) or not (tree / "app.py").is_file():
                    trouble.append("a function that is active lost its package")
        except BaseException as error:
            trouble.append(repr(error))
        finally:
            stop.set()

    async def story() -> int:
        sweep, removed = Sweep(control, Clock(), set), 0
        while not stop.is_set():
            removed += len(await sweep.look())
            await asyncio.sleep(0)
        return removed

    thread = threading.Thread(target=upload)
    thread.start()
    asyncio.run(story())
    thread.join()
    assert not trouble


def test_a_layer_deleted_stays_while_a_function_has_it(control: Control, tmp_path: Path) -> None:
    arn = layer(control, "used", "three")
    put(control, "f", "a")
    call(control, "UpdateFunctionConfiguration", FunctionName="f", Layers=[arn])
    settle(control, "f")
    call(control, "DeleteLayerVersion", LayerName="used", VersionNumber=1)

    async def looks() -> list[int]:
        sweep = Sweep(control, Clock(), set)
        return [len(await sweep.look()) for _ in range(2)]

    assert asyncio.run(looks()) == [0, 0]
    call(control, "DeleteFunction", FunctionName="f")
    assert asyncio.run(looks()) == [0, 2]
    assert on_disk(tmp_path) == set()
    assert list((tmp_path / "trees").iterdir()) == []


def test_what_is_being_unpacked_holds_the_removal_up(control: Control) -> None:
    put(control, "f", "a")
    call(control, "DeleteFunction", FunctionName="f")

    async def story() -> None:
        sweep = Sweep(control, Clock(), set)
        await sweep.look()
        with control.packages._lock:  # as `tree` holds it while it unpacks
            assert control.packages.take_out({digest("a")}) == []
        assert await sweep.look() == {digest("a")}

    asyncio.run(story())
