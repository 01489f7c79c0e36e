"""Which cached chunks go when room is needed: S3-FIFO (Yang et al., SOSP 2023), decided over the entries of a folder. No I/O.

Two queues in order of arrival. What arrives is on probation; what was used there goes on to the main queue, the rest leaves, and
a ghost of its name lets it arrive in the main queue next time. So one long scan passes through probation only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

MOST_USES = 3
PROBATION_SHARE = 0.1
"""Of the limit; probation gives way first while it holds more."""


@dataclass(frozen=True)
class Entry:
    """position: time of arrival in its queue (any unit). uses: since then, 0 to MOST_USES."""

    name: str
    size: int
    position: int
    main: bool
    uses: int


@dataclass(frozen=True)
class Decision:
    """moved: entries with their new queue and uses, all to be put at the end of it, in this order."""

    removed: tuple[Entry, ...]
    moved: tuple[Entry, ...]
    ghosts: tuple[str, ...]
    """Names that were removed from probation."""


def choose(entries: Iterable[Entry], limit: int) -> Decision:
    """What to remove so that the rest holds at most `limit` bytes."""
    ordered = sorted(entries, key=lambda entry: entry.position)
    queues = {main: [entry for entry in ordered if entry.main is main] for main in (False, True)}
    heads = {False: 0, True: 0}
    sizes = {main: sum(entry.size for entry in queue) for main, queue in queues.items()}
    removed: list[Entry] = []
    moved: dict[str, Entry] = {}
    while sizes[False] + sizes[True] > limit:
        probation = sizes[False] > limit * PROBATION_SHARE or not sizes[True]
        main = not probation
        entry = queues[main][heads[main]]
        heads[main] += 1
        if main and entry.uses:
            moved.pop(entry.name, None)
            moved[entry.name] = replace(entry, uses=entry.uses - 1)
            queues[True].append(moved[entry.name])
        elif probation and entry.uses:
            sizes[False] -= entry.size
            sizes[True] += entry.size
            moved[entry.name] = replace(entry, main=True, uses=0)
            queues[True].append(moved[entry.name])
        else:
            sizes[main] -= entry.size
            moved.pop(entry.name, None)
            removed.append(entry)
    return Decision(tuple(removed), tuple(moved.values()), tuple(entry.name for entry in removed if not entry.main))
