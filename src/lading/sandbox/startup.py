"""How an environment of a spec starts: forked from which zygote, or in a fresh interpreter, and what both have to know."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from lading.sandbox.environment import startup_variables
from lading.sandbox.image_layout import TREE
from lading.sandbox.plain import REASON
from lading.sandbox.spec import ColdStart, Isolation, SandboxSpec

IMAGE = "image"


def choose_cold_start(spec: SandboxSpec) -> tuple[ColdStart, str]:
    """How an environment will really start, and why not as asked."""
    if spec.cold_start is ColdStart.EXEC:
        return ColdStart.EXEC, ""
    if spec.isolation is Isolation.PROCESS:
        return ColdStart.EXEC, REASON
    if spec.image and spec.image.client is None:
        return ColdStart.EXEC, "the image's entry point is not AWS's Python client"
    if spec.debugger:
        return ColdStart.EXEC, "a debugger starts with the interpreter"
    if spec.entry:
        return ColdStart.EXEC, "a custom runtime has no client to fork"
    names = startup_variables(spec.environment)
    if names:
        return ColdStart.EXEC, f"{', '.join(names)} must be set before an interpreter starts"
    return ColdStart.FORK, ""


def zygote_key(spec: SandboxSpec) -> tuple[Any, ...]:
    """What environments must share to be forks of one zygote."""
    if spec.image:
        variables = tuple(sorted(spec.image.process.variables.items()))
        interpreter = spec.image.client.interpreter if spec.image.client else ""
        generation = spec.image.mounted.generation if spec.image.mounted else 0
        return IMAGE, spec.image.folders, interpreter, variables, spec.network, generation
    return spec.interpreter, spec.client, spec.runtime, spec.network


def root_tree(spec: SandboxSpec, stack: contextlib.ExitStack) -> dict[str, int]:
    """What goes along with the operations of a root that this process has mounted. The launcher can't see such a mount."""
    if spec.image is None or spec.image.mounted is None:
        return {}
    tree = spec.image.mounted.tree()
    stack.callback(os.close, tree)
    return {TREE: tree}


def zygote_variables(spec: SandboxSpec) -> dict[str, str]:
    """What only the start of a client needs: where it is, when the image's own start script would have said so."""
    client = spec.image.client if spec.image else None
    return {"PYTHONPATH": "/var/runtime"} if client and client.path else {}


def kind_of(spec: SandboxSpec) -> dict[str, Any]:
    """folder: where processes start that don't say so; an image may have no /var/task. plain: what a zygote has imported
    is known, and what it wants to hear of a fork; an image's client may have brought anything along.
    """
    return {"folder": "/" if spec.image else "/var/task", "plain": spec.image is None}
