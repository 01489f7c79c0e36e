"""What this machine can do for environments: which walls, which limits, a way out. Looks only: nothing is made."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lading.errors import SandboxError
from lading.sandbox import cgroups, outgoing
from lading.sandbox.spec import Capabilities, Isolation

NO_HIERARCHIES = cgroups.Hierarchies("none", {}, "no controllers are used")


def find_hierarchies() -> cgroups.Hierarchies:
    if sys.platform != "linux":
        return NO_HIERARCHIES
    return cgroups.find_hierarchies(
        Path("/proc/self/cgroup").read_text("utf-8"), Path("/proc/self/mounts").read_text("utf-8")
    )


def find_capabilities(hierarchies: cgroups.Hierarchies, isolation: Isolation | None = None) -> Capabilities:
    """What this machine can do under the asked isolation. Looks only: nothing is made.

    Raises SandboxError where there are no walls at all to be had, or not the ones asked for.
    """
    if sys.platform != "linux" and isolation is not Isolation.PROCESS:
        raise SandboxError(f"no isolation on {sys.platform}", hint="run it in a Linux machine or container, as root")
    privileged = os.geteuid() == 0
    chosen = isolation or (Isolation.ROOT if privileged else Isolation.USER)
    if chosen is Isolation.ROOT and not privileged:
        raise SandboxError("isolation root needs root", hint="run as root, or use --isolation=user")
    if chosen is Isolation.USER and (problem := _user_namespace_problem()):
        raise SandboxError(f"isolation user is not available: {problem}", hint="run as root")
    limited = chosen is Isolation.ROOT and hierarchies.limits
    missing = {}
    if chosen is not Isolation.ROOT:
        missing["limits"] = f"isolation {chosen} can't limit memory and CPU, and freezes with SIGSTOP"
    elif not limited:
        missing["limits"] = f"memory, CPU and processes can't be limited: {hierarchies.problem}"
    if chosen is Isolation.PROCESS:
        missing["walls"] = "isolation process has no walls: the function can do all that you can"
    elif chosen is Isolation.USER:
        missing["outgoing"] = "outgoing network needs isolation root"
    elif problem := outgoing.find_problem():
        missing["outgoing"] = problem
    return Capabilities(
        isolation=chosen,
        cgroup=hierarchies.version if limited else "none",
        freezer=limited,
        overlay=chosen is not Isolation.PROCESS,
        outgoing="outgoing" not in missing,
        missing=missing,
    )


def _user_namespace_problem() -> str:
    for name, refusal in (
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        path = Path("/proc/sys") / name
        if path.exists() and path.read_text("ascii").strip() == refusal:
            return f"{path} is {refusal}"
    return ""
