"""lock() and fetch() against a local index: kept locks, stepping back, builds, credentials. No network beyond 127.0.0.1."""

from __future__ import annotations

import platform
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from resolve_index import Index, make_sdist, make_wheel, project_files, serving

from lading.errors import BuildError, DownloadError, LadingError, ResolveError
from lading.model.lock import Lock
from lading.model.progress import Silent
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import Target, find_target
from lading.resolve import LockPlace, Policy, fetch, lock
from lading.resolve.acceptance import WrongPlatformError
from lading.resolve.candidate import NoWheelError
from lading.resolve.compile import NoSolutionError
from lading.resolve.locking import FrozenError
from lading.store import Store, open_store

NEW = find_target("python3.13", "x86_64")
OLD = find_target("python3.11", "x86_64")
ARM = find_target("python3.13", "arm64")
DEFAULT = Policy()


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    for name in (
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    with serving() as running:
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
        monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
        monkeypatch.setenv("UV_DEFAULT_INDEX", running.simple())
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def written(project: Path, text: str) -> Requirements:
    path = project / "requirements.txt"
    path.write_text(text)
    return Requirements(RequirementKind.FILE, path)


def resolved(
    requirements: Requirements,
    project: Path,
    policy: Policy = DEFAULT,
    target: Target = NEW,
    progress: Silent | None = None,
) -> Lock:
    return lock(requirements, target, LockPlace(project, "demo.app"), policy, progress or Silent())


def versions(lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in lock.packages}


def make(lock: Lock, store: Store, target: Target = NEW) -> list[str]:
    wheels = fetch(lock, target, store.blobs, store.actions, policy=Policy(), progress=Silent())
    assert all(store.blobs.has(wheel.sha256) for wheel in wheels)
    return [wheel.filename for wheel in wheels]


def test_a_resolution_is_kept_and_reused_until_its_inputs_change(index: Index, project: Path, store: Store) -> None:
    index.add("one-1.0-py3-none-any.whl", make_wheel("one", requires="two"))
    index.add("two-1.0-py3-none-any.whl", make_wheel("two"))
    first = resolved(written(project, "one\n"), project)
    assert versions(first) == {"one": "1.0", "two": "1.0"}
    assert first.direct == ("one",)
    assert first.path == project / "pylock.demo-app-python313-x86_64.toml"
    assert make(first, store) == ["one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"]
    text = first.path.read_text()
    assert tomllib.loads(text)["lock-version"] == "1.0"
    assert str(project.parent) not in text

    index.add("two-2.0-py3-none-any.whl", make_wheel("two", "2.0"))
    index.add("three-1.0-py3-none-any.whl", make_wheel("three"))
    asked = len(index.asked)
    assert resolved(written(project, "one\n"), project) == first
    assert len(index.asked) == asked, "nothing changed: nobody was asked"
    changed = resolved(written(project, "one\nthree\n"), project)
    assert versions(changed) == {"one": "1.0", "two": "1.0", "three": "1.0"}, "kept versions are preferred"
    refreshed = resolved(written(project, "one\nthree\n"), project, Policy(upgrade_packages=("Two",)))
    assert versions(refreshed)["two"] == "2.0"


def test_upgrade_forgets_the_kept_versions(index: Index, project: Path) -> None:
    index.add("one-1.0-py3-none-any.whl", make_wheel("one"))
    resolved(written(project, "one\n"), project)
    index.add("one-2.0-py3-none-any.whl", make_wheel("one", "2.0"))
    assert versions(resolved(written(project, "one\n"), project)) == {"one": "1.0"}
    assert versions(resolved(written(project, "one\n"), project, Policy(upgrade=True))) == {"one": "2.0"}


def test_frozen_never_writes(index: Index, project: Path) -> None:
    index.add("one-1.0-py3-none-any.whl", make_wheel("one"))
    with pytest.raises(FrozenError, match=r"there is no pylock\.demo-app-python313-x86_64\.toml"):
        resolved(written(project, "one\n"), project, Policy(frozen=True))
    kept = resolved(written(project, "one\n"), project)
    assert resolved(written(project, "one\n"), project, Policy(frozen=True)) == kept
    with pytest.raises(FrozenError, match="does not match the requirements any more"):
        resolved(written(project, "one<2\n"), project, Policy(frozen=True))


def test_a_damaged_kept_lock_is_made_anew(index: Index, project: Path) -> None:
    index.add("one-1.0-py3-none-any.whl", make_wheel("one"))
    kept = resolved(written(project, "one\n"), project)
    assert kept.path
    good = kept.path.read_text()
    kept.path.write_text(good[: len(good) // 2])
    assert resolved(written(project, "one\n"), project) == kept
    assert kept.path.read_text() == good


def test_no_solution_and_offline_are_explained(index: Index, project: Path) -> None:
    index.add("one-1.0-py3-none-any.whl", make_wheel("one"))
    with pytest.raises(NoSolutionError, match=r"no resolution for python3\.13 on x86_64") as caught:
        resolved(written(project, "one>5\n"), project)
    assert "one" in "\n".join(caught.value.details)
    with pytest.raises(DownloadError, match="not everything is in uv's cache") as offline:
        resolved(written(project, "never-seen\n"), project, Policy(offline=True))
    assert "without --offline" in offline.value.hint


def test_it_steps_back_to_the_newest_release_that_fits(index: Index, project: Path) -> None:
    index.add("native-3.0-cp311-cp311-manylinux_2_28_x86_64.whl", make_wheel("native", "3.0"))
    index.add("native-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", make_wheel("native", "2.0"))
    index.add("native-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", make_wheel("native", "1.0"))
    index.add("native-3.0.tar.gz", make_sdist("native", "3.0"))
    notes = Notes()
    lock = resolved(written(project, "native\n"), project, target=OLD, progress=notes)
    assert [package.wheel and package.wheel.name for package in lock.packages] == [
        "native-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    ]
    assert notes.notes == ["native 3.0 → 2.0 on python3.11 on x86_64: needs glibc 2.28; al2 has 2.26"]


def test_a_pinned_version_that_needs_a_newer_glibc_is_an_error_not_a_surprise_build(
    index: Index, project: Path
) -> None:
    index.add("native-3.0-cp311-cp311-manylinux_2_28_x86_64.whl", make_wheel("native", "3.0"))
    index.add("native-3.0.tar.gz", make_sdist("native", "3.0"))
    with pytest.raises(NoWheelError, match=r"no file of native 3\.0 runs on python3\.11 on x86_64") as caught:
        resolved(written(project, "native==3.0\n"), project, target=OLD)
    assert caught.value.details == ("native-3.0-cp311-cp311-manylinux_2_28_x86_64.whl: needs glibc 2.28; al2 has 2.26",)


def test_a_pure_sdist_is_built_once_and_serves_other_targets(index: Index, project: Path, store: Store) -> None:
    index.add("pure-1.0.tar.gz", make_sdist("pure", "1.0"))
    requirements = written(project, "pure\n")
    assert make(resolved(requirements, project), store) == ["pure-1.0-py3-none-any.whl"]
    index.files.clear()
    offline = Policy(offline=True)
    arm = resolved(requirements, project)
    wheels = fetch(arm, ARM, store.blobs, store.actions, policy=offline, progress=Silent())
    assert wheels[0].built and wheels[0].filename == "pure-1.0-py3-none-any.whl"


def test_a_native_sdist_for_another_architecture_fails_loudly(index: Index, project: Path, store: Store) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("written for an x86_64 machine")
    index.add("wrapped-1.0.tar.gz", make_sdist("wrapped", "1.0", tag="cp313-cp313-linux_x86_64"))
    lock = resolved(written(project, "wrapped\n"), project, target=ARM)
    with pytest.raises(WrongPlatformError, match=r"wrapped 1\.0 has native code") as caught:
        make(lock, store, ARM)
    assert "another architecture" in "\n".join(caught.value.details)
    assert caught.value.hint


def test_a_failing_build_names_the_package(index: Index, project: Path, store: Store) -> None:
    index.add("broken-1.0.tar.gz", make_sdist("broken", "1.0"))
    folder = project / "broken"
    folder.mkdir()
    for name, text in project_files("broken", "1.0").items():
        (folder / name).write_text(text.replace("import os, zipfile", "raise SystemExit('no compiler here')"))
    lock = resolved(written(project, "./broken\n"), project)
    with pytest.raises(BuildError, match="broken could not be built"):
        make(lock, store)


def test_local_folders_become_wheels_and_are_rebuilt_when_they_change(
    index: Index, project: Path, store: Store
) -> None:
    folder = project / "lib"
    folder.mkdir()
    for name, text in project_files("lib", "1.0").items():
        (folder / name).write_text(text)
    lock = resolved(written(project, "-e ./lib\n"), project)
    assert lock.direct == ("lib",)
    assert lock.path and 'path = "lib"' in lock.path.read_text()
    first = fetch(lock, NEW, store.blobs, store.actions, policy=Policy(), progress=Silent())
    again = fetch(lock, NEW, store.blobs, store.actions, policy=Policy(), progress=Silent())
    assert first == again and first[0].built
    (folder / "backend.py").write_text((folder / "backend.py").read_text().replace("made = True", "made = 2"))
    changed = fetch(lock, NEW, store.blobs, store.actions, policy=Policy(), progress=Silent())
    assert changed[0].sha256 != first[0].sha256


def test_git_commits_become_wheels(index: Index, project: Path, store: Store, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    for name, text in project_files("tracked", "1.0").items():
        (repository / name).write_text(text)
    identity = ["-c", "user.email=a@example.com", "-c", "user.name=a"]
    for arguments in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", *arguments], cwd=repository, check=True)
    lock = resolved(written(project, f"tracked @ git+{repository.as_uri()}\n"), project)
    source = lock.packages[0].source
    assert source and len(source.commit) == 40
    assert make(lock, store) == ["tracked-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("way", ["environment", "option", "named"])
def test_private_indexes_work_and_their_passwords_go_nowhere(
    index: Index, project: Path, store: Store, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("private-1.0-py3-none-any.whl", make_wheel("private"))
    index.login = "user:hush"
    text = "private\n"
    if way == "environment":
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.simple("user:hush"))
    elif way == "option":
        text = f"--index-url {index.simple('user:hush')}\nprivate\n"
        monkeypatch.delenv("UV_DEFAULT_INDEX")
    else:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"own={index.simple()}")
        monkeypatch.setenv("UV_INDEX_OWN_USERNAME", "user")
        monkeypatch.setenv("UV_INDEX_OWN_PASSWORD", "hush")
    requirements = written(project, text)
    resolved(requirements, project)
    reused = resolved(requirements, project)
    assert make(reused, store) == ["private-1.0-py3-none-any.whl"]
    assert reused.path and "hush" not in reused.path.read_text()
    assert "hush" not in repr(reused)


def test_a_refusing_index_says_how_to_give_a_login(index: Index, project: Path) -> None:
    index.add("private-1.0-py3-none-any.whl", make_wheel("private"))
    index.login = "user:hush"
    with pytest.raises(LadingError) as caught:
        resolved(written(project, "private\n"), project)
    assert caught.value.exit_code == 4
    assert "UV_INDEX_" in caught.value.hint


def test_pyproject_extras_and_groups_scripts_and_pylocks(index: Index, project: Path) -> None:
    for name in ("base", "fast", "tool", "unused"):
        index.add(f"{name}-1.0-py3-none-any.whl", make_wheel(name))
    pyproject = project / "pyproject.toml"
    pyproject.write_text(
        '[project]\nname = "p"\nversion = "1"\ndependencies = ["base"]\n'
        '[project.optional-dependencies]\nx = ["fast"]\ny = ["unused"]\n[dependency-groups]\ng = ["tool"]\nh = ["unused"]\n'
    )
    found = resolved(Requirements(RequirementKind.PYPROJECT, pyproject, extras=("x",), groups=("g",)), project)
    assert set(versions(found)) == set(found.direct) == {"base", "fast", "tool"}
    assert found.path
    kept = found.path.read_text()
    script = project / "one.py"
    script.write_text('# /// script\n# dependencies = ["base"]\n# ///\n')
    assert set(versions(resolved(Requirements(RequirementKind.SCRIPT, script, ("fast",)), project))) == {"base", "fast"}
    pylock = project / "pylock.toml"
    pylock.write_text(kept.replace('name = "tool"', 'name = "tool"\nmarker = "\'g\' in dependency_groups"'))
    without = resolved(Requirements(RequirementKind.PYLOCK, pylock), project)
    assert set(versions(without)) == {"base", "fast"} and without.path == pylock
    assert "tool" in versions(resolved(Requirements(RequirementKind.PYLOCK, pylock, groups=("g",)), project))
    with pytest.raises(ResolveError, match=r"locked for (other environments|Python)"):
        resolved(Requirements(RequirementKind.PYLOCK, pylock), project, target=OLD)
