"""IAM's SimulatePrincipalPolicy, which neither endpoint has: one policy document, decided by moto's evaluator of policies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from deploy_proxy import Seen
from moto.iam.access_control import IAMPolicy, PermissionResult

WORDS = {
    PermissionResult.PERMITTED: "allowed",
    PermissionResult.DENIED: "explicitDeny",
    PermissionResult.NEUTRAL: "implicitDeny",
}


class Simulator:
    """What a proxy says in IAM's place. `principals` are the ARNs that were asked about."""

    def __init__(self, policy: Mapping[str, Any]) -> None:
        self.take(policy)
        self.principals: list[str] = []

    def take(self, policy: Mapping[str, Any]) -> None:
        """Another policy from now on."""
        self._policy = IAMPolicy(json.dumps(policy))

    def say(self, seen: Seen, body: bytes) -> str | None:
        if seen.operation != "SimulatePrincipalPolicy":
            return None
        form = parse_qs(body.decode())
        self.principals += form["PolicySourceArn"]
        results = "".join(
            self._result(action, resource)
            for action in _members(form, "ActionNames")
            for resource in _members(form, "ResourceArns")
        )
        return (
            '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
            f"<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{results}"
            "</EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
        )

    def _result(self, action: str, resource: str) -> str:
        return (
            f"<member><EvalActionName>{action}</EvalActionName><EvalResourceName>{resource}</EvalResourceName>"
            f"<EvalDecision>{self.decide(action, resource)}</EvalDecision></member>"
        )

    def decide(self, action: str, resource: str) -> str:
        return WORDS[self._policy.is_action_permitted(action, resource)]


def _members(form: Mapping[str, list[str]], name: str) -> list[str]:
    return [values[0] for key, values in form.items() if key.startswith(f"{name}.member.")]
