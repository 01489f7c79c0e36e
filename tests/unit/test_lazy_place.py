"""Where files lie in an image's data: what starts read lies together, whatever else a layer holds."""

from __future__ import annotations

import pytest

from lading.lazy import starting
from lading.lazy.place import LARGEST_FIRST, LARGEST_TOGETHER, Layout
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
    largest = blocks["z/lib/libcrypto.so.3"] * 4096
    assert layout.together == [
        (0, end),
        (large * 4096, large * 4096 + 700_000),
        (largest, largest + LARGEST_TOGETHER),
    ], "of the largest the end is never read"


CLIENT = "var/runtime/awslambdaric/__pycache__/bootstrap.cpython-313.pyc"


def test_what_any_start_reads_is_known_in_its_order():
    order = [
        "usr/bin/python3.13",
        "usr/lib/libc.so.6",
        f"{STDLIB}/__pycache__/codecs.cpython-313.pyc",
        "usr/lib/libffi.so.8",
        f"{STDLIB}/lib-dynload/_ctypes.cpython-313-x86_64-linux-gnu.so",
        CLIENT,
        "usr/lib/libcrypto.so.3",
    ]
    layers = [6, 4, 5, 2, 3, 1, 0]
    files = {path: Node(0o100644, size=600_000, layer=layer) for path, layer in zip(order, layers, strict=True)}
    root, layout = laid_out(files)
    assert first_files(root, layout) == order


def test_of_copies_the_lowest_is_what_a_start_reads_and_no_other_interpreter_s_files_are():
    files = {
        "usr/lib/libc.so.6": 1,
        "usr/lib/python3.11/__pycache__/codecs.cpython-311.pyc": 0,
        "usr/bin/python3.11": 0,
        f"{STDLIB}/__pycache__/codecs.cpython-313.pyc": 1,
        CLIENT: 2,
        "var/task/a.libs/libc-0a1b.so.6": 2,
        "etc/passwd": 3,
    }
    root, layout = laid_out({path: Node(0o100644, size=600_000, layer=layer) for path, layer in files.items()})
    wanted = ["usr/lib/libc.so.6", f"{STDLIB}/__pycache__/codecs.cpython-313.pyc", CLIENT]
    assert first_files(root, layout) == wanted


def test_what_lies_behind_is_reached_by_the_kernel_s_reading_ahead():
    sizes = {
        "usr/lib/libc.so.6": 600_000,
        "usr/lib/libcrypto.so.3": 1_600_000,
        "usr/lib/libssl.so.3": 600_000,
        "zz/a.cpython-313-x86_64-linux-gnu.so": 1_100_000,
        "zz/b.cpython-313-x86_64-linux-gnu.so": 600_000,
    }
    files = {path: Node(0o100644, size=size) for path, size in sizes.items()}
    module = f"{STDLIB}/__pycache__/codecs.cpython-313.pyc"
    root, layout = laid_out({**files, module: Node(0o100644, size=5000, layer=1)})
    blocks = {path.decode(): node.block * 4096 for path, node in walk(root) if node.is_file}
    (_, end), (codecs, _), (rest, last) = layout.first
    assert codecs == blocks[module]
    assert end == blocks["usr/lib/libcrypto.so.3"] + (512 << 10), "its beginning comes with libc"
    assert (rest, last) == (end, blocks["zz/a.cpython-313-x86_64-linux-gnu.so"] + (512 << 10))


def test_what_any_start_reads_has_bounds():
    names = ("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libutil.so.1", "libpthread.so.0", "libcrypt.so.1")
    _, layout = laid_out({f"lib/{name}": Node(0o100644, size=30 << 20) for name in names})
    assert sum(end - start for start, end in layout.first) == LARGEST_FIRST
    assert {end - start for start, end in layout.first} == {LARGEST_TOGETHER}, "of a large file the beginning"


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


def first_files(root: Node, layout: Layout) -> list[str]:
    """Files that begin in the pieces that any start reads, in the order of those."""
    at = sorted((node.block * 4096, path.decode()) for path, node in walk(root) if node.is_file)
    return [path for start, end in layout.first for place, path in at if start <= place < end]


def placed(files: dict[str, int]) -> list[str]:
    """Paths in the order of the data space, of files with their layers."""
    root, _ = laid_out({path: Node(0o100644, size=5000, layer=layer) for path, layer in files.items()})
    found = sorted((node.block, path.decode()) for path, node in walk(root) if node.is_file)
    return [path for _, path in found]
