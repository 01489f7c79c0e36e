"""What distributions' own metadata says against what is there: requirements, versions, the SDK's family."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lading.audit.codes import found
from lading.audit.package import PackageFacts
from lading.audit.subject import Subject
from lading.model.finding import Finding
from lading.model.names import normalize
from lading.model.target import Target

if TYPE_CHECKING:
    from packaging.requirements import Requirement


SDK = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")
"""The distributions that a runtime's boto3 is made of. Source: docs/reference of the runtimes; FACTS in runtimes.toml."""
_SDK_CORE = ("boto3", "botocore", "s3transfer")
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
_EDITABLE = re.compile(r"^__editable__.*\.pth$|\.egg-link$|^_[\w]*_editable.*\.pth$")


def check_requirements(subject: Subject) -> Iterator[Finding]:
    """Requires-Dist and Requires-Python, with markers evaluated for the target."""
    present = {package.name: package.version for package in (*subject.layers, *subject.packages) if package.name}
    bundled = subject.target.runtime.bundled
    # awslambdaric is there before any import, so what a package needs of it is there too.
    available = {**bundled, **present}
    for package in subject.packages:
        if package.name and package.name in bundled and package.name not in present:
            continue
        yield from _check_package(package, available, subject)


def _check_package(package: PackageFacts, available: Mapping[str, str], subject: Subject) -> Iterator[Finding]:
    target = subject.target
    metadata = next((path for path in package.files if path.endswith(".dist-info/METADATA")), "")
    who = f"{package.name} {package.version}".strip()
    if package.requires_python and not _allows(package.requires_python, f"{target.runtime.python_version}.99"):
        message = f"{who} asks for Python {package.requires_python}, the runtime has {target.runtime.python_version}"
        yield found("python-version", message, file=metadata, package=package.name)
    for line in package.requires:
        requirement = needed_requirement(line, target)
        if requirement is None:
            continue
        name = normalize(requirement.name)
        if name not in available:
            if not subject.unseen_layers:
                message = f"{who} requires {requirement}, which is not there"
                yield found("missing-requirement", message, file=metadata, package=package.name)
        elif (
            available[name] and str(requirement.specifier) and not _allows(str(requirement.specifier), available[name])
        ):
            message = f"{who} requires {requirement}, and {name} is {available[name]}"
            yield found("requirement-version", message, file=metadata, package=package.name)


@functools.lru_cache(maxsize=4096)
def needed_requirement(line: str, target: Target) -> Requirement | None:
    """A Requires-Dist line that applies on the target without extras; None for others and for lines nobody can parse."""
    from packaging.requirements import InvalidRequirement, Requirement

    if "extra" in line.partition(";")[2] and re.search(r"\bextra\s*==", line):
        return None
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    if requirement.marker is not None and not requirement.marker.evaluate({**target.marker_environment, "extra": ""}):
        return None
    return requirement


@functools.lru_cache(maxsize=4096)
def _allows(specifier: str, version: str) -> bool:
    """Whether a version is within a specifier; a specifier or version nobody can parse forbids nothing."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True


def check_sdk(subject: Subject) -> Iterator[Finding]:
    """The SDK's family: all of it or none. Members that other packages brought along alone are skew."""
    if subject.layer or subject.image:
        return
    bundled = subject.target.runtime.bundled
    present = {package.name: package.version for package in (*subject.layers, *subject.packages)}
    core = [name for name in _SDK_CORE if name in present]
    absent = [name for name in SDK if name not in present and name in bundled]
    if core and absent:
        message = (
            f"{', '.join(core)} here, but {', '.join(absent)} left to the runtime, which changes them without asking"
        )
        yield found("sdk-skew", message, package=core[0])
    elif core:
        size = sum(package.size for package in subject.packages if package.name in SDK)
        if size:
            yield found("bundled-sdk", f"boto3 and its family take {size / 1e6:.1f} MB unzipped", package=core[0])
    elif "urllib3" in present and "urllib3" in bundled:
        mine, theirs = present["urllib3"], bundled["urllib3"]
        if mine.partition(".")[0] != theirs.partition(".")[0]:
            message = f"urllib3 {mine} here goes before the runtime's {theirs}, which its botocore was tested with"
            yield found("sdk-skew", message, package="urllib3")


def check_editable(subject: Subject) -> Iterator[Finding]:
    for package in subject.packages:
        for path in package.files:
            if path.endswith((".pth", ".egg-link")) and _EDITABLE.search(path.rpartition("/")[2]):
                message = "points to a folder that is not on Lambda"
                yield found("editable-install", message, file=path, package=package.name)


def requirement_name(line: str) -> str:
    """The normalized name at the start of a PEP 508 line."""
    match = _NAME.match(line.strip())
    return normalize(match[0]) if match else ""
