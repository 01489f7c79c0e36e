"""What the scheduler decides, and within which limits it does: values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lading.model.value import value

ACCOUNT_CONCURRENCY = 1000
BURST = 1000
"""Environments that a function may start at once …"""
BURST_SECONDS = 10.0
"""… and again in every period of so many seconds (Lambda function scaling, 2023)."""
REQUESTS = 10
"""Synchronous requests per second for each unit of concurrency (Lambda quotas, "Invocation requests per … Region")."""
LIFETIME_SECONDS = 2400.0
"""Age from which an environment takes no more requests: its credentials hold an hour, its longest invoke 15 minutes."""
IDLE_SECONDS = 600.0
"""How long an unused environment is kept here. AWS doesn't say."""
PATIENCE = 0.02
"""Seconds that a request waits for an environment that has answered: about what another one's start would take."""


class Reason(Enum):
    """Why a request is throttled: `Reason` in AWS's TooManyRequestsException."""

    RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"
    ACCOUNT = "ConcurrentInvocationLimitExceeded"
    RATE = "FunctionInvocationRateLimitExceeded"
    """Environments were wanted faster than a function may start them."""
    RESERVED_REQUESTS = "ReservedFunctionInvocationRateLimitExceeded"
    ACCOUNT_REQUESTS = "CallerRateLimitExceeded"
    """More requests per second than concurrency allows. AWS names these reasons and explains none: the choice is ours."""


@value
class Start:
    """Start an environment, then run the request in it; without a request it is provisioned: report it `started`."""

    environment: int
    version: str
    request: str | None


@value
class Run:
    """Run the request in an environment that is warm."""

    environment: int
    request: str


@value
class Promise:
    """The request will run in an environment that has answered the one before and is about to be free. Ask what becomes of
    it (`overdue`) where that takes longer than PATIENCE."""

    environment: int
    request: str


@value
class Throttle:
    request: str
    reason: Reason


@value
class Stop:
    """End an environment that does nothing."""

    environment: int


Decision = Start | Run | Promise | Throttle | Stop


@dataclass(frozen=True)
class Allocation:
    """A version's provisioned environments: how many are wanted, how many there are, how many of them are initialized."""

    wanted: int
    allocated: int
    available: int


@dataclass(frozen=True)
class Settings:
    """Limits of the account and of this machine."""

    account: int = ACCOUNT_CONCURRENCY
    burst: int = BURST
    burst_seconds: float = BURST_SECONDS
    idle: float = IDLE_SECONDS
    lifetime: float = LIFETIME_SECONDS
    alive: int = 4000
    """Environments that exist at once: beyond it the longest unused one makes room."""
