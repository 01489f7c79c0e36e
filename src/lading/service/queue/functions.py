"""The queue's view of the service: a function's settings at the moment of an attempt, and the attempt itself."""

from __future__ import annotations

import asyncio

from lading.service.contract.errors import ApiError
from lading.service.control.control import Control, Origin
from lading.service.control.invocation import Invoker, InvokeRequest, check_invocable
from lading.service.control.names import LATEST, FunctionReference
from lading.service.queue.dispatch import Plan
from lading.service.queue.event import QueuedEvent, Result
from lading.service.queue.rules import extend_lineage, write_lineage
from lading.service.state import Key


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
        config = await asyncio.to_thread(self._config, event)
        dead_letters = target.configuration.get("DeadLetterConfig", {}).get("TargetArn", "")
        return Plan(config, dead_letters, target.reserved)

    def _config(self, event: QueuedEvent) -> dict[str, object]:
        scope = event.scope
        key = Key(scope.account, scope.region, "event-invoke", event.name, event.qualifier or LATEST)
        return self._control.state.get(key) or {}

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
                    trace_id=write_lineage(event.trace_id, extend_lineage(dict(event.lineage), arn)),
                    client_context=event.client_context,
                )
            )
        except ApiError:
            return Result(version=version, refused=True)
        return Result(answer.payload, answer.function_error, version)
