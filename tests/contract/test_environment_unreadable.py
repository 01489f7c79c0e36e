"""A start whose image can't be read, since its store is down: refused with the reason, whatever else the environment needs."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lading.errors import SandboxError
from lading.sandbox.image import ImageProcess, ImageRoot
from lading.sandbox.merged import Merged
from lading.sandbox.spec import SandboxSpec
from lading.service.events import EventStream
from lading.service.pool.environment import Environment
from lading.service.pool.function import FunctionVersion


class Unreadable(Merged):
    """Folders of which every read is an error."""

    def list(self, path: str) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)


class UnreadableRoot(ImageRoot):
    @property
    def view(self) -> Merged:
        return Unreadable(self.folders)


def test_an_image_that_can_t_be_read_is_said(tmp_path: Path) -> None:
    root = UnreadableRoot((tmp_path,), ImageProcess((), ("/bin/true",), "/", {}), None)
    nobody: Any = None  # no walls are made
    arn = "arn:aws:lambda:us-east-1:000000000000:function:far"
    function = FunctionVersion(arn, "far", SandboxSpec(image=root, runtime=""))

    async def start() -> None:
        await Environment(function, nobody, EventStream(), None).start()

    with pytest.raises(SandboxError, match=r"/opt/extensions of far can't be read: Input/output error") as caught:
        asyncio.run(start())
    assert caught.value.hint
