"""`lading invoke --watch`: invoke, wait for a change, reload what changed, invoke again, until ^C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lading.cli.main import report
from lading.cli.progress import choose_progress
from lading.errors import LadingError
from lading.service.pool.function import FunctionVersion
from lading.service.pool.live_code import LiveCode, workspace
from lading.service.pool.local import LocalFunction
from lading.service.pool.local_any import prepare
from lading.service.pool.session import Session, run_in_loop
from lading.service.pool.watching import Change, Watched, Watcher
from lading.store import open_store

if TYPE_CHECKING:
    from lading.service.events import Event
    from lading.service.pool.function import Outcome
    from lading.service.pool.local import LocalOptions


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line, to be read again whenever it may have changed."""

    function: Callable[[], LocalFunction]
    """Builds it if something changed."""
    event: Callable[[], bytes]
    event_file: Path | None
    options: LocalOptions
    follow: Callable[[Event], None]
    show: Callable[[Outcome], None]


def watch(request: Request) -> None:
    """Returns when the user interrupts it; then nothing is left."""
    store = open_store()
    with contextlib.suppress(KeyboardInterrupt), workspace(store) as folder:
        run_in_loop(_Watch(request, folder).run())
    click.echo("\nended", err=True)


class _Watch:
    """What is loaded now, and what is looked at."""

    def __init__(self, request: Request, folder: Path) -> None:
        self._request = request
        self._folder = folder
        self._number = 0
        self._live: LiveCode | None = None
        self._function: LocalFunction
        self._watcher: Watcher

    async def run(self) -> None:
        event = self._request.event()
        version = await asyncio.to_thread(self._load)
        files = f"{self._watcher.files} files" if self._watcher.files else str(self._function.artifact)
        click.echo(f"watching {files} of {self._function.name}: a change invokes again, ^C ends", err=True)
        options = self._request.options
        async with Session(options.isolation, options.concurrency, self._request.follow, options.debug) as session:
            while True:
                await self._invoke(session, version, event)
                version, event = await self._next(session, version, event)

    async def _invoke(self, session: Session, version: FunctionVersion, event: bytes) -> None:
        try:
            [outcome] = await session.invoke(version, [event])
        except LadingError as error:
            report(error)
        else:
            self._request.show(outcome)
            sys.stdout.flush()

    async def _next(self, session: Session, version: FunctionVersion, event: bytes) -> tuple[FunctionVersion, bytes]:
        """Wait for a change that can be invoked. What can't be read or built is said, and the wait goes on."""
        while True:
            change = await self._watcher.change()
            begin = time.perf_counter()
            try:
                if change.events:
                    event = self._request.event()
                if change.own or change.inputs:
                    session.retire(version)
                    version, how = await asyncio.to_thread(self._reload, version, change)
                else:
                    how = "read"
            except LadingError as error:
                report(error)
                continue
            seconds = time.perf_counter() - begin
            click.secho(f"\n{_named(change, self._function)} changed: {how} in {seconds * 1000:.0f} ms", err=True)
            return version, event

    def _reload(self, version: FunctionVersion, change: Change) -> tuple[FunctionVersion, str]:
        if change.inputs or version.spec.image:
            return self._load(), "built"
        if self._live is not None:
            self._live.update()
        self._number += 1
        return replace(version, revision=str(self._number)), "reloaded"

    def _load(self) -> FunctionVersion:
        """Build, and put what was built where own files can be replaced."""
        function = self._request.function()
        store = open_store()
        with choose_progress() as progress:
            version = prepare(function, self._request.options, store, progress)
        self._number += 1
        self._live = None
        code = version.spec.code
        if code is not None and function.source is not None and function.artifact.is_file():
            self._live = LiveCode(code, function.source, self._folder / str(self._number))
            version = replace(version, spec=replace(version.spec, code=self._live.folder))
        self._function = function
        self._watcher = Watcher(
            Watched(
                own=(function.source,) if function.source else (),
                inputs=function.inputs,
                built=(*function.layer_sources, *function.package_sources),
                events=tuple(filter(None, [self._request.event_file])),
                ignored=frozenset(os.fstat(number).st_ino for number in (1, 2)),
            )
        )
        return replace(version, revision=str(self._number))


def _named(change: Change, function: LocalFunction) -> str:
    """Up to three names, as short as they can be."""
    root = function.source.root if function.source else function.artifact.parent
    root = root if root.is_dir() else root.parent
    names = [str(Path(name).relative_to(root)) if Path(name).is_relative_to(root) else name for name in change.names]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
