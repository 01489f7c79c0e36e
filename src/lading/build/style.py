"""How a unit is packed, and the interpreter that compiles for it. Light: a build with nothing to do needs no more than this."""

from __future__ import annotations

from dataclasses import dataclass

from lading.build.plan import Unit
from lading.errors import BuildError
from lading.model.blobs import Actions
from lading.model.progress import Progress
from lading.model.project import Bytecode
from lading.model.target import Target
from lading.resolve.interpreters import Interpreter, find_interpreter


class NoInterpreterError(BuildError):
    """`bytecode = "only"` needs an interpreter of the target's version, and this machine has none."""


@dataclass(frozen=True)
class Style:
    """How something is packed: where it goes, its bytecode, and for which Python. Equal styles share their results."""

    target: Target
    layer: bool
    bytecode: Bytecode


def style_of(unit: Unit) -> Style:
    """How the unit's packages and own files are compiled."""
    return Style(unit.target, unit.kind == "layer", unit.options.bytecode)


class Interpreters:
    """The interpreter for each target, looked for once; its absence is told once."""

    def __init__(self, actions: Actions, progress: Progress) -> None:
        self._actions = actions
        self._progress = progress
        self._found: dict[Target, Interpreter | None] = {}

    def of(self, style: Style) -> Interpreter | None:
        """The Python that compiles for a style; None when it asks for no bytecode or, with a note, when none is here.

        Raises NoInterpreterError where the style can't do without.
        """
        if style.bytecode is Bytecode.OFF:
            return None
        found = self._find(style.target)
        version = style.target.runtime.python_version
        if found is None and style.bytecode is Bytecode.ONLY:
            raise NoInterpreterError(
                f'bytecode = "only" needs Python {version}, and this machine has none',
                hint=f"uv python install {version}",
            )
        return found

    def _find(self, target: Target) -> Interpreter | None:
        if target not in self._found:
            self._found[target] = find_interpreter(target.runtime.python, self._actions)
            if self._found[target] is None:
                version = target.runtime.python_version
                self._progress.note(
                    f"no Python {version} on this machine: {target} gets no bytecode and starts slower "
                    f"(uv python install {version} brings one)"
                )
        return self._found[target]
