"""The queue's view of the service: a function's settings at the moment of an attempt, and the attempt itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.control.control import Control, Origin
from lading.service.control.invocation import Invoker, InvokeRequest, check_invocable
from lading.service.control.names import LATEST, FunctionReference, read_reference
from lading.service.front.invoke import Accept, AsyncCall, read_client_context
from lading.service.identity import new_trace
from lading.service.lineage import extend_lineage, read_lineage, write_lineage
from lading.service.queue.dispatch import Plan, Queue
from lading.service.queue.event import QueuedEvent, Result
from lading.service.state import Key


def accepting(queue: Queue, now: Callable[[], float]) -> Accept:
    """What the front hands asynchronous calls to."""

    async def accept(call: AsyncCall) -> None:
        parameters, scope = call.parameters, call.origin.scope
        reference = read_reference(
            scope, parameters["FunctionName"], parameters.get("Qualifier"), action="InvokeFunction"
        )
        trace = call.request.header("x-amzn-trace-id") or new_trace()
        moment = now()
        await queue.accept(
            QueuedEvent(
                id=call.origin.request_id,
                scope=scope,
                name=reference.name,
                qualifier=reference.qualifier,
                event=call.event,
                accepted=moment,
                due=moment,
                trace_id=trace,
                client_context=read_client_context(parameters.get("ClientContext")),
                lineage=read_lineage(trace),
            )
        )

    return accept


class ServiceFunctions:
    """`Functions` over the control plane and whoever runs functions."""

    def __init__(self, control: Control, invoker: Invoker) -> None:
        self._control = control
        self._invoker = invoker

    async def plan(self, event: QueuedEvent) -> Plan | None:
        try:
            choice = await self._control.choose(Origin(event.scope, ""), FunctionReference(event.name, event.qualifier))
        except ApiError:
            return None
        target, _ = choice.targets[0]
        config, recursive = await asyncio.to_thread(self._settings, event)
        dead_letters = target.configuration.get("DeadLetterConfig", {}).get("TargetArn", "")
        return Plan(config, dead_letters, target.reserved, recursion_allowed=recursive)

    def _settings(self, event: QueuedEvent) -> tuple[dict[str, Any], bool]:
        """The event invoke config, and whether the function may call itself without end."""
        scope, state = event.scope, self._control.state
        qualifier = event.qualifier or LATEST
        config = state.get(Key(scope.account, scope.region, "event-invoke", event.name, qualifier)) or {}
        function = state.get(Key(scope.account, scope.region, "function", name=event.name)) or {}
        return config, function.get("recursive") == "Allow"

    async def attempt(self, event: QueuedEvent) -> Result:
        arn = event.scope.function_arn(event.name)
        version = LATEST
        try:
            reference = FunctionReference(event.name, event.qualifier)
            target = (await self._control.choose(Origin(event.scope, ""), reference)).pick()
            version = target.version
            check_invocable(target)
            answer = await self._invoker.invoke(
                InvokeRequest(
                    target=target,
                    request_id=event.id,
                    event=event.event or b"{}",
                    invoked_arn=event.scope.function_arn(event.name, event.qualifier),
                    trace_id=write_lineage(event.trace_id, extend_lineage(event.lineage, arn)),
                    client_context=event.client_context,
                    asynchronous=True,
                )
            )
        except ApiError:
            return Result(version=version, refused=True)
        return Result(answer.payload, answer.function_error, version)
