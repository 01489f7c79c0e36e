"""The audit: would this artifact import on Lambda? All findings at once, as data. Pure but for sources read on demand."""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Iterable, Iterator

from lading.audit import contents, distributions, native
from lading.audit.codes import found
from lading.audit.graph import Closure, Index, Missing, Provided
from lading.audit.inventory import UNREADABLE
from lading.audit.package import PackageFacts
from lading.audit.stdlib import NEEDS_DISPLAY, REMOVED_IN
from lading.audit.subject import Subject
from lading.model.finding import Finding, Severity
from lading.model.target import Target

_SOON = dt.timedelta(days=183)
_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.ADVICE: 2}
_NOT_ROOTS = frozenset(
    {"setup", "conftest", "tests", "test", "testing", "docs", "examples", "benchmarks", "noxfile", "tasks"}
)
_BUILTIN = frozenset(
    {"sys", "builtins", "time", "marshal", "gc", "atexit", "posix", "errno", "itertools", "_thread", "signal"}
)
"""Modules of the interpreter itself that a handler could be named like; Lambda refuses them."""
_LISTED = 20


def audit(subject: Subject, *, today: dt.date | None = None) -> tuple[Finding, ...]:
    """Every finding, errors first, then by code and file. `today` is for the runtime's end of life; none skips that."""
    index = Index(subject.target, (*subject.packages, *subject.layers))
    findings: list[Finding] = []
    roots = list(_handler_roots(subject, index, findings))
    known = bool(subject.handlers)
    closure = Closure(index, roots if known else top_modules(subject))
    findings += check_imports(subject, index, closure, known=known)
    findings += native.check_native(subject.target, subject.packages, subject.layers, closure)
    findings += check_shadows(subject, index)
    for check in (
        contents.check_sizes, contents.check_names, contents.check_modes, contents.check_bytecode, contents.check_root,
        distributions.check_requirements, distributions.check_sdk, distributions.check_editable,
    ):  # fmt: skip
        findings += check(subject)
    if today is not None:
        findings += check_runtime(subject.target, today)
    return tuple(sorted(dict.fromkeys(findings), key=lambda f: (_ORDER[f.severity], f.code, f.file, f.message)))


# Handlers


def _handler_roots(subject: Subject, index: Index, findings: list[Finding]) -> Iterator[str]:
    """The handlers' modules that exist; what is wrong with the others goes to `findings`."""
    for handler in subject.handlers:
        module, dot, function = handler.rpartition(".")
        module = module.replace("/", ".")
        if not dot or not module or not function:
            findings.append(found("handler-name", f"handler {handler!r} is not of the form module.function"))
        elif module in _BUILTIN:
            findings.append(found("handler-name", f"handler {handler!r} names the built-in module {module}"))
        elif index.provided(module) is Provided.MISSING:
            findings.append(_missing_handler(subject, handler, module, index))
        else:
            yield module
            findings.extend(_check_function(handler, module, function, index))


def _missing_handler(subject: Subject, handler: str, module: str, index: Index) -> Finding:
    from lading.model.suggest import did_you_mean

    own = [name for name, owner in index.owners.items() if not owner.name]
    elsewhere = [name for name in own if name.endswith("." + module)]
    fix = did_you_mean(module, elsewhere or own) if own else ""
    severity = Severity.WARNING if subject.unseen_layers else Severity.ERROR
    return found("handler-module", f"handler {handler!r}: there is no module {module}", severity=severity, fix=fix)


def _check_function(handler: str, module: str, function: str, index: Index) -> Iterator[Finding]:
    facts = index.module(module)
    if facts is None or facts.error or facts.defines is None or function in facts.defines:
        return
    from lading.model.suggest import did_you_mean

    public = [name for name in facts.defines if not name.startswith("_")]
    message = f"handler {handler!r}: module {module} does not define {function}"
    yield found(
        "handler-function", message, file=_file(index, module), fix=did_you_mean(function, public) if public else ""
    )


def top_modules(subject: Subject) -> list[str]:
    """What stands in for an unknown handler: every importable top-level name that isn't a test or build file."""
    names = {name for package in subject.packages for name in package.top_level}
    return sorted(name for name in names if name not in _NOT_ROOTS)


# Imports


def check_imports(subject: Subject, index: Index, closure: Closure, *, known: bool) -> Iterator[Finding]:
    """Modules that nobody provides, and sources that Python can't read."""
    certain = known and not subject.unseen_layers
    severity = Severity.ERROR if certain else Severity.WARNING
    for missing in _by_top(closure.missing.values(), index):
        yield _missing_module(missing, index, severity)
    lazily = Closure(index, closure.lazy_roots())
    own = {**closure.missing_later(own=True, kind="lazy"), **lazily.missing}
    for missing in _by_top((m for m in own.values() if m.module not in closure.missing), index):
        message = f"line {missing.line} imports {missing.module} when called, and nobody provides it{_history(missing)}"
        yield found("missing-lazy-module", message, file=_file(index, missing.importer), package=missing.package.name)
    guarded = {**closure.missing_later(own=True, kind="guarded"), **closure.missing_later(own=False)}
    names = sorted(
        {_top(m, index) for m in guarded.values()}
        - {_top(m, index) for m in (*closure.missing.values(), *own.values())}
    )
    if names:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        message = f"{len(names)} optional modules are not there: {', '.join(names[:_LISTED])}{more}"
        yield found("optional-modules", message)
    yield from _check_reached(subject, index, closure)
    if not known and not subject.layer:
        yield found("handler-unknown", "no handler is known: checked as if every top-level module were imported")


def _check_reached(subject: Subject, index: Index, closure: Closure) -> Iterator[Finding]:
    unread = []
    for name in closure.reached:
        facts = index.module(name)
        if facts is None:
            continue
        if facts.error.startswith(UNREADABLE):
            message = facts.error.removeprefix(UNREADABLE).strip()
            yield found("member-damaged", message, file=_file(index, name), package=index.owners[name].name)
        elif facts.error and _is_certain(facts.error, subject.target.runtime.python):
            file = _file(index, name)
            yield found("syntax-error", facts.error, file=file, package=index.owners[name].name)
        elif facts.error:
            unread.append(_file(index, name))
        for item in facts.imports:
            if item.kind == "always" and item.module.partition(".")[0] in NEEDS_DISPLAY and not index.has(item.module):
                message = f"line {item.line} imports {item.module}"
                yield found("display-module", message, file=_file(index, name), package=index.owners[name].name)
    if unread:
        first, version = min(unread), "{}.{}".format(*sys.version_info)
        message = f"syntax that Python {version}, which ran this audit, does not know (in {len(unread)} modules)"
        yield found("unread-module", message, file=first)


def _is_certain(error: str, python: tuple[int, int]) -> bool:
    """Whether the target's Python refuses it as well: it or a newer one said so."""
    match = re.search(r"\(Python (\d+)\.(\d+)\)$", error)
    return match is not None and (int(match[1]), int(match[2])) >= python


def _missing_module(missing: Missing, index: Index, severity: Severity) -> Finding:
    message = f"line {missing.line} imports {missing.module}, which nobody provides{_history(missing)}"
    return found(
        "missing-module",
        message,
        file=_file(index, missing.importer),
        package=missing.package.name,
        severity=severity,
        fix=_deeper(missing, index),
    )


def _deeper(missing: Missing, index: Index) -> str:
    """What to do where the module is there, but below a folder that is no import root, such as src/."""
    ending = "." + missing.module
    for name in sorted(name for name, owner in index.owners.items() if not owner.name and name.endswith(ending)):
        folder = name.removesuffix(ending).replace(".", "/")
        way = f'set source = "{folder}", or install the project too: requirements = ["."]'
        return f"it is below {folder}/, which Python does not search: {way}"
    return ""


def _by_top(missing: Iterable[Missing], index: Index) -> list[Missing]:
    """One per top-level name that is absent as a whole; every submodule of one that is there."""
    chosen: dict[str, Missing] = {}
    for item in sorted(missing, key=lambda m: (bool(m.package.name), m.module, m.importer)):
        chosen.setdefault(_top(item, index), item)
    return list(chosen.values())


def _top(missing: Missing, index: Index) -> str:
    top = missing.module.partition(".")[0]
    return missing.module if index.has(top) or top in index.stdlib else top


def _history(missing: Missing) -> str:
    removed = REMOVED_IN.get(missing.module.partition(".")[0])
    return f" (gone from Python {removed[0]}.{removed[1]})" if removed else ""


def _file(index: Index, module: str) -> str:
    owner = index.owners[module]
    path = module.replace(".", "/")
    path = f"{path}/__init__" if owner.modules[module].is_package else path
    full = next((f"{path}{suffix}" for suffix in (".py", ".pyc") if f"{path}{suffix}" in owner.files), f"{path}.py")
    return f"{owner.root}/{full}" if owner.root else full


def check_shadows(subject: Subject, index: Index) -> Iterator[Finding]:
    """Own modules that hide the standard library's or an installed package's. The same files from both, as of a project
    that is installed too, hide nothing.
    """
    dependencies = {name: package for package in subject.packages if package.name for name in package.top_level}
    for package in subject.packages:
        if package.name:
            continue
        for name in package.top_level:
            hidden = (
                "the standard library's"
                if name in index.stdlib
                else f"{dependencies[name].name}'s"
                if name in dependencies and not _same_files(package, dependencies[name], name)
                else ""
            )
            if hidden and name in package.modules:
                yield found("shadowed-module", f"your own {name} hides {hidden} {name}", file=_file(index, name))


def _same_files(own: PackageFacts, other: PackageFacts, name: str) -> bool:
    """Whether all that the other has of a top-level module is among the user's own files, of the same sizes."""
    paths = [path for path in other.files if path.startswith((f"{name}/", f"{name}."))]
    return bool(paths) and all(path in own.files and own.files[path][0] == other.files[path][0] for path in paths)


def check_runtime(target: Target, today: dt.date) -> Iterator[Finding]:
    date = target.runtime.deprecated
    if date is None or date - today > _SOON:
        return
    when = "was" if date <= today else "will be"
    yield found("runtime-deprecated", f"{target.runtime.name} {when} deprecated by AWS on {date}")
