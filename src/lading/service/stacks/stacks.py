"""All stacks of a service: starts operations on them, each on a thread, and remembers how they ended."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from lading.service.contract.errors import ApiError
from lading.service.control.call import Parameters
from lading.service.control.control import Origin
from lading.service.control.names import Scope
from lading.service.stacks.changes import UNCHANGED, Preview
from lading.service.stacks.deployment import INITIATED, Deployment
from lading.service.stacks.plans import check_capabilities, make_plan
from lading.service.stacks.records import MOST_CHANGE_SETS, ChangeSet, Plan, Shelf, Stack
from lading.service.stacks.refusal import invalid, no_stack, wrong_state
from lading.service.stacks.site import Nested, Services, StoppedError

THREADS = 8
REQUESTS = 4
DEEPEST = 8
"""Stacks within stacks: more than templates nest, and few enough for a thread that makes them all."""
_UPDATABLE = (
    "CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED", "CREATE_FAILED", "IMPORT_COMPLETE",
)  # fmt: skip
_NAME = re.compile("[a-zA-Z][-a-zA-Z0-9]{0,127}")
log = logging.getLogger("lading.service")


class UnchangedError(ApiError):
    """An update that would change nothing."""

    def __init__(self) -> None:
        super().__init__("ValidationError", "No updates are to be performed.")


class Stacks:
    """Methods block, but for `close`; safe between threads. What they begin is a Future."""

    def __init__(self, services: Services) -> None:
        self.services = services
        services.nesting = self
        self.shelf = Shelf()
        self._threads = ThreadPoolExecutor(THREADS, "stacks")
        self.requests = ThreadPoolExecutor(REQUESTS, "stack-requests")
        """For what is read and answered; operations on stacks are not waited for on these."""

    async def close(self) -> None:
        """Operations under way end with the resource that they are at."""
        self.services.stopping.set()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        await asyncio.to_thread(self.requests.shutdown)

    def living(self, scope: Scope, name: str) -> Stack:
        """Raises ApiError."""
        found = self.shelf.find(scope, name)
        if found is None:
            raise no_stack(name)
        return found

    def create(self, parameters: Parameters, origin: Origin) -> tuple[Stack, Future[None]]:
        stack, run = self._creation(parameters, origin)
        return stack, self._threads.submit(run)

    def _creation(self, parameters: Parameters, origin: Origin) -> tuple[Stack, Callable[[], None]]:
        name = _checked_name(parameters["StackName"])
        with self.shelf.lock:
            if self.shelf.find(origin.scope, name) is not None:
                raise ApiError("AlreadyExistsException", f"Stack [{name}] already exists")
            stack = self.shelf.add(origin.scope, name)
            stack.status = "CREATE_IN_PROGRESS"
        try:
            plan = make_plan(self.services, parameters, origin, stack)
            check_capabilities(plan, expanding=True)
        except Exception:
            self.shelf.drop(stack)
            raise
        stack.protected = bool(parameters.get("EnableTerminationProtection"))
        on_failure = parameters.get("OnFailure") or ("ROLLBACK" if plan.rollback else "DO_NOTHING")
        return stack, self._begin_create(stack, plan, on_failure)

    def update(self, parameters: Parameters, origin: Origin) -> tuple[Stack, Future[None]]:
        stack, run = self._updating(parameters, origin)
        return stack, self._threads.submit(run)

    def _updating(self, parameters: Parameters, origin: Origin) -> tuple[Stack, Callable[[], None]]:
        stack = self.living(origin.scope, parameters["StackName"])
        self._check_updatable(stack)
        plan = make_plan(self.services, parameters, origin, stack)
        check_capabilities(plan, expanding=True)
        if Preview(self.shelf, stack, plan).same():
            raise UnchangedError
        return stack, self._begin_update(stack, plan)

    def delete(self, name: str, scope: Scope, retained: frozenset[str]) -> Future[None] | None:
        run = self._deletion(name, scope, retained)
        return self._threads.submit(run) if run is not None else None

    def _deletion(self, name: str, scope: Scope, retained: frozenset[str]) -> Callable[[], None] | None:
        stack = self.shelf.find(scope, name)
        if stack is None or stack.deleted is not None:
            return None  # as on AWS: nothing to do
        with self.shelf.lock:
            if stack.protected:
                raise invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
            if stack.busy:
                raise wrong_state(stack.arn, stack.status, "deleted")
            stack.tell("DELETE_IN_PROGRESS", INITIATED)
        deployment = Deployment(self.services, self.shelf, stack)
        return self._guarded(stack, lambda: deployment.delete(retained))

    def add_change_set(self, parameters: Parameters, origin: Origin) -> tuple[Stack, ChangeSet]:
        name, kind = parameters["StackName"], parameters.get("ChangeSetType", "UPDATE")
        stack, fresh = self._stack_for(name, kind, origin.scope, parameters["ChangeSetName"])
        try:
            plan = make_plan(self.services, parameters, origin, stack)
            check_capabilities(plan, expanding=False)
            if parameters["ChangeSetName"] in stack.change_sets:
                raise ApiError("AlreadyExistsException", f"ChangeSet {parameters['ChangeSetName']} already exists")
            if len(stack.change_sets) >= MOST_CHANGE_SETS:
                raise ApiError("LimitExceededException", f"a stack has at most {MOST_CHANGE_SETS} change sets")
        except Exception:
            if fresh:
                self.shelf.drop(stack)
            raise
        arn = f"arn:{stack.scope.partition}:cloudformation:{stack.scope.region}:{stack.scope.account}:changeSet"
        change_set = ChangeSet(
            parameters["ChangeSetName"],
            f"{arn}/{parameters['ChangeSetName']}/{uuid.uuid4()}",
            kind,
            plan,
            parameters.get("Description"),
            on_failure=parameters.get("OnStackFailure"),
        )
        if fresh:
            stack.tell("REVIEW_IN_PROGRESS", INITIATED)
        stack.change_sets[change_set.name] = change_set
        self._look_ahead(stack, change_set)
        return stack, change_set

    def _stack_for(self, name: str, kind: str, scope: Scope, change_set: str) -> tuple[Stack, bool]:
        """The stack of a change set, and whether it was made for it."""
        with self.shelf.lock:
            stack = self.shelf.find(scope, name)
            if kind == "UPDATE":
                if stack is None:
                    raise invalid(f"Stack [{name}] does not exist")
                self._check_updatable(stack)
                return stack, False
            if kind != "CREATE":
                raise ApiError("NotImplementedException", f"CreateChangeSet: {kind} is not implemented", status=501)
            if stack is not None and stack.status != "REVIEW_IN_PROGRESS":
                message = (
                    f"Stack [{name}] already exists and cannot be created again with the changeSet [{change_set}]."
                )
                raise invalid(message)
            return (stack, False) if stack is not None else (self.shelf.add(scope, _checked_name(name)), True)

    def _look_ahead(self, stack: Stack, change_set: ChangeSet) -> None:
        preview = Preview(self.shelf, stack, change_set.plan)
        try:
            if change_set.kind == "UPDATE" and preview.same():
                change_set.status, change_set.reason = "FAILED", UNCHANGED
                return
            change_set.changes = preview.changes
        except ApiError as error:
            change_set.status, change_set.reason = "FAILED", error.message
            return
        change_set.status, change_set.execution = "CREATE_COMPLETE", "AVAILABLE"

    def find_change_set(self, scope: Scope, name: str, stack_name: str | None) -> tuple[Stack, ChangeSet]:
        """By ARN, or by its name and its stack's. Raises ApiError."""
        stacks = [self.living(scope, stack_name)] if stack_name else self.shelf.all_of(scope)
        for stack in stacks:
            for one in list(stack.change_sets.values()):
                if name == one.arn or (stack_name and name == one.name):
                    return stack, one
        raise ApiError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", status=404)

    def execute(self, stack: Stack, change_set: ChangeSet, *, rollback: bool, token: str | None) -> Future[None]:
        with self.shelf.lock:
            if change_set.execution != "AVAILABLE":
                message = (
                    f"ChangeSet [{change_set.arn}] cannot be executed in its current status of [{change_set.status}]"
                )
                raise ApiError("InvalidChangeSetStatus", message)
            if stack.busy:
                raise wrong_state(stack.arn, stack.status, "updated")
            plan = replace(change_set.plan, rollback=rollback, token=token)
            if change_set.kind == "CREATE":
                on_failure = change_set.on_failure or ("ROLLBACK" if rollback else "DO_NOTHING")
                run = self._begin_create(stack, plan, on_failure)
            else:
                run = self._begin_update(stack, plan)
            change_set.execution = "EXECUTE_COMPLETE"
            stack.change_sets = {change_set.name: change_set}
        return self._threads.submit(run)

    def _check_updatable(self, stack: Stack) -> None:
        if stack.deleted is not None:
            raise no_stack(stack.name)
        if stack.status not in _UPDATABLE:
            raise wrong_state(stack.arn, stack.status, "updated")

    # Stacks within stacks, on the thread of the one that they are in

    def create_nested(self, parameters: Parameters, origin: Origin, parent: str) -> Nested:
        above, depth = self.shelf.find(origin.scope, parent), 1
        while above is not None and above.parent is not None:
            above, depth = self.shelf.find(origin.scope, above.parent), depth + 1
        if depth > DEEPEST:
            raise invalid(f"stacks are nested more than {DEEPEST} deep")
        stack, run = self._creation(parameters, origin)
        stack.parent = parent
        run()
        return _nested(stack)

    def update_nested(self, parameters: Parameters, origin: Origin) -> Nested:
        try:
            stack, run = self._updating(parameters, origin)
        except UnchangedError:
            return _nested(self.living(origin.scope, parameters["StackName"]))
        run()
        return _nested(stack)

    def delete_nested(self, arn: str, scope: Scope) -> Nested:
        run = self._deletion(arn, scope, frozenset())
        if run is not None:
            run()
        return _nested(self.living(scope, arn))

    # What they have in common: the operation, checked and begun, as something to run

    def _begin_create(self, stack: Stack, plan: Plan, on_failure: str) -> Callable[[], None]:
        stack.plan = plan
        stack.tell("CREATE_IN_PROGRESS", INITIATED)
        deployment = Deployment(self.services, self.shelf, stack)
        return self._guarded(stack, lambda: deployment.create(plan, on_failure=on_failure))

    def _begin_update(self, stack: Stack, plan: Plan) -> Callable[[], None]:
        with self.shelf.lock:
            self._check_updatable(stack)
            stack.tell("UPDATE_IN_PROGRESS", INITIATED)
        deployment = Deployment(self.services, self.shelf, stack)
        return self._guarded(stack, lambda: deployment.update(plan))

    def _guarded(self, stack: Stack, run: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            try:
                run()
            except StoppedError:
                log.warning("the stack %s is left %s: the service ends", stack.name, stack.status)
            except Exception as error:
                log.exception("the operation on the stack %s failed", stack.name)
                stack.tell(_failed(stack.status), f"Internal Failure: {type(error).__name__}: {error}")

        return guarded


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        constraint = f"Member must satisfy regular expression pattern: {_NAME.pattern}"
        message = f"Value '{name[:200]}' at 'stackName' failed to satisfy constraint: {constraint}"
        raise invalid(f"1 validation error detected: {message}")
    return name


def _nested(stack: Stack) -> Nested:
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack.outputs}
    return Nested(stack.arn, stack.status, stack.reason or "", outputs)


def _failed(status: str) -> str:
    verb = status.removesuffix("_IN_PROGRESS").removesuffix("_COMPLETE_CLEANUP")
    return f"{verb}_FAILED"
