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
    ("name", "left"),
    [
        (f"lading.{os.getpid()}.1.{OWN}", True),  # the number of a process that is gone was given again
        (f"lading.4194305.1.{OWN}", True),  # beyond the largest number the kernel gives
        (f"lading.4194305.1.{OWN + 1}", False),
        (f"lading.{os.getpid()}.1", False),
        (f"lading.x.1.{OWN}", False),
        (f"lading.{os.getpid()}.1.{OWN}.2", False),
        ("", False),
    ],
)
def test_what_is_left_of_others(name: str, left: bool):
    assert is_left(name) is left
    assert not is_left(owner_name(os.getpid()))
