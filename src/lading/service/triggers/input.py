"""What a rule's target gets of an event: all of it, a part, a text of the target's own, or a template filled in. Pure.

Sources: EventBridge user guide, "Amazon EventBridge input transformation"; API reference, "Target" (InputPath, InputTransformer).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]|(\.\*|\[\*\])")
_PLACE = re.compile(r"<([\w.-]+)>")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


@dataclass(frozen=True)
class RuleNames:
    """What a template may call <aws.events.…>."""

    arn: str
    name: str
    ingested: str


def target_input(target: dict[str, Any], event: dict[str, Any], names: RuleNames) -> str:
    """JSON, or whatever text the target's Input or template is."""
    if target.get("Input"):
        return str(target["Input"])
    if target.get("InputPath"):
        return dump(read_path(event, target["InputPath"]))
    transformer = target.get("InputTransformer")
    if not transformer:
        return dump(event)
    values = {name: read_path(event, path) for name, path in (transformer.get("InputPathsMap") or {}).items()}
    values |= {
        "aws.events.rule-arn": names.arn,
        "aws.events.rule-name": names.name,
        "aws.events.event.ingestion-time": names.ingested,
        "aws.events.event.json": event,
        "aws.events.event": {name: value for name, value in event.items() if name != "detail"},
    }
    return fill(transformer["InputTemplate"], values)


def fill(template: str, values: dict[str, Any]) -> str:
    """A template with its <names>: inside of a JSON string as text, elsewhere as JSON. A name that nothing is called is left."""

    def inside(match: re.Match[str]) -> str:
        if match[1] not in values:
            return match[0]
        value = values[match[1]]
        return dump(_text(value))[1:-1]

    def outside(match: re.Match[str]) -> str:
        return dump(values[match[1]]) if match[1] in values else match[0]

    filled, at = [], 0
    for string in _STRING.finditer(template):
        filled += [_PLACE.sub(outside, template[at : string.start()]), _PLACE.sub(inside, string[0])]
        at = string.end()
    return "".join([*filled, _PLACE.sub(outside, template[at:])])


def read_path(event: Any, path: str) -> Any:
    """What is at a JSON path ("$.detail.items[0]"); None where nothing is."""
    if not path.startswith("$"):
        return None
    at, found = 1, event
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return None
        at = step.end()
        if step[5]:
            rest = "$" + path[at:]
            items = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
            return [value for value in (read_path(item, rest) for item in items) if value is not None]
        name = step[1] or step[3] or step[4]
        if step[2] is not None and isinstance(found, list):
            number = int(step[2]) if len(step[2]) < 10 else len(found)
            found = found[number] if number < len(found) else None
        else:
            found = found.get(name) if isinstance(found, dict) else None
    return found


def dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else dump(value)
