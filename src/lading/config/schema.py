"""The keys of [tool.lading] as one table: validation, suggestions and the reference page read it, nothing else states them."""

from __future__ import annotations

from lading.config.deployment_schema import DEPLOYMENT_KEYS
from lading.config.keys import FUNCTION, LAYER, PROJECT, Key, Kind
from lading.model.project import Bundled, Bytecode
from lading.model.quotas import quotas
from lading.model.target import Architecture, runtimes

_ALL = (PROJECT, FUNCTION, LAYER)
_FUNCTIONS = (PROJECT, FUNCTION)
_QUOTAS = quotas()

KEYS = (
    Key("functions", Kind.TABLES, (PROJECT,), "one, found by its handler", "The functions, by name."),
    Key("layers", Kind.TABLES, (PROJECT,), "none", "The layers to build, by name."),
    Key("output", Kind.STRING, (PROJECT,), '"dist"', "Folder for the artifacts."),
    Key("runtime", Kind.STRING, _ALL, "see above", "Lambda runtime.", choices=tuple(runtimes())),
    Key(
        "architecture",
        Kind.STRING,
        _ALL,
        '"x86_64"',
        "Instruction set.",
        choices=tuple(choice.value for choice in Architecture),
    ),
    Key(
        "handler",
        Kind.STRING,
        _FUNCTIONS,
        "found in the source",
        "`module.function` that Lambda calls.",
        length=_QUOTAS.handler,
    ),
    Key(
        "source",
        Kind.STRING,
        _FUNCTIONS,
        "see above",
        "Folder (the import root) or single file with the function's own code.",
    ),
    Key(
        "requirements",
        Kind.REQUIREMENTS,
        _ALL,
        "the project's",
        "A file, a list of PEP 508 requirements, or a table with `file` and `packages`.",
    ),
    Key("extras", Kind.STRINGS, _ALL, "[]", "Optional dependencies of the project to add."),
    Key("groups", Kind.STRINGS, _ALL, "[]", "Dependency groups (PEP 735) of the project to add."),
    Key("layers", Kind.STRINGS, (FUNCTION,), "[]", f"Layers in order, by name or ARN; at most {_QUOTAS.layers}."),
    Key(
        "content",
        Kind.STRING,
        (LAYER,),
        "none",
        "Folder whose `bin`, `lib`, `python` and others are packed as they are.",
    ),
    Key("include", Kind.STRINGS, _ALL, "everything", "Patterns of own files to pack, relative to the source."),
    Key(
        "exclude",
        Kind.STRINGS,
        _ALL,
        "see below",
        "Patterns of own files to leave out, beside the default ones; `!pattern` lifts a default one.",
    ),
    Key("memory", Kind.INTEGER, _FUNCTIONS, "128", "Memory in MB.", bounds=_QUOTAS.memory),
    Key("timeout", Kind.INTEGER, _FUNCTIONS, "3", "Seconds an invocation may take.", bounds=_QUOTAS.timeout),
    Key(
        "ephemeral-storage",
        Kind.INTEGER,
        _FUNCTIONS,
        "512",
        "Size of `/tmp` in MB.",
        bounds=_QUOTAS.ephemeral_storage,
    ),
    Key(
        "snap-start",
        Kind.BOOLEAN,
        _FUNCTIONS,
        "false",
        "SnapStart for published versions: environments are restored from a snapshot of the initialised function.",
    ),
    Key(
        "environment",
        Kind.VARIABLES,
        _FUNCTIONS,
        "{}",
        f"Environment variables; at most {_QUOTAS.environment_bytes} bytes. A function's are merged over "
        'the project\'s. `{ ssm = "NAME" }` and `{ secret = "NAME", field = "KEY" }` are read when deployed.',
    ),
    Key("description", Kind.STRING, (FUNCTION, LAYER), '""', "Shown by AWS.", length=_QUOTAS.description),
    Key(
        "package",
        Kind.STRING,
        _FUNCTIONS,
        '"zip"',
        "Kind of artifact: a zip, or a container image as an OCI layout folder.",
        choices=("zip", "image"),
    ),
    Key(
        "base",
        Kind.STRING,
        _FUNCTIONS,
        "AWS's image of the runtime",
        "For images: what they stand on. A reference in a registry, a layout folder or a docker-archive file.",
    ),
    Key(
        "architectures",
        Kind.STRINGS,
        _FUNCTIONS,
        "that of `architecture`",
        "For images: all that they are built for. More than one get an index as well, `NAME.index.oci`; the function's own is "
        "`architecture`, or else the first.",
    ),
    Key(
        "dockerfile",
        Kind.STRING,
        _FUNCTIONS,
        "`Dockerfile` in the source or the project, where there is one",
        "For images: built by buildah, podman or docker from this file, unless `base` is set.",
    ),
    Key(
        "compression",
        Kind.STRING,
        _FUNCTIONS,
        '"gzip"',
        "For images: how layers are compressed. AWS documents gzip only.",
        choices=("gzip", "zstd"),
    ),
    Key(
        "labels",
        Kind.VARIABLES,
        _FUNCTIONS,
        "{}",
        "For images: labels, and annotations where lading builds them; a function's are merged over the project's, and those of "
        "`--label` over both.",
    ),
    Key(
        "bytecode",
        Kind.STRING,
        _ALL,
        '"on"',
        "Pack compiled bytecode: beside the sources, in their place, or not.",
        choices=tuple(choice.value for choice in Bytecode),
    ),
    Key(
        "bundled",
        Kind.STRING,
        _ALL,
        '"keep"',
        "Pack the packages that the runtime brings (boto3 and its family), or leave them out.",
        choices=tuple(choice.value for choice in Bundled),
    ),
    Key("strip", Kind.BOOLEAN, _ALL, "false", "Remove debug symbols from native libraries."),
    Key("drop-tests", Kind.BOOLEAN, _ALL, "false", "Leave out the tests of dependencies."),
    Key("botocore-services", Kind.STRINGS, _ALL, "all", "The only botocore services to keep."),
    *DEPLOYMENT_KEYS,
)

REQUIREMENT_KEYS = (
    Key("file", Kind.STRING, (), "none", "A requirements file, pyproject.toml, script or lock."),
    Key("packages", Kind.STRINGS, (), "[]", "PEP 508 requirements."),
    Key("extras", Kind.STRINGS, (), "[]", "As beside `requirements`."),
    Key("groups", Kind.STRINGS, (), "[]", "As beside `requirements`."),
)

REFERENCE_KEYS = (
    Key("ssm", Kind.STRING, (), "none", "A parameter of Systems Manager, by name or ARN."),
    Key("secret", Kind.STRING, (), "none", "A secret of Secrets Manager, by name or ARN."),
    Key("field", Kind.STRING, (), "none", "The key in a secret that is a JSON object."),
)


def keys_of(level: str) -> dict[str, Key]:
    """The keys a table may have, by name."""
    return {key.name: key for key in KEYS if level in key.levels}
