"""What the scheduler keeps count of: environments, and what versions, functions and accounts use. Decides nothing."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    STARTING = "starting"
    BUSY = "busy"
    IDLE = "idle"


@dataclass(frozen=True)
class Waiting:
    request: str
    queue: bool
    """Whether it waits for room in place of being throttled."""


@dataclass
class Entry:
    number: int
    version: str
    state: State
    request: str | None
    provisioned: bool
    made: float
    used: float
    retired: bool = False
    promised: Waiting | None = None
    """Who gets it next."""

    def __repr__(self) -> str:
        what = f" {self.request}" if self.request else ""
        return f"{self.number} {self.version} {self.state.value}{what}{' provisioned' if self.provisioned else ''}"


@dataclass
class Bucket:
    """Tokens that come back at a steady rate, up to the most there may be. Full at first."""

    tokens: float = 0.0
    at: float | None = None

    def take(self, most: float, rate: float, now: float) -> bool:
        gained = most if self.at is None else max(0.0, now - self.at) * rate
        self.tokens = min(most, self.tokens + gained)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Account:
    """What the functions of one account and region share."""

    reserved: int = 0
    """The sum of its functions' reservations."""
    used: int = 0
    """What its functions without a reservation use."""
    requests: Bucket = field(default_factory=Bucket)


@dataclass
class FunctionBook:
    """All versions of a function together: its reservation, what they use of it, and its start tokens."""

    account: Account
    reserved: int | None = None
    used: int = 0
    """Over its versions the larger of busy and provisioned: provisioned counts even where it does nothing."""
    starts: Bucket = field(default_factory=Bucket)
    requests: Bucket = field(default_factory=Bucket)


@dataclass
class VersionBook:
    """The scheduler's view of one version: its idle environments in order of use, its queue."""

    name: str
    function: FunctionBook
    wanted: int = 0
    """Provisioned environments that are asked for."""
    busy: int = 0
    provisioned: int = 0
    alive: int = 0
    idle: OrderedDict[int, None] = field(default_factory=OrderedDict)
    answered: dict[int, None] = field(default_factory=dict)
    """Environments that are about to be free, and promised to nobody; the first to have answered first."""
    queue: deque[str] = field(default_factory=deque)

    @property
    def empty(self) -> bool:
        """Whether it can be forgotten."""
        return not (self.wanted or self.alive or self.queue)

    @property
    def promises(self) -> bool:
        """Whether an environment that is about to be free can be promised."""
        return bool(self.answered) and self.function.reserved != 0

    def count(self, *, busy: int = 0, provisioned: int = 0) -> None:
        """Change the counts, and what the function and the account use by them."""
        before = max(self.busy, self.provisioned)
        self.busy += busy
        self.provisioned += provisioned
        gained = max(self.busy, self.provisioned) - before
        self.function.used += gained
        if self.function.reserved is None:
            self.function.account.used += gained
