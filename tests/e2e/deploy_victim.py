"""A process that deploys, for tests that kill it: `python deploy_victim.py URL FOLDER`, whose zips are there already."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

from lading.aws.account import Access, open_account
from lading.config import load
from lading.deploy.apply import apply_plan
from lading.deploy.plan import make_plan
from lading.deploy.unit import Package
from lading.deploy.wish import Wish
from lading.model.progress import Silent


def main(url: str, folder: Path) -> None:
    packages = {}
    for path in folder.glob("*.zip"):
        data = path.read_bytes()
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        packages[path.stem] = Package(path, digest, len(data), len(data))
    account = open_account(Access(region="eu-west-1", endpoint_url=url))
    apply_plan(make_plan(Wish(load(folder), packages), account), account, Silent())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
