"""`lading check` on artifacts that are wrong in each way: the finding, its severity, the file, and the exit code."""

from __future__ import annotations

import json
import stat
import struct
import sys
import zipfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lading.cli.main import main

# The maker of ELF files is shared with the unit tests; test folders have no packages to import it from.
sys.path.append(str(Path(__file__).parents[1] / "unit"))
from audit_elf_maker import AARCH64, make_elf

HANDLER = b"def lambda_handler(event, context):\n    return event\n"
SCHEMA = json.loads(resources.files("lading.audit").joinpath("findings.schema.json").read_text("utf-8"))
Files = Mapping[str, bytes]


def make_zip(path: Path, files: Files, *, modes: Mapping[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (modes or {}).get(name, 0o644)) << 16
            archive.writestr(info, data)
    return path


def check(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main(["check", "--json", *map(str, arguments)])
    value = json.loads(capsys.readouterr().out)
    jsonschema.validate(value, SCHEMA)
    assert code == (5 if value["failed"] else 0)
    return code, value


def importing(line: str) -> Files:
    return {"lambda_function.py": line.encode() + b"\n" + HANDLER}


def dist(name: str, version: str, files: Files, *metadata: str) -> dict[str, bytes]:
    """An installed distribution: its files, METADATA and RECORD."""
    info = f"{name}-{version}.dist-info"
    text = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"{line}\n" for line in metadata) + "\n"
    )
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/METADATA", f"{info}/RECORD"])
    return {**files, f"{info}/METADATA": text.encode(), f"{info}/RECORD": record.encode()}


EXTENSION = "native.cpython-313-x86_64-linux-gnu.so"
NATIVE = importing("import native")
PYC_313 = struct.pack("<HHIII", 3571, 0x0A0D, 1, 0, 0) + b"N"
PYC_39 = struct.pack("<HHIII", 3425, 0x0A0D, 1, 0, 0) + b"N"
PYC_STALE = struct.pack("<HHIII", 3571, 0x0A0D, 0, 12345, 6) + b"N"

WRONG: dict[str, tuple[Files, str, str, str]] = {
    # what → files, code, severity, file
    "other machine": ({**NATIVE, EXTENSION: make_elf(machine=AARCH64)}, "elf-machine", "error", EXTENSION),
    "library nowhere": ({**NATIVE, EXTENSION: make_elf(["libGL.so.1"])}, "library-missing", "error", EXTENSION),
    "musl": ({**NATIVE, EXTENSION: make_elf(["libc.musl-x86_64.so.1"])}, "library-missing", "error", EXTENSION),
    "glibc too new": (
        {**NATIVE, EXTENSION: make_elf(["libc.so.6"], versions=[("libc.so.6", "GLIBC_2.38")])},
        "symbol-version", "error", EXTENSION,
    ),
    "libstdc++ too new": (
        {**NATIVE, EXTENSION: make_elf(["libstdc++.so.6"], versions=[("libstdc++.so.6", "GLIBCXX_3.4.32")])},
        "symbol-version", "error", EXTENSION,
    ),
    "relative relocations": (
        {**NATIVE, EXTENSION: make_elf(["libc.so.6"], versions=[("libc.so.6", "GLIBC_ABI_DT_RELR")])},
        "symbol-version", "error", EXTENSION,
    ),
    "other Python": (
        {**NATIVE, "native.cpython-312-x86_64-linux-gnu.so": make_elf()},
        "extension-python", "error", "native.cpython-312-x86_64-linux-gnu.so",
    ),
    "free-threaded": (
        {**NATIVE, "native.cpython-313t-x86_64-linux-gnu.so": make_elf()},
        "extension-python", "error", "native.cpython-313t-x86_64-linux-gnu.so",
    ),
    "macOS": ({**NATIVE, "native.abi3.so": b"\xcf\xfa\xed\xfe" + bytes(60)}, "elf-foreign", "error", "native.abi3.so"),
    "Windows": (
        {**NATIVE, "native.cp313-win_amd64.pyd": b"MZ" + bytes(60)}, "elf-foreign", "error", "native.cp313-win_amd64.pyd",
    ),
    "broken ELF": ({**NATIVE, EXTENSION: make_elf(["libm.so.6"])[:90]}, "elf-foreign", "error", EXTENSION),
    "library out of reach": (
        {**NATIVE, **dist("far", "1", {"far/deep/libx.so.1": make_elf()}), EXTENSION: make_elf(["libx.so.1"])},
        "library-path", "warning", EXTENSION,
    ),
    "library of the image only": ({**NATIVE, EXTENSION: make_elf(["libssl.so.3"])}, "library-uncertain", "warning", EXTENSION),
    "missing module": (importing("import numpy"), "missing-module", "error", "lambda_function.py"),
    "missing by way of another": (
        {**importing("import a"), "a/__init__.py": b"from . import b", "a/b.py": b"import nothere"},
        "missing-module", "error", "a/b.py",
    ),
    "own submodule": (
        {**importing("from shop import cart\nimport shop.nothere"), "shop/__init__.py": b"", "shop/cart.py": b""},
        "missing-module", "error", "lambda_function.py",
    ),
    "gone from Python": (importing("import distutils.version"), "missing-module", "error", "lambda_function.py"),
    "missing when called": (
        {"lambda_function.py": b"def lambda_handler(e, c):\n    import nothere\n"},
        "missing-lazy-module", "warning", "lambda_function.py",
    ),
    "guarded": (
        importing("try:\n    import nothere\nexcept ImportError:\n    nothere = None"), "optional-modules", "advice", "",
    ),
    "guard that raises": (
        importing("try:\n    import nothere\nexcept ImportError as e:\n    raise RuntimeError('x') from e"),
        "missing-module", "error", "lambda_function.py",
    ),
    "tkinter": (importing("import tkinter"), "display-module", "warning", "lambda_function.py"),
    "shadow": ({**importing("import json"), "json.py": b""}, "shadowed-module", "warning", "json.py"),
    "requirement absent": (
        {**importing("import d"), **dist("d", "1", {"d.py": b""}, "Requires-Dist: nothere>=2")},
        "missing-requirement", "warning", "d-1.dist-info/METADATA",
    ),
    "requirement's version": (
        {**importing("import d"), **dist("d", "1", {"d.py": b""}, "Requires-Dist: e>=2"), **dist("e", "1", {"e.py": b""})},
        "requirement-version", "warning", "d-1.dist-info/METADATA",
    ),
    "Requires-Python": (
        {**importing("import d"), **dist("d", "1", {"d.py": b""}, "Requires-Python: <3.12")},
        "python-version", "warning", "d-1.dist-info/METADATA",
    ),
    "boto3 alone": (
        {**importing("import boto3"), **dist("boto3", "1.20", {"boto3/__init__.py": b""})}, "sdk-skew", "warning", "",
    ),
    "old urllib3": (
        {**importing("import urllib3"), **dist("urllib3", "1.26.1", {"urllib3/__init__.py": b""})}, "sdk-skew", "warning", "",
    ),
    "editable": (
        {**importing(""), "__editable__.shop-1.pth": b"/home/me/shop\n"},
        "editable-install", "warning", "__editable__.shop-1.pth",
    ),
    "secrets": ({**importing(""), ".env": b"PASSWORD=1"}, "secret-file", "warning", ".env"),
    "case": ({**importing(""), "Data.txt": b"", "data.txt": b""}, "case-clash", "warning", "data.txt"),
    "stale bytecode": (
        {**importing(""), "__pycache__/lambda_function.cpython-313.pyc": PYC_STALE},
        "stale-bytecode", "warning", "__pycache__/lambda_function.cpython-313.pyc",
    ),
    "bytecode of another Python": (
        {**importing("import gone"), "gone.pyc": PYC_39}, "stale-bytecode", "error", "gone.pyc",
    ),
    "whole venv": (
        {f"venv/lib/python3.13/site-packages/{name}": data for name, data in importing("").items()},
        "nested-root", "error", "venv/lib/python3.13/site-packages/",
    ),
    "one folder too deep": (
        {f"project/{name}": data for name, data in importing("").items()}, "nested-root", "error", "project/",
    ),
    "deep paths": ({**importing(""), "x" * 256: b""}, "path-length", "error", "x" * 255),
    "climbing": ({**importing(""), "../evil.py": b""}, "unsafe-path", "error", "../evil.py"),
    "absolute": ({**importing(""), "/etc/evil": b""}, "unsafe-path", "error", "/etc/evil"),
    "backslash": ({**importing(""), "a\\b.py": b""}, "unsafe-path", "error", "a\\b.py"),
    "control character": ({**importing(""), "a\nb.py": b""}, "unsafe-path", "error", "a\nb.py"),
    "syntax": ({"lambda_function.py": b"def lambda_handler(:\n"}, "syntax-error", "error", "lambda_function.py"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_wrong_in_each_way(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, code, severity, file = WRONG[what]
    runtime = "python3.11" if what == "syntax" else "python3.13"  # this Python or an older one must judge the syntax
    path = make_zip(tmp_path / "function.zip", files)
    _, value = check(capsys, path, "--runtime", runtime, "--architecture", "x86_64")
    hits = [finding for finding in value["findings"] if finding["code"] == code]
    assert hits, value["findings"]
    assert (hits[0]["severity"], hits[0]["file"]) == (severity, file)
    assert hits[0]["fix"]


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        ("nodot", "handler-name"),
        (".handler", "handler-name"),
        ("sys.handler", "handler-name"),
        ("nothere.handler", "handler-module"),
        ("lambda_function.nothere", "handler-function"),
        ("shop/cart.nothere", "handler-function"),
    ],
)
def test_wrong_handlers(handler: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_zip(tmp_path / "f.zip", {"lambda_function.py": HANDLER, "shop/cart.py": HANDLER})
    status, value = check(capsys, path, "--handler", handler)
    assert status == 5
    assert [finding["code"] for finding in value["findings"] if finding["severity"] == "error"] == [code]


@pytest.mark.parametrize(
    "handler", ["lambda_function.lambda_handler", "shop/cart.lambda_handler", "shop.cart.lambda_handler", "star.any"]
)
def test_right_handlers(handler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"lambda_function.py": HANDLER, "shop/cart.py": HANDLER, "star.py": b"from shop.cart import *"}
    status, value = check(capsys, make_zip(tmp_path / "f.zip", files), "--handler", handler)
    assert (status, [f for f in value["findings"] if f["severity"] != "advice"]) == (0, [])


RIGHT: dict[str, Files] = {
    "bundled libraries": {
        **NATIVE,
        EXTENSION: make_elf(["libx-1.so", "libc.so.6"], runpath="$ORIGIN/native.libs"),
        "native.libs/libx-1.so": make_elf(["libstdc++.so.6", "libpython3.13.so.1.0"], soname="libx-1.so"),
    },
    "library under lib/": {**NATIVE, EXTENSION: make_elf(["libx.so.1"]), "lib/libx.so.1": make_elf()},
    "abi3": {**NATIVE, "native.abi3.so": make_elf(["libc.so.6"], versions=[("libc.so.6", "GLIBC_2.17")])},
    "several builds side by side": {
        **NATIVE,
        EXTENSION: make_elf(),
        "native.cpython-312-x86_64-linux-gnu.so": make_elf(),
    },
    "own C++ library": {
        **NATIVE,
        EXTENSION: make_elf(["libstdc++.so.6"], runpath="$ORIGIN", versions=[("libstdc++.so.6", "GLIBCXX_3.4.33")]),
        "libstdc++.so.6": make_elf(soname="libstdc++.so.6"),
    },
    "the runtime's SDK": importing("import boto3, botocore.config, urllib3, dateutil.parser, tomllib"),
    "type checking": importing("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nothere"),
    "modules made while running": {
        **importing("import made.up, six.moves.queue"),
        "made/__init__.py": b"import sys\nsys.modules['made.up'] = sys",
        "six.py": b"x = 1",
        **dist("six", "1", {"six.py": b""}),
    },
    "namespace package": {**importing("import space.inner"), "space/inner/__init__.py": b""},
    "marker for elsewhere": {
        **importing("import d"),
        **dist(
            "d", "1", {"d.py": b""}, "Requires-Dist: pywin32; sys_platform == 'win32'", "Requires-Dist: x; extra == 'y'"
        ),
    },
    "good bytecode": {**importing(""), "__pycache__/lambda_function.cpython-313.pyc": PYC_313},
    "bytecode only": {**importing("import gone"), "gone.pyc": PYC_313},
    "example secrets": {**importing(""), ".env.example": b""},
}


@pytest.mark.parametrize("what", RIGHT)
def test_right_ones_are_clean(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_zip(tmp_path / "f.zip", RIGHT[what])
    status, value = check(capsys, path, "--runtime", "python3.13", "--architecture", "x86_64")
    assert (status, [finding for finding in value["findings"] if finding["severity"] != "advice"]) == (0, [])


def test_folder_and_zip_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {**NATIVE, EXTENSION: make_elf(["libGL.so.1"]), "d/x.py": b""}
    folder = tmp_path / "folder"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    _, from_folder = check(capsys, folder)
    _, from_zip = check(capsys, make_zip(tmp_path / "f.zip", files))
    assert from_folder["findings"] == from_zip["findings"]


def test_modes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_zip(
        tmp_path / "f.zip", {"lambda_function.py": HANDLER, "bin/tool": b"x"}, modes={"lambda_function.py": 0o600}
    )
    status, value = check(capsys, path)
    codes = {finding["code"]: finding for finding in value["findings"]}
    assert status == 5
    assert codes["not-readable"]["file"] == "lambda_function.py"
    assert codes["not-executable"]["severity"] == "warning"


def test_links(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_zip(tmp_path / "f.zip", {"lambda_function.py": b"import alias\n" + HANDLER, "real.py": b""})
    with zipfile.ZipFile(path, "a") as archive:
        for name, target in {
            "alias.py": "real.py",
            "evil": "../../etc/passwd",
            "root": "/etc",
            "lost": "nothere",
        }.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            info.create_system = 3
            archive.writestr(info, target)
        info = zipfile.ZipInfo("pipe")
        info.external_attr = (stat.S_IFIFO | 0o644) << 16
        archive.writestr(info, b"")
    _, value = check(capsys, path)
    found = {(finding["code"], finding["file"]) for finding in value["findings"] if finding["severity"] != "advice"}
    assert found == {
        ("link-escape", "evil"),
        ("link-escape", "root"),
        ("link-dangling", "lost"),
        ("special-file", "pipe"),
    }


def test_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_zip(tmp_path / "f.zip", {"lambda_function.py": HANDLER})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("lambda_function.py", b"")
    _, value = check(capsys, path)
    assert ("duplicate-path", "error") in {(f["code"], f["severity"]) for f in value["findings"]}


def test_damaged_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_zip(tmp_path / "f.zip", {**NATIVE, EXTENSION: make_elf(["libc.so.6"] * 50)})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(EXTENSION)
        middle = info.header_offset + 30 + len(EXTENSION) + info.compress_size // 2
    data[middle] ^= 0xFF
    path.write_bytes(data)
    status, value = check(capsys, path)
    assert status == 5
    assert ("member-damaged", EXTENSION) in {(finding["code"], finding["file"]) for finding in value["findings"]}


def test_zip_bomb_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_zip(tmp_path / "bomb.zip", {"lambda_function.py": HANDLER})
    data = bytearray(path.read_bytes())
    place = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, place + 24, 0xFFFFFFF0)  # the declared size
    path.write_bytes(data)
    assert main(["check", str(path)]) == 5
    assert "zip bomb" in capsys.readouterr().err


def test_member_that_holds_more_than_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_zip(tmp_path / "liar.zip", {"lambda_function.py": HANDLER + b"#" * 5_000_000})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rfind(b"PK\x01\x02") + 24, 100)
    path.write_bytes(data)
    status, value = check(capsys, path, "--handler", "lambda_function.lambda_handler")
    assert status == 5
    assert value["unzipped"] == 100
    assert [f["code"] for f in value["findings"] if f["severity"] == "error"] == ["member-damaged"]


@pytest.mark.parametrize(("count", "length"), [(0xFFFF, 0x7FFFFFFF), (3, 0x0FFFFFFF)])
def test_directory_out_of_bounds(count: int, length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "huge.zip"
    path.write_bytes(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, length, 0, 0))
    assert main(["check", str(path)]) == 5
    assert "members in a directory" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06", b"PK\x03\x04" + bytes(100)])
def test_not_a_zip(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    assert main(["check", str(path)]) == 5
    error = capsys.readouterr().err
    assert str(path) in error
    assert "hint:" in error


def test_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "no.zip")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_here_and_above(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "lambda_function.py").write_bytes(HANDLER)
    monkeypatch.chdir(tmp_path)
    here = check(capsys, ".")
    monkeypatch.chdir(tmp_path / "below")
    above = check(capsys, "..")
    assert here[0] == above[0] == 0
    assert here[1]["findings"] == above[1]["findings"]


@pytest.mark.parametrize("made", ["zip", "folder"])
def test_nothing_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], made: str) -> None:
    path = tmp_path / "empty"
    path.mkdir() if made == "folder" else zipfile.ZipFile(path, "w").close()
    status, value = check(capsys, path)
    assert status == 5
    assert [finding["code"] for finding in value["findings"] if finding["severity"] == "error"] == ["empty-artifact"]


def test_unknown_runtime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_zip(tmp_path / "f.zip", {"lambda_function.py": HANDLER})
    assert main(["check", str(path), "--runtime", "python3.31"]) == 2
    assert "did you mean" in capsys.readouterr().err
