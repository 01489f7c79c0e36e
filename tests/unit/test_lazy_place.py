"""Where files lie in an image's data: what starts read lies together, whatever else a layer holds."""

from __future__ import annotations

import pytest

from lading.lazy import starting
from lading.lazy.place import LARGEST_TOGETHER, Layout
from lading.lazy.tree import Node, new_folder, walk

STDLIB = "var/lang/lib/python3.13"


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib64/ld-linux-x86-64.so.2",
        "lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/libz.so.1.2.13",
        "usr/lib/libffi-3.4.so.8",
        "usr/bin/python3.11",
        f"{STDLIB}/encodings/__pycache__/utf_8.cpython-313.pyc",
        f"{STDLIB}/lib-dynload/_json.cpython-313-x86_64-linux-gnu.so",
        "var/task/awslambdaric/__pycache__/bootstrap.cpython-312.pyc",
        "opt/python/lib/python3.12/site-packages/runtime_client.cpython-312-x86_64-linux-gnu.so",
    ],
)
def test_what_starts_read_is_known_by_its_name(path: str):
    assert starting.rank(path.encode()) >= 0


@pytest.mark.parametrize(
    "path",
    [
        f"{STDLIB}/json/decoder.py",
        f"{STDLIB}/idlelib/__pycache__/run.cpython-313.pyc",
        f"{STDLIB}/test/__pycache__/abc.cpython-313.pyc",
        "var/task/own/json/__init__.pyc",
        "usr/lib/libzstd.so.1",
        "usr/bin/python3-config",
        "etc/passwd",
        "odd/\udcff.so",
    ],
)
def test_what_starts_do_not_read_is_not_taken_for_it(path: str):
    assert starting.rank(path.encode("utf-8", "surrogateescape")) < 0


def test_the_loader_comes_before_the_interpreter_and_that_before_its_modules():
    order = ["lib/ld-linux-aarch64.so.1", "usr/bin/python3.13", f"{STDLIB}/__pycache__/codecs.cpython-313.pyc"]
    ranks = [starting.rank(path.encode()) for path in order]
    assert ranks == sorted(ranks) and min(ranks) >= 0


def test_within_a_layer_starts_come_first_then_code_then_the_rest():
    files = {
        "a/data.json": 0,
        "a/tests/__pycache__/test_a.cpython-313.pyc": 0,
        "a/__pycache__/a.cpython-313.pyc": 0,
        "a/b.cpython-313-x86_64-linux-gnu.so": 0,
        "z/lib/python3.13/__pycache__/os.cpython-313.pyc": 0,
        "z/lib/python3.13/__pycache__/codecs.cpython-313.pyc": 0,
        "z/lib/python3.13/os.py": 0,
        "lib/libc.so.6": 1,
        "a/upper.pyc": 1,
    }
    assert placed(files) == [
        "z/lib/python3.13/__pycache__/codecs.cpython-313.pyc",
        "z/lib/python3.13/__pycache__/os.cpython-313.pyc",
        "a/__pycache__/a.cpython-313.pyc",
        "a/b.cpython-313-x86_64-linux-gnu.so",
        "a/data.json",
        "a/tests/__pycache__/test_a.cpython-313.pyc",
        "z/lib/python3.13/os.py",
        "lib/libc.so.6",
        "a/upper.pyc",
    ]


def test_what_starts_read_is_noted_as_pieces():
    sizes = {
        "a/data.bin": 3_000_000,
        "z/lib/libc.so.6": 700_000,
        "z/lib/libcrypto.so.3": LARGEST_TOGETHER + 1,
        "z/lib/python3.13/__pycache__/os.cpython-313.pyc": 300_000,
        "z/lib/python3.13/lib-dynload/_json.cpython-313-x86_64-linux-gnu.so": 400_000,
    }
    root, layout = laid_out({path: Node(0o100644, size=size) for path, size in sizes.items()})
    blocks = {path.decode(): node.block for path, node in walk(root) if node.is_file}
    small, large = blocks["z/lib/python3.13/__pycache__/os.cpython-313.pyc"], blocks["z/lib/libc.so.6"]
    assert small == 0
    end = -(-300_000 // 4096) * 4096 + 400_000
    assert layout.together == [(0, end), (large * 4096, large * 4096 + 700_000)], "of the largest most is never read"


def test_a_single_chunk_is_no_piece():
    _, layout = laid_out({"lib/libc.so.6": Node(0o100644, size=5000), "lib/libm.so.6": Node(0o100644, size=5000)})
    assert layout.together == []


def laid_out(files: dict[str, Node]) -> tuple[Node, Layout]:
    root = new_folder()
    for path, node in files.items():
        folder = root
        *way, name = path.encode().split(b"/")
        for part in way:
            folder = folder.entries.setdefault(part, new_folder())
        folder.entries[name] = node
    layout = Layout(root)
    list(layout.plans())
    return root, layout


def placed(files: dict[str, int]) -> list[str]:
    """Paths in the order of the data space, of files with their layers."""
    root, _ = laid_out({path: Node(0o100644, size=5000, layer=layer) for path, layer in files.items()})
    found = sorted((node.block, path.decode()) for path, node in walk(root) if node.is_file)
    return [path for _, path in found]
