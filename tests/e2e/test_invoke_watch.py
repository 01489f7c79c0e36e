"""`lading invoke --watch`: a change is seen at once, dependencies stay, ^C ends it and nothing is left."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conftest import LADING, Command, Write
from following import Following

pytestmark = [pytest.mark.root, pytest.mark.network]
CODE = """
    import helper, six
    def lambda_handler(event, context):
        return [helper.VALUE, event, six.__version__]
"""


@pytest.fixture(autouse=True)
def rooted() -> None:
    if os.geteuid() != 0:
        pytest.skip("lading invoke with all walls needs root")


@pytest.fixture
def cache(tmp_path: Path, lading: Command) -> dict[str, str]:
    return lading.environment()


MARK = f"mark-{os.getpid()}.txt"
"""Tells this run's folders from those of others, which share the cache."""


def live_folders(environment: dict[str, str]) -> list[Path]:
    return sorted((Path(environment["LADING_CACHE_DIR"]) / "v1" / "live").glob(f"*/*/{MARK}"))


@pytest.mark.parametrize("isolation", ["root", "user"])
def test_changes_are_seen(write: Write, cache: dict[str, str], isolation: str):
    files = {"lambda_function.py": CODE, "helper.py": "VALUE = 1\n", "requirements.txt": "six==1.16.0\n"}
    project = write("watched", {**files, "event.json": '"first"', MARK: ""})
    command = [LADING, "invoke", "--watch", "-e", "event.json", "--isolation", isolation, "--network", "none"]
    with Following(command, project, cache) as watching:
        assert watching.printed() == '[1, "first", "1.16.0"]'
        watching.said("REPORT ")

        (project / "helper.py").write_text("VALUE = 2\n")
        assert re.search(r"^helper.py changed: reloaded in \d+ ms$", watching.said("changed"))
        assert watching.printed() == '[2, "first", "1.16.0"]'

        (project / "helper.py").unlink()
        watching.said("helper.py changed: reloaded")
        assert "No module named 'helper'" in watching.printed()

        (project / "helper").mkdir()
        (project / "helper" / "__init__.py").write_text("VALUE = (\n")
        watching.said("helper/__init__.py changed: reloaded")
        assert "Runtime.UserCodeSyntaxError" in watching.printed()

        (project / "helper" / "__init__.py").write_text("VALUE = 3\n")
        assert watching.printed() == '[3, "first", "1.16.0"]'

        (project / "event.json").write_text("{")
        watching.said("error: the event is not JSON")
        (project / "event.json").write_text('"second"')
        assert watching.printed() == '[3, "second", "1.16.0"]'

        (project / "requirements.txt").write_text("six==1.17.0\n")
        watching.said("requirements.txt changed: built in")
        assert watching.printed() == '[3, "second", "1.17.0"]'
        assert len({path.parents[1] for path in live_folders(cache)}) == 1
        assert watching.interrupt() == 0, watching
        assert watching.seen[-1] == "ended\n"
    assert live_folders(cache) == []


def test_a_build_that_fails_is_said_and_the_next_change_helps(write: Write, cache: dict[str, str]):
    project = write(
        "broken", {"lambda_function.py": "def lambda_handler(event, context): return 1\n", "requirements.txt": ""}
    )
    with Following([LADING, "invoke", "--watch", "--network", "none"], project, cache) as watching:
        assert watching.printed() == "1"
        (project / "requirements.txt").write_text("six==9999\n")
        watching.said("error: ")
        (project / "requirements.txt").write_text("six\n")
        watching.said("requirements.txt changed: built")
        assert watching.printed() == "1"
        assert watching.interrupt() == 0, watching


def test_interrupted_in_the_middle_of_an_invoke(write: Write, cache: dict[str, str]):
    code = "import time\ndef lambda_handler(event, context):\n    print('inside', flush=True)\n    time.sleep(600)\n"
    project = write("sleeping", {"lambda_function.py": code})
    command = [LADING, "invoke", "--watch", "--network", "none", "--timeout", "900", "--artifact", "."]
    with Following(command, project, cache) as watching:
        watching.said("inside")
        assert watching.interrupt() == 0, watching


@pytest.mark.parametrize("option", [("--count", "2"), ("--concurrency", "2"), ("--no-build",)])
def test_what_has_no_meaning_beside_it(write: Write, lading: Command, option: tuple[str, ...]):
    project = write("refused", {"lambda_function.py": CODE})
    ran = lading("invoke", "--watch", *option, cwd=project, code=2)
    assert f"error: {option[0]} together with --watch" in ran.err


def test_packages_of_the_workspace_are_watched(write: Write, cache: dict[str, str]):
    project = write(
        "whole",
        {
            "pyproject.toml": """
                [project]
                name = "whole"
                version = "1.0"
                requires-python = ">=3.11"
                dependencies = ["shared"]

                [tool.uv.sources]
                shared = { path = "packages/shared" }

                [tool.lading.functions.whole]
                source = "code"
            """,
            "code/lambda_function.py": "import shared\ndef lambda_handler(event, context): return shared.ANSWER\n",
            "packages/shared/pyproject.toml": """
                [project]
                name = "shared"
                version = "1.0"
                description = "shared code"

                [build-system]
                requires = ["flit_core >=3.11,<4"]
                build-backend = "flit_core.buildapi"
            """,
            "packages/shared/shared.py": '"""Shared code."""\nANSWER = 1\n',
        },
    )
    with Following([LADING, "invoke", "--watch", "--network", "none"], project, cache) as watching:
        assert watching.printed() == "1"
        (project / "packages/shared/shared.py").write_text('"""Shared code."""\nANSWER = 2\n')
        watching.said("packages/shared/shared.py changed: built in")
        assert watching.printed() == "2"
        assert watching.interrupt() == 0, watching
