"""`[tool.lading.stages.NAME]`: what differs in a stage, laid over the project's tables before anything is read of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lading.config.declaration import Declaration
from lading.config.keys import FUNCTION, LAYER, PROJECT
from lading.config.problems import InvalidConfigError, Problems
from lading.config.validation import check_table
from lading.model.suggest import did_you_mean

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_PARTS = {"functions": FUNCTION, "layers": LAYER}


def with_stage(declaration: Declaration, stage: str) -> Declaration:
    """The declaration as the stage has it. Raises InvalidConfigError for a stage that isn't there, or a broken one."""
    problems = Problems(declaration.origin)
    stages = declaration.defaults.get("stages", {})
    where = f"{declaration.prefix}.stages"
    if not isinstance(stages, Mapping):
        problems.add(where, f"must be a table of tables, not {stages!r}", f"write [{where}.NAME]")
        problems.raise_any()
    for name, table in stages.items():
        _check_stage(str(name), table, f"{where}.{name}", declaration, problems)
    problems.raise_any()
    defaults = {key: value for key, value in declaration.defaults.items() if key != "stages"}
    if not stage:
        return replace(declaration, defaults=defaults)
    if stage not in stages:
        hint = did_you_mean(stage, stages) if stages else f"add [{where}.{stage}]"
        raise InvalidConfigError(f"{declaration.origin.name} has no stage {stage!r}", hint=hint)
    own = stages[stage]
    return replace(
        declaration,
        defaults=merge({key: value for key, value in own.items() if key not in _PARTS}, defaults),
        functions=merge(own.get("functions", {}), declaration.functions),
        layers=merge(own.get("layers", {}), declaration.layers),
    )


def merge(own: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are joined, anything else is replaced."""
    both = {
        key: merge(value, below[key])
        for key, value in own.items()
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
    }
    return {**below, **own, **both}


def _check_stage(name: str, table: object, where: str, declaration: Declaration, problems: Problems) -> None:
    if not _NAME.fullmatch(name):
        problems.add(where, f"{name!r} is no name of a stage", "letters, digits, - and _; at most 32")
    if not isinstance(table, Mapping):
        problems.add(where, f"must be a table, not {table!r}", f"write [{where}]")
        return
    if "stages" in table:
        problems.add(f"{where}.stages", "a stage has no stages", "remove it")
    known = {"functions": declaration.functions, "layers": declaration.layers}
    for part, level in _PARTS.items():
        parts = table.get(part, {})
        for unit, own in parts.items() if isinstance(parts, Mapping) else ():
            if unit not in known[part]:
                problems.add(
                    f"{where}.{part}.{unit}", f"the project has no such {level}", did_you_mean(unit, known[part])
                )
            elif isinstance(own, Mapping):
                # Required keys of inner tables may stand in the project's own table: the merged one is checked for them.
                check_table(merge(own, known[part][unit]), level, f"{where}.{part}.{unit}", problems)
    rest = {key: value for key, value in table.items() if key not in (*_PARTS, "stages")}
    check_table(merge(rest, {}), PROJECT, where, problems)
