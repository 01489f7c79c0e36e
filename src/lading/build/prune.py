"""Which files of a package a user may ask to leave out: its tests, and botocore's unused service models. Pure, names in and out.

Nothing here runs unless the project asks for it: a package may do anything with its own files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from posixpath import basename

from lading.errors import ConfigError
from lading.model.suggest import did_you_mean

_TEST_FILE = re.compile(r"(test_.*|.*_test|tests?)\.py")
_IMPORT = re.compile(rb"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t(]+([^\n]*)|import[ \t]+([^\n]+))", re.MULTILINE)
BOTOCORE_DATA = "botocore/data/"


class UnknownServiceError(ConfigError):
    """`botocore-services` names a service that this botocore has no model for."""


def test_folders(names: Collection[str]) -> set[str]:
    """Folders of tests ("numpy/linalg/tests"), outermost only.

    A folder named `tests`; one named `test` only if it holds files named as tests, for `test` may be a package's public
    part (django.test). Never `testing`, and never the whole of what a distribution brings.
    """
    found: set[str] = set()
    for name in names:
        parts = name.split("/")
        for depth, part in enumerate(parts[:-1]):
            if part == "tests" or (
                part == "test" and _TEST_FILE.fullmatch(basename(name)) and basename(name) != "test.py"
            ):
                found.add("/".join(parts[: depth + 1]))
                break
    outermost = {folder for folder in found if not any(folder.startswith(f"{other}/") for other in found)}
    outside = [name for name in names if name.endswith((".py", ".so")) and not _is_below(name, outermost)]
    return outermost if outside else set()


def imported_folders(folders: Iterable[str], sources: Mapping[str, bytes]) -> set[str]:
    """Those of `folders` that a source outside of them imports from: they are no mere tests.

    Reads lines, not syntax: a mention in a docstring keeps a folder too, which is the safe side.
    """
    dotted = {folder.replace("/", "."): folder for folder in folders}
    needed: set[str] = set()
    for name, content in sources.items():
        if b"test" not in content or basename(name) == "conftest.py" or _is_below(name, dotted.values()):
            continue
        package = name.split("/")[:-1]
        for module in _imported(content, package):
            needed.update(folder for dots, folder in dotted.items() if f"{module}.".startswith(f"{dots}."))
    return needed


def _imported(content: bytes, package: list[str]) -> Iterable[str]:
    for match in _IMPORT.finditer(content):
        origin, members, modules = (group.decode("utf-8", "replace") if group else "" for group in match.groups())
        if modules:
            yield from (part.split()[0] for part in modules.split(",") if part.split())
            continue
        dots = len(origin) - len(origin.lstrip("."))
        base = package[: len(package) - dots + 1] if dots else []
        module = ".".join([*base, *filter(None, [origin.lstrip(".")])])
        yield module
        yield from (f"{module}.{part.split()[0].strip('()')}" for part in members.split(",") if part.split())


def unwanted_models(names: Iterable[str], services: Collection[str]) -> set[str]:
    """Files of botocore's service models other than `services`; what is shared between services stays.

    Raises UnknownServiceError.
    """
    models: dict[str, list[str]] = {}
    for name in names:
        service, inside, _ = name.removeprefix(BOTOCORE_DATA).partition("/")
        if name.startswith(BOTOCORE_DATA) and inside:
            models.setdefault(service, []).append(name)
    for service in services:
        if service not in models:
            raise UnknownServiceError(f"botocore has no service {service!r}", hint=did_you_mean(service, models))
    return {name for service, files in models.items() if service not in services for name in files}


def _is_below(name: str, folders: Iterable[str]) -> bool:
    return any(name.startswith(f"{folder}/") for folder in folders)
