"""The plan: what is built, what is left, and the reason of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from lading.build.plan import Stamp, Step, Unit, decide, units_of, with_layers
from lading.model.project import FunctionConfig, LayerConfig, LayerReference, PackOptions, Project, Source
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import find_target

TARGET = find_target("python3.13", "x86_64")
NOTHING = Requirements(RequirementKind.INLINE)
ARTIFACT = Path("/project/dist/orders.zip")


def unit(name: str = "orders", kind: str = "function", layers: tuple[str, ...] = ()) -> Unit:
    return Unit(name, kind, TARGET, NOTHING, None, PackOptions(), layers=layers)


def stamp(file: str = "10:20:30", **parts: str) -> Stamp:
    return Stamp({"code": "c1", "settings": "s1", **parts}, file)


@pytest.mark.parametrize(
    ("old", "new", "build", "reason"),
    [
        (None, stamp(), True, "not built before"),
        (stamp(), stamp(file=""), True, "the artifact is missing"),
        (stamp(), stamp(code="c2"), True, "code changed"),
        (stamp(), stamp(code="c2", settings="s2"), True, "code and settings changed"),
        (stamp(requirements="r1"), stamp(), True, "requirements changed"),
        (stamp(), stamp(file="99:20:30"), True, "the artifact was changed by somebody else"),
        (stamp(), stamp(), False, "nothing changed"),
    ],
)
def test_each_step_has_its_reason(old: Stamp | None, new: Stamp, build: bool, reason: str) -> None:
    step = decide(unit(), ARTIFACT, old, new)
    assert (step.build, step.reason) == (build, reason)


def test_a_function_follows_its_layer() -> None:
    layer = Step(unit("shared", "layer"), build=True, reason="code changed", artifact=ARTIFACT)
    user = Step(unit("orders", layers=("shared",)), build=False, reason="nothing changed", artifact=ARTIFACT)
    other = Step(unit("mail"), build=False, reason="nothing changed", artifact=ARTIFACT)
    steps = with_layers((layer, user, other))
    assert [(step.build, step.reason) for step in steps] == [
        (True, "code changed"),
        (True, "layer 'shared' changed"),
        (False, "nothing changed"),
    ]


def test_units_are_layers_then_functions() -> None:
    function = FunctionConfig(
        "orders",
        "app.handler",
        TARGET,
        Source(Path("/project")),
        NOTHING,
        layers=(LayerReference(name="shared"), LayerReference(arn="arn:aws:lambda:eu-west-1:1:layer:x:1")),
    )
    layer = LayerConfig("shared", TARGET, NOTHING)
    project = Project(Path("/project"), Path("/project/pyproject.toml"), (function,), (layer,))
    first, second = units_of(project)
    assert (first.name, first.prefix, first.mount) == ("shared", "python/", "/opt")
    assert (second.name, second.prefix, second.mount) == ("orders", "", "/var/task")
    assert second.layers == ("shared",)
    assert second.foreign_layers == ("arn:aws:lambda:eu-west-1:1:layer:x:1",)
