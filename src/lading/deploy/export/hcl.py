"""Terraform's language, as text: blocks, attributes, expressions. Knows no resource.

Source: HCL native syntax specification; Terraform language documentation, "Strings and Templates".
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lading.deploy.export.portable import ACCOUNT, PARTITION, REGION, pieces

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_MARKS = {
    ACCOUNT: "${data.aws_caller_identity.current.account_id}",
    REGION: "${data.aws_region.current.id}",
    PARTITION: "${data.aws_partition.current.partition}",
}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True)
class Expression:
    """Written as it is: a reference, a call."""

    text: str


@dataclass(frozen=True)
class Call:
    """A function of one argument."""

    name: str
    argument: Any = field(hash=False)


@dataclass(frozen=True)
class Block:
    """`kind "label" "label" { … }`. Attributes that are None are left out."""

    kind: str
    labels: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    blocks: tuple[Block, ...] = ()


def write(blocks: list[Block]) -> str:
    """A file."""
    return "\n".join("\n".join(_block(block, "")) + "\n" for block in blocks)


def _block(block: Block, indent: str) -> Iterator[str]:
    labels = "".join(f" {quote(label)}" for label in block.labels)
    attributes = {name: value for name, value in block.attributes.items() if value is not None}
    if not attributes and not block.blocks:
        yield f"{indent}{block.kind}{labels} {{}}"
        return
    yield f"{indent}{block.kind}{labels} {{"
    yield from _assignments({name: value(one, f"{indent}  ") for name, one in attributes.items()}, f"{indent}  ")
    for number, inner in enumerate(block.blocks):
        if number or attributes:
            yield ""
        yield from _block(inner, f"{indent}  ")
    yield f"{indent}}}"


def _assignments(texts: Mapping[str, str], indent: str) -> Iterator[str]:
    """As `terraform fmt` aligns them: neighbours on lines of their own together; what needs more than a line alone."""
    for several, group in itertools.groupby(texts.items(), key=lambda item: "\n" in item[1]):
        members = list(group)
        width = 0 if several else max(len(name) for name, _ in members)
        yield from (f"{indent}{name:<{width}} = {text}" for name, text in members)


def value(thing: Any, indent: str = "") -> str:
    """An expression. Tables and lists of tables stand on lines of their own."""
    inner = f"{indent}  "
    match thing:
        case Expression():
            return thing.text
        case Call():
            return f"{thing.name}({value(thing.argument, indent)})"
        case bool() | int() | float() | None:
            return json.dumps(thing)
        case str():
            # What is nothing but one reference needs no template around it.
            return _MARKS[thing][2:-1] if thing in _MARKS else quote(thing)
        case Mapping():
            if not thing:
                return "{}"
            lines = _assignments({_key(key): value(one, inner) for key, one in thing.items()}, inner)
            return "{\n" + "\n".join(lines) + f"\n{indent}}}"
        case list() | tuple():
            if any(isinstance(one, Mapping | list | tuple | Call) for one in thing):
                return "[\n" + "".join(f"{inner}{value(one, inner)},\n" for one in thing) + f"{indent}]"
            return "[" + ", ".join(value(one, indent) for one in thing) + "]"
    raise TypeError(f"{thing!r} can't be written")


def _key(key: str) -> str:
    return key if _IDENTIFIER.fullmatch(key) else quote(key)


def quote(text: str) -> str:
    """A string with account, region and partition filled in by Terraform; nothing else of it is a template."""
    return '"' + "".join(_MARKS[piece] if mark else _escape(piece) for mark, piece in pieces(text)) + '"'


def _escape(text: str) -> str:
    escaped = "".join(_ESCAPES.get(one) or (one if one.isprintable() else _number(one)) for one in text)
    return escaped.replace("${", "$${").replace("%{", "%%{")


def _number(one: str) -> str:
    return f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"
