"""Operations that wait for later work: their requests are validated like all others, then refused by name."""

from __future__ import annotations

from lading.service.control.call import Call, Operation, Parameters, Result
from lading.service.control.refusal import not_here

NAMES = (
    # durable executions
    "CheckpointDurableExecution", "DeleteDurableExecution", "GetDurableExecution", "GetDurableExecutionHistory",
    "GetDurableExecutionState", "ListDurableExecutionsByFunction", "PauseDurableExecution", "ResumeDurableExecution",
    "SendDurableExecutionCallbackFailure", "SendDurableExecutionCallbackHeartbeat", "SendDurableExecutionCallbackSuccess",
    "StopDurableExecution",
    # capacity providers
    "CreateCapacityProvider", "DeleteCapacityProvider", "GetCapacityProvider", "ListCapacityProviders",
    "ListFunctionVersionsByCapacityProvider", "UpdateCapacityProvider",
)  # fmt: skip


def _refusing(name: str) -> Operation:
    def refuse(call: Call, parameters: Parameters) -> Result:
        raise not_here(name)

    return refuse


OPERATIONS: dict[str, Operation] = {name: _refusing(name) for name in NAMES}
