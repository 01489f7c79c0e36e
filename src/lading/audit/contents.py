"""What is wrong with an artifact as a set of files: sizes, names, modes, bytecode, secrets, the wrong top folder."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from lading.audit.codes import found
from lading.audit.package import PackageFacts, source_of_bytecode
from lading.audit.subject import Subject
from lading.model.finding import Finding, Severity
from lading.model.quotas import quotas

_NEAR = 0.85
_WORTH_A_LAYER = 5 * 1024 * 1024

MAGICS = {(3, 9): 3425, (3, 10): 3439, (3, 11): 3495, (3, 12): 3531, (3, 13): 3571, (3, 14): 3627}
"""First word of a .pyc's magic number by Python version. Source: CPython's Lib/importlib/_bootstrap_external.py."""

_SECRET = re.compile(
    r"(?:^|/)(?:\.env(?:\.(?!example$|sample$|template$|dist$)[\w.-]+)?|\.netrc|\.pypirc|id_(?:rsa|dsa|ecdsa|ed25519)|"
    r"\.aws/credentials|\.git-credentials|\.npmrc|\.pgpass|credentials\.json|[^/]*service[-_]account[^/]*\.json|[^/]+\.p12|[^/]+\.pfx)$",
    re.IGNORECASE,
)
_SITE_PACKAGES = re.compile(r"^(.*?/)?(?:lib(?:64)?/python(\d\.\d+)/)?(?:site|dist)-packages/")
_LAYER_PYTHON = re.compile(r"^python/lib/python(\d\.\d+)/site-packages/")
_SUFFIXES = (".py", ".so", ".pyc")
_SHOWN = 5


def check_sizes(subject: Subject) -> Iterator[Finding]:
    """Lambda's limits on bytes and layers; none of them holds for an image."""
    if subject.layer_count > quotas().layers:
        yield found("layer-count", f"{subject.layer_count} layers; Lambda takes {quotas().layers}")
    if subject.image:
        return
    if not any(package.files for package in subject.packages):
        yield found("empty-artifact", "there is no file in it")
    total = subject.unzipped_size + subject.layers_unzipped_size
    if total > quotas().unzipped:
        layers = f" (of which layers {subject.layers_unzipped_size:,})" if subject.layers_unzipped_size else ""
        biggest = ", ".join(f"{p.name or 'own code'} {p.size / 1e6:.1f} MB" for p in _biggest(subject.packages))
        message = f"{total:,} bytes unzipped{layers}; Lambda takes {quotas().unzipped:,}. Largest: {biggest}"
        yield found("unzipped-size", message)
    elif total > quotas().unzipped * _NEAR:
        yield found("use-image", f"{total:,} bytes unzipped, {total / quotas().unzipped:.0%} of what Lambda takes")
    if subject.zipped_size is not None and subject.zipped_size > quotas().direct_upload:
        yield found(
            "zipped-size", f"{subject.zipped_size:,} bytes zipped; a direct upload takes {quotas().direct_upload:,}"
        )
    own = sum(package.size for package in subject.packages if not package.name)
    rest = sum(package.size for package in subject.packages if package.name)
    if not subject.layer and subject.layer_count == 0 and rest > _WORTH_A_LAYER and rest > 20 * max(own, 1):
        yield found("use-layer", f"{rest / 1e6:.1f} MB of dependencies beside {own / 1e6:.2f} MB of own code")


def _biggest(packages: tuple[PackageFacts, ...]) -> list[PackageFacts]:
    return sorted(packages, key=lambda package: (-package.size, package.name))[:_SHOWN]


def check_names(subject: Subject) -> Iterator[Finding]:
    """Names that differ in case only, and files that usually hold secrets."""
    seen: dict[str, str] = {}
    for package in subject.packages:
        for path in package.files:
            folded = path.lower()
            other = seen.setdefault(folded, path)
            if other != path:
                yield found("case-clash", f"differs from {other} in case only", file=path, package=package.name)
            if not package.name and _SECRET.search(path):
                yield found("secret-file", "looks like a file with credentials", file=_at(package, path))


def check_modes(subject: Subject) -> Iterator[Finding]:
    """Files that can't be read here, or that the function's user can't read or execute."""
    for package in subject.packages:
        for path, problem in package.damaged.items():
            yield found("member-damaged", problem, file=_at(package, path), package=package.name)
        if package.unreadable:
            count, first = len(package.unreadable), package.unreadable[0]
            more = f" (as are {count - 1} more)" if count > 1 else ""
            message = f"readable by its owner only{more}"
            yield found("not-readable", message, file=_at(package, first), package=package.name)
        for path in package.not_executable:
            is_extension = path.startswith("extensions/")
            yield found(
                "not-executable",
                "is not executable",
                file=_at(package, path),
                package=package.name,
                severity=Severity.ERROR if is_extension and subject.layer else Severity.WARNING,
            )


def check_bytecode(subject: Subject) -> Iterator[Finding]:
    """Bytecode that Python ignores, and none at all."""
    magic = MAGICS.get(subject.target.runtime.python)
    sources = used = 0
    for package in subject.packages:
        stale = []
        for path, header in package.bytecode.items():
            # A cached file of another version is looked at by that version only; it is dead weight here.
            wrong = magic is not None and header.magic != magic
            if wrong or header.state == "stale":
                stale.append((path, wrong))
            else:
                used += 1
        sources += len(package.modules)
        if stale:
            yield _stale(package, stale)
    if sources >= 20 and used == 0:
        yield found("no-bytecode", f"{sources:,} modules and no usable bytecode")


def _stale(package: PackageFacts, stale: list[tuple[str, bool]]) -> Finding:
    path, wrong = stale[0]
    more = f" (as are {len(stale) - 1} more)" if len(stale) > 1 else ""
    why = "of another Python version" if wrong else "older than the source"
    orphan = next((path for path, _ in stale if not source_of_bytecode(path)), "")
    if orphan:
        message = "has no source beside it and is not for this Python: its module can't be imported"
        return found(
            "stale-bytecode", message, file=_at(package, orphan), package=package.name, severity=Severity.ERROR
        )
    return found("stale-bytecode", f"{why}{more}", file=_at(package, path), package=package.name)


def check_root(subject: Subject) -> Iterator[Finding]:
    """Packages in a folder that is not on sys.path: the zipped virtual environment, the layer without python/."""
    if subject.image:
        return  # an image says itself where it looks
    paths = [_at(package, path) for package in subject.packages for path in package.files]
    importable = [path for path in paths if path.endswith(_SUFFIXES)]
    if not importable:
        return
    if subject.layer:
        yield from _check_layer_root(importable, subject.target.runtime.python_version)
        return
    folder = _common_folder(importable)
    nested = _SITE_PACKAGES.match(importable[0])
    if folder and nested and all(_SITE_PACKAGES.match(path) for path in importable):
        yield found("nested-root", f"all code lies under {nested[0]}, and Lambda imports from the top", file=nested[0])
        return
    buried = sum(1 for path in importable if _SITE_PACKAGES.match(path))
    if buried > 10 and not (folder and nested):
        place = next(match[0] for path in importable if (match := _SITE_PACKAGES.match(path)))
        yield found("nested-root", f"{buried} modules lie under {place}, which is not on sys.path", file=place)
    elif folder and not subject.handlers and f"{folder}/lambda_function.py" in paths:
        yield found(
            "nested-root", f"everything, lambda_function.py included, lies in the folder {folder}", file=folder + "/"
        )


def _check_layer_root(importable: list[str], version: str) -> Iterator[Finding]:
    versions = {match[1] for path in importable if (match := _LAYER_PYTHON.match(path))}
    for other in sorted(versions - {version}):
        place = f"python/lib/python{other}/site-packages"
        yield found("layer-python", f"packages are under {place}; the runtime looks in python{version}", file=place)
    outside = [path for path in importable if not path.startswith(("python/", "lib/", "bin/", "extensions/"))]
    if outside and not any(path.startswith("python/") for path in importable):
        yield found("layer-root", f"{len(outside)} importable files are not under python/", file=outside[0])


def _common_folder(paths: list[str]) -> str:
    folder = posixpath.commonpath(paths)
    return posixpath.dirname(folder) if folder.endswith(_SUFFIXES) else folder


def _at(package: PackageFacts, path: str) -> str:
    return posixpath.join(package.root, path) if package.root else path
