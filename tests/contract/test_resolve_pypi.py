"""The known traps and the project locks of other tools, against the real index."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lading.model.lock import Lock
from lading.model.progress import Silent
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import find_target
from lading.resolve import LockPlace, Policy, fetch, lock
from lading.resolve.candidate import NoWheelError
from lading.resolve.fit import rank
from lading.store import open_store

pytestmark = pytest.mark.network
LOCKS = Path(__file__).parent / "data" / "locks"


def resolve(tmp_path: Path, runtime: str, architecture: str, *specifiers: str) -> Lock:
    requirements = Requirements(RequirementKind.INLINE, specifiers=specifiers)
    return lock(requirements, find_target(runtime, architecture), LockPlace(tmp_path, "t"), Policy(), Silent())


def files(lock: Lock) -> dict[str, str]:
    return {
        package.name: (package.wheel or package.sdist).name
        for package in lock.packages
        if package.wheel or package.sdist
    }  # type: ignore[union-attr]


def test_pandas_on_python311_gets_a_numpy_for_glibc_2_26(tmp_path: Path) -> None:
    found = resolve(tmp_path, "python3.11", "x86_64", "pandas")
    target = find_target("python3.11", "x86_64")
    assert all(rank(name, target) is not None for name in files(found).values())


def test_cryptography_on_python311(tmp_path: Path) -> None:
    names = files(resolve(tmp_path, "python3.11", "x86_64", "cryptography==44.0.3"))
    assert "manylinux_2_17" in names["cryptography"]


def test_a_pinned_numpy_is_found_on_python313_and_refused_on_python311(tmp_path: Path) -> None:
    assert "manylinux_2_28_aarch64" in files(resolve(tmp_path, "python3.13", "arm64", "numpy==2.3.4"))["numpy"]
    with pytest.raises(NoWheelError, match=r"numpy 2\.3\.4"):
        resolve(tmp_path, "python3.11", "x86_64", "numpy==2.3.4")


def test_pure_sdists_pass_across_platforms(tmp_path: Path) -> None:
    found = resolve(tmp_path, "python3.13", "arm64", "strict-rfc3339==0.7")
    store = open_store(tmp_path / "cache")
    wheels = fetch(
        found, find_target("python3.13", "arm64"), store.blobs, store.actions, policy=Policy(), progress=Silent()
    )
    assert [wheel.filename.endswith("-none-any.whl") for wheel in wheels] == [True]


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("uv", RequirementKind.UV_LOCK),
        ("poetry", RequirementKind.POETRY_LOCK),
        ("poetry1", RequirementKind.POETRY_LOCK),
        ("pipenv", RequirementKind.PIPFILE_LOCK),
    ],
)
@pytest.mark.parametrize("runtime", ["python3.13", "python3.10"])
def test_the_locks_of_other_tools_are_met_exactly(
    folder: str, kind: RequirementKind, runtime: str, tmp_path: Path
) -> None:
    project = tmp_path / folder
    shutil.copytree(LOCKS / folder, project)
    requirements = Requirements(kind, project / kind.value)
    target = find_target(runtime, "arm64")
    found = lock(requirements, target, LockPlace(project, "t"), Policy(), Silent())
    versions = {package.name: package.version for package in found.packages}
    assert versions["requests"] == "2.32.3"
    assert ("tomli" in versions) is (runtime == "python3.10")
    assert not {"colorama", "iniconfig", "six"} & set(versions)
    text = (project / kind.value).read_text()
    assert all(package.wheel and package.wheel.sha256 in text for package in found.packages)
    assert found.path == project / kind.value
    assert lock(requirements, target, LockPlace(project, "t"), Policy(offline=True, frozen=True), Silent()) == found
