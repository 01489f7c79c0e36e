"""Real packages: assembled from their wheels, unpacked, and imported by the matching interpreter with the bytecode in use."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest

from lading.build.archive import Assembled, Selection, assemble
from lading.build.bytecode import FUNCTION, compiled_sources, prepare_bytecode
from lading.build.wheel import Recipe, prepare_wheel
from lading.build.workers import CompilerPool
from lading.model.lock import Wheel
from lading.resolve.interpreters import find_interpreter
from lading.store import Store, open_store

pytestmark = pytest.mark.network

PACKAGES = {
    "numpy": "import numpy; assert numpy.arange(6).sum() == 15",
    "pandas": "import pandas; assert pandas.DataFrame({'a': [1, 2]}).a.sum() == 3",
    "cryptography": "from cryptography.fernet import Fernet; Fernet(Fernet.generate_key()).encrypt(b'x')",
    "pydantic": "import pydantic; assert pydantic.TypeAdapter(int).validate_python('3') == 3",
    "psycopg2-binary": "import psycopg2; assert psycopg2.__libpq_version__ > 0",
    "lxml": "from lxml import etree; assert etree.fromstring('<a><b/></a>')[0].tag == 'b'",
    "pillow": "from PIL import Image; assert Image.new('RGB', (2, 3)).resize((4, 6)).size == (4, 6)",
    "orjson": "import orjson; assert orjson.loads(b'[1]') == [1]",
    "zope.interface": "import zope.interface; assert zope.interface.Interface.__module__ == 'zope.interface'",
    "jupyterlab-pygments": "import jupyterlab_pygments, os; assert os.path.isdir('share/jupyter')",
}
"""With a package of C, of Rust, with bundled libraries, with a namespace, with a `.data` folder."""
UNDECLARED = {"jupyterlab-pygments": ("pygments",)}
"""What a package imports without saying so in its metadata."""
WITHOUT_TESTS = {"pandas"}
"""Two thirds of its sources, which would only take time to compile."""
REPORT = """
import json, os, sys
sys.path.insert(0, os.getcwd())
{script}
from importlib import metadata
files = [(m.__file__, m.__spec__) for m in list(sys.modules.values()) if getattr(m, "__file__", None) and m.__spec__]
loaded = [(file, spec) for file, spec in files if file.startswith(os.getcwd())]
sources = [file for file, _ in loaded if file.endswith(".py")]
uncompiled = [file for file, spec in loaded if file.endswith(".py") and not os.path.exists(spec.cached)]
missing = [str(f) for f in metadata.files({name!r}) if not f.locate().exists()]
print(json.dumps([len(loaded), len(sources), uncompiled, missing]))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Wheel]]]:
    """Each package with its dependencies, fetched once for this interpreter."""
    folder = tmp_path_factory.mktemp("wheels")
    fetched = {}
    for name in PACKAGES:
        place = folder / name
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--only-binary",
            ":all:",
            "-d",
            str(place),
            name,
            *UNDECLARED.get(name, ()),
        ]
        uv = shutil.which("uvx", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
        if uv:
            command = [uv, "-q", "--from", "pip", "--python", sys.executable, "pip", *command[3:]]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            pytest.skip(f"can't fetch {name}: {ran.stderr.strip()[-300:]}")
        fetched[name] = [as_wheel(path) for path in sorted(place.glob("*.whl"))]
    yield fetched
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def pool(store: Store) -> Iterator[CompilerPool]:
    interpreter = find_interpreter(sys.version_info[:2], store.actions)
    assert interpreter is not None
    with CompilerPool(interpreter) as pool:
        yield pool


def as_wheel(path: Path) -> Wheel:
    with ZipFile(path) as archive:
        name = next(
            name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1
        )
        fields = HeaderParser().parsestr(archive.read(name).decode())
    data = path.read_bytes()
    normalized = fields["Name"].lower().replace("_", "-").replace(".", "-")
    return Wheel(normalized, fields["Version"], path.name, hashlib.sha256(data).hexdigest(), len(data), path)


def build(wheels: list[Wheel], destination: Path, store: Store, pool: CompilerPool, *, only: bool = False) -> Assembled:
    selections = []
    for wheel in wheels:
        bundle = prepare_wheel(wheel, Recipe(drop_tests=wheel.name in WITHOUT_TESTS), store.blobs, store.actions)
        bytecode = prepare_bytecode(bundle, FUNCTION, pool, store.blobs, store.actions, legacy=only)
        left_out = compiled_sources(bytecode, pool.interpreter) if only else frozenset()
        selections += [Selection(bundle, left_out), Selection(bytecode)]
    return assemble(selections, destination, store.blobs)


def unpack(archive: Path, folder: Path) -> Path:
    """As Lambda does: modes and links restored, nobody may write."""
    if not shutil.which("unzip"):
        pytest.skip("unzip is not installed")
    subprocess.run(["unzip", "-q", archive, "-d", folder], check=True)
    return folder


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("only", [False, True], ids=["on", "only"])
def test_unpacked_and_imported(
    name: str, only: bool, wheels: dict[str, list[Wheel]], store: Store, pool: CompilerPool, tmp_path: Path
) -> None:
    made = build(wheels[name], tmp_path / "out.zip", store, pool, only=only)
    folder = unpack(made.path, tmp_path / "task")
    before = sorted(map(str, folder.rglob("*")))
    script = REPORT.format(script=PACKAGES[name], name=name)
    command = [pool.interpreter.path, "-I", "-S", "-B", "-c", script]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    loaded, sources, uncompiled, missing = json.loads(ran.stdout.splitlines()[-1])
    assert loaded > 0
    assert uncompiled == []
    if only:
        assert sources == 0
    else:
        assert [path for path in missing if name not in WITHOUT_TESTS or "/tests/" not in path] == []
    assert sorted(map(str, folder.rglob("*"))) == before


def test_same_bytes_from_another_cache_and_folder(
    wheels: dict[str, list[Wheel]], store: Store, pool: CompilerPool, tmp_path: Path
) -> None:
    first = build(wheels["pydantic"], tmp_path / "a/out.zip", store, pool)
    second = build(wheels["pydantic"], tmp_path / "b/c/other.zip", open_store(tmp_path / "cache"), pool)
    assert first.path.read_bytes() == second.path.read_bytes()


def test_tests_left_out_still_import(wheels: dict[str, list[Wheel]], store: Store, tmp_path: Path) -> None:
    selections = []
    for wheel in wheels["pandas"]:
        selections.append(Selection(prepare_wheel(wheel, Recipe(drop_tests=True), store.blobs, store.actions)))
    made = assemble(selections, tmp_path / "out.zip", store.blobs)
    folder = unpack(made.path, tmp_path / "task")
    assert not (folder / "pandas/tests").exists()
    script = "import sys; sys.path.insert(0, '.'); import pandas, numpy.testing, pandas.testing; " + PACKAGES["pandas"]
    subprocess.run([sys.executable, "-I", "-S", "-B", "-c", script], cwd=folder, check=True)


def test_stripped_libraries_load_and_are_smaller(wheels: dict[str, list[Wheel]], store: Store, tmp_path: Path) -> None:
    if not (shutil.which("llvm-strip") or shutil.which("strip")):
        pytest.skip("no strip tool on PATH")
    sizes = []
    for strip in (False, True):
        bundles = [prepare_wheel(wheel, Recipe(strip=strip), store.blobs, store.actions) for wheel in wheels["numpy"]]
        made = assemble([Selection(bundle) for bundle in bundles], tmp_path / f"{strip}.zip", store.blobs)
        folder = unpack(made.path, tmp_path / str(strip))
        script = "import sys; sys.path.insert(0, '.'); " + PACKAGES["numpy"]
        subprocess.run([sys.executable, "-I", "-S", "-B", "-c", script], cwd=folder, check=True)
        sizes.append(made.unzipped)
    assert sizes[1] < sizes[0]
