"""What is wrong with a project is said at once, by file and key, with the next step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lading.config import load
from lading.config.problems import BrokenFileError, InvalidConfigError, MissingConfigError
from lading.errors import ConfigError

HANDLER = "def lambda_handler(event, context):\n    return event\n"


def make(root: Path, text: str) -> Path:
    (root / ".git").mkdir()
    (root / "pyproject.toml").write_text(text, "utf-8")
    (root / "lambda_function.py").write_text(HANDLER, "utf-8")
    return root


def message(error: ConfigError) -> str:
    return "\n".join([error.message, *error.details, error.hint])


MANY_LAYERS = "".join(f'[tool.lading.layers.l{n}]\nrequirements=["six"]\n' for n in range(6))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tool.lading]\nmemroy = 1\n", "tool.lading.memroy: unknown key|did you mean 'memory'"),
        ("[tool.lading.functions.a]\nhandlr = 'a.b'\n", "functions.a.handlr: unknown key|did you mean 'handler'"),
        ("[tool.lading.layers.a]\nrequirments = []\n", "layers.a.requirments: unknown key|did you mean 'requirements'"),
        ("[tool.lading.functions.a]\nrequirements = {packges = []}\n", "packges: unknown key|did you mean 'packages'"),
        ("[tool.lading]\nmemory = '128'\n", "memory: must be an integer, not '128'"),
        ("[tool.lading]\nmemory = true\n", "memory: must be an integer, not True"),
        ("[tool.lading]\nstrip = 1\n", "strip: must be true or false, not 1"),
        ("[tool.lading]\nmemory = 64\n", "memory: 64 is not in 128–10240"),
        ("[tool.lading]\ntimeout = 901\n", "timeout: 901 is not in 1–900"),
        ("[tool.lading]\nephemeral-storage = 1\n", "ephemeral-storage: 1 is not in 512–10240"),
        ("[tool.lading]\nruntime = 'python3.31'\n", "unknown runtime 'python3.31'|did you mean 'python3.1"),
        ("[tool.lading]\narchitecture = 'x86'\n", "unknown architecture 'x86'|x86_64"),
        ("[tool.lading]\nbytecode = 'onl'\n", "unknown bytecode 'onl'|did you mean 'only'"),
        ("[tool.lading]\nhandler = 'noDot'\n", "handler: 'noDot' is not a handler|module.function"),
        ("[tool.lading]\nenvironment = {A1 = 1}\n", "environment.A1: must be a string, not 1"),
        ("[tool.lading]\nlabels = {a = 1}\n", "labels.a: must be a string, not 1"),
        ('[tool.lading]\nlabels = {"a=b" = "c"}\n', "no name of a label"),
        ("[tool.lading]\nenvironment = {AWS_REGION = 'x'}\n", "environment.AWS_REGION: reserved by Lambda"),
        ("[tool.lading]\nenvironment = {1A = 'x'}\n", "environment.1A: not a name that Lambda takes"),
        (f"[tool.lading]\nenvironment = {{AB = '{'x' * 4100}'}}\n", "environment: 4,102 bytes, Lambda takes 4,096"),
        ("[tool.lading]\nexclude = ['a', 'a']\n", "'a' stands there twice"),
        ("[tool.lading]\nexclude = ['!*.py']\n", "lifts no default exclude|did you mean '\\*.pyc'"),
        ("[tool.lading]\nsource = 'nowhere'\n", "source 'nowhere' does not exist|make "),
        ("[tool.lading]\nsource = '../..'\n", "source '../..' leads out of|absolute"),
        ("[tool.lading]\noutput = '..'\n", "output '..' leads out of"),
        ("[tool.lading]\noutput = '.'\n", "is the project itself"),
        ("[tool.lading]\noutput = 'lambda_function.py'\n", "output .* is a file"),
        ("[tool.lading]\nfunctions = 3\n", "functions: must be a table of tables, not 3"),
        ("[tool]\nlading = 3\n", "tool.lading: must be a table, not 3"),
        ("[tool.lading.functions]\na = 3\n", "functions.a: must be a table, not 3"),
        ("[tool.lading.functions.'a b']\n", "'a b' is not a name that AWS takes"),
        ("[tool.lading.functions.a]\nlayers = ['x']\n", "'x' is no layer of this project"),
        ("[tool.lading.functions.a]\nlayers = ['arn:x']\n", "'arn:x' is not the ARN of a layer version"),
        (
            f"{MANY_LAYERS}[tool.lading.functions.a]\nlayers = ['l0','l1','l2','l3','l4','l5']\n",
            "6 layers, Lambda takes 5",
        ),
        ("[tool.lading.functions.a]\n[tool.lading.layers.a]\nrequirements=['six']\n", "a function has the same name"),
        ("[tool.lading.layers.a]\n", "the layer is empty"),
        ("[tool.lading.layers.a]\ncontent='lambda_function.py'\n", "is not a folder"),
        ("[tool.lading]\nrequirements = ['a b c']\n", "'a b c' is not a requirement"),
        ("[tool.lading]\nrequirements = 'no.txt'\n", "requirements 'no.txt' does not exist"),
        ("[tool.lading]\nrequirements = '.git'\n", "no file of requirements"),
        ("[tool.lading]\nrequirements = ['six']\nextras = ['x']\n", "extras and groups need a pyproject.toml"),
        ("[project]\nname='a'\ndependencies=[]\n[tool.lading]\nextras = ['x']\n", "there is no 'x' in pyproject.toml"),
        ("[dependency-groups]\ntest=[]\n[tool.lading]\ngroups = ['tset']\n", "no 'tset'|did you mean 'test'"),
        ("[project]\nrequires-python = '>=4'\n", "allows no Lambda runtime"),
        ("[project]\nrequires-python = 'x'\n", "is not a version specifier"),
        ("[project]\nrequires-python = 3\n", "requires-python must be a string"),
    ],
)
def test_one_problem(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(make(tmp_path, text))
    said = message(caught.value)
    for part in expected.split("|"):
        assert re.search(part, said), said
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert "pyproject.toml" in caught.value.message


def test_all_problems_at_once(tmp_path: Path) -> None:
    text = "[tool.lading]\nmemroy=1\ntimeout=0\n[tool.lading.functions.a]\nlayers=['x']\n[tool.lading.layers.b]\nstirp=true\n"
    with pytest.raises(InvalidConfigError, match="5 problems") as caught:
        load(make(tmp_path, text))
    assert len(caught.value.details) == 5
    assert all(line.startswith("pyproject.toml: tool.lading.") for line in caught.value.details)


def test_a_lock_takes_no_packages(tmp_path: Path) -> None:
    make(tmp_path, "[tool.lading]\nrequirements = {file = 'uv.lock', packages = ['six']}\n")
    (tmp_path / "uv.lock").touch()
    with pytest.raises(InvalidConfigError, match=r"uv\.lock is a lock"):
        load(tmp_path)


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match="line 2"):
        load(make(tmp_path, "[tool.lading]\nmemory = = 3\n"))


def test_nesting_without_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match="not valid TOML"):
        load(make(tmp_path, f"[tool.lading]\nx = {'[' * 20000}\n"))


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    make(tmp_path, "")
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BrokenFileError, match="can't read"):
        load(tmp_path)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match="more than 4,194,304 bytes"):
        load(make(tmp_path, "#" * (4 * 1024 * 1024 + 1)))


def test_a_link_out_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "elsewhere").mkdir()
    root = make(tmp_path / "repository", "[tool.lading]\nsource = 'link'\n")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidConfigError, match="leads out of"):
        load(root)


def test_links_in_a_circle(tmp_path: Path) -> None:
    root = make(tmp_path, "[tool.lading]\nsource = 'link'\n")
    (root / "link").symlink_to("link")
    with pytest.raises(ConfigError, match="'link'"):
        load(root)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(MissingConfigError, match="does not exist") as caught:
        load(tmp_path / "nowhere")
    assert caught.value.hint
    (tmp_path / ".git").mkdir()
    with pytest.raises(MissingConfigError, match="no handler in") as caught:
        load(tmp_path)
    assert "lading init" in caught.value.hint


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.rs").touch()
    with pytest.raises(BrokenFileError, match=r"a\.rs"):
        load(tmp_path / "a.rs")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\n", "neither lambda_handler nor handler"),
        ("# /// script\n# dependencies = []\n", "has no end"),
        ("# /// script\n# a = 1\n# ///\n\n# /// script\n# a = 1\n# ///\n", "has a second one"),
        ("# /// script\n# a = = 1\n# ///\n", "not valid TOML"),
        (f"# /// script\n# [tool.lading]\n# memroy = 1\n# ///\n{HANDLER}", "memroy: unknown key"),
        (f"# /// script\n# [tool.lading.functions.a]\n# ///\n{HANDLER}", "one script is one function"),
    ],
)
def test_scripts(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "job.py").write_text(text)
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path / "job.py")


def test_a_python_that_lambda_does_not_have(tmp_path: Path) -> None:
    make(tmp_path, "")
    (tmp_path / ".python-version").write_text("3.7\n")
    with pytest.raises(ConfigError, match=r"\.python-version names python3\.7"):
        load(tmp_path)
