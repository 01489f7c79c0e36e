"""The audit of whole subjects: limits, layers, runtimes' ends, reasons, stored facts, and how long it takes."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from audit_elf_maker import make_elf

from lading.audit import codes
from lading.audit.graph import Closure, Index
from lading.audit.inventory import Entry, gather
from lading.audit.package import PackageFacts
from lading.audit.reasons import explain, size_tree
from lading.audit.run import audit
from lading.audit.subject import Subject
from lading.model.finding import Finding, Severity
from lading.model.target import find_target, runtimes

TARGET = find_target("python3.13", "x86_64")
HANDLER = "app.handler"


def facts(files: Mapping[str, bytes], *, name: str = "", version: str = "", root: str = "") -> PackageFacts:
    entries = [Entry(path, len(data), len(data), lambda data=data: io.BytesIO(data)) for path, data in files.items()]  # type: ignore[misc]
    return gather(entries, name=name, version=version, root=root)


def own(source: str = "") -> PackageFacts:
    return facts({"app.py": f"{source}\ndef handler(event, context): ...\n".encode()})


def by_code(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


def subject(**changes: object) -> Subject:
    return Subject(**{"target": TARGET, "handlers": (HANDLER,), "packages": (own(),), **changes})  # type: ignore[arg-type]


def test_a_small_function_is_clean() -> None:
    assert audit(subject(), today=dt.date(2026, 1, 1)) == ()


# Limits


@pytest.mark.parametrize(("unzipped", "layers", "codes_found"), [
    (262_144_000, 0, {"use-image"}), (262_144_001, 0, {"unzipped-size"}),
    (200_000_000, 62_144_001, {"unzipped-size"}), (100_000_000, 0, set()),
])  # fmt: skip
def test_unzipped_limit(unzipped: int, layers: int, codes_found: set[str]) -> None:
    assert set(by_code(audit(subject(unzipped_size=unzipped, layers_unzipped_size=layers)))) == codes_found


def test_no_limit_on_images() -> None:
    assert audit(subject(unzipped_size=5_000_000_000, zipped_size=1_000_000_000, image=True)) == ()


def test_direct_upload_is_advice() -> None:
    finding = by_code(audit(subject(zipped_size=52_428_801)))["zipped-size"]
    assert finding.severity is Severity.ADVICE
    assert "S3" in finding.fix


def test_layer_count() -> None:
    assert "layer-count" not in by_code(audit(subject(layer_count=5)))
    assert by_code(audit(subject(layer_count=6)))["layer-count"].severity is Severity.ERROR


# Layers


def test_a_layer_provides_modules_and_libraries() -> None:
    native = facts({"native.abi3.so": make_elf(["libx.so.1"])}, name="native")
    code = (own("import shop, native"), native)
    layer = (facts({"shop/__init__.py": b""}, name="shop", root="python"), facts({"lib/libx.so.1": make_elf()}))
    assert {f.code for f in audit(subject(packages=code)) if f.severity is Severity.ERROR} == {
        "library-missing",
        "missing-module",
    }
    assert audit(subject(packages=code, layers=layer)) == ()


def test_what_an_unseen_layer_may_provide_is_no_error() -> None:
    findings = audit(
        subject(packages=(own("import aws_lambda_powertools"),), unseen_layers=("arn:aws:lambda:x",), layer_count=1)
    )
    assert by_code(findings)["missing-module"].severity is Severity.WARNING


def test_layer_of_another_python() -> None:
    plain = gather([Entry("python/lib/python3.12/site-packages/a.py", 0, 0, lambda: io.BytesIO(b""))], importable=False)
    assert (
        by_code(audit(subject(handlers=(), packages=(plain,), layer=True)))["layer-python"].severity is Severity.ERROR
    )


def test_layer_without_python_folder() -> None:
    plain = gather([Entry("requests/__init__.py", 0, 0, lambda: io.BytesIO(b""))], importable=False)
    assert "layer-root" in by_code(audit(subject(handlers=(), packages=(plain,), layer=True)))


def test_a_layers_extension_must_be_executable() -> None:
    plain = gather([Entry("extensions/agent", 1, 1, lambda: io.BytesIO(b"#!/bin/sh"), mode=0o644)], importable=False)
    assert (
        by_code(audit(subject(handlers=(), packages=(plain,), layer=True)))["not-executable"].severity is Severity.ERROR
    )


# Severity by reach


def test_a_closure_tells_sources_from_the_rest() -> None:
    package = facts({"space/d/__init__.py": b"from . import n", "space/d/n.abi3.so": make_elf()}, name="d")
    index = Index(TARGET, (own("import space.d, json"), package))
    closure = Closure(index, ["app", "nothere"])
    assert closure.reached == {"app", "space.d"}
    assert closure.loaded == {"app", "nothere", "space", "space.d", "space.d.n"}
    assert closure.reached <= set(index.owners)


def test_a_missing_library_of_an_optional_extension_is_a_warning() -> None:
    package = facts(
        {
            "d/__init__.py": b"try:\n    from d import fast\nexcept ImportError: pass\n",
            "d/fast.abi3.so": make_elf(["libtbb.so.12"]),
        },
        name="d",
    )
    finding = by_code(audit(subject(packages=(own("import d"), package))))["library-missing"]
    assert finding.severity is Severity.WARNING


def test_an_extension_that_code_loads_by_itself_is_an_error() -> None:
    package = facts({"d/__init__.py": b"load()\n", "d/d.abi3.so": make_elf(["libGL.so.1"])}, name="d")
    assert by_code(audit(subject(packages=(own("import d"), package))))["library-missing"].severity is Severity.ERROR


def test_a_library_needed_by_a_needed_one_is_an_error() -> None:
    package = facts(
        {
            "d/__init__.py": b"from . import core",
            "d/core.abi3.so": make_elf(["liba.so"], runpath="$ORIGIN/../d.libs"),
            "d.libs/liba.so": make_elf(["libb.so"], runpath="$ORIGIN", soname="liba.so"),
            "d.libs/libb.so": make_elf(["libX11.so.6"], soname="libb.so"),
        },
        name="d",
    )
    finding = by_code(audit(subject(packages=(own("import d"), package))))["library-missing"]
    assert (finding.severity, finding.file) == (Severity.ERROR, "d.libs/libb.so")


# Runtimes


@pytest.mark.parametrize(("today", "warned"), [("2029-06-30", True), ("2029-02-01", True), ("2028-06-01", False)])
def test_end_of_life(today: str, warned: bool) -> None:
    assert ("runtime-deprecated" in by_code(audit(subject(), today=dt.date.fromisoformat(today)))) is warned


@pytest.mark.parametrize("runtime", list(runtimes()))
def test_every_runtime_can_be_audited(runtime: str) -> None:
    for architecture in ("x86_64", "arm64"):
        target = find_target(runtime, architecture)
        findings = audit(subject(target=target, packages=(own("import json, boto3, awslambdaric"),)))
        assert findings == ()


def test_removed_modules_by_version() -> None:
    code = (own("import imp"),)
    assert audit(subject(target=find_target("python3.11", "x86_64"), packages=code)) == ()
    message = by_code(audit(subject(packages=code)))["missing-module"].message
    assert "gone from Python 3.12" in message


# Facts


def test_facts_survive_being_stored() -> None:
    files = {
        "d/__init__.py": b"from . import a\nimport numpy as np\nx = 1",
        "d/a.py": b"def (",
        "d/b.py": b"from x import *\ndef f():\n    import y",
        "d/n.abi3.so": make_elf(["libc.so.6"], runpath="$ORIGIN", versions=[("libc.so.6", "GLIBC_2.17")]),
        "d/m.abi3.so": b"MZ" + bytes(10),
        "d/ünï.py": b"",
        "d-1.dist-info/METADATA": b"Name: D\nVersion: 1\nRequires-Dist: x>1\nRequires-Python: >=3.9\n\nbody",
    }
    before = facts(files)
    after = PackageFacts.from_json(before.to_json())
    assert after is not None
    assert (after.name, after.version, after.requires, after.requires_python) == ("d", "1", ("x>1",), ">=3.9")
    assert dict(after.modules) == dict(before.modules)
    assert {path: tuple(sizes) for path, sizes in after.files.items()} == before.files
    assert (after.elf, after.foreign, after.top_level) == (before.elf, before.foreign, before.top_level)
    assert after.to_json() == before.to_json()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"format": 1}', b"\xff", b'{"format": 999}'])
def test_other_bytes_are_no_facts(data: bytes) -> None:
    assert PackageFacts.from_json(data) is None


def test_scans_by_a_compiler_are_taken_over() -> None:
    scanned = {"app.py": {"imports": [["nothere", "always", 7, []]], "defines": ["handler"], "error": ""}}
    package = gather([Entry("app.py", 0, 0, lambda: io.BytesIO(b""))], scans=scanned)
    assert by_code(audit(subject(packages=(package,))))["missing-module"].message.startswith("line 7 imports nothere")


# Reasons


def test_reasons_are_the_shortest_way_from_what_was_asked_for() -> None:
    def package(name: str, *requires: str, size: int = 1) -> PackageFacts:
        return PackageFacts(name, "1", files={f"{name}/x": (size, size)}, requires=requires)

    packages = [
        PackageFacts("", files={"app.py": (5, 3)}),
        package("pandas", "numpy>=2", "dateutil; python_version > '3'", size=50),
        package("numpy", size=90),
        package("dateutil", "six"),
        package("six"),
        package("lonely", "circle"),
        package("circle", "lonely"),
        package("brotli"),
        package("web", "brotli; extra == 'compression'"),
    ]
    reasons = {reason.package.name: reason for reason in explain(packages, TARGET, ("pandas", "web"))}
    assert reasons["six"].path == ("pandas", "dateutil", "six")
    assert reasons["pandas"].is_root
    assert reasons["brotli"].optional
    assert reasons["lonely"].path == ("circle", "lonely")
    assert next(iter(reasons)) == "numpy"
    tree = size_tree(packages, 1)
    assert (tree.size, [branch.name for branch in tree.branches[:2]]) == (151, ["numpy", "pandas"])


# The table


def test_every_code_is_used_and_every_used_code_is_known() -> None:
    root = Path(codes.__file__).parents[1]
    sources = "".join(path.read_text("utf-8") for path in root.rglob("*.py") if path != Path(codes.__file__))
    assert set(re.findall(r'found\(\s*"([a-z-]+)"', sources)) == set(codes.CODES)


def test_reference_page_is_made_from_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "findings.md"
    how = "from lading.audit.codes import document; print(document(), end='')"
    assert page.read_text("utf-8") == codes.document(), f'run: python -c "{how}" > docs/reference/findings.md'
