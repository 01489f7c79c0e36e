"""What the tests of stacks share: templates as values, and a stack's own account of what became of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
ROLE = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}}
SOURCE = (
    "import os\ndef handler(event, context):\n    return [event, os.environ.get('STAGE'), context.memory_limit_in_mb]\n"
)
WAIT = {"Delay": 1, "MaxAttempts": 100}
IAM = ["CAPABILITY_IAM"]


def function(**properties: Any) -> dict[str, Any]:
    """A function of inline code with the role `Role`."""
    given = {
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        "Code": {"ZipFile": SOURCE},
    }
    return {"Type": "AWS::Lambda::Function", "Properties": given | properties}


def body(resources: Mapping[str, Any], **more: Any) -> str:
    return json.dumps({"Resources": resources, **more})


class Stack:
    """One stack, seen through CloudFormation's API."""

    def __init__(self, api: Any, name: str) -> None:
        self.api = api
        self.name = name

    def create(self, text: str, **parameters: Any) -> str:
        """Its status."""
        identity = self.api.create_stack(StackName=self.name, TemplateBody=text, Capabilities=IAM, **parameters)[
            "StackId"
        ]
        return self.settled(identity)

    def update(self, text: str, **parameters: Any) -> str:
        self.api.update_stack(StackName=self.name, TemplateBody=text, Capabilities=IAM, **parameters)
        return self.settled(self.name)

    def delete(self) -> str:
        identity = self.described()["StackId"]
        self.api.delete_stack(StackName=self.name)
        return self.settled(identity)

    def described(self, name: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.api.describe_stacks(StackName=name or self.name)["Stacks"][0]
        return found

    def settled(self, name: str) -> str:
        """Answers wait for a stack's end, 15 seconds at most; on a machine that loaded it is asked for more often."""
        for _ in range(20):
            status = str(self.described(name)["StackStatus"])
            if not status.endswith("_IN_PROGRESS"):
                return status
            time.sleep(1)
        raise AssertionError(f"{name} is {status}")

    def outputs(self) -> dict[str, str]:
        return {one["OutputKey"]: one["OutputValue"] for one in self.described()["Outputs"]}

    def events(self, name: str = "") -> list[tuple[str, str, str]]:
        """(resource, status, reason), the first first."""
        found = self.api.describe_stack_events(StackName=name or self.name)["StackEvents"]
        return [
            (one["LogicalResourceId"], one["ResourceStatus"], one.get("ResourceStatusReason", ""))
            for one in reversed(found)
        ]

    def physical(self) -> dict[str, str]:
        found = self.api.describe_stack_resources(StackName=self.name)["StackResources"]
        return {one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in found}


def shortened(events: list[tuple[str, str, str]]) -> Iterator[str]:
    """Without the reasons."""
    return (f"{name} {status}" for name, status, _ in events)
