"""Names of owners: which are gone, and which can't be told."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lading.sandbox.owners import is_left, owner_name

OWN = Path("/proc/self/ns/pid").stat().st_ino


def test_a_name_is_of_one_process():
    name = owner_name(os.getpid())
    assert re.fullmatch(rf"lading\.{os.getpid()}\.\d+\.{OWN}", name)
    assert owner_name(os.getppid()) not in ("", name)
    assert owner_name(0) == ""


@pytest.mark.parametrize(
    ("shape", "left"),
    [
        ("lading.{pid}.1.{space}", True),  # the number of a process that is gone was given again
        ("lading.4194305.1.{space}", True),  # beyond the largest number the kernel gives
        ("lading.4194305.1.{other}", False),
        ("lading.{pid}.1", False),
        ("lading.x.1.{space}", False),
        ("lading.{pid}.1.{space}.2", False),
        ("", False),
    ],
)
def test_what_is_left_of_others(shape: str, left: bool):
    assert is_left(shape.format(pid=os.getpid(), space=OWN, other=OWN + 1)) is left


def test_what_is_ours_is_not_left():
    assert not is_left(owner_name(os.getpid()))
