"""A process that forks environments on request: the launcher (builds whole roots) or a zygote (already in its own root,
client imported). Single-threaded; ends when its owner does.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from lading.sandbox.inside import density, immortal, kernel, root, wire
from lading.sandbox.inside.first import First


def main(channel_number: int, setup: dict[str, Any]) -> Callable[[], None] | None:
    """Serves until the owner is gone; returns only in a fork that becomes the client.

    setup: user (takes a user namespace), private (takes a mount namespace), modules to import ahead, and optional ones.
    """
    channel = socket.socket(fileno=channel_number)
    try:
        if setup["user"]:
            _enter_user_namespace(channel)
        if setup["private"]:
            _try_user_namespace()
            kernel.unshare(kernel.CLONE_NEWNS)
            kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        _import_ahead(setup)
        namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except BaseException as error:
        wire.send(channel, {"error": f"{type(error).__name__}: {error}"})
        return None
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps; owners watch pidfds
    gc.collect()
    if setup["modules"]:
        immortal.immortalize()
        density.close_gaps()
    gc.freeze()
    wire.send(channel, {"ready": True})
    while True:
        received = wire.receive(channel)
        if received is None:
            _end()
        message, descriptors = received
        try:
            if message["do"] == "tree":
                _send_tree(channel, message)
                continue
            child = _fork(channel, namespace, message, descriptors)
            if child is not None:
                return child.run()
        except OSError as error:
            wire.send(channel, {"error": f"{type(error).__name__}: {error}"})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _import_ahead(setup: dict[str, Any]) -> None:
    for name in (*setup["modules"], *filter(importlib.util.find_spec, setup["optional"])):
        importlib.import_module(name)


def _end() -> NoReturn:
    """Waits for the environments, which see their owner gone as well: as process 1 this would take frozen ones down first,
    and what is frozen can't die.
    """
    while True:
        try:
            os.waitpid(-1, 0)  # children are reaped unseen: this fails once there are none
        except ChildProcessError:
            os._exit(0)


def _send_tree(channel: socket.socket, message: dict[str, Any]) -> None:
    """Folders merged, without touching the host's view: an overlay is mounted over the first for a moment, in here only."""
    first, *others = message["paths"]
    if others:
        lower = ":".join(map(root.escape, reversed(message["paths"])))
        kernel.mount("overlay", first, "overlay", kernel.MS_RDONLY, "lowerdir=" + lower)
    try:
        tree = kernel.open_tree(first)
    finally:
        if others:
            kernel.umount(first, kernel.MNT_DETACH)
    try:
        kernel.set_mount_attributes("", message["attributes"], tree=tree)
        wire.send(channel, {"tree": True}, [tree])
    finally:
        os.close(tree)


def _fork(channel: socket.socket, namespace: int, message: dict[str, Any], descriptors: list[int]) -> First | None:
    """In the child, the first process of a new pid namespace; None in the parent."""
    kernel.unshare(kernel.CLONE_NEWPID)
    pid = kernel.fork()
    if pid == 0:
        channel.close()
        os.close(namespace)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        named = {name: descriptors[index] for index, name in enumerate(message["descriptors"])}
        descriptors.clear()
        if message["become"]:
            _become(message, named)
        return First(message, named)
    kernel.setns(namespace, kernel.CLONE_NEWPID)
    pidfd = os.pidfd_open(pid)
    try:
        wire.send(channel, {"pid": pid}, [pidfd])
    finally:
        os.close(pidfd)
    return None


def _become(message: dict[str, Any], named: dict[str, int]) -> None:
    """A zygote's birth: builds its root, then starts its interpreter there with the channel at 3 and its sources at 4."""
    channel = socket.socket(fileno=named.pop("channel"))
    sources = named.pop("sources")
    errors = named.pop("stderr")
    try:
        root.Builder(named).run(message["operations"])
        os.dup2(errors, 2)
        os.dup2(sources, 4 + 100)
        os.dup2(channel.fileno(), 3 + 100)
        os.dup2(3 + 100, 3)
        os.dup2(4 + 100, 4)
        os.closerange(5, 256)
        command = message["become"]
        os.execve(command[0], command, message["environment"])
    except BaseException as error:
        wire.send(channel, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)


def _try_user_namespace() -> None:
    """Every function has one of its own. In a chroot the kernel makes none, whatever its root otherwise may."""
    child = os.fork()
    if child == 0:
        try:
            kernel.unshare(kernel.CLONE_NEWUSER)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError(os.WEXITSTATUS(status), f"user namespace: {os.strerror(os.WEXITSTATUS(status))}")


def _enter_user_namespace(channel: socket.socket) -> None:
    """Continues as process 1 of a pid namespace that the new user namespace owns: only so it may leave one and return."""
    outer_user, outer_group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {outer_user} 1"),
        ("gid_map", f"0 {outer_group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    child = os.fork()
    if child:
        channel.close()
        _, status = os.waitpid(child, 0)
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)
