"""moto's server as a process that ends with whoever started it. Of AWS's 1,300 managed policies it loads those that tests name:
reading them all takes seconds, after each reset again. Argument: the port.
"""

from __future__ import annotations

import json
import os
import sys
import threading

import moto.iam.models
from moto.server import main

from lading.model.limits import managed_policy

PURPOSES = ("basic", "vpc", "tracing", "sqs", "kinesis", "dynamodb", "kafka")


def keep_few_policies() -> None:
    names = {managed_policy(purpose).rpartition("/")[2] for purpose in PURPOSES} | {"AmazonS3ReadOnlyAccess"}
    known = json.loads(moto.iam.models.aws_managed_policies_data)
    few = {name: policy for name, policy in known.items() if name in names}
    assert len(few) == len(names), names - few.keys()
    moto.iam.models.aws_managed_policies_data = json.dumps(few)


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


keep_few_policies()
threading.Thread(target=end_with_parent, daemon=True).start()
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
