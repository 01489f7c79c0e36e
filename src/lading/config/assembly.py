"""A declaration, with defaults and overrides → a checked Project. All problems of the origin come at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lading.config.declaration import Declaration
from lading.config.deployment import function_deployment, project_deployment
from lading.config.handlers import find_handler, handler_in, holds_module
from lading.config.keys import FUNCTION, LAYER, PROJECT
from lading.config.places import excludes, existing, place
from lading.config.problems import InvalidConfigError, MissingConfigError, Problems
from lading.config.requirement_source import (
    NONE,
    find_requirements,
    requirements_at,
    with_packages,
    with_selection,
)
from lading.config.schema import keys_of
from lading.config.validation import HANDLER, check_table
from lading.config.versions import DEFAULT_ARCHITECTURE, default_runtime, requires_python
from lading.errors import ConfigError
from lading.model.project import (
    Bundled,
    Bytecode,
    FunctionConfig,
    LayerConfig,
    LayerReference,
    PackOptions,
    Project,
    Source,
)
from lading.model.quotas import quotas
from lading.model.requirements import Requirements
from lading.model.suggest import did_you_mean
from lading.model.target import Architecture, Target, find_target

NO_HANDLER = "add a lambda_function.py with lambda_handler(event, context), set `handler`, or run `lading init`"
_ARN = re.compile(r"arn:[^:]+:lambda:[^:]+:[^:]+:layer:[A-Za-z0-9_-]+:\d+")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
Values = Mapping[str, Any]


def assemble(declaration: Declaration, overrides: Values, stage: str = "") -> Project:
    """The project. Raises InvalidConfigError, MissingConfigError or BrokenFileError."""
    return _Assembly(declaration, overrides, Problems(declaration.origin), stage).project()


def valid_name(text: str) -> str:
    """A text as AWS takes it for a function's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[: quotas().function_name] or "function"


@dataclass
class _Assembly:
    declaration: Declaration
    overrides: Values
    problems: Problems
    stage: str = ""

    def project(self) -> Project:
        given = self.declaration
        defaults = check_table(given.defaults, PROJECT, given.prefix, self.problems)
        output = self._output(defaults)
        layers = [self._layer(name, table, defaults, output) for name, table in given.layers.items()]
        functions = [self._function(name, table, defaults, output) for name, table in self._functions(defaults)]
        self._check_twice()
        name = given.name or valid_name(given.root.name)
        deployment = project_deployment(defaults, name, self.stage, given.prefix, self.problems)
        self.problems.raise_any()
        return Project(
            root=given.root,
            origin=given.origin,
            functions=tuple(function for function in functions if function),
            layers=tuple(layer for layer in layers if layer),
            output=output,
            skipped=given.skipped,
            deployment=deployment,
        )

    def _output(self, defaults: Values) -> Path:
        root = self.declaration.root
        try:
            output = place(defaults.get("output", "dist"), root, what="output")
            if root.is_relative_to(output):
                raise InvalidConfigError(f"output {str(output)!r} is the project itself", hint='such as "dist"')
            if output.exists() and not output.is_dir():
                raise InvalidConfigError(f"output {str(output)!r} is a file", hint="name a folder")
        except ConfigError as error:
            self.problems.take(f"{self.declaration.prefix}.output", error)
            return root / "dist"
        return output

    def _functions(self, defaults: Values) -> list[tuple[str, Any]]:
        """Those named; else the one of the project, unless it only makes layers."""
        given = self.declaration
        if given.functions:
            return list(given.functions.items())
        named = "handler" in defaults or "source" in defaults
        if given.layers and not named and not self._find_source(given.name, ""):
            return []
        return [(given.name, {})]

    def _check_twice(self) -> None:
        for name in self.declaration.functions:
            if name in self.declaration.layers:
                where = self.declaration.where("layers", name)
                self.problems.add(where, "a function has the same name, and both become one file", "rename one")

    def _function(self, name: str, table: object, defaults: Values, output: Path) -> FunctionConfig | None:
        prefix = self.declaration.prefix
        where = self.declaration.where("functions", name) if self.declaration.functions else prefix
        self._check_name(name, where, quotas().function_name)
        known = len(self.problems.found)
        values = self._merge(check_table(table, FUNCTION, where, self.problems), defaults, FUNCTION)
        try:
            source, handler = self._code(name, values)
            target = self._target(values)
            return FunctionConfig(
                name=name,
                handler=handler,
                target=target,
                source=self._source(source, values, output),
                requirements=self._requirements(values, source, where),
                layers=self._layer_references(values.get("layers", ()), where),
                options=pack_options(values),
                environment=self._environment(values, where),
                memory=values.get("memory", 128),
                timeout=values.get("timeout", 3),
                ephemeral_storage=values.get("ephemeral-storage", 512),
                snap_start=values.get("snap-start", False),
                description=values.get("description", ""),
                package=values.get("package", "zip"),
                base=values.get("base", ""),
                compression=values.get("compression", "gzip"),
                labels=values.get("labels", {}),
                deployment=function_deployment(values, where, self.problems),
                dockerfile=self._dockerfile(values, source),
                architectures=_architectures(values, target),
            )
        except ConfigError as error:
            if isinstance(error, MissingConfigError) and not self.declaration.functions and not known:
                raise
            self.problems.take(where, error)
        return None

    def _dockerfile(self, values: Values, source: Path) -> Path | None:
        """As stated; else in the function's own folder, or the project's where it has one function."""
        root = self.declaration.root
        if "dockerfile" in values:
            return existing(values["dockerfile"], root, what="dockerfile")
        own = source if source.is_dir() else source.parent
        places = [own, root] if len(self.declaration.functions) < 2 else [own] if own != root else []
        return next((path for place in places if (path := place / "Dockerfile").is_file()), None)

    def _layer(self, name: str, table: object, defaults: Values, output: Path) -> LayerConfig | None:
        where = self.declaration.where("layers", name)
        self._check_name(name, where, quotas().layer_name)
        own = check_table(table, LAYER, where, self.problems)
        values = self._merge(own, defaults, LAYER)
        try:
            content = self._content(values, output)
            states = {"requirements", "extras", "groups"} & values.keys()
            requirements = self._requirements(values, None, where) if states or not content else NONE
            if requirements.is_empty and not content:
                self.problems.add(where, "the layer is empty", "give it `requirements` or `content`")
            return LayerConfig(
                name=name,
                target=self._target(values),
                requirements=requirements,
                content=content,
                options=pack_options(values),
                description=values.get("description", ""),
            )
        except ConfigError as error:
            self.problems.take(where, error)
        return None

    def _merge(self, own: Values, defaults: Values, level: str) -> dict[str, Any]:
        """Overrides over own values over the project's; environments, tags and labels are joined, and so are excludes."""
        names = keys_of(level).keys() - {"layers", "functions"}
        inherited = {key: value for key, value in defaults.items() if key in names}
        overrides = {key: value for key, value in self.overrides.items() if key in names}
        merged = {**inherited, **own, **overrides}
        for name in ("environment", "tags", "labels"):
            if name in merged:
                merged[name] = {**inherited.get(name, {}), **own.get(name, {})}
        if "exclude" in merged:
            merged["exclude"] = [*inherited.get("exclude", ()), *own.get("exclude", ())]
        return merged

    def _check_name(self, name: str, where: str, longest: int) -> None:
        if not _NAME.fullmatch(name) or len(name) > longest:
            message = f"{name!r} is not a name that AWS takes"
            self.problems.add(where, message, f"letters, digits, - and _; at most {longest}")

    def _target(self, values: Values) -> Target:
        given = self.declaration
        runtime = values.get("runtime") or default_runtime(given.root, requires_python(given.document))
        several = values.get("architectures") or (DEFAULT_ARCHITECTURE,)
        return find_target(runtime, values.get("architecture", several[0]))

    def _code(self, name: str, values: Values) -> tuple[Path, str]:
        """Where the code is, and its handler."""
        handler = values.get("handler", "")
        if handler and not HANDLER.fullmatch(handler):
            raise InvalidConfigError(f"{handler!r} is not a handler", hint="write module.function")
        stated = values.get("source")
        if stated is None:
            found = self._find_source(name, handler)
            if found is None:
                what = f"no module of {handler!r}" if handler else "no handler"
                raise MissingConfigError(f"{what} in {self.declaration.root}", hint=NO_HANDLER)
            return found
        source = existing(stated, self.declaration.root, what="source")
        if handler:
            return source, handler
        if source.is_file():
            return source, f"{source.stem}.{handler_in(source) or 'lambda_handler'}"
        handler = find_handler(source, self._package())
        if not handler:
            raise MissingConfigError(f"no handler in {source}", hint=NO_HANDLER)
        return source, handler

    def _find_source(self, name: str, handler: str) -> tuple[Path, str] | None:
        """The first of NAME/, src/ and the project's folder that holds the handler's module, or any handler."""
        root = self.declaration.root
        for folder in (root / name, root / "src", root):
            if not folder.is_dir():
                continue
            found = handler if handler and holds_module(folder, handler) else ""
            found = found or ("" if handler else find_handler(folder, self._package()))
            if found:
                return folder, found
        return None

    def _package(self) -> str:
        """The import name of the project's own package, by the usual convention."""
        project = self.declaration.document.get("project")
        name = project.get("name") if isinstance(project, Mapping) else None
        return (
            re.sub(r"[-.]+", "_", name).lower()
            if isinstance(name, str) and _NAME.fullmatch(name.replace(".", "-"))
            else ""
        )

    def _source(self, root: Path, values: Values, output: Path) -> Source:
        if root.is_dir() and root.is_relative_to(output):
            raise InvalidConfigError(f"source {str(root)!r} is in the output folder", hint="set another `output`")
        if root.is_file():
            return Source(root)
        return Source(root, tuple(values.get("include", ())), excludes(root, output, values.get("exclude", ())))

    def _content(self, values: Values, output: Path) -> Source | None:
        if "content" not in values:
            return None
        folder = existing(values["content"], self.declaration.root, what="content")
        if not folder.is_dir():
            raise InvalidConfigError(f"content {values['content']!r} is not a folder", hint="name a folder")
        return self._source(folder, values, output)

    def _requirements(self, values: Values, source: Path | None, where: str) -> Requirements:
        found = self._stated(values, source, where)
        table = values.get("requirements")
        inner = table if isinstance(table, Mapping) else {}
        extras = [*values.get("extras", ()), *inner.get("extras", ())]
        groups = [*values.get("groups", ()), *inner.get("groups", ())]
        return with_selection(found, extras, groups, where, self.problems)

    def _stated(self, values: Values, source: Path | None, where: str) -> Requirements:
        """1. what the table says 2. the file given on the command line 3. the source folder's own 4. the project's."""
        given, stated = self.declaration, values.get("requirements")
        if isinstance(stated, str):
            return requirements_at(existing(stated, given.root, what="requirements"))
        if isinstance(stated, list):
            return with_packages(NONE, stated, f"{where}.requirements", self.problems)
        if isinstance(stated, Mapping):
            base = (
                requirements_at(existing(stated["file"], given.root, what="requirements")) if "file" in stated else NONE
            )
            return with_packages(base, stated.get("packages", ()), f"{where}.requirements.packages", self.problems)
        if given.requirements:
            return requirements_at(given.requirements)
        own = NONE
        if source is not None and source.is_dir() and source != given.root:
            own = find_requirements(source)
        if not own.is_empty or given.own_requirements:
            return own
        document = given.document if given.origin.name == "pyproject.toml" else None
        return find_requirements(given.root, document)

    def _layer_references(self, names: list[str], where: str) -> tuple[LayerReference, ...]:
        most = quotas().layers
        if len(names) > most:
            self.problems.add(f"{where}.layers", f"{len(names)} layers, Lambda takes {most}", "join some of them")
        references = []
        for name in names:
            if _ARN.fullmatch(name):
                references.append(LayerReference(arn=name))
            elif name in self.declaration.layers:
                references.append(LayerReference(name=name))
            else:
                hint = (
                    did_you_mean(name, self.declaration.layers)
                    if self.declaration.layers
                    else "the project has no layers"
                )
                what = "is not the ARN of a layer version" if name.startswith("arn:") else "is no layer of this project"
                self.problems.add(f"{where}.layers", f"{name!r} {what}", hint)
        return tuple(references)

    def _environment(self, values: Values, where: str) -> dict[str, str]:
        """Those whose values are written; the others are the deployment's."""
        environment = {name: value for name, value in values.get("environment", {}).items() if isinstance(value, str)}
        size = sum(len(name.encode()) + len(value.encode()) for name, value in environment.items())
        if size > quotas().environment_bytes:
            message = f"{size:,} bytes, Lambda takes {quotas().environment_bytes:,}"
            self.problems.add(f"{where}.environment", message, "keep large values in Parameter Store or in a file")
        return environment


def _architectures(values: Values, target: Target) -> tuple[Architecture, ...]:
    """Each once, as written. Raises ConfigError for an unknown one, or where the function's own is not among them."""
    stated = values.get("architectures") or (target.architecture,)
    found = tuple(dict.fromkeys(find_target(target.runtime.name, one).architecture for one in stated))
    if target.architecture not in found:
        raise InvalidConfigError(
            f"architecture {target.architecture.value!r} is not one of the architectures {', '.join(found)}",
            hint="add it, or leave out `architecture`: it is the first of them then",
        )
    return found


def pack_options(values: Values) -> PackOptions:
    """The options of a checked table."""
    services = values.get("botocore-services")
    return PackOptions(
        bytecode=Bytecode(values.get("bytecode", "on")),
        bundled=Bundled(values.get("bundled", "keep")),
        strip=values.get("strip", False),
        drop_tests=values.get("drop-tests", False),
        botocore_services=None if services is None else tuple(services),
    )
