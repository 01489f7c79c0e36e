"""Carries out a plan: what is independent at the same time, each instruction once, and no further than the first failures.

Nothing is remembered: an interrupted run is gone on with by planning again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from lading.aws.account import Account
from lading.aws.images import find_repository
from lading.aws.refusal import EXISTS, MISSING, AwsError
from lading.deploy.instruction import FILE, HIDDEN, OUTPUT, Instruction, Verb, fill
from lading.deploy.plan import Planned
from lading.deploy.waits import wait_for
from lading.errors import DeployError, LadingError
from lading.model.progress import Progress

THREADS = 12
CONFLICT_SECONDS = 300
"""How long to try again while something else updates the same function."""
FRESH = (
    "cannot be assumed by Lambda",
    "does not have permissions",
    "execution role",
    "not authorized to perform",
    "validate the following destination configurations",
    "is invalid or cannot be assumed",
)
"""AWS's words while a fresh role, policy or permission isn't known everywhere."""
LAMBDA_BUSY = ("in progress", "Pending", "being updated", "concurrent", "cannot be performed at this time")


BUSY = frozenset(
    {
        "ResourceConflictException",
        "ResourceInUseException",  # an event source mapping on its way from one state to another
        "ConcurrentModificationException",
        "OperationAborted",
    }
)


class ApplyError(DeployError):
    """Instructions that failed; the rest of what could be done is done."""


def apply_plan(planned: Planned, account: Account, progress: Progress) -> int:
    """How many instructions were carried out. Raises ApplyError with every failure."""
    return _Run(planned, account, progress).run()


class _Run:
    def __init__(self, planned: Planned, account: Account, progress: Progress) -> None:
        self._hidden = planned.hidden
        self._waiting = {one.id: one for one in planned.plan.instructions}
        self._account = account
        self._progress = progress
        self._outputs: dict[str, Mapping[str, Any]] = {}
        self._done: set[str] = set()
        self._lock = threading.Lock()

    def run(self) -> int:
        failures: list[tuple[Instruction, LadingError]] = []
        running: dict[Future[None], Instruction] = {}
        task = self._progress.start("deploy", len(self._waiting)) if self._waiting else None
        with ThreadPoolExecutor(THREADS) as threads:
            while True:
                if not failures:
                    for one in self._ready():
                        running[threads.submit(self._execute, one)] = one
                if not running:
                    break
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    one = running.pop(future)
                    error = future.exception()
                    if error is None:
                        self._done.add(one.id)
                    elif isinstance(error, LadingError):
                        failures.append((one, error))
                    else:
                        raise error
                    if task is not None:
                        self._progress.advance(task)
        if task is not None:
            self._progress.finish(task)
        if failures:
            raise self._failed(failures)
        return len(self._done)

    def _ready(self) -> list[Instruction]:
        ready = [one for one in self._waiting.values() if self._done.issuperset(one.after)]
        for one in ready:
            del self._waiting[one.id]
        return ready

    def _execute(self, one: Instruction) -> None:
        parameters = fill(one.parameters, self._put)
        response = self._patiently(one, parameters)
        with self._lock:
            self._outputs[one.id] = response
        wait_for(self._account, one, response)
        url = response.get("FunctionUrl")
        self._progress.note(f"{_PAST[one.verb]} {one.subject}{_fields(one)}{f': {url}' if url else ''}")

    def _patiently(self, one: Instruction, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Again and again while 1. a fresh role isn't known yet 2. something else updates the function."""
        begin, pause = time.monotonic(), 0.25
        while True:
            try:
                return self._call(one, parameters)
            except AwsError as error:
                if self._is_done_already(one, error):
                    return self._answer_of(one)
                seconds = self._patience(one, error)
                if time.monotonic() - begin > seconds:
                    raise
            time.sleep(pause)
            pause = min(pause * 1.6, 5.0)

    def _call(self, one: Instruction, parameters: Mapping[str, Any]) -> dict[str, Any]:
        if one.operation == "rollout":
            from lading.deploy.rollout import roll_out

            return roll_out(self._account, parameters, self._progress)
        if one.operation == "push":
            from lading.deploy.image_push import push_image

            return push_image(self._account, parameters, self._progress)
        return self._account.call(one.service, one.operation, **parameters)

    @staticmethod
    def _is_done_already(one: Instruction, error: AwsError) -> bool:
        """1. a deletion of what is gone 2. a request sent again after its answer was lost."""
        if one.verb is Verb.DELETE:
            return error.code in MISSING
        busy = any(word in error.message for word in LAMBDA_BUSY)
        return one.verb is Verb.CREATE and error.retried and error.code in EXISTS and not busy

    def _answer_of(self, one: Instruction) -> dict[str, Any]:
        """What a call told whose answer was lost, as far as others need it."""
        if one.operation == "CreateRepository":
            return {"repository": find_repository(self._account, one.parameters["repositoryName"])}
        return {}

    @staticmethod
    def _patience(one: Instruction, error: AwsError) -> float:
        if one.patience and any(words in error.message for words in FRESH):
            return one.patience
        busy = error.code in BUSY
        if error.code in EXISTS and not any(word in error.message for word in LAMBDA_BUSY):
            return 0
        return CONFLICT_SECONDS if busy or error.code == "TooManyRequestsException" else 0

    def _put(self, kind: str, content: Any) -> Any:
        if kind == HIDDEN:
            return self._hidden[content]
        if kind == FILE:
            return _read(content)
        assert kind == OUTPUT
        identity, name = content
        with self._lock:
            found: Any = self._outputs[identity]
        for part in name.split("."):
            found = found[part]
        return found

    def _failed(self, failures: list[tuple[Instruction, LadingError]]) -> ApplyError:
        left = len(self._waiting)
        details = [f"{one.subject}: {error.message}" for one, error in failures]
        hints = list(dict.fromkeys(error.hint for _, error in failures if error.hint))
        if left:
            details.append(f"{left} further instructions were not begun")
        hint = (
            f"{hints[0]}; then run it again, it goes on from there" if hints else "run it again: it goes on from there"
        )
        return ApplyError(
            f"{len(failures)} of {len(failures) + left + len(self._done)} instructions failed",
            details=details,
            hint=hint,
        )


_PAST = {Verb.CREATE: "made", Verb.UPDATE: "changed", Verb.DELETE: "removed"}


def _fields(one: Instruction) -> str:
    names = [change.name for change in one.changes]
    return f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})" if names and one.verb is Verb.UPDATE else ""


def _read(file: Mapping[str, str]) -> bytes:
    """An artifact, if it still is what was planned. Raises DeployError."""
    import base64
    import hashlib

    path = Path(file["path"])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DeployError(f"can't read {path}: {error.strerror}", hint="build it again: lading build") from error
    if base64.b64encode(hashlib.sha256(data).digest()).decode() != file["sha256"]:
        raise DeployError(f"{path} isn't what was planned: it changed meanwhile", hint="plan again")
    return data
