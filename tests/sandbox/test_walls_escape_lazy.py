"""Escape attempts of test_walls_escape.py out of an environment whose root is a lazily mounted image: those that a root decides.

`from test_walls_escape import *` makes it all of them; the others meet the same walls as with any other root.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, Start
from image_roots import python_layer, shell_layer, write_image, write_layer
from test_walls_escape import (  # noqa: F401 they run here as well
    test_host_files_are_not_there,
    test_nothing_can_be_written_but_tmp,
    test_processes_of_others_are_invisible_and_safe,
    test_set_user_id_programs_give_nothing,
)

from lading.lazy import mount
from lading.lazy.keys import DEFAULT_ACCOUNT
from lading.oci.layout import Layout
from lading.sandbox.host import Host
from lading.sandbox.image import ImageRoot
from lading.sandbox.live import Sandbox
from lading.sandbox.spec import ColdStart, Isolation, SandboxSpec
from lading.service.lazy_roots import LazyRoots
from lading.service.pool.image_function import Overrides, OwnedImage, root_of
from lading.store import open_store

MANY = 3_000
PROCESS = {
    "Entrypoint": ["python", "-m", "awslambdaric"],
    "Cmd": ["lambda_function.lambda_handler"],
    "WorkingDir": "/var/task",
    "Env": ["PATH=/usr/local/bin:/bin"],
}


@pytest.fixture
def isolation() -> Isolation:
    return Isolation.ROOT


@pytest.fixture(scope="module")
def root(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRoot]:
    """Of one image for all attempts: which one is made, an environment's variable says."""
    if problem := mount.find_problem():
        pytest.skip(problem)
    folder = tmp_path_factory.mktemp("lazy")
    many = {f"var/task/many/{number % 97}/{number}": str(number) * (number % 60) for number in range(MANY)}
    code = "import os\nexec(os.environ['ATTEMPT'])\n"
    own = write_layer(folder / "own", {"var/task/lambda_function.py": code, **many})
    layers = [shell_layer(folder / "shell"), python_layer(folder / "python"), own]
    layout = write_image(open_store(folder / "store"), layers, folder / "layout", PROCESS)
    image = Layout(layout).image()
    roots = LazyRoots(folder / "roots", host.leave)
    lease = roots.open(OwnedImage(image, DEFAULT_ACCOUNT))
    try:
        yield root_of(image, Overrides(), lease)
    finally:
        lease.release()
        roots.close()


@pytest.fixture
def start(root: ImageRoot, host: Host, cold_start: ColdStart) -> Iterator[Start]:
    boxes: list[Sandbox] = []

    def run(source: str, **options: Any) -> Served:
        options.setdefault("cold_start", cold_start)
        box = host.create(SandboxSpec(image=root, runtime="", environment={"ATTEMPT": source}, **options))
        boxes.append(box)
        return Served(box)

    yield run
    for box in boxes:
        box.close()


def test_an_image_of_many_files_is_seen_whole(start: Start) -> None:
    """bench/lazy.py mounts one of a million."""
    body = """
    found = {name: folder for folder, _, names in os.walk("/var/task/many") for name in names}
    right = [name for name in list(found)[::50] if open(f"{found[name]}/{name}").read() == name * (int(name) % 60)]
    return [len(found), len(right)]"""
    assert start(f"def lambda_handler(event, context):{body}").invoke({}).body == [MANY, MANY // 50]


def test_the_root_is_the_mounted_image(start: Start, root: ImageRoot) -> None:
    body = "return [line for line in open('/proc/self/mountinfo') if line.split()[4] == '/']"
    [line] = start(f"def lambda_handler(event, context):\n    {body}").invoke({}).body
    assert " overlay " in line and root.mounted is not None
    assert str(Path(mount.RUN)) not in line
