"""Image functions deployed by the installed command to the local service: its ECR, its registry, and the images run there."""

from __future__ import annotations

import json
import re

import pytest
from conftest import Command, Write
from deploy_proxy import Seen, Trouble, troubled
from deploy_support import ENVIRONMENT, Endpoint, everything
from image_support import require_base
from serve_support import service

pytestmark = [pytest.mark.network, pytest.mark.root]
PROJECT = """
    [tool.lading]
    package = "image"
    base = "{base}"
    runtime = "python3.13"
    [tool.lading.deploy]
    project = "pictures"
    keep-images = 1
    [tool.lading.functions.greet]
    handler = "greet.handler"
    requirements = []
    timeout = 20
    alias = "live"
    keep-versions = 2
"""
CODE = "def handler(event, context):\n    return '{answer}'\n"


def test_from_a_repository_that_is_made_to_one_that_is_removed(lading: Command, write: Write) -> None:
    files = {"pyproject.toml": PROJECT.format(base=require_base(lading)), "greet.py": CODE.format(answer="one")}
    project = write("pictures", files)
    (project / ".git").mkdir()
    with service(neighbours={}) as url:
        target = Endpoint("local", url)
        place = ("--endpoint-url", url)

        def run(name: str, *more: str) -> tuple[str, str]:
            done = lading(name, *place, *more, cwd=project, env=ENVIRONMENT)
            return done.out, done.err

        made, said = run("deploy")
        assert "+ repository pictures: CreateRepository" in made and "+ function greet: CreateFunction" in made
        first, present = sent(said)
        assert first > 10_000_000 and present == 0
        api, ecr = target.client("lambda"), target.client("ecr")
        [repository] = ecr.describe_repositories()["repositories"]
        assert {"Key": "lading:project", "Value": "pictures"} in ecr.list_tags_for_resource(
            resourceArn=repository["repositoryArn"]
        )["tags"]
        code = api.get_function(FunctionName="greet")["Code"]
        assert code["ImageUri"].startswith(f"{repository['repositoryUri']}@sha256:")
        assert json.loads(run("invoke", "greet", "--remote")[0]) == "one"

        assert "nothing to do" in run("deploy")[0]
        (project / "greet.py").write_text(CODE.format(answer="two"))
        changed, said = run("deploy")
        assert re.findall(r"^[+~-] .*: (\w+)$", changed, re.MULTILINE) == [
            "push", "UpdateFunctionCode", "PublishVersion", "UpdateAlias",
        ]  # fmt: skip
        again, present = sent(said)
        assert again < 20_000 and present > 0
        assert json.loads(run("invoke", "greet", "--remote")[0]) == "two"

        def images() -> int:
            return len(ecr.describe_images(repositoryName="pictures")["imageDetails"])

        assert images() == 2, "version 1 is kept, and so is its image"
        (project / "greet.py").write_text(CODE.format(answer="three"))
        third = run("deploy")[0]
        assert "- version greet:1: DeleteFunction" in third
        assert "- images of repository pictures: BatchDeleteImage" in third
        assert images() == 2 and json.loads(run("invoke", "greet", "--remote")[0]) == "three"
        assert "nothing to do" in run("plan")[0]

        run("destroy", "--yes")
        assert ecr.describe_repositories()["repositories"] == []
        left = everything(target)
        assert left["functions"] == left["roles"] == left["groups"] == {}

        lost: list[Seen] = []

        def lose(seen: Seen) -> bool:
            """The answer that tells where the repository is."""
            if seen.operation == "CreateRepository":
                lost.append(seen)
            return seen.operation == "CreateRepository" and len(lost) == 1

        with troubled(url, Trouble(lose=lose)) as through:
            lading("deploy", "--endpoint-url", through, cwd=project, env=ENVIRONMENT)
        assert len(lost) == 2
        assert "nothing to do" in run("plan")[0]
        run("destroy", "--yes")


def sent(said: str) -> tuple[int, int]:
    """Bytes that a deployment pushed, and blobs that were there."""
    found = re.search(r"sent ([\d,]+) bytes of greet\.oci in \d+ blobs; (\d+) were there", said)
    assert found, said
    return int(found[1].replace(",", "")), int(found[2])
