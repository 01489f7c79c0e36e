"""Kills at random moments under load: no accepted event is lost, none is tried again once its outcome was kept."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

KILLS = int(os.environ.get("LADING_KILLS", "10"))
VICTIM = Path(__file__).with_name("queue_victim.py")


def test_kills_lose_nothing_and_repeat_nothing_that_was_kept(tmp_path: Path) -> None:
    file, journal = tmp_path / "queue.sqlite", tmp_path / "journal"
    accepted: list[str] = []
    chance = random.Random(7)
    for round_number in range(KILLS):
        arguments = [sys.executable, VICTIM, file, journal, "100000", str(round_number * 100_000)]
        process = subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        accepted.append(process.stdout.readline().strip())
        time.sleep(chance.random() * 0.1)
        process.kill()
        rest, _ = process.communicate()
        accepted += rest.splitlines(keepends=True)[:-1] if not rest.endswith("\n") else rest.splitlines()
    arguments = [sys.executable, VICTIM, file, journal, "0", "0"]
    subprocess.run(list(map(str, arguments)), check=True, timeout=120)
    lines = journal.read_text().splitlines()
    sent: set[str] = set()
    for line in lines:
        action, identity = line.split()
        assert action == "sent" or identity not in sent, f"{identity} was tried again after its record was sent"
        if action == "sent":
            sent.add(identity)
    lost = {identity.strip() for identity in accepted} - sent
    assert not lost, f"{len(lost)} of {len(accepted)} accepted events were lost"
    assert len(accepted) >= KILLS
