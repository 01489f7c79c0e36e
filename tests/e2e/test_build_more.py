"""`lading build` and `lading check` at their limits: Lambda's size, no network, private indexes, wrong digests, kills."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import shutil
import stat
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from conftest import Command, Write

# What makes wrong things is shared with other tests; test folders have no packages to import it from.
sys.path += [str(Path(__file__).parents[1] / part) for part in ("contract", "unit")]
from audit_elf_maker import AARCH64, make_elf
from resolve_index import Index, make_wheel, serving

pytestmark = pytest.mark.network

LIMIT = 262_144_000
"""Bytes that Lambda takes unzipped, layers included (250 MiB)."""
HANDLER = """
    def lambda_handler(event, context):
        return event
"""


@pytest.fixture
def index() -> Iterator[Index]:
    with serving() as running:
        running.add("one-1.0-py3-none-any.whl", make_wheel("one", requires="two"))
        running.add("two-1.0-py3-none-any.whl", make_wheel("two"))
        yield running


@pytest.fixture
def alone(lading: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`lading` with caches of its own, on a machine whose user has set up nothing."""
    for name in ("UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "1")
    return lading.with_cache(tmp_path / "cache")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wheel(folder: Path, name: str, files: Mapping[str, bytes], requires: str = "") -> Path:
    """A pure wheel `name` 1.0 in a folder that `--find-links` may point at."""
    info = f"{name}-1.0.dist-info"
    need = f"Requires-Dist: {requires}\n" if requires else ""
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{need}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    everything = {**files, **metadata}
    record = "".join(f"{path},,\n" for path in (*everything, f"{info}/RECORD"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in {**everything, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(zipfile.ZipInfo(member, (2024, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 1)
    return path


def module(number: int, kilobytes: int) -> bytes:
    """A module that is about as large compiled as it is written."""
    lines = io.StringIO()
    for line in range(kilobytes * 10):
        lines.write(f"v{number}_{line} = 'module {number}, line {line}: {'text ' * 14}'\n")
    return lines.getvalue().encode()


def bulky(write: Write, ballast: int) -> Path:
    """A project of three packages with 3 MB of modules each, and `ballast` bytes of data."""
    project = write(
        files={
            "lambda_function.py": """
                from middle import used

                def lambda_handler(event, context):
                    return used.v1_0
            """,
            "requirements.txt": "--no-index\n--find-links ./wheels\nfirst\nmiddle\nlast\n",
        }
    )
    block = bytes(range(256)) * 4096
    wheel(
        project / "wheels",
        "first",
        {"first/__init__.py": b"", "first/data.bin": (block * (ballast // len(block) + 1))[:ballast]}
        | {f"first/part{number}.py": module(number, 500) for number in range(6)},
    )
    wheel(project / "wheels", "middle", {"middle/__init__.py": b"", "middle/used.py": module(1, 3000)})
    wheel(project / "wheels", "last", {f"last/part{number}.py": module(number, 500) for number in range(6)})
    return project


def test_bytecode_gives_way_to_the_limit_but_not_what_the_handler_imports(lading: Command, write: Write) -> None:
    project = bulky(write, LIMIT - 17_000_000)
    (built,) = lading("build", "--json", cwd=project).json["artifacts"]
    assert built["bytecode_left_out"] == ["first", "last"]
    again = lading("build", "-v", cwd=project)
    assert "note: project: the 250 MB limit left no room for the bytecode of first, last" in again.err
    manifest = json.loads((project / "dist" / "project.manifest.json").read_text())
    assert manifest["bytecode_left_out"] == ["first", "last"]
    with zipfile.ZipFile(project / "dist" / "project.zip") as archive:
        inside = set(archive.namelist())
        unzipped = sum(member.file_size for member in archive.infolist())
    assert LIMIT - 1_000_000 < unzipped <= LIMIT, "what room there is, is used"
    assert unzipped == built["unzipped"]
    needed = {"__pycache__/lambda_function", "middle/__pycache__/__init__", "middle/__pycache__/used"}
    assert {f"{name}.cpython-313.pyc" for name in needed} <= inside
    assert {f"last/part{number}.py" for number in range(6)} <= inside
    assert "last/__pycache__/part5.cpython-313.pyc" not in inside
    assert lading("check", "--json", "dist/project.zip", cwd=project).json["failed"] is False


def test_what_is_too_large_even_without_bytecode_is_not_written(lading: Command, write: Write) -> None:
    project = bulky(write, LIMIT)
    ran = lading("build", "--json", cwd=project, code=5)
    (artifact,) = ran.json["artifacts"]
    assert "unzipped-size" in {finding["code"] for finding in artifact["findings"] if finding["severity"] == "error"}
    assert not artifact["built"]
    assert not list(project.glob("dist/*"))
    assert "error[unzipped-size]" in lading("build", cwd=project, code=5).err


ONE = {"lambda_function.py": HANDLER, "requirements.txt": "one\n"}


def test_without_its_index_a_warm_cache_is_enough(alone: Command, write: Write) -> None:
    project = write(files=ONE)
    with serving() as index:
        index.add("one-1.0-py3-none-any.whl", make_wheel("one"))
        index.add("unused-1.0-py3-none-any.whl", make_wheel("unused"))
        address = {"UV_DEFAULT_INDEX": index.simple()}
        alone("build", cwd=project, env=address)
    sound = digest(project / "dist" / "project.zip")
    for options in (["--offline"], ["--frozen"], ["--offline", "--frozen"], []):
        (project / "dist" / "project.zip").unlink()
        alone("build", *options, cwd=project, env=address)
        assert digest(project / "dist" / "project.zip") == sound
    (kept,) = project.glob("pylock.*.toml")
    kept.unlink()
    alone("build", "--offline", cwd=project, env=address)
    assert kept.exists(), "resolved from uv's cache"


def test_without_its_index_a_cold_cache_is_one_clear_error(alone: Command, write: Write, index: Index) -> None:
    project, closed = write(files=ONE), {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple/"}
    offline = alone("build", "--offline", cwd=project, env=closed, code=4)
    assert offline.err.startswith("error: ") and "one" in offline.err and "without --offline" in offline.err
    unreachable = alone("build", cwd=project, env=closed, code=4)
    assert unreachable.err.startswith("error: ") and "127.0.0.1:9" in unreachable.err
    open_index = {"UV_DEFAULT_INDEX": index.simple()}
    alone("build", cwd=project, env=open_index)
    (project / "dist" / "project.zip").unlink()
    elsewhere = alone.with_cache(alone.cache.with_name("cold"))
    cold = elsewhere("build", "--offline", "--frozen", cwd=project, env=open_index, code=4)
    assert "one-1.0-py3-none-any.whl" in cold.err and "--offline" in cold.err
    assert cold.err.count("error: ") == 1
    assert not (project / "dist" / "project.zip").exists()


@pytest.mark.parametrize("way", ["variables", "netrc", "url"])
def test_private_indexes_take_a_login_that_is_kept_and_shown_nowhere(
    alone: Command, write: Write, index: Index, tmp_path: Path, way: str
) -> None:
    index.login = "ada:hush-hush"
    project = write(
        files={
            "pyproject.toml": f"""
                [project]
                name = "private"
                version = "1"
                dependencies = ["one"]

                [[tool.uv.index]]
                name = "own-one"
                url = "{index.simple()}"
                default = true
            """,
            "lambda_function.py": HANDLER,
        }
    )
    refused = alone("build", cwd=project, code=4)
    assert "refused" in refused.err and "UV_INDEX_" in refused.err
    if way == "variables":
        env = {"UV_INDEX_OWN_ONE_USERNAME": "ada", "UV_INDEX_OWN_ONE_PASSWORD": "hush-hush"}
    elif way == "netrc":
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password hush-hush\n")
        (tmp_path / "netrc").chmod(0o600)
        env = {"NETRC": str(tmp_path / "netrc")}
    else:
        env = {"UV_DEFAULT_INDEX": index.simple("ada:hush-hush")}
    printed = [alone("build", "-v", "--json", cwd=project, env=env)]
    index.files["one-1.0-py3-none-any.whl"] += b"damaged"
    elsewhere = alone.with_cache(tmp_path / "cold")
    printed.append(elsewhere("build", "-v", cwd=project, env=env, code=4))
    if way == "url":
        closed = {"UV_DEFAULT_INDEX": "http://ada:hush-hush@127.0.0.1:9/simple/"}
        printed.append(alone("build", "--upgrade", cwd=project, env=env | closed, code=4))
    assert not any("hush" in ran.out + ran.err for ran in printed)
    kept = [path for path in [*project.rglob("*"), *alone.cache.rglob("*")] if path.is_file()]
    assert any(path.name.startswith("pylock.") for path in kept)
    assert not [path for path in kept if b"hush" in path.read_bytes()]
    with zipfile.ZipFile(project / "dist" / "private.zip") as archive:
        assert "one.py" in archive.namelist() and "two.py" in archive.namelist()


WRONG = "0" * 64


@pytest.mark.parametrize("tool", ["pylock", "uv", "pdm", "pipenv", "poetry"])
def test_a_wrong_digest_in_the_lock_stops_the_build_and_both_are_named(
    alone: Command, write: Write, index: Index, tool: str
) -> None:
    right = hashlib.sha256(index.files["two-1.0-py3-none-any.whl"]).hexdigest()
    url, name = index.url("two-1.0-py3-none-any.whl"), "two-1.0-py3-none-any.whl"
    project = '[project]\nname = "locked"\nversion = "1"\nrequires-python = ">=3.13"\ndependencies = ["two"]\n'
    locks = {
        "pylock": (
            "pylock.toml",
            (
                f'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "two"\nversion = "1.0"\n'
                f'[[packages.wheels]]\nname = "{name}"\nurl = "{url}"\nhashes = {{sha256 = "{WRONG}"}}\n'
            ),
        ),
        "uv": (
            "uv.lock",
            (
                f'version = 1\nrevision = 3\nrequires-python = ">=3.13"\n'
                '[[package]]\nname = "locked"\nversion = "1"\nsource = { virtual = "." }\ndependencies = [{ name = "two" }]\n'
                '[package.metadata]\nrequires-dist = [{ name = "two" }]\n'
                f'[[package]]\nname = "two"\nversion = "1.0"\nsource = {{ registry = "{index.simple()}" }}\n'
                f'wheels = [{{ url = "{url}", hash = "sha256:{WRONG}" }}]\n'
            ),
        ),
        "pdm": (
            "pdm.lock",
            (
                '[metadata]\ngroups = ["default"]\nlock_version = "4.5.0"\n[[package]]\nname = "two"\nversion = "1.0"\n'
                f'groups = ["default"]\nfiles = [{{file = "{name}", hash = "sha256:{WRONG}"}}]\n'
            ),
        ),
        "pipenv": (
            "Pipfile.lock",
            json.dumps({"_meta": {}, "default": {"two": {"version": "==1.0", "hashes": [f"sha256:{WRONG}"]}}}),
        ),
        "poetry": (
            "poetry.lock",
            (
                f'[[package]]\nname = "two"\nversion = "1.0"\ngroups = ["main"]\n'
                f'files = [{{file = "{name}", hash = "sha256:{WRONG}"}}]\n[metadata]\nlock-version = "2.1"\n'
            ),
        ),
    }
    file, text = locks[tool]
    folder = write(files={"lambda_function.py": HANDLER, file: text, "Pipfile": '[packages]\ntwo = "*"\n'})
    if tool != "pipenv":
        (folder / "Pipfile").unlink()
        (folder / "pyproject.toml").write_text(project)
    ran = alone("build", "--runtime", "python3.13", cwd=folder, env={"UV_DEFAULT_INDEX": index.simple()}, code=None)
    assert ran.code == (4 if tool in ("pylock", "uv") else 3), ran.err
    assert right in ran.err and WRONG in ran.err and name in ran.err
    assert ran.err.count("error: ") == 1
    assert not list(folder.glob("dist/*.zip"))


CODE = b"def lambda_handler(event, context):\n    return event\n"
USES = b"import native\n" + CODE
EXTENSION = "native.cpython-313-x86_64-linux-gnu.so"
INFO = "d-1.dist-info"
WRONG_ARTIFACTS: dict[str, tuple[str, dict[str, bytes]]] = {
    "elf-machine": (
        "lambda_function.lambda_handler",
        {"lambda_function.py": USES, EXTENSION: make_elf(machine=AARCH64)},
    ),
    "library-missing": (
        "lambda_function.lambda_handler",
        {"lambda_function.py": USES, EXTENSION: make_elf(["libGL.so.1"])},
    ),
    "symbol-version": (
        "lambda_function.lambda_handler",
        {"lambda_function.py": USES, EXTENSION: make_elf(["libc.so.6"], versions=[("libc.so.6", "GLIBC_2.38")])},
    ),
    "elf-foreign": (
        "lambda_function.lambda_handler",
        {"lambda_function.py": USES, "native.abi3.so": b"MZ" + bytes(60)},
    ),
    "extension-python": (
        "lambda_function.lambda_handler",
        {"lambda_function.py": USES, "native.cpython-312-x86_64-linux-gnu.so": make_elf()},
    ),
    "handler-module": ("app.run", {"lambda_function.py": CODE}),
    "handler-function": ("lambda_function.run", {"lambda_function.py": CODE}),
    "missing-module": ("lambda_function.lambda_handler", {"lambda_function.py": b"import numpy\n" + CODE}),
    "unzipped-size": ("lambda_function.lambda_handler", {"lambda_function.py": CODE, "data.bin": bytes(LIMIT)}),
    "unsafe-path": ("lambda_function.lambda_handler", {"lambda_function.py": CODE, "../evil.py": b""}),
}


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("code", WRONG_ARTIFACTS)
def test_check_says_what_is_wrong_as_data_and_by_its_exit_code(lading: Command, tmp_path: Path, code: str) -> None:
    handler, files = WRONG_ARTIFACTS[code]
    artifact = pack(tmp_path / "f.zip", files)
    options = ("--runtime", "python3.13", "--architecture", "x86_64", "--handler", handler)
    found = lading("check", artifact, *options, "--json", cwd=tmp_path, code=5).json
    schema = json.loads(resources.files("lading.audit").joinpath("findings.schema.json").read_text("utf-8"))
    jsonschema.validate(found, schema)
    assert [finding["code"] for finding in found["findings"] if finding["severity"] == "error"] == [code]
    assert found["failed"]
    read = lading("check", artifact, *options, cwd=tmp_path, code=5)
    assert f"error[{code}] f.zip" in read.err and "fix: " in read.err
    assert "would fail" in read.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.zip"], "nothing is unpacked"


def test_check_finds_all_at_once(lading: Command, tmp_path: Path) -> None:
    files = {name: data for _, files in WRONG_ARTIFACTS.values() for name, data in files.items()}
    artifact = pack(tmp_path / "f.zip", {**files, "lambda_function.py": b"import native, numpy\n" + CODE})
    found = lading("check", artifact, "--runtime", "python3.13", "--json", cwd=tmp_path, code=5).json
    codes = {finding["code"] for finding in found["findings"] if finding["severity"] == "error"}
    assert {"missing-module", "unzipped-size", "unsafe-path", "symbol-version"} <= codes


def test_check_refuses_a_bomb_and_what_is_not_there(lading: Command, tmp_path: Path) -> None:
    bomb = pack(tmp_path / "bomb.zip", {"lambda_function.py": CODE})
    data = bytearray(bomb.read_bytes())
    struct.pack_into("<I", data, data.rfind(b"PK\x01\x02") + 24, 0xFFFFFFF0)
    bomb.write_bytes(data)
    for options in ((), ("--json",)):
        ran = lading("check", bomb, *options, cwd=tmp_path, code=5)
        assert ran.err.startswith("error: ") and "zip bomb" in ran.err and not ran.out
    absent = lading("check", "absent.zip", cwd=tmp_path, code=2)
    assert absent.err.startswith("error: absent.zip does not exist\nhint: ")
    assert "Traceback" not in lading("check", ".", cwd=tmp_path, code=None).err


def test_kills_during_a_large_cold_build_change_nothing(lading: Command, write: Write, tmp_path: Path) -> None:
    project = write(
        files={
            "lambda_function.py": "import numpy, requests\n\n\ndef lambda_handler(event, context):\n    return 1\n",
            "requirements.txt": "numpy\nrequests\n",
        }
    )
    started = time.monotonic()
    lading.with_cache(tmp_path / "undisturbed")("build", cwd=project)
    whole = time.monotonic() - started
    artifact, manifest = project / "dist" / "project.zip", project / "dist" / "project.manifest.json"
    sound = digest(artifact), manifest.read_text()
    shutil.rmtree(tmp_path / "undisturbed")
    own, chance = lading.with_cache(tmp_path / "cache"), random.Random(3)
    for _ in range(3):
        shutil.rmtree(project / "dist", ignore_errors=True)
        own.build_killed_after(chance.uniform(0.2, whole), project)
        assert not artifact.exists() or digest(artifact) == sound[0]
    own("build", cwd=project)
    assert (digest(artifact), manifest.read_text()) == sound
    assert sorted(path.name for path in artifact.parent.iterdir()) == [manifest.name, artifact.name]


def test_a_newcomers_first_minutes(lading: Command, tmp_path: Path) -> None:
    """init, build and invoke as their output says; piped, it is plain text."""
    first = lading("init", "hello-world", cwd=tmp_path)
    assert "next: cd " in first.out and "lading build && lading invoke -e event.json" in first.out
    project = tmp_path / "hello-world"
    plain = {"NO_COLOR": ""}  # empty is unset: what keeps control characters out is that nobody watches
    built = lading("build", cwd=project, env=plain)
    advised = lading("build", "-v", cwd=project, env={**plain, "FORCE_COLOR": "1", "NO_COLOR": "1"})
    explained = lading("explain", "dist/hello-world.zip", cwd=project, env=plain)
    checked = lading("check", "dist/hello-world.zip", "-v", cwd=project, env=plain)
    wrong = lading("build", "--runtime", "python2.7", cwd=project, env=plain, code=2)
    for ran in (first, built, advised, explained, checked, wrong):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", ran.out + ran.err), ran
    assert "hello-world.zip" in built.out and "built 1 artifact" in built.err
    refused = lading("init", ".", cwd=project, code=2)
    assert "--force" in refused.err
    if os.geteuid() != 0:
        pytest.skip("invoke with all walls needs root; the rest was tested")
    invoked = lading("invoke", "-e", "event.json", cwd=project, env=plain)
    assert json.loads(invoked.out)["hello"] == "Lambda"
    assert "START RequestId" in invoked.err and "REPORT RequestId" in invoked.err
    assert "\x1b" not in invoked.out + invoked.err


MONOREPO = {
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "shop"
        version = "1.2.0"
        dependencies = ["acme-common", "idna==3.10"]

        [project.optional-dependencies]
        tls = ["certifi==2025.1.31"]

        [project.entry-points."shop.plugins"]
        plain = "shop.api:plugin"

        [tool.hatch.build.targets.wheel]
        packages = ["src/shop", "src/acme"]

        [tool.uv.sources]
        acme-common = { path = "packages/common" }

        [tool.lading]
        runtime = "python3.13"
        requirements = ["."]

        [tool.lading.functions.orders]
        handler = "orders.handler"
        source = "functions/orders"
        requirements = [".[tls]"]

        [tool.lading.functions.users]
        handler = "users.handler"
        source = "functions/users"

        [tool.lading.functions.report]
        handler = "shop.api.handler"
        source = "src"
    """,
    "src/shop/__init__.py": "",
    "src/shop/api.py": """
        from importlib.metadata import entry_points, version


        def plugin():
            return "found"


        def handler(event, context):
            from acme import common, tools

            (plugin,) = entry_points(group="shop.plugins")
            return " ".join([version("shop"), plugin.load()(), common.NAME, tools.NAME])
    """,
    "src/acme/tools.py": "NAME = 'tools'\n",
    "packages/common/pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "acme-common"
        version = "0.1"

        [tool.hatch.build.targets.wheel]
        packages = ["src/acme"]
    """,
    "packages/common/src/acme/common/__init__.py": "NAME = 'common'\n",
    "functions/orders/orders.py": "import certifi\n\nfrom shop.api import handler\n",
    "functions/users/users.py": "from shop.api import handler\n",
}


def test_a_monorepo_with_a_namespace_package_and_entry_points(
    lading: Command, write: Write, interpreters: Mapping[str, Path], tmp_path: Path
) -> None:
    project = write(files=MONOREPO)
    built = {artifact["name"]: artifact for artifact in lading("build", "--json", cwd=project).json["artifacts"]}
    for artifact in built.values():
        assert [finding for finding in artifact["findings"] if finding["severity"] != "advice"] == []
    having = {name: "certifi" in {package["name"] for package in one["packages"]} for name, one in built.items()}
    assert having == {"orders": True, "users": False, "report": False}
    (project / "functions" / "users" / "users.py").write_text("from shop.api import handler\n\nx = 1\n")
    again = lading("build", "--json", cwd=project).json["artifacts"]
    assert [artifact["name"] for artifact in again if artifact["built"]] == ["users"]
    if "3.13" not in interpreters:
        pytest.skip("no python3.13 on this machine: the artifacts were not run")
    for name, module in (("orders", "orders"), ("users", "users"), ("report", "shop.api")):
        with zipfile.ZipFile(project / "dist" / f"{name}.zip") as archive:
            archive.extractall(tmp_path / name)
        program = f"import sys; sys.path.insert(0, '.'); import {module} as m; print(m.handler({{}}, None))"
        command = [interpreters["3.13"], "-I", "-S", "-c", program]
        ran = subprocess.run(command, cwd=tmp_path / name, capture_output=True, text=True, check=False, timeout=60)
        assert ran.stdout.strip() == "1.2.0 found common tools", ran.stderr


def test_a_package_below_src_that_a_function_elsewhere_imports_is_named_with_the_way_out(
    lading: Command, write: Write
) -> None:
    project = write(
        files={"lambda_function.py": "import shop\n\n\n" + CODE.decode(), "src/shop/__init__.py": "", "src/x.py": ""}
    )
    ran = lading("build", cwd=project, code=5)
    assert "imports shop, which nobody provides" in ran.err
    assert 'set source = "src"' in ran.err
