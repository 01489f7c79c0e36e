"""An image's imports audited: which interpreter, which folders, which libraries; layers over layers; what is left alone."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from audit_elf_maker import make_elf

from lading.oci.descriptor import Platform
from lading.oci.files import ImageFiles, read_files
from lading.oci.image import Image, empty
from lading.oci.imports import ImageAudit, audit_image
from lading.oci.layer_writer import LayerWriter
from lading.store import Store, open_store

SITE = "var/lang/lib/python3.13/site-packages"
C_LIBRARY = b"\0GLIBC_2.34\0GLIBC_2.2.5\0"
BASE = {
    "var/lang/bin/python3.13": b"",
    "lambda-entrypoint.sh": b"",
    "lib64/libc.so.6": C_LIBRARY,
    "usr/lib64/libz.so.1": b"",
}
LAMBDA: dict[str, Any] = {"Entrypoint": ["/lambda-entrypoint.sh"], "Cmd": ["app.handler"], "WorkingDir": "/var/task"}
HANDLER = b"import requests\ndef handler(event, context): ...\n"
Layer = Mapping[str, bytes | str]
"""Path → content of a file, or as a text what a link says."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


def make(store: Store, process: Mapping[str, Any], *layers: Layer) -> Image:
    made = []
    for files in layers:
        with store.blobs.writer() as output:
            writer = LayerWriter(output, "gzip")
            for path, content in files.items():
                if isinstance(content, str):
                    writer.link(path, content)
                else:
                    writer.file(path, 0o755, content)
            made.append(writer.finish(store.blobs, "test"))
    return empty(Platform("linux", "amd64")).append(made).configure(process)


def audited(store: Store, process: Mapping[str, Any], *layers: Layer) -> ImageAudit:
    return audit_image(make(store, process, *layers), store.temporary)


def told(audit: ImageAudit) -> list[tuple[str, str]]:
    return [(finding.severity.value, finding.code) for finding in audit.findings if finding.severity.value != "advice"]


def test_what_the_handler_imports_must_be_somewhere_on_its_path(store: Store) -> None:
    missing = audited(store, LAMBDA, BASE, {"var/task/app.py": HANDLER})
    assert told(missing) == [("error", "missing-module")]
    assert (missing.findings[0].file, missing.notes) == ("app.py", ())
    for place in (SITE, "var/task", "var/runtime", "opt/python", "opt/python/lib/python3.13/site-packages"):
        there = {"var/task/app.py": HANDLER, f"{place}/requests/__init__.py": b""}
        assert told(audited(store, LAMBDA, BASE, there)) == [], place
    elsewhere = {"var/task/app.py": HANDLER, "usr/lib/python3.9/site-packages/requests/__init__.py": b""}
    assert told(audited(store, LAMBDA, BASE, elsewhere)) == [("error", "missing-module")]


def test_what_an_imported_package_imports_is_followed(store: Store) -> None:
    package = {
        f"{SITE}/requests/__init__.py": b"import urllib3\n",
        f"{SITE}/requests-2.0.dist-info/RECORD": b"requests/__init__.py,,\n",
    }
    audit = audited(store, LAMBDA, BASE, package, {"var/task/app.py": HANDLER})
    (finding,) = [one for one in audit.findings if one.code == "missing-module"]
    assert (finding.file, finding.package) == (f"/{SITE}/requests/__init__.py", "requests")
    assert "requests" in {one.name for one in audit.packages}


def test_a_later_layer_takes_away_what_an_earlier_one_brought(store: Store) -> None:
    package = {f"{SITE}/requests/__init__.py": b"", "var/task/app.py": HANDLER}
    for gone in (
        f"{SITE}/.wh.requests",
        f"{SITE}/requests/.wh.__init__.py",
        f"{SITE}/.wh..wh..opq",
        "var/lang/lib/.wh.python3.13",
    ):
        assert told(audited(store, LAMBDA, BASE, package, {gone: b""})) == [("error", "missing-module")], gone
    back = {f"{SITE}/.wh.requests": b"", f"{SITE}/requests/__init__.py": b""}
    assert told(audited(store, LAMBDA, BASE, package, back)) == [], "a layer's whiteout is for what lies below it"


def test_an_interpreter_of_the_image_s_own(store: Store) -> None:
    slim = {"usr/local/bin/python3.12": b"", "usr/local/bin/python3": "python3.12", "usr/local/bin/python": "python3"}
    process = {
        "Entrypoint": ["/usr/bin/env", "python", "-m", "awslambdaric"],
        "Cmd": ["app.handler"],
        "WorkingDir": "/app",
    }
    own = {"app/app.py": b"import distutils, requests\ndef handler(event, context): ...\n"}
    site = {"usr/local/lib/python3.12/site-packages/requests/__init__.py": b""}
    audit = audited(store, process, slim, site, own)
    (finding,) = [one for one in audit.findings if one.code == "missing-module"]
    assert "distutils" in finding.message and "Python 3.12" in finding.message and finding.file == "/app/app.py"
    wrong = {**process, "Cmd": ["app.handle"]}
    assert ("error", "handler-function") in told(audited(store, wrong, slim, site, own))
    without = {**process, "Cmd": ["missing.handler"]}
    assert ("error", "handler-module") in told(audited(store, without, slim, site, own))


def test_native_files_need_what_the_image_has(store: Store) -> None:
    app = {"var/task/app.py": b"import fast\ndef handler(event, context): ...\n"}
    extension = "var/task/fast.cpython-313-x86_64-linux-gnu.so"

    def with_needs(*needed: str, version: str = "GLIBC_2.2.5") -> list[tuple[str, str]]:
        return told(
            audited(store, LAMBDA, BASE, {**app, extension: make_elf(needed, versions=[("libc.so.6", version)])})
        )

    assert with_needs("libc.so.6", "libz.so.1") == []
    assert with_needs("libGL.so.1") == [("error", "library-missing")]
    assert with_needs("libc.so.6", version="GLIBC_2.34") == []
    assert with_needs("libc.so.6", version="GLIBC_2.38") == [("error", "symbol-version")]


def test_images_of_other_processes_say_that_they_were_not_looked_at(store: Store) -> None:
    for process in ({"Entrypoint": ["/bootstrap"]}, {"Cmd": ["python3", "app.py"]}, LAMBDA):
        audit = audited(store, process, {"var/task/bootstrap": b""})
        assert audit.findings == () and "not audited" in audit.notes[0]
    old = {"var/lang/bin/python3.7": b"", "lambda-entrypoint.sh": b""}
    assert audited(store, LAMBDA, old).notes == (
        "nothing is known of python3.7 on linux/amd64: imports are not audited",
    )


def test_names_that_lead_elsewhere_stay_names(store: Store) -> None:
    """A link of a lower layer is followed inside the image, circles end, and nothing is read or written at such a path."""
    layers: list[Layer] = [
        {"lib": "usr/lib", "loop": "loop", "up": "../../../etc", "absolute": "/usr"},
        {"lib/a.py": b"a", "absolute/b.py": b"b", "up/passwd.py": b"c"},
    ]
    with tempfile.TemporaryFile() as spool:
        files = read_files(make(store, {}, *layers), spool, lambda path: 1)  # type: ignore[arg-type]
        assert set(files.files) == {"lib", "loop", "up", "absolute", "usr/lib/a.py", "usr/b.py", "etc/passwd.py"}
        assert files.find("lib/a.py") == files.find("/usr/lib/../lib/a.py")
        assert files.find("loop/x") is None and files.find("nothing") is None
        found = files.find("lib/a.py")
        assert found is not None and found.kept is not None and found.kept.open().read() == b"a"


def test_a_kept_section_reads_and_seeks_like_a_file(store: Store) -> None:
    with tempfile.TemporaryFile() as spool:
        image = make(store, {}, {"first": b"0123456789", "second": b"abcdef"})
        files: ImageFiles = read_files(image, spool, lambda path: 4 if path == "first" else 100)  # type: ignore[arg-type]
        first, second = files.files["first"], files.files["second"]
        assert first.kept is not None and second.kept is not None
        with first.kept.open() as a, second.kept.open() as b:
            assert (a.read(), b.read(2), b.read()) == (b"0123", b"ab", b"cdef")
            assert (b.seek(-2, io.SEEK_END), b.read(99), b.seek(1), b.read(1)) == (4, b"ef", 1, b"b")
