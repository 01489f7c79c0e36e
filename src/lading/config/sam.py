"""AWS SAM templates → a Declaration. Takes what lading builds; the rest of the template is none of its business."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lading.config.declaration import Declaration
from lading.config.intrinsics import Resolver, Unresolvable, as_text
from lading.config.problems import MissingConfigError, Problems
from lading.config.requirement_source import find_requirements
from lading.config.sam_deployment import deployment_keys
from lading.config.sam_settings import settings_keys
from lading.config.template_file import read_template_file

SERVERLESS, PLAIN = "AWS::Serverless::Function", "AWS::Lambda::Function"
LAYERS = {"AWS::Serverless::LayerVersion": "ContentUri", "AWS::Lambda::LayerVersion": "Content"}
"""Types of layers, and the property that names their folder."""
_KEYS = {
    "Handler": "handler",
    "Runtime": "runtime",
    "MemorySize": "memory",
    "Timeout": "timeout",
    "Description": "description",
}
_NUMBERS = {"MemorySize", "Timeout"}
_PSEUDO = re.compile(r"\$\{AWS::(?:Region|Partition|AccountId|URLSuffix)\}")


class _NotOurs(Exception):  # noqa: N818 - a verdict, not an error
    """A function that lading leaves to others, and why."""


def read_template(path: Path) -> Declaration:
    """Functions and layers of a template. Raises InvalidConfigError with every field that can't be told."""
    return _Template(path, read_template_file(path), Problems(path)).declaration()


@dataclass
class _Template:
    path: Path
    document: dict[str, Any]
    problems: Problems
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.resolver = Resolver(self.document)
        shared = self.document.get("Globals")
        function = shared.get("Function") if isinstance(shared, Mapping) else None
        self.globals: Mapping[str, Any] = function if isinstance(function, Mapping) else {}

    def declaration(self) -> Declaration:
        functions: dict[str, Any] = {}
        layers: dict[str, Any] = {}
        for name, resource in self.document["Resources"].items():
            kind = resource.get("Type") if isinstance(resource, Mapping) else None
            if kind not in (SERVERLESS, PLAIN, *LAYERS):
                continue
            properties = resource.get("Properties") or {}
            if not isinstance(properties, Mapping):
                self.problems.add(f"Resources.{name}.Properties", "must be a map")
                continue
            try:
                if kind in LAYERS:
                    layers[name] = self._layer(name, resource, properties)
                else:
                    functions[name] = self._function(name, kind, properties)
            except _NotOurs as reason:
                self.skipped.append(f"{name}: {reason}")
        self.problems.raise_any()
        if not functions and not layers:
            raise MissingConfigError(
                f"{self.path.name} has no Python function or layer for lading to build",
                details=self.skipped,
                hint=f"a resource of type {SERVERLESS} with a Runtime python3.x and a local CodeUri",
            )
        return Declaration(
            root=self.path.parent,
            origin=self.path,
            functions=functions,
            layers=layers,
            prefix="Resources",
            skipped=tuple(self.skipped),
            own_requirements=True,
        )

    def _function(self, name: str, kind: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """A function's table with lading's keys."""
        properties = merge(self.globals, own) if kind == SERVERLESS else dict(own)
        get = _Fields(self, name, properties)
        _refuse_foreign(get)
        table: dict[str, Any] = {"source": _source(get, "CodeUri" if kind == SERVERLESS else "Code")}
        for field_name, key in _KEYS.items():
            value = get(field_name)
            if value is not None:
                table[key] = _number(value) if field_name in _NUMBERS else value
        for needed in ("Handler", "Runtime"):
            if needed not in properties:
                self.problems.add(f"Resources.{name}.Properties.{needed}", "is missing", "state it here or in Globals")
        architectures = get("Architectures")
        if architectures:
            table["architecture"] = architectures[0] if isinstance(architectures, list) else architectures
        storage = get("EphemeralStorage")
        if isinstance(storage, Mapping):
            table["ephemeral-storage"] = _number(storage.get("Size", 512))
        snap_start = get("SnapStart")
        if isinstance(snap_start, Mapping):
            table["snap-start"] = snap_start.get("ApplyOn") == "PublishedVersions"
        table["environment"] = self._environment(name, properties.get("Environment"))
        table["layers"] = self._layer_names(name, properties.get("Layers") or [])
        read = deployment_keys if kind == SERVERLESS else settings_keys
        table |= read(properties, self.resolver.resolve, lambda what: self.skipped.append(f"{name}: {what}"))
        return table

    def _environment(self, function: str, environment: object) -> dict[str, str]:
        """Variables whose value only a deployment knows are left out, and listed."""
        variables = environment.get("Variables") if isinstance(environment, Mapping) else None
        found: dict[str, str] = {}
        if not isinstance(variables, Mapping):
            return found
        for name, value in variables.items():
            try:
                found[str(name)] = as_text(self.resolver.resolve(value))
            except Unresolvable as unknown:
                self.skipped.append(f"{function}: variable {name} is known when deployed only ({unknown})")
        return found

    def _layer_names(self, function: str, layers: object) -> list[str]:
        """Names of the template's own layers, and ARNs; region, partition and account stay as they are written."""
        where = f"Resources.{function}.Properties.Layers"
        if not isinstance(layers, list):
            self.problems.add(where, "must be a list")
            return []
        names: list[str] = []
        for layer in layers:
            match layer:
                case {"Ref": str(name)} if self._is_layer(name):
                    names.append(name)
                    continue
                case {"Fn::Sub": str(text)} if _PSEUDO.search(text):
                    # The colons in a pseudo parameter's name would break the ARN's parts.
                    layer = {"Fn::Sub": _PSEUDO.sub(lambda match: match[0][2:-1].replace("AWS::", "aws-"), text)}
            try:
                names.append(as_text(self.resolver.resolve(layer)))
            except Unresolvable as unknown:
                self.problems.add(
                    where, f"only a deployment knows {unknown}", "write the ARN, or !Ref a layer of this template"
                )
        return names

    def _is_layer(self, name: str) -> bool:
        resource = self.document["Resources"].get(name)
        return isinstance(resource, Mapping) and resource.get("Type") in LAYERS

    def _layer(self, name: str, resource: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
        """With Metadata.BuildMethod pythonX.Y the folder states requirements; without, it is packed as it is."""
        get = _Fields(self, name, properties)
        metadata = resource.get("Metadata")
        method = metadata.get("BuildMethod") if isinstance(metadata, Mapping) else None
        runtimes = get("CompatibleRuntimes") or []
        source = _source(get, LAYERS[resource["Type"]])
        table: dict[str, Any] = {}
        architectures = get("CompatibleArchitectures")
        if isinstance(architectures, list) and len(architectures) == 1:
            table["architecture"] = architectures[0]
        if isinstance(metadata, Mapping) and "BuildArchitecture" in metadata:
            table["architecture"] = metadata["BuildArchitecture"]
        if isinstance(description := get("Description"), str):
            table["description"] = description
        if method is None:
            pythons = [runtime for runtime in runtimes if str(runtime).startswith("python")]
            if isinstance(runtimes, list) and runtimes and not pythons:
                raise _NotOurs(f"a layer for {', '.join(map(str, runtimes))}")
            return {**table, "content": source, **({"runtime": pythons[-1]} if pythons else {})}
        if not str(method).startswith("python"):
            raise _NotOurs(f"a layer built by {method}")
        requirements = find_requirements(self.path.parent / source).path
        if requirements is None:
            self.problems.add(f"Resources.{name}", f"no requirements in {source!r}", "add a requirements.txt there")
            return table
        return {**table, "runtime": method, "requirements": str(requirements)}


@dataclass
class _Fields:
    """Properties of a resource, resolved; what can't be is a problem of the field."""

    template: _Template
    resource: str
    properties: Mapping[str, Any]

    def __call__(self, name: str) -> Any:
        if self.properties.get(name) is None:
            return None
        try:
            return self.template.resolver.resolve(self.properties[name])
        except Unresolvable as unknown:
            where = f"Resources.{self.resource}.Properties.{name}"
            self.template.problems.add(
                where, f"only a deployment knows {unknown}", "write the value, or give the parameter a Default"
            )
            return None


def _refuse_foreign(get: _Fields) -> None:
    """Raises _NotOurs: 1. images 2. other languages 3. code that isn't a local folder or file."""
    if get.properties.get("PackageType") == "Image":
        raise _NotOurs("a container image")
    runtime = get("Runtime")
    if isinstance(runtime, str) and not runtime.startswith("python"):
        raise _NotOurs(f"its runtime is {runtime}")
    if "InlineCode" in get.properties:
        raise _NotOurs("its code stands in the template")


def _source(get: _Fields, name: str) -> str:
    """A local path. Raises _NotOurs for code on S3 or inline."""
    stated = get.properties.get(name)
    if isinstance(stated, Mapping) and {"Bucket", "Key", "S3Bucket", "S3Key", "ZipFile", "ImageUri"} & stated.keys():
        raise _NotOurs(f"its {name} is not a local folder")
    value = get(name)
    if isinstance(value, str) and value.startswith(("s3://", "https://")):
        raise _NotOurs(f"its {name} is {value}")
    return value if isinstance(value, str) and value else "."


def merge(shared: Any, own: Any) -> Any:
    """Globals under a function's own, as SAM does: maps are joined, lists appended, anything else is replaced."""
    if isinstance(shared, Mapping) and isinstance(own, Mapping):
        if _is_intrinsic(shared) or _is_intrinsic(own):
            return own
        both = {key: merge(shared[key], own[key]) for key in shared.keys() & own.keys() if key != "Architectures"}
        return {**shared, **own, **both}
    if isinstance(shared, list) and isinstance(own, list):
        return [*shared, *own]
    return own


def _is_intrinsic(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and str(next(iter(value))).startswith(("Fn::", "Ref"))


def _number(value: object) -> object:
    """CloudFormation takes numbers as text too."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value) else value
