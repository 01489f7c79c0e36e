"""Bytecode in real interpreters: the same bytes whatever the order and process, used as it is, never checked, never stale."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lading.build import bundle as bundles
from lading.build import compiler, workers
from lading.build.archive import Selection, assemble
from lading.build.bundle import Bundle, BundleWriter, unpack
from lading.build.bytecode import (
    FUNCTION,
    LAYER,
    bytecode_name,
    compiled_sources,
    module_name,
    prepare_bytecode,
    recall_bytecode,
    source_name,
)
from lading.build.folder import prepare_folder
from lading.build.records import FILE_MODE
from lading.build.workers import CompilerError, CompilerPool
from lading.errors import StoreError
from lading.model.project import Source
from lading.resolve.interpreters import Interpreter, candidates, find_interpreter
from lading.store import Store, open_store

VERSIONS = [(3, minor) for minor in range(9, 15)]
SOURCES = {
    "p/__init__.py": b"from . import mod\n",
    "p/mod.py": (
        b"'doc'\nNAMES = {'alpha', 'beta', 'gamma', 1, 2.5, None}\n"
        b"def f(self, alpha=('x', 'y')):\n    return alpha in {'x', 'q'}\n"
    ),
    "p/where.py": b"import sys\ndef boom():\n    raise ValueError\n",
    "p/two.py": b"print 'python 2'\n",
    "p/nul.py": b"x = 1\x00\n",
    "p/latin.py": b"# coding: latin-1\nx = '\xe9'\n",
    "p/data.txt": b"text",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


@pytest.fixture(params=VERSIONS, ids=lambda version: "{}.{}".format(*version))
def interpreter(request: pytest.FixtureRequest, store: Store) -> Interpreter:
    found = find_interpreter(request.param, store.actions)
    if found is None:
        pytest.skip("no python{}.{} on this machine".format(*request.param))
    return found


@pytest.fixture
def own(store: Store) -> Interpreter:
    found = find_interpreter(sys.version_info[:2], store.actions)
    assert found is not None
    return found


@pytest.fixture
def pool(own: Interpreter) -> Iterator[CompilerPool]:
    with CompilerPool(own, 2) as pool:
        yield pool


def make(store: Store, sources: dict[str, bytes], prefix: str = "") -> Bundle:
    with store.blobs.writer() as output:
        writer = BundleWriter(output)
        for name, data in sorted(sources.items()):
            writer.add_content(prefix + name, FILE_MODE, data)
        made = writer.finish("wheel", "package", "1.0")
    return bundles.keep(made, f"test-{made.data}-{prefix}", store.blobs, store.actions)


def contents(store: Store, bundle: Bundle) -> dict[str, bytes]:
    data = store.blobs.read(bundle.data)
    found = {}
    for number, name in enumerate(bundle.names):
        offset, length = bundle.span(number)
        found[name] = unpack(bundle.member(number), data[offset : offset + length])
    return found


def library_sources(interpreter: Interpreter) -> dict[str, bytes]:
    """A slice of the interpreter's own library: real code of every kind."""
    command = [interpreter.path, "-I", "-S", "-c", "import os; print(os.path.dirname(os.__file__))"]
    root = Path(subprocess.check_output(command, text=True).strip())
    files = [*root.glob("*.py"), *(root / "asyncio").glob("*.py"), *(root / "unittest").glob("*.py")]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(files)[:150:2]}


def test_used_by_the_interpreter_as_it_is(interpreter: Interpreter, store: Store, tmp_path: Path) -> None:
    """Imported from a read-only folder: no source is compiled, no file written, tracebacks speak of where the file is."""
    source = make(store, SOURCES)
    with CompilerPool(interpreter, 1) as pool:
        bytecode = prepare_bytecode(source, FUNCTION, pool, store.blobs, store.actions)
    assert bytecode.skipped == 2
    made = assemble([Selection(source), Selection(bytecode)], tmp_path / "out.zip", store.blobs)
    folder = tmp_path / "task"
    with zipfile.ZipFile(made.path) as archive:
        archive.extractall(folder)
    (folder / "p/mod.py").write_text("raise SystemExit('source was used')")  # unchecked: the pyc wins
    command = [interpreter.path, "-v", "-B", "-c", "import p.where, p.latin; print(p.mod.f('x', 'x'), p.latin.x)"]
    environment = {"PYTHONIOENCODING": "utf-8"}
    ran = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", env=environment, check=True)
    assert ran.stdout == "True é\n"
    assert f"__pycache__/mod.{interpreter.tag}.pyc matches" in ran.stderr
    assert "source was used" not in ran.stderr
    assert not [
        line for line in ran.stderr.splitlines() if line.startswith("# code object from") and line.endswith(".py'")
    ]
    pyc = contents(store, bytecode)[f"p/__pycache__/mod.{interpreter.tag}.pyc"]
    assert pyc[:4].hex() == interpreter.magic
    assert int.from_bytes(pyc[4:8], "little") == 0b01
    assert b"/var/task/p/mod.py" in pyc


def test_same_bytes_in_any_order_and_process(interpreter: Interpreter, store: Store, tmp_path: Path) -> None:
    sources = library_sources(interpreter) | {name: data for name, data in SOURCES.items() if name.endswith(".py")}
    results = []
    for seed in range(2):
        names = list(sources)
        random.Random(seed).shuffle(names)
        with CompilerPool(interpreter, 1) as pool:
            results.append(compile_in(pool, sources, names))
    for other in results[1:]:
        assert [name for name in sources if other[name] != results[0][name]] == []


def compile_in(pool: CompilerPool, sources: dict[str, bytes], names: list[str]) -> dict[str, bytes | None]:
    def job(worker: workers.Worker, number: int) -> bytes | None:
        name = names[number]
        return worker.compile(workers.Source(f"/var/task/{name}", "m", False, sources[name])).bytecode

    return {name: pool.submit(job, number).result() for number, name in enumerate(names)}


def test_in_place_of_sources(interpreter: Interpreter, store: Store, tmp_path: Path) -> None:
    source = make(store, SOURCES, "python/")
    with CompilerPool(interpreter, 1) as pool:
        legacy = prepare_bytecode(source, LAYER, pool, store.blobs, store.actions, legacy=True)
    gone = compiled_sources(legacy, interpreter)
    assert gone == {"python/p/__init__.py", "python/p/mod.py", "python/p/where.py", "python/p/latin.py"}
    made = assemble([Selection(source, gone), Selection(legacy)], tmp_path / "out.zip", store.blobs)
    with zipfile.ZipFile(made.path) as archive:
        assert not gone & set(archive.namelist())
        archive.extractall(tmp_path / "opt")
    script = "import p.where, p.mod; print(p.where.boom.__code__.co_filename, p.mod.__file__)"
    command = [interpreter.path, "-B", "-c", script]
    printed = subprocess.check_output(command, cwd=tmp_path / "opt/python", text=True)
    assert printed.split()[0] == "/opt/python/p/where.py"
    assert printed.split()[1].endswith("p/mod.pyc")


def test_facts_of_every_source_also_of_those_that_fail(store: Store, pool: CompilerPool) -> None:
    bytecode = prepare_bytecode(make(store, SOURCES, "python/"), LAYER, pool, store.blobs, store.actions)
    facts = {entry["path"]: entry for entry in json.loads(store.blobs.read(bytecode.facts))}
    assert facts.keys() == {f"python/{name}" for name in SOURCES if name.endswith(".py")}
    assert facts["python/p/__init__.py"]["name"] == "p"
    assert facts["python/p/__init__.py"]["is_package"] is True
    assert facts["python/p/where.py"]["imports"][0][0] == "sys"
    assert facts["python/p/two.py"]["error"].startswith("line 1")


def test_remembered_without_an_interpreter_running(store: Store, own: Interpreter, pool: CompilerPool) -> None:
    source = make(store, SOURCES)
    assert recall_bytecode(source, FUNCTION, own, store.blobs, store.actions) is None
    made = prepare_bytecode(source, FUNCTION, pool, store.blobs, store.actions)
    again = recall_bytecode(source, FUNCTION, own, store.blobs, store.actions)
    assert again is not None
    assert again.index == made.index
    assert recall_bytecode(source, LAYER, own, store.blobs, store.actions) is None


def test_only_changed_own_files_are_compiled(
    store: Store, pool: CompilerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    for name, data in SOURCES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    compiled: list[str] = []
    original = workers.Worker.compile
    monkeypatch.setattr(
        workers.Worker, "compile", lambda self, source: (compiled.append(source.filename), original(self, source))[1]
    )

    def build() -> Bundle:
        source = prepare_folder(Source(root), "", "app", store.blobs, store.actions)
        return prepare_bytecode(source, FUNCTION, pool, store.blobs, store.actions)

    first = build()
    assert len(compiled) == 6
    compiled.clear()
    (root / "p/where.py").write_text("changed = 1\n")
    second = build()
    assert compiled == ["/var/task/p/where.py"]
    name = bytecode_name("p/where.py", pool.interpreter.tag)
    before, after = contents(store, first), contents(store, second)
    assert before.pop(name) != after.pop(name)
    assert before == after
    assert len(json.loads(store.blobs.read(second.facts))) == 6
    assert second.skipped == first.skipped == 2


class TestTrouble:
    def test_a_source_that_kills_its_worker_is_skipped(
        self, store: Store, own: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A scanner that exits stands in for a compiler that crashes."""
        scanner = tmp_path / "scanner.py"
        scanner.write_text("import os\ndef scan(source, *more):\n    b'die' in source and os._exit(3)\n    return {}\n")
        monkeypatch.setattr(workers.imports, "__file__", str(scanner))
        with CompilerPool(own, 1) as pool:
            source = make(store, {"a.py": b"die = 1", "b.py": b"x = 1", "c.py": b"die = 2", "d.py": b"y = 1"})
            bytecode = prepare_bytecode(source, FUNCTION, pool, store.blobs, store.actions)
        assert bytecode.skipped == 2
        assert compiled_sources(bytecode, own) == {"b.py", "d.py"}

    def test_a_source_that_takes_too_long_is_skipped(
        self, store: Store, own: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scanner = tmp_path / "scanner.py"
        scanner.write_text(
            "import time\ndef scan(source, *more):\n    b'hang' in source and time.sleep(600)\n    return {}\n"
        )
        monkeypatch.setattr(workers.imports, "__file__", str(scanner))
        monkeypatch.setattr(workers, "SECONDS_PER_SOURCE", 3)
        with CompilerPool(own, 1) as pool:
            source = make(store, {"a.py": b"hang = 1", "b.py": b"x = 1"})
            assert prepare_bytecode(source, FUNCTION, pool, store.blobs, store.actions).skipped == 1

    def test_an_interpreter_that_is_gone(self, store: Store) -> None:
        missing = Interpreter("/nonexistent/python3.13", "3.13.0", "cpython-313", "f30d0d0a")
        with (
            CompilerPool(missing, 1) as pool,
            pytest.raises(CompilerError, match="can't compile"),
        ):
            prepare_bytecode(make(store, SOURCES), FUNCTION, pool, store.blobs, store.actions)
        assert list(store.temporary.iterdir()) == []

    def test_an_interpreter_that_changed(self, store: Store, own: Interpreter) -> None:
        other = Interpreter(own.path, own.version, own.tag, "00000d0a")
        with CompilerPool(other, 1) as pool, pytest.raises(CompilerError, match="changed while it was in use"):
            prepare_bytecode(make(store, SOURCES), FUNCTION, pool, store.blobs, store.actions)

    def test_workers_end_with_the_pool(self, store: Store, own: Interpreter) -> None:
        with CompilerPool(own, 2) as pool:
            prepare_bytecode(make(store, SOURCES), FUNCTION, pool, store.blobs, store.actions)
            running = [worker._process.pid for worker in pool._workers if worker._process]
            assert running
        for pid in running:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    def test_damaged_sources_are_not_compiled(self, store: Store, pool: CompilerPool) -> None:
        source = make(store, {"a.py": b"x = 12345\n"})
        path = store.blobs.path(source.data)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes().replace(b"12345", b"54321"))
        with pytest.raises(StoreError, match="damaged and has been removed"):
            prepare_bytecode(source, FUNCTION, pool, store.blobs, store.actions)
        assert not store.blobs.has(source.data)


class TestInterpreters:
    def test_a_candidate_is_run_once(self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        version = sys.version_info[:2]
        fake = tmp_path / "bin" / "python{}.{}".format(*version)
        fake.parent.mkdir()
        log = tmp_path / "log"
        fake.write_text(f'#!/bin/sh\necho ran >> {log}\nexec {sys.executable} "$@"\n')
        fake.chmod(0o755)
        monkeypatch.setattr(sys, "executable", "")
        monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
        monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "none"))
        monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
        for _ in range(2):
            found = find_interpreter(version, store.actions)
            assert found is not None
            assert found.path == str(fake)
        assert log.read_text() == "ran\n"

    def test_what_is_none_is_passed_over(self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, text in (("a", "#!/bin/sh\nexit 1\n"), ("b", "#!/bin/sh\necho hello\n")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "python3.77").write_text(text)
            (tmp_path / name / "python3.77").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b")
        assert find_interpreter((3, 77), store.actions) is None

    def test_newest_patch_release_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for patch in ("3.77.2", "3.77.10"):
            (tmp_path / "versions" / patch).mkdir(parents=True)
        monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
        found = [path.parent.parent.name for path in candidates((3, 77)) if "versions" in path.parts]
        assert found == ["3.77.10", "3.77.2"]


def test_names() -> None:
    for source in ("a.py", "p/q.py", "p/__init__.py"):
        assert source_name(bytecode_name(source, "cpython-313"), "cpython-313") == source
        assert source_name(f"{source}c", "cpython-313") == source
    assert module_name("python/p/__init__.py", "python/") == ("p", True)
    assert module_name("p/q.py", "") == ("p.q", False)
    assert module_name("__init__.py", "") == ("__init__", False)


def test_the_worker_needs_nothing_of_lading() -> None:
    """Its file alone, by an interpreter that has never heard of lading."""
    text = Path(compiler.__file__).read_text()
    assert "lading." not in text.split('"""', 2)[2]
