"""`lading build` with dependencies that are folders: uv workspaces, editable and plain paths, git commits."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command, Write

pytestmark = pytest.mark.network

BACKEND = """
    [build-system]
    requires = ["flit_core >=3.11,<4"]
    build-backend = "flit_core.buildapi"
"""
LIBRARY = {
    "pyproject.toml": f"""
    [project]
    name = "shared"
    version = "1.0"
    description = "shared code"
    dependencies = ["idna==3.9"]
    {BACKEND}
""",
    "shared.py": '"""Shared code."""\nANSWER = 1\n',
}
HANDLER = "import shared\n\ndef lambda_handler(event, context):\n    return shared.ANSWER\n"


def below(folder: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


def packed(report: Any) -> dict[str, str]:
    """Versions of the packages in the only artifact."""
    (artifact,) = report["artifacts"]
    return {package["name"]: package["version"] for package in artifact["packages"]}


def uv() -> str:
    found = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    if not Path(found).exists():
        pytest.skip("no uv on this machine")
    return found


@pytest.fixture
def workspace(write: Write) -> Path:
    folder = write(
        files={
            "pyproject.toml": """
                [project]
                name = "whole"
                version = "1.0"
                requires-python = ">=3.11"
                dependencies = ["six==1.16.0"]

                [tool.uv.workspace]
                members = ["packages/*"]
            """,
            "lambda_function.py": "import six\n\ndef lambda_handler(event, context):\n    return six.__version__\n",
            **below("packages/shared", LIBRARY),
            "packages/api/pyproject.toml": """
                [project]
                name = "api"
                version = "1.0"
                requires-python = ">=3.11"
                dependencies = ["shared", "six"]

                [project.optional-dependencies]
                certs = ["certifi==2025.1.31"]

                [dependency-groups]
                extra = ["iniconfig==2.0.0"]

                [tool.uv.sources]
                shared = { workspace = true }
            """,
            "packages/api/lambda_function.py": HANDLER,
        }
    )
    subprocess.run([uv(), "lock", "--quiet"], cwd=folder, check=True, capture_output=True)
    return folder


def test_a_workspace_member_is_built_from_the_workspaces_lock(lading: Command, workspace: Path) -> None:
    member = workspace / "packages" / "api"
    first = lading("build", "--runtime", "python3.13", "--json", cwd=member).json
    assert packed(first) == {"idna": "3.9", "shared": "1.0", "six": "1.16.0"}, "six as locked, not the newest"
    assert not list(member.glob("pylock.*")), "the workspace's lock is the lock"
    with zipfile.ZipFile(member / "dist" / "api.zip") as archive:
        assert b"ANSWER = 1" in archive.read("shared.py")
    with (member / "pyproject.toml").open("a") as file:
        file.write('[tool.lading]\nextras = ["certs"]\ngroups = ["extra"]\n')
    chosen = lading("build", "--runtime", "python3.13", "--json", cwd=member).json
    assert {"certifi", "iniconfig"} <= packed(chosen).keys()
    root = lading("build", "--runtime", "python3.13", "--json", cwd=workspace).json
    assert packed(root)["six"] == "1.16.0"


def test_a_changed_workspace_member_is_noticed_by_those_who_depend_on_it(lading: Command, workspace: Path) -> None:
    member = workspace / "packages" / "api"
    lading("build", "--runtime", "python3.13", cwd=member)
    assert "nothing changed" in lading("build", "--runtime", "python3.13", cwd=member).out
    (workspace / "packages" / "shared" / "shared.py").write_text('"""Shared code."""\nANSWER = 2\n')
    (artifact,) = lading("build", "--runtime", "python3.13", "--json", cwd=member).json["artifacts"]
    assert artifact["reason"] == "requirements changed"
    with zipfile.ZipFile(member / "dist" / "api.zip") as archive:
        assert b"ANSWER = 2" in archive.read("shared.py")


@pytest.mark.parametrize("line", ["-e ./shared", "./shared", "shared @ file:shared"])
def test_a_local_dependency_is_built_again_only_when_it_changes(lading: Command, write: Write, line: str) -> None:
    project = write(files={"lambda_function.py": HANDLER, "requirements.txt": f"{line}\n", **below("shared", LIBRARY)})
    lading("build", "--runtime", "python3.13", cwd=project)
    artifact = project / "dist" / "project.zip"
    inode = artifact.stat().st_ino
    assert "nothing changed" in lading("build", "--runtime", "python3.13", cwd=project).out
    assert artifact.stat().st_ino == inode
    (project / "shared" / "shared.py").write_text('"""Shared code."""\nANSWER = 2\n')
    assert "nothing changed" not in lading("build", "--runtime", "python3.13", cwd=project).out
    with zipfile.ZipFile(artifact) as archive:
        assert b"ANSWER = 2" in archive.read("shared.py")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.email=a@example.com", "-c", "user.name=a"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_git_dependency_stays_at_its_commit_until_an_upgrade(lading: Command, write: Write) -> None:
    repository = write("repository", LIBRARY)
    git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "one")
    first = git(repository, "rev-parse", "HEAD")
    project = write(files={"lambda_function.py": HANDLER, "requirements.txt": f"shared @ git+{repository.as_uri()}\n"})
    lading("build", "--runtime", "python3.13", cwd=project)
    (lock,) = project.glob("pylock.*.toml")

    def commit() -> str:
        (package,) = [one for one in tomllib.loads(lock.read_text())["packages"] if one["name"] == "shared"]
        return str(package["vcs"]["commit-id"])

    assert commit() == first
    (repository / "shared.py").write_text('"""Shared code."""\nANSWER = 2\n')
    git(repository, "commit", "-qam", "two")
    assert "nothing changed" in lading("build", "--runtime", "python3.13", cwd=project).out
    assert commit() == first
    assert "nothing changed" not in lading("build", "--upgrade", "--runtime", "python3.13", cwd=project).out
    assert commit() == git(repository, "rev-parse", "HEAD")
    with zipfile.ZipFile(project / "dist" / "project.zip") as archive:
        assert b"ANSWER = 2" in archive.read("shared.py")
