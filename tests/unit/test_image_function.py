"""What a function that is an image runs, how its URI is pinned, and how a refused start is worded. No I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from oci_samples import AMD64

from lading.errors import LadingError, SandboxError
from lading.oci.image import empty
from lading.sandbox.image import SEARCH_PATH, ImageProcess, ImageRoot, image_environment
from lading.sandbox.layout import base, own
from lading.sandbox.operations import describe
from lading.sandbox.spec import ProcessEnded, SandboxSpec
from lading.service.contract.errors import ApiError
from lading.service.control.images import Pin, check_change, check_code, check_creation, image_uri
from lading.service.pool.image_function import (
    ImageProcessError,
    Overrides,
    RootLease,
    judge_image,
    launch_error,
    process_of,
)

DIGEST = f"sha256:{'a' * 64}"


def process(overrides: Overrides | None = None, **config: Any) -> ImageProcess:
    return process_of(empty(AMD64).configure(config), overrides or Overrides())


def test_entry_and_command_are_overridden_apart() -> None:
    config = {
        "Entrypoint": ["/entry"],
        "Cmd": ["app.handler"],
        "WorkingDir": "/var/task",
        "Env": ["A=1", "B=x=y", "broken"],
        "User": "me",
    }
    assert process(**config) == ImageProcess(("/entry",), ("app.handler",), "/var/task", {"A": "1", "B": "x=y"})
    assert process(Overrides.of({"Command": ["other"]}), **config).command == ("/entry", "other")
    assert process(Overrides.of({"EntryPoint": ["/mine", "x"]}), **config).command == ("/mine", "x", "app.handler")
    assert process(Overrides.of({"EntryPoint": [], "WorkingDirectory": ""}), **config).command == (
        "/entry",
        "app.handler",
    )
    assert process(Cmd=["only"]).folder == "/"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"Cmd": "a string"},
        {"Entrypoint": [1]},
        {"Cmd": ["a\0b"]},
        {"Cmd": ["x"] * 2000},
        {"Cmd": ["x"], "WorkingDir": 3},
    ],
)
def test_an_image_that_says_nothing_readable_is_told(config: dict[str, Any]) -> None:
    with pytest.raises(ImageProcessError) as caught:
        process(**config)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("folder", "refused", "kind", "message"),
    [
        ("/", "no such file or directory", "Runtime.InvalidEntrypoint", "fork/exec /x: no such file or directory"),
        ("/", "exec format error", "Runtime.InvalidEntrypoint", "fork/exec /x: exec format error"),
        ("/", "executable file not found in $PATH", "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/x]"),
        ("/no", "chdir: no such file or directory", "Runtime.InvalidWorkingDir", "the working directory doesn't exist: /no"),
        ("no", "chdir: not an absolute path", "Runtime.InvalidWorkingDir",
         "the working directory 'no' is invalid, it needs to be an absolute path"),
    ],
)  # fmt: skip
def test_a_refused_start_is_worded_as_aws_does(folder: str, refused: str, kind: str, message: str) -> None:
    spec = SandboxSpec(image=ImageRoot((Path("/layer"),), ImageProcess(("/x",), ("a", "b"), folder)))
    fault = judge_image(spec, ProcessEnded("runtime", 127, None, refused))
    assert fault is not None and (fault.error_type, fault.message) == (kind, message)
    assert (
        launch_error(spec, fault)
        == f"IMAGE\tLaunch error: {message}\tEntrypoint: [/x]\tCmd: [a b]\tWorkingDir: [{folder}]"
    )
    assert judge_image(spec, ProcessEnded("runtime", 127, None)) is None


def test_variables_are_lambdas_under_the_images_own() -> None:
    seen = image_environment({"PATH": "/own", "AWS_LAMBDA_RUNTIME_API": "elsewhere"}, "here:1")
    assert (seen["PATH"], seen["AWS_LAMBDA_RUNTIME_API"], seen["AWS_EXECUTION_ENV"]) == (
        "/own",
        "here:1",
        "AWS_Lambda_Image",
    )
    assert image_environment({}, "here:1")["PATH"] == SEARCH_PATH


def test_the_last_holder_lets_a_root_go() -> None:
    closed: list[int] = []
    lease = RootLease((), lambda: closed.append(1))
    lease.hold()
    lease.release()
    assert not closed
    lease.release()
    assert closed == [1]
    with pytest.raises(ValueError, match="released"):
        lease.hold()


@pytest.mark.parametrize(
    ("uri", "resolved"),
    [
        ("host.example/a/b:v1", "host.example/a/b"),
        ("host.example:5000/a/b", "host.example:5000/a/b"),
        ("host.example:5000/a/b:v1", "host.example:5000/a/b"),
        (f"host.example/a:v1@{DIGEST}", "host.example/a"),
        ("a", "a"),
    ],
)
def test_a_pin_names_the_repository_as_it_was_written(uri: str, resolved: str) -> None:
    assert Pin(uri, DIGEST, "").resolved_uri == f"{resolved}@{DIGEST}"


def test_which_requests_are_about_an_image() -> None:
    image = {"PackageType": "Image", "Code": {"ImageUri": "a"}}
    assert image_uri("CreateFunction", image) == image_uri("UpdateFunctionCode", {"ImageUri": "a"}) == "a"
    assert not image_uri("CreateFunction", {"Code": {"ImageUri": "a"}}) and not image_uri("GetFunction", image)
    check_creation(image)
    check_change({"PackageType": "Image"}, {"ImageConfig": {"Command": ["x"]}})
    check_code({"PackageType": "Zip"}, {"ZipFile": b""})
    for wrong in ({"Code": {"ImageUri": "a"}, "Runtime": "python3.13", "Handler": "a.b"}, {**image, "CodeSigningConfigArn": "x"},
                  {"PackageType": "Image", "Code": {}}):  # fmt: skip
        with pytest.raises(ApiError):
            check_creation(wrong)


def test_a_spec_has_code_or_an_image() -> None:
    image = ImageRoot((Path("/layer"),), ImageProcess(("/x",)))
    for wrong in (
        {},
        {"code": Path("/code"), "image": image, "entry": ("/x",)},
        {"image": ImageRoot((), ImageProcess(()))},
    ):
        with pytest.raises(LadingError):
            SandboxSpec(**wrong)
    with pytest.raises(SandboxError, match="absolute"):
        SandboxSpec(image=ImageRoot((Path("layer"),), ImageProcess(("/x",))))


def test_the_steps_into_an_image(tmp_path: Path) -> None:
    spec = SandboxSpec(image=ImageRoot((tmp_path,), ImageProcess(("/x",))))
    steps = describe((*base(spec), *own(spec, 1)))
    assert f"root of {tmp_path} + dev, proc, tmp, etc, etc/hosts" in steps and "seal /dev" in steps
    assert "/var/task" not in steps and "/var/lang" not in steps and "tmpfs /tmp" in steps
