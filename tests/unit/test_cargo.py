"""What goes into an artifact: the lock's packages, less those that the runtime or a layer brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lading.build.cargo import LayerConflictError, divide
from lading.build.plan import Unit
from lading.build.share import share_dependencies
from lading.model.lock import Lock, LockedFile, LockedPackage, LockedSource
from lading.model.project import Bundled, FunctionConfig, LayerReference, PackOptions, Project, Source
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import find_target

TARGET = find_target("python3.13", "x86_64")
ARM = find_target("python3.13", "arm64")
NOTHING = Requirements(RequirementKind.INLINE)


def package(name: str, version: str = "1.0") -> LockedPackage:
    file = LockedFile(f"{name}-{version}-py3-none-any.whl", f"https://example.org/{name}", "ab" * 32, 1000)
    return LockedPackage(name, version, wheel=file)


def lock(*packages: LockedPackage) -> Lock:
    return Lock(TARGET.key, tuple(sorted(packages, key=lambda package: package.name)))


def unit(layers: tuple[str, ...] = (), bundled: Bundled = Bundled.KEEP) -> Unit:
    return Unit("orders", "function", TARGET, NOTHING, None, PackOptions(bundled=bundled), "app.handler", layers)


def test_everything_is_packed_without_layers() -> None:
    cargo = divide(unit(), lock(package("boto3"), package("six")), {"shared": [package("six")]})
    assert [entry.name for entry in cargo.packages] == ["boto3", "six"]
    assert cargo.left_out == ()


def test_the_whole_sdk_family_is_dropped_when_asked() -> None:
    family = [
        package(name) for name in ("boto3", "botocore", "jmespath", "s3transfer", "urllib3", "python-dateutil", "six")
    ]
    cargo = divide(unit(bundled=Bundled.DROP), lock(*family, package("requests")), {})
    assert [entry.name for entry in cargo.packages] == ["requests"]
    assert {entry.name for entry in cargo.left_out} == {entry.name for entry in family}
    assert {entry.reason for entry in cargo.left_out} == {"bundled with the runtime"}
    assert sum(entry.size for entry in cargo.left_out) == 7000


def test_what_a_layer_holds_is_left_out_with_its_name() -> None:
    cargo = divide(
        unit(("base", "shared")), lock(package("six"), package("idna")), {"base": [], "shared": [package("six")]}
    )
    assert [entry.name for entry in cargo.packages] == ["idna"]
    assert [(entry.name, entry.reason) for entry in cargo.left_out] == [("six", "in layer 'shared'")]


def test_every_conflict_with_a_layer_is_named() -> None:
    layers = {"shared": [package("six", "2.0"), package("idna", "3.0"), package("certifi")]}
    with pytest.raises(LayerConflictError) as caught:
        divide(unit(("shared",)), lock(package("six"), package("idna"), package("certifi")), layers)
    assert len(caught.value.details) == 2
    assert any("six" in line and "1.0" in line and "2.0" in line for line in caught.value.details)


def test_local_packages_are_equal_by_their_source() -> None:
    here = LockedPackage("own", "", source=LockedSource(directory=Path("/project/own")))
    there = replace(here, source=LockedSource(directory=Path("/project/other")))
    assert divide(unit(("shared",)), lock(here), {"shared": [here]}).packages == ()
    with pytest.raises(LayerConflictError):
        divide(unit(("shared",)), lock(here), {"shared": [there]})


def function(name: str, layers: tuple[str, ...] = (), target: object = TARGET) -> FunctionConfig:
    references = tuple(LayerReference(name=layer) for layer in layers)
    return FunctionConfig(name, "app.handler", target, Source(Path("/p")), NOTHING, references)  # type: ignore[arg-type]


def project(*functions: FunctionConfig) -> Project:
    return Project(Path("/p"), Path("/p/pyproject.toml"), functions)


def test_what_two_functions_share_becomes_a_layer() -> None:
    locks = {
        "a": lock(package("six"), package("idna")),
        "b": lock(package("six"), package("certifi")),
        "c": lock(package("certifi", "2.0")),
    }
    shared = share_dependencies(project(function("a"), function("b"), function("c")), locks)
    (layer,) = shared.project.layers
    assert layer.requirements.specifiers == ("six==1.0",)
    assert [entry.name for entry in shared.locks[layer.name].packages] == ["six"]
    assert [f.layers for f in shared.project.functions] == [(LayerReference(name=layer.name),)] * 2 + [()]
    assert '"six==1.0"' in shared.proposal
    assert "used by a, b" in shared.proposal


def test_nothing_in_common_changes_nothing() -> None:
    before = project(function("a"), function("b"))
    shared = share_dependencies(before, {"a": lock(package("six")), "b": lock(package("six", "2.0"))})
    assert shared.project == before
    assert shared.proposal == ""


def test_each_target_gets_a_layer_of_its_own() -> None:
    functions = (function("a"), function("b"), function("c", target=ARM), function("d", target=ARM))
    shared = share_dependencies(project(*functions), {name: lock(package("six")) for name in "abcd"})
    assert [(layer.name, layer.target) for layer in shared.project.layers] == [
        ("shared-python313-x86_64", TARGET),
        ("shared-python313-arm64", ARM),
    ]


def test_a_function_with_five_layers_is_left_alone() -> None:
    full = function("a", layers=("1", "2", "3", "4", "5"))
    shared = share_dependencies(project(full, function("b")), {"a": lock(package("six")), "b": lock(package("six"))})
    assert shared.project.functions[0] == full
    assert shared.project.layers == ()
