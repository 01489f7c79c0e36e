"""The pure half of resolve: which wheels fit, what decides a resolution, what locks say, what is masked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lading.model.lock import LockedFile, LockedPackage, LockedSource
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import find_target
from lading.resolve import LockPlace, inputs_digest
from lading.resolve.acceptance import elf_problems
from lading.resolve.fit import choose, rank, too_new, why_not
from lading.resolve.inputs import BadInputError, script_metadata
from lading.resolve.pinned_formats import read_pins
from lading.resolve.pins import Pin, applies, select
from lading.resolve.pylock import BadLockError, parse, read_toml, render
from lading.resolve.redact import redact, strip_credentials
from lading.resolve.requirement_files import BadRequirementsError, read_requirements

NEW = find_target("python3.13", "x86_64")
OLD = find_target("python3.11", "x86_64")
ARM = find_target("python3.13", "arm64")


def file(name: str) -> LockedFile:
    return LockedFile(name, f"https://example.com/{name}", "a" * 64, 1)


def test_the_best_wheel_is_native_then_newest_glibc_then_pure() -> None:
    names = [
        "x-1-py3-none-any.whl",
        "x-1-cp313-cp313-manylinux_2_17_x86_64.whl",
        "x-1-cp313-cp313-manylinux_2_28_x86_64.whl",
        "x-1-cp313-cp313-musllinux_1_2_x86_64.whl",
        "x-1-cp313-cp313-manylinux_2_39_x86_64.whl",
    ]
    best = choose(map(file, names), NEW)
    assert best and best.name == names[2]
    assert choose([file(names[3])], NEW) is None
    fallback = choose([file(names[0]), file(names[1])], ARM)
    assert fallback and fallback.name == names[0]


def test_cryptography_on_python311_takes_its_2_17_wheel() -> None:
    names = [
        f"cryptography-44.0.3-{python}-abi3-{platform}_x86_64.whl"
        for python in ("cp37", "cp39")
        for platform in ("manylinux_2_17_x86_64.manylinux2014", "manylinux_2_28", "manylinux_2_34", "musllinux_1_2")
    ]
    best = choose(map(file, names), OLD)
    assert best and best.name == "cryptography-44.0.3-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x-1-cp311-cp311-manylinux_2_28_x86_64.whl", "needs glibc 2.28; al2 has 2.26"),
        ("x-1-cp311-cp311-manylinux_2_17_aarch64.whl", "built for another architecture (manylinux_2_17_aarch64)"),
        ("x-1-cp311-cp311-musllinux_1_2_x86_64.whl", "needs musl; Lambda has glibc"),
        ("x-1-cp311-cp311-win_amd64.whl", "built for win_amd64"),
        ("x-1-cp312-cp312-manylinux_2_17_x86_64.whl", "built for cp312-cp312, not for Python 3.11"),
        ("nonsense.whl", "not a valid wheel name"),
    ],
)
def test_why_a_wheel_does_not_fit(name: str, reason: str) -> None:
    assert rank(name, OLD) is None
    assert why_not(name, OLD) == reason
    assert too_new(name, OLD) is ("glibc" in reason and "needs glibc" in reason)


def test_credentials_are_masked_everywhere() -> None:
    text = "see https://user:pass%40@host/simple and git+https://token@host/r"
    assert redact(text) == "see https://****@host/simple and git+https://****@host/r"
    assert strip_credentials("https://user:pass@host/a") == "https://host/a"


def test_a_kept_lock_is_named_without_dots() -> None:
    assert LockPlace(Path("/p"), "my.app").path(NEW).name == "pylock.my-app-python313-x86_64.toml"


def test_a_rendered_lock_reads_back_and_has_no_absolute_paths(tmp_path: Path) -> None:
    packages = (
        LockedPackage("one", "1.0", wheel=LockedFile("one-1.0-py3-none-any.whl", "https://u:p@h/one.whl", "a" * 64, 3)),
        LockedPackage("two", "2", sdist=LockedFile("two-2.tar.gz", (tmp_path / "w x/two-2.tar.gz").as_uri(), "b" * 64)),
        LockedPackage("three", "", source=LockedSource(directory=tmp_path / "lib", editable=True)),
        LockedPackage("four", "4", source=LockedSource(git="https://h/r.git", commit="c" * 40, subdirectory="sub")),
    )
    path = tmp_path / "pylock.x.toml"
    text = render(packages, NEW, path, {"format": 1, "direct": ("one",)})
    assert str(tmp_path) not in text and "u:p@" not in text
    path.write_text(text)
    read = [entry.candidate for entry in parse(read_toml(path), path)]
    assert [(found.name, found.version, found.source) for found in read] == [
        (p.name, p.version, p.source) for p in packages
    ]
    assert read[0].wheels[0] == LockedFile("one-1.0-py3-none-any.whl", "https://h/one.whl", "a" * 64, 3)
    assert read[1].sdist == packages[1].sdist


@pytest.mark.parametrize(
    "document",
    [
        {"lock-version": "2.0"},
        {"lock-version": "1.0", "packages": {}},
        {"lock-version": "1.0", "packages": [{"version": "1"}]},
        {
            "lock-version": "1.0",
            "packages": [{"name": "a", "wheels": [{"url": "https://h/a.whl", "hashes": {"md5": "0"}}]}],
        },
        {"lock-version": "1.0", "packages": [{"name": "a", "wheels": [{"name": "../a", "url": "https://h/a"}]}]},
        {"lock-version": "1.0", "packages": [{"name": "a", "vcs": {"type": "hg", "url": "u", "commit-id": "1"}}]},
    ],
)
def test_bad_locks_are_refused(document: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(BadLockError):
        parse(document, tmp_path / "pylock.toml")


def test_markers_of_locks() -> None:
    assert applies("sys_platform == 'linux' and python_version >= '3.12'", NEW, (), ())
    assert not applies("python_version >= '3.12'", OLD, (), ())
    assert applies("'fast' in extras", NEW, ["fast"], ()) and not applies("'fast' in extras", NEW, (), ())
    assert applies('extra == "fast"', NEW, ["fast"], ()) and not applies('extra == "fast"', NEW, (), ())
    with pytest.raises(BadLockError, match="can't be evaluated"):
        applies("nonsense >", NEW, (), ())


def test_pins_are_selected_by_group_marker_and_python() -> None:
    pins = [
        Pin("a", "1", groups=frozenset({"default"})),
        Pin("b", "1", groups=frozenset({"dev"})),
        Pin("c", "1", marker="sys_platform == 'win32'"),
        Pin("d", "1", requires_python="<3.12"),
        Pin("d", "2", requires_python=">=3.12"),
    ]
    assert {name: pin.version for name, pin in select(pins, NEW, (), ()).items()} == {"a": "1", "d": "2"}
    assert set(select(pins, OLD, (), ["dev"])) == {"a", "b", "d"}
    with pytest.raises(BadLockError, match="d 1 and 2"):
        select([Pin("d", "1"), Pin("d", "2")], NEW, (), ())


def test_a_pdm_lock_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pdm.lock"
    path.write_text(
        '[metadata]\ngroups = ["default"]\nlock_version = "4.5.0"\n'
        '[[package]]\nname = "A.b"\nversion = "1"\ngroups = ["default"]\nmarker = "python_version < \\"3.12\\""\n'
        f'files = [{{file = "a_b-1.whl", hash = "sha256:{"a" * 64}"}}]\n'
    )
    pins = read_pins(Requirements(RequirementKind.PDM_LOCK, path), path, NEW).pins
    expected = Pin("a-b", "1", {"a" * 64: "a_b-1.whl"}, 'python_version < "3.12"', frozenset({"default"}))
    assert pins == (expected,)
    path.write_text('[[package]]\nversion = "1"\n')
    with pytest.raises(BadLockError, match=r"not as pdm\.lock should be"):
        read_pins(Requirements(RequirementKind.PDM_LOCK, path), path, NEW)


def test_requirements_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "more.txt").write_text("Third_Party[x]>=1 ; python_version > '3'  # why\n")
    (tmp_path / "limits.txt").write_text("limited<2\n")
    main = tmp_path / "requirements.txt"
    main.write_text(
        "-r sub/more.txt\n-c limits.txt\n--index-url https://u:p@h/simple\none==1 \\\n  --hash=sha256:00\n"
        "-e ./lib\nnear @ ./near\ngit+https://h/r.git\n"
    )
    found = read_requirements(main)
    assert found.names == ["Third_Party", "one", "near"]
    assert [path.name for path in found.folders] == ["lib", "near"]
    assert found.indexes == ["https://u:p@h/simple"]
    assert {path.name for path in found.files} == {"requirements.txt", "more.txt", "limits.txt"}
    main.write_text("-r gone.txt\n")
    with pytest.raises(BadRequirementsError, match=r"gone\.txt"):
        read_requirements(main)


def test_the_digest_changes_with_what_decides_and_with_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(folder: Path, target: str = "python3.13", **more: tuple[str, ...]) -> str:
        requirements = Requirements(RequirementKind.FILE, folder / "requirements.txt", **more)
        return inputs_digest(requirements, find_target(target, "x86_64"))

    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        (folder / "lib").mkdir(parents=True)
        (folder / "requirements.txt").write_text("one\n-c limits.txt\n./lib\n")
        (folder / "limits.txt").write_text("two<2\n")
        (folder / "lib" / "pyproject.toml").write_text('[project]\nname = "lib"\nversion = "1"\n')
    here, there = folders
    start = digest(here)
    assert start == digest(there), "the same on another machine and in another folder"
    seen = {start, digest(here, "python3.12"), digest(here, extras=("x",)), digest(here, specifiers=("six",))}
    (here / "limits.txt").write_text("two<3\n")
    seen.add(digest(here))
    (here / "lib" / "pyproject.toml").write_text('[project]\nname = "lib"\nversion = "1"\ndependencies = ["six"]\n')
    seen.add(digest(here))
    (here / "uv.toml").write_text('index-strategy = "unsafe-best-match"\n')
    seen.add(digest(here))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://u:one@h/simple")
    seen.add(digest(here))
    assert len(seen) == 8
    last = digest(here)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://u:two@h/simple")
    (here / "lib" / "pyproject.toml").write_text(
        '[project]\nname = "lib"\nversion = "1"\ndependencies = ["six"]\n[tool.ruff]\nx = 1\n'
    )
    assert digest(here) == last, "passwords and other tools' tables decide nothing"


def test_script_metadata_and_its_faults(tmp_path: Path) -> None:
    script = tmp_path / "one.py"
    script.write_text('# /// script\n# dependencies = ["six"]\n# ///\nprint(1)\n')
    assert script_metadata(script) == {"dependencies": ["six"]}
    script.write_text("print(1)\n")
    with pytest.raises(BadInputError, match="has no"):
        script_metadata(script)
    script.write_text("# /// script\n# dependencies = [\n# ///\n")
    with pytest.raises(BadInputError, match="not valid TOML"):
        script_metadata(script)


def test_native_code_is_judged_by_machine_and_symbol_versions() -> None:
    program = sys.executable
    if Path(program).resolve().read_bytes()[18:20] != b"\x3e\x00":
        pytest.skip("needs an x86_64 program")
    with Path(program).resolve().open("rb") as opened:
        assert list(elf_problems(opened, "prog", ARM)) == ["prog is x86_64 code"]
    import io

    broken = io.BytesIO(b"\x7fELF" + b"\0" * 60)
    assert "broken ELF" in next(iter(elf_problems(broken, "prog", NEW)))
