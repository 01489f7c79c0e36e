"""Reads a CloudFormation template, YAML or JSON, into plain values: short tags in their long form, bounded, no duplicates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from lading.config.problems import BrokenFileError
from lading.config.reading import read_text

MOST_NODES = 200_000
"""Values of a template with its aliases written out; far beyond the 500 resources that CloudFormation takes."""
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """YAML's safe loader, with CloudFormation's tags."""


def _tagged(loader: Any, suffix: str, node: yaml.Node) -> dict[str, Any]:
    """`!Sub x` → {"Fn::Sub": x}; `!GetAtt a.b` → {"Fn::GetAtt": ["a", "b"]}."""
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.MappingNode):
        return {name: loader.construct_mapping(node, deep=True)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    value = loader.construct_scalar(node)
    return {name: value.split(".", 1) if suffix == "GetAtt" and isinstance(value, str) else value}


_Loader.add_multi_constructor("!", _tagged)


def read_template_file(path: Path) -> dict[str, Any]:
    """The template. Raises BrokenFileError with the line."""
    document = parse_template(read_text(path), str(path), json_text=path.suffix == ".json")
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise BrokenFileError(f"{path} has no Resources", hint="is it a SAM or CloudFormation template?")
    return document


def parse_template(text: str, name: str, *, json_text: bool) -> Any:
    """The document of a text. Raises BrokenFileError with its name and the line."""
    try:
        return _from_json(text) if json_text else _from_yaml(text)
    except yaml.YAMLError as error:
        raise BrokenFileError(f"{name} is not valid YAML: {_describe(error)}", hint="correct it there") from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise BrokenFileError(f"{name} is not a valid template: {error}", hint="correct it there") from error


def _from_json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice")
        return found

    return json.loads(text, object_pairs_hook=unique)


def _from_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} values, aliases written out")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values below a node with aliases written out. Raises on circles and duplicate keys."""
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.MarkedYAMLError(None, None, "an alias to what it stands in", node.start_mark)
        return known[id(node)]
    known[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _refuse_duplicates(node)
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]


def _refuse_duplicates(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen and key.value != "<<":
                raise yaml.MarkedYAMLError(None, None, f"{key.value!r} stands there twice", key.start_mark)
            seen.add(key.value)


def _describe(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else problem
