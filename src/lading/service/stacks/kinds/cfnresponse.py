"""The module that CloudFormation puts beside inline Python code: tells a stack how a custom resource went.

Runs inside environments: the standard library alone, Python 3.9's syntax.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

SUCCESS = "SUCCESS"
FAILED = "FAILED"


def send(  # noqa: PLR0913
    event: Any,
    context: Any,
    responseStatus: str,  # noqa: N803
    responseData: Any,  # noqa: N803
    physicalResourceId: str | None = None,  # noqa: N803
    noEcho: bool = False,  # noqa: FBT001, FBT002, N803
    reason: str | None = None,
) -> None:
    """Source: CloudFormation User Guide, "cfn-response module": its names and defaults."""
    body = {
        "Status": responseStatus,
        "Reason": reason or f"See the details in CloudWatch Log Stream: {context.log_stream_name}",
        "PhysicalResourceId": physicalResourceId or context.log_stream_name,
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "NoEcho": noEcho,
        "Data": responseData,
    }
    headers = {"Content-Type": ""}
    request = urllib.request.Request(event["ResponseURL"], json.dumps(body).encode(), headers, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        print(f"Status code: {answer.status}")  # noqa: T201
