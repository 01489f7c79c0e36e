"""Every finding an audit can make: its code, severity, what it means and the usual fix. Data; docs/reference is made from it.

A code never changes its meaning. "error" means it would fail on Lambda, "warning" that it may, "advice" that it works.
"""

from __future__ import annotations

from typing import NamedTuple

from lading.model.finding import Finding, Severity

_ERROR, _WARNING, _ADVICE = Severity.ERROR, Severity.WARNING, Severity.ADVICE


class Code(NamedTuple):
    """What a finding's code stands for. `severity` is the usual one; a finding may carry a milder one."""

    severity: Severity
    meaning: str
    fix: str


CODES: dict[str, Code] = {
    # Native code
    "elf-machine": Code(
        _ERROR,
        "A native file is built for another processor than the target's. Milder when the same package also brings one that fits.",
        "build for the right architecture, or change the function's architecture",
    ),
    "elf-foreign": Code(
        _ERROR,
        "A native file is for macOS or Windows, or can't be read. Importing it fails.",
        "install the Linux wheel: lading build does, whatever the host",
    ),
    "extension-python": Code(
        _ERROR,
        "An extension module is built for another Python version, so import does not see it.",
        "build for this runtime's Python, or choose the runtime that fits",
    ),
    "library-missing": Code(
        _ERROR,
        "A native file needs a shared library that neither the artifact nor its layers nor Lambda's system has. "
        "A warning when nothing that the handler imports at start needs the file.",
        "use a wheel that brings its libraries, a variant without the need (-headless), or add the library under lib/",
    ),
    "library-uncertain": Code(
        _WARNING,
        "A native file needs a shared library that is in AWS's base images but not known to be in the zip runtime.",
        "add the library under lib/, or test on AWS",
    ),
    "library-path": Code(
        _WARNING,
        "The needed library is in the artifact, but in no folder where the loader looks.",
        "move it to lib/, which is in LD_LIBRARY_PATH",
    ),
    "symbol-version": Code(
        _ERROR,
        "A native file needs a newer C or C++ library than the runtime's operating system has.",
        "use a wheel for an older manylinux, or a runtime on Amazon Linux 2023",
    ),
    # Imports
    "handler-name": Code(
        _ERROR,
        "The handler is not of the form module.function, or names a built-in module.",
        "write it as module.function, for instance lambda_function.lambda_handler",
    ),
    "handler-module": Code(
        _ERROR,
        "The handler's module is not in the artifact or its layers.",
        "put the module at the top of the artifact, or correct the handler",
    ),
    "handler-function": Code(
        _ERROR,
        "The handler's module does not define the function.",
        "define the function, or correct the handler",
    ),
    "handler-unknown": Code(
        _ADVICE,
        "No handler was given or found, so every top-level module stood in for it.",
        "give --handler module.function",
    ),
    "missing-module": Code(
        _ERROR,
        "The handler can't be imported: a module that is always imported on the way is provided by nobody. "
        "A warning where no handler is known or a layer could not be seen.",
        "add the distribution that provides it to the requirements",
    ),
    "missing-lazy-module": Code(
        _WARNING,
        "Your own code imports a module inside a function, and nobody provides it: that call will fail.",
        "add the distribution that provides it to the requirements",
    ),
    "optional-modules": Code(
        _ADVICE,
        "Modules that dependencies can do without (imported in try/except or inside functions) and that nobody provides.",
        "nothing, unless you use the feature",
    ),
    "display-module": Code(
        _WARNING,
        "A part of the standard library that needs a display (tkinter, turtle) is imported; Lambda's Python may lack it.",
        "import it only where there is a display",
    ),
    "syntax-error": Code(
        _ERROR,
        "A module that the handler imports has a syntax error on the target's Python.",
        "correct the source, or use a release of the package for this Python",
    ),
    "unread-module": Code(
        _ADVICE,
        "Modules use syntax that is newer than the Python this audit ran on, so what they import is not known.",
        "run lading on a Python as new as the runtime's",
    ),
    "shadowed-module": Code(
        _WARNING,
        "One of your own modules has the name of a standard or installed module, and hides it from everybody.",
        "rename your module",
    ),
    # Distributions
    "missing-requirement": Code(
        _WARNING,
        "A distribution's metadata asks for another one that is not there.",
        "add it to the requirements, or install without --no-deps",
    ),
    "requirement-version": Code(
        _WARNING,
        "A distribution's metadata asks for another version of one that is there.",
        "resolve the requirements together",
    ),
    "python-version": Code(
        _WARNING,
        "A distribution's metadata does not allow the target's Python version.",
        "resolve the requirements for this runtime",
    ),
    "sdk-skew": Code(
        _WARNING,
        "Some members of the AWS SDK's family (boto3, botocore, s3transfer, urllib3 …) are in the artifact and others are "
        "left to the runtime, whose versions move by themselves.",
        "ship the whole family or none of it",
    ),
    "bundled-sdk": Code(
        _ADVICE,
        "The artifact brings the AWS SDK, which the runtime also has.",
        'bundled = "drop" leaves it out, if the runtime\'s version is enough',
    ),
    "editable-install": Code(
        _WARNING,
        "A .pth or .egg-link file points to a folder of the build machine; Lambda does not read them.",
        "install the package itself, not in editable mode",
    ),
    # Sizes
    "empty-artifact": Code(
        _ERROR,
        "There is no file in it. Lambda refuses a zip without files.",
        "look at what was packed: the source folder, the excludes",
    ),
    "unzipped-size": Code(
        _ERROR,
        "Code and layers together are larger than the 262,144,000 bytes that Lambda accepts unzipped.",
        "drop what is not needed, or build a container image (10 GB)",
    ),
    "zipped-size": Code(
        _ADVICE,
        "The zip is too large for a direct upload (50 MB).",
        "deploy it through S3: lading deploy does",
    ),
    "layer-count": Code(_ERROR, "More than five layers.", "merge layers"),
    "use-layer": Code(
        _ADVICE,
        "Nearly all of the artifact are dependencies, so each change of code uploads them again.",
        "move them to a layer: [tool.lading.layers]",
    ),
    "use-image": Code(
        _ADVICE,
        "The artifact is close to Lambda's limit for zips.",
        "build a container image instead",
    ),
    # Files
    "unsafe-path": Code(
        _ERROR,
        "A member's name is absolute, leaves the folder, or has a backslash, a NUL or a control character.",
        "write the archive with relative, forward-slash names",
    ),
    "path-length": Code(_ERROR, "A name is longer than Linux allows.", "shorten the name"),
    "name-encoding": Code(
        _WARNING,
        "A name outside ASCII is stored without saying that it is UTF-8, so it may be unpacked under another name.",
        "write the archive with UTF-8 names, or use ASCII names",
    ),
    "duplicate-path": Code(_ERROR, "Two members have the same name.", "write each file once"),
    "case-clash": Code(
        _WARNING,
        "Two names differ in case only: fine on Lambda, lost when unpacked on macOS or Windows.",
        "rename one",
    ),
    "link-escape": Code(
        _ERROR, "A symbolic link leads out of the artifact.", "copy what it points to into the artifact"
    ),
    "link-dangling": Code(
        _WARNING, "A symbolic link points to nothing.", "remove it, or add what it points to"
    ),
    "special-file": Code(
        _ERROR, "A device, socket or pipe can't be part of an artifact.", "leave it out"
    ),
    "member-encrypted": Code(_ERROR, "A member is encrypted.", "write the archive without a password"),
    "member-method": Code(
        _ERROR,
        "A member is compressed by a method that Lambda is not known to read; stored and deflate are safe.",
        "write the archive with deflate",
    ),
    "member-damaged": Code(
        _ERROR, "A file's bytes can't be read out of the artifact.", "write the artifact again"
    ),
    "not-readable": Code(
        _ERROR,
        "A file's mode lets only its owner read it; on Lambda the function runs as another user.",
        "chmod -R a+rX before zipping",
    ),
    "not-executable": Code(
        _WARNING,
        "A program under bin/ or an extension under extensions/ can't be executed by the function's user.",
        "chmod 755 before zipping",
    ),
    "nested-root": Code(
        _ERROR,
        "Everything lies inside a folder that Lambda does not look into, for instance venv/lib/python3.13/site-packages.",
        "zip the contents of the folder, not the folder",
    ),
    "layer-root": Code(
        _ERROR,
        "A layer's Python packages are not under python/, so they are not on sys.path.",
        "put them under python/",
    ),
    "layer-python": Code(
        _ERROR,
        "A layer's packages are under python/lib/ of another Python version, which is not on sys.path.",
        "put them under python/, or build the layer for this runtime",
    ),
    "stale-bytecode": Code(
        _WARNING,
        "Bytecode files that Python won't use: older than their source, or of another Python version. They only take space, and "
        "a module whose source is absent can't be imported.",
        "leave __pycache__ out, or build with lading (unchecked-hash bytecode)",
    ),
    "no-bytecode": Code(
        _ADVICE,
        "There is no bytecode, and the code folder is read-only: every cold start compiles what it imports.",
        'build with bytecode = "on"',
    ),
    "file-conflict": Code(
        _WARNING,
        "Two packages bring a file of the same name with different content. As with pip, the later one's is packed.",
        "leave one of the packages out, or pin versions that agree",
    ),
    "secret-file": Code(
        _WARNING,
        "A file that usually holds credentials is in the artifact.",
        "exclude it, and read secrets from Secrets Manager or Parameter Store",
    ),
    # Runtime
    "runtime-deprecated": Code(
        _WARNING,
        "AWS has deprecated the runtime, or will within half a year.",
        "move to a newer runtime",
    ),
}  # fmt: skip


def found(
    code: str,
    message: str,
    *,
    file: str = "",
    package: str = "",
    severity: Severity | None = None,
    fix: str = "",
) -> Finding:
    """A finding with its code's usual severity and fix, where none is given."""
    known = CODES[code]
    return Finding(code, severity or known.severity, message, file=file, package=package, fix=fix or known.fix)


def document() -> str:
    """The reference page of all codes, as Markdown."""
    lines = [
        "# Findings",
        "",
        "What `lading check` and the audit of `lading build` can say. Made from the table in `lading.audit.codes`; a test",
        "keeps this page equal to it. Errors make a build or check fail (exit code 5).",
        "",
    ]
    for code, entry in CODES.items():
        lines += [f"## {code}", "", f"*{entry.severity}.* {entry.meaning}", "", f"Fix: {entry.fix}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    Path(sys.argv[1]).write_text(document(), "utf-8")
