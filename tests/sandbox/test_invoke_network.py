"""Which network `lading invoke` gives a function: what was asked for, else a way out, else none and a note that says why."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lading.cli.invoke import network_of
from lading.sandbox.spec import Isolation, Network


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("outgoing network needs root")


@pytest.mark.parametrize("asked", list(Network))
def test_what_was_asked_for(asked: Network):
    assert network_of(asked.value, Isolation.USER) is asked


def test_a_way_out_where_there_is_one(root: None, capsys: pytest.CaptureFixture[str]):
    if shutil.which("nft") is None:
        pytest.skip("outgoing network needs nft")
    assert network_of(None, Isolation.ROOT) is Network.OUTGOING
    assert capsys.readouterr().err == ""


def test_none_is_said(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert network_of(None, Isolation.ROOT) is Network.NONE
    assert "note: the function has no network: outgoing network needs the program nft" in capsys.readouterr().err
