"""A process that deploys in children, for tests that kill these. Imports and AWS's models are loaded once, before the forks.

A line on stdin is one deployment, as JSON: [endpoint, folder with the zips, whether all is to be removed].
Answers are the child's pid, and then its exit code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from lading.aws.account import Access, Account
from lading.config import load
from lading.deploy.apply import apply_plan
from lading.deploy.plan import make_plan
from lading.deploy.unit import Package
from lading.deploy.wish import Wish
from lading.model.progress import Silent

REGION = "eu-west-1"
SERVICES = ("lambda", "iam", "logs", "events", "sts", "resourcegroupstaggingapi", "s3")


def warm_session() -> Any:
    """With the models that a deployment needs in its loader's memory; no connection is open."""
    import boto3

    session = boto3.session.Session()
    for service in SERVICES:
        session.client(service, region_name=REGION, endpoint_url="http://127.0.0.1:9")
    return session


def deploy(session: Any, url: str, folder: Path, *, gone: bool) -> None:
    packages = {}
    for path in folder.glob("*.zip"):
        data = path.read_bytes()
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        packages[path.stem] = Package(path, digest, len(data), len(data))
    account = Account(session, Access(region=REGION, endpoint_url=url), REGION)
    apply_plan(make_plan(Wish(load(folder), packages, gone=gone), account), account, Silent())


def main() -> None:
    session = warm_session()
    for line in sys.stdin:
        url, folder, gone = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                deploy(session, url, Path(folder), gone=gone)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
