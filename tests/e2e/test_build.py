"""`lading build` on real packages: what it makes imports where it will run, byte for byte the same wherever it is made."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import LADING, Command, Write

pytestmark = pytest.mark.network

HANDLER = """
    import json
    import os

    def lambda_handler(event, context):
        return {"pid": os.getpid(), "event": json.dumps(event)}
"""
SMALL = {"lambda_function.py": HANDLER, "requirements.txt": "six==1.17.0\n"}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def import_there(
    artifact: Path, folder: Path, interpreter: Path, program: str, *, layers: tuple[Path, ...] = ()
) -> str:
    """Unzip as Lambda does and run `program` with only that on the path; bytecode must not be missing or stale."""
    task, opt = folder / "task", folder / "opt"
    for archive, place in [(artifact, task), *((layer, opt) for layer in layers)]:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(place)
    command = [
        interpreter,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path[:0] = [{str(task)!r}, {str(opt / 'python')!r}]; {program}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def need(interpreters: Mapping[str, Path], version: str) -> Path:
    if version not in interpreters:
        pytest.skip(f"no python{version} on this machine")
    return interpreters[version]


def test_pandas_requests_boto3_import_from_the_artifact(
    lading: Command, write: Write, interpreters: Mapping[str, Path], tmp_path: Path
) -> None:
    project = write(
        files={
            "lambda_function.py": """
                import pandas, requests, boto3

                def lambda_handler(event, context):
                    return pandas.__version__
            """,
            "requirements.txt": "pandas\nrequests\nboto3\n",
        }
    )
    report = lading("build", "--runtime", "python3.13", "--json", cwd=project).json
    artifact = project / "dist" / "project.zip"
    (built,) = report["artifacts"]
    assert built["path"] == str(artifact)
    assert built["sha256"] == digest(artifact)
    assert built["size"] == artifact.stat().st_size
    assert [finding for finding in built["findings"] if finding["severity"] == "error"] == []
    packed = {package["name"]: package for package in built["packages"]}
    assert {"pandas", "numpy", "requests", "boto3", "botocore"} <= packed.keys()
    assert packed["pandas"]["direct"] and not packed["numpy"]["direct"]
    program = (
        "import lambda_function as f; print(f.lambda_handler({}, None)); import pandas; print(pandas.__spec__.cached)"
    )
    version, cached = import_there(artifact, tmp_path / "lambda", need(interpreters, "3.13"), program).splitlines()
    assert version == packed["pandas"]["version"]
    assert Path(cached).exists()


def test_the_same_inputs_give_the_same_bytes_in_another_folder_with_another_cache(
    lading: Command, write: Write, tmp_path: Path
) -> None:
    files = {**SMALL, "package/__init__.py": "", "package/data.txt": "data", "run.sh": "#!/bin/sh\n"}
    first, second = write("one/same", files), write("two/deeper/same", files)
    (first / "run.sh").chmod(0o755)
    (second / "run.sh").chmod(0o775)
    os.utime(second / "package" / "data.txt", (1, 1))
    lading("build", cwd=first)
    lading.with_cache(tmp_path / "cache")("build", cwd=second)
    assert digest(first / "dist" / "same.zip") == digest(second / "dist" / "same.zip")
    assert (first / "dist" / "same.manifest.json").read_text() == (second / "dist" / "same.manifest.json").read_text()


def test_nothing_changed_does_nothing_and_says_so(lading: Command, write: Write) -> None:
    project = write(files=SMALL)
    lading("build", cwd=project)
    artifact = project / "dist" / "project.zip"
    before = artifact.stat()
    again = lading("build", cwd=project)
    assert "nothing changed" in again.out
    assert "nothing to do" in again.err
    assert (artifact.stat().st_mtime_ns, artifact.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("lambda_function.py", "def lambda_handler(event, context):\n    return 2\n", "code changed"),
        ("new_module.py", "x = 1\n", "code changed"),
        ("requirements.txt", "six==1.16.0\n", "requirements changed"),
    ],
)
def test_a_change_is_built_and_named(lading: Command, write: Write, path: str, text: str, reason: str) -> None:
    project = write(files=SMALL)
    lading("build", cwd=project)
    before = digest(project / "dist" / "project.zip")
    (project / path).write_text(text)
    (artifact,) = lading("build", "--json", cwd=project).json["artifacts"]
    assert artifact["built"]
    assert reason in artifact["reason"]
    assert digest(project / "dist" / "project.zip") != before


def test_a_lost_or_edited_artifact_is_made_again(lading: Command, write: Write) -> None:
    project = write(files=SMALL)
    lading("build", cwd=project)
    artifact = project / "dist" / "project.zip"
    sound = digest(artifact)
    artifact.write_bytes(b"edited")
    assert "changed by somebody else" in lading("build", cwd=project).out
    assert digest(artifact) == sound
    artifact.unlink()
    assert "missing" in lading("build", cwd=project).out
    assert digest(artifact) == sound


def test_the_kept_lock_is_used_until_the_inputs_change(lading: Command, write: Write) -> None:
    project = write(files={**SMALL, "requirements.txt": "six\n"})
    lading("build", cwd=project)
    (lock,) = project.glob("pylock.*.toml")
    kept = lock.read_text()
    shutil.rmtree(project / "dist")
    lading("build", "--frozen", "--offline", cwd=project)
    assert lock.read_text() == kept
    (project / "requirements.txt").write_text("six\nidna\n")
    lading("build", "--frozen", cwd=project, code=3)
    lading("build", cwd=project)
    assert "idna" in lock.read_text()


def test_what_the_audit_refuses_is_not_written(lading: Command, write: Write) -> None:
    project = write(files=SMALL)
    lading("build", cwd=project)
    artifact = project / "dist" / "project.zip"
    sound = digest(artifact)
    (project / "lambda_function.py").write_text("import not_there_at_all\n\ndef other(event, context): ...\n")
    ran = lading("build", cwd=project, code=5)
    assert "not_there_at_all" in ran.err
    assert "lambda_handler" in ran.err
    assert digest(artifact) == sound
    assert lading("build", "--json", cwd=project, code=5).json["failed"]


LAYERED = """
    [tool.lading]
    runtime = "python3.13"

    [tool.lading.layers.shared]
    requirements = ["six==1.17.0", "idna==3.10"]

    [tool.lading.functions.one]
    handler = "one.lambda_handler"
    source = "one"
    requirements = ["six==1.17.0", "certifi==2025.1.31"]
    layers = ["shared"]

    [tool.lading.functions.two]
    handler = "two.lambda_handler"
    source = "two"
    requirements = ["idna"]
    layers = ["shared"]
"""


def test_functions_leave_out_what_their_layer_holds(
    lading: Command, write: Write, interpreters: Mapping[str, Path], tmp_path: Path
) -> None:
    project = write(
        files={
            "pyproject.toml": LAYERED.replace('"idna"]', '"idna==3.10"]'),
            "one/one.py": "import six, certifi\n\ndef lambda_handler(event, context):\n    return six.__version__\n",
            "two/two.py": "import idna\n\ndef lambda_handler(event, context):\n    return idna.__version__\n",
        }
    )
    report = lading("build", "--json", cwd=project).json
    by_name = {artifact["name"]: artifact for artifact in report["artifacts"]}
    assert [package["name"] for package in by_name["shared"]["packages"]] == ["idna", "six"]
    assert [package["name"] for package in by_name["one"]["packages"]] == ["certifi"]
    assert [entry["reason"] for entry in by_name["one"]["left_out"]] == ["in layer 'shared'"]
    assert by_name["two"]["packages"] == []
    assert all(name.startswith("python/") for name in names(project / "dist" / "shared.zip"))
    printed = import_there(
        project / "dist" / "one.zip",
        tmp_path / "lambda",
        need(interpreters, "3.13"),
        "import one; print(one.lambda_handler({}, None))",
        layers=(project / "dist" / "shared.zip",),
    )
    assert printed == "1.17.0"


def test_a_layer_with_another_version_is_an_error(lading: Command, write: Write) -> None:
    project = write(
        files={
            "pyproject.toml": LAYERED.replace('"idna"]', '"idna==3.9"]'),
            "one/one.py": HANDLER,
            "two/two.py": HANDLER,
        }
    )
    ran = lading("build", cwd=project, code=3)
    assert "idna" in ran.err and "3.9" in ran.err and "3.10" in ran.err and "shared" in ran.err


def test_dependencies_in_common_become_a_layer(lading: Command, write: Write) -> None:
    text = "\n".join(
        line for line in LAYERED.splitlines() if "layers" not in line and '"six==1.17.0", "idna' not in line
    )
    project = write(
        files={
            "pyproject.toml": text.replace('["idna"]', '["six==1.17.0"]'),
            "one/one.py": HANDLER,
            "two/two.py": HANDLER,
        }
    )
    plain = lading("build", "--json", cwd=project).json
    assert [artifact["name"] for artifact in plain["artifacts"]] == ["one", "two"]
    report = lading("build", "--share-dependencies", "--json", cwd=project).json
    by_name = {artifact["name"]: artifact for artifact in report["artifacts"]}
    (layer,) = [artifact for artifact in report["artifacts"] if artifact["kind"] == "layer"]
    assert [package["name"] for package in layer["packages"]] == ["six"]
    assert [package["name"] for package in by_name["one"]["packages"]] == ["certifi"]
    assert by_name["one"]["layers"] == [layer["name"]]


def test_bundled_packages_are_dropped_when_asked(lading: Command, write: Write) -> None:
    project = write(
        files={
            "pyproject.toml": """
                [project]
                name = "sdk"
                version = "1"
                dependencies = ["boto3", "certifi"]

                [tool.lading]
                runtime = "python3.13"
                bundled = "drop"
            """,
            "lambda_function.py": "import boto3, certifi\n\ndef lambda_handler(event, context):\n    return boto3.__version__\n",
        }
    )
    (artifact,) = lading("build", "--json", cwd=project).json["artifacts"]
    assert [package["name"] for package in artifact["packages"]] == ["certifi"]
    assert {"boto3", "botocore", "s3transfer", "urllib3"} <= {entry["name"] for entry in artifact["left_out"]}
    assert artifact["saved"] > 10_000_000


def test_botocore_is_pruned_to_the_services_asked_for(
    lading: Command, write: Write, interpreters: Mapping[str, Path], tmp_path: Path
) -> None:
    project = write(
        files={
            "pyproject.toml": """
                [project]
                name = "sdk"
                version = "1"
                dependencies = ["boto3"]

                [tool.lading]
                runtime = "python3.13"
                botocore-services = ["s3", "dynamodb"]
            """,
            "lambda_function.py": "import boto3\n\ndef lambda_handler(event, context):\n    return 1\n",
        }
    )
    (artifact,) = lading("build", "--json", cwd=project).json["artifacts"]
    (botocore,) = [package for package in artifact["packages"] if package["name"] == "botocore"]
    assert botocore["compressed"] < 4_000_000
    program = (
        "import boto3; s = boto3.Session(region_name='eu-west-1', aws_access_key_id='a', aws_secret_access_key='b');"
        "s.client('s3'); s.client('dynamodb'); print(sorted(s.get_available_services()))"
    )
    printed = import_there(project / "dist" / "sdk.zip", tmp_path / "lambda", need(interpreters, "3.13"), program)
    assert printed == "['dynamodb', 's3']"


@pytest.mark.parametrize(
    ("mode", "sources", "bytecode"), [("on", True, True), ("only", False, True), ("off", True, False)]
)
def test_bytecode_modes(
    lading: Command,
    write: Write,
    interpreters: Mapping[str, Path],
    tmp_path: Path,
    mode: str,
    sources: bool,
    bytecode: bool,
) -> None:
    interpreter = need(interpreters, "3.12")
    project = write(
        files={
            "pyproject.toml": f"""
                [project]
                name = "modes"
                version = "1"
                dependencies = ["idna==3.10"]

                [tool.lading]
                runtime = "python3.12"
                bytecode = "{mode}"
            """,
            "lambda_function.py": """
                import idna

                def lambda_handler(event, context):
                    return idna.encode("bücher.de").decode()
            """,
        }
    )
    lading("build", cwd=project)
    inside = names(project / "dist" / "modes.zip")
    assert ("idna/core.py" in inside) is sources
    assert any(name.endswith(".pyc") for name in inside) is bytecode
    program = "import lambda_function; print(lambda_function.lambda_handler({}, None))"
    assert import_there(project / "dist" / "modes.zip", tmp_path / "lambda", interpreter, program) == "xn--bcher-kva.de"


def test_a_damaged_cache_heals(lading: Command, write: Write, tmp_path: Path) -> None:
    project = write(files=SMALL)
    own = lading.with_cache(tmp_path / "cache")
    own("build", cwd=project)
    sound = digest(project / "dist" / "project.zip")
    for blob in (tmp_path / "cache").rglob("blobs/sha256/*/*"):
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    (project / "dist" / "project.zip").unlink()
    own("build", cwd=project)
    assert digest(project / "dist" / "project.zip") == sound


def test_builds_at_once_agree(lading: Command, write: Write, tmp_path: Path) -> None:
    own = lading.with_cache(tmp_path / "cache")
    projects = [write(f"{number}/same", SMALL) for number in range(3)]
    running = [
        subprocess.Popen([LADING, "build"], cwd=project, env=own.environment(), stderr=subprocess.PIPE)
        for project in projects
    ]
    for process in running:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert len({digest(project / "dist" / "same.zip") for project in projects}) == 1


def test_a_kill_at_any_moment_leaves_nothing_half_made(lading: Command, write: Write, tmp_path: Path) -> None:
    project = write(files=SMALL)
    own = lading.with_cache(tmp_path / "cache")
    started = time.monotonic()
    own("build", cwd=project)
    whole = time.monotonic() - started
    sound = digest(project / "dist" / "project.zip")
    chance = random.Random(7)
    for attempt in range(12):
        if attempt % 3 == 0:
            shutil.rmtree(tmp_path / "cache")
        shutil.rmtree(project / "dist", ignore_errors=True)
        own.build_killed_after(chance.uniform(0, whole), project)
        artifact = project / "dist" / "project.zip"
        assert not artifact.exists() or digest(artifact) == sound
    own("build", cwd=project)
    assert digest(project / "dist" / "project.zip") == sound
    assert sorted(path.name for path in (project / "dist").iterdir()) == ["project.manifest.json", "project.zip"]


@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        ({}, 2, "no handler"),
        ({"pyproject.toml": "[tool.lading\n"}, 2, "pyproject.toml"),
        ({"pyproject.toml": "[tool.lading]\nruntim = 'python3.13'\n"}, 2, "did you mean 'runtime'"),
        (
            {"lambda_function.py": HANDLER, "requirements.txt": "no-such-package-of-ladings\n"},
            3,
            "no-such-package-of-ladings",
        ),
        ({"lambda_function.py": HANDLER, "requirements.txt": "pywin32==306\n"}, 3, "pywin32"),
    ],
)
def test_bad_input_is_one_clear_error(
    lading: Command, write: Write, files: dict[str, str], code: int, said: str
) -> None:
    project = write(files=files)
    project.mkdir(exist_ok=True)
    ran = lading("build", cwd=project, code=code)
    assert ran.err.startswith("error: ")
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert not (project / "dist").exists()


def test_json_is_all_that_stdout_holds(lading: Command, write: Write) -> None:
    project = write(files=SMALL)
    ran = lading("build", "--json", "-v", cwd=project)
    assert set(json.loads(ran.out)) == {"artifacts", "seconds", "failed"}


@pytest.mark.root
def test_a_full_disk_is_one_clear_error(lading: Command, write: Write, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    project = write(files={**SMALL, "requirements.txt": "numpy==2.3.4\n"})
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=True)
    try:
        ran = lading.with_cache(small)("build", cwd=project, code=6)
    finally:
        subprocess.run(["umount", small], check=True)
    assert ran.err.startswith("error: ")
    assert "space" in ran.err.lower()
    assert not (project / "dist" / "project.zip").exists()
