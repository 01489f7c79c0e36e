"""Messages between the owner, its launchers and the first process of an environment: JSON and descriptors over seqpacket."""

from __future__ import annotations

import array
import json
import os
import select
import socket
import struct
from typing import Any

LARGEST = 196_608
"""Bytes of one message: under the kernel's default send buffer."""
_MOST_DESCRIPTORS = 32


def send(channel: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] | list[int] = ()) -> None:
    payload = json.dumps(message).encode()
    if len(payload) > LARGEST:
        raise ValueError(f"message of {len(payload)} bytes")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    channel.sendmsg([payload], rights)


def receive(channel: socket.socket, flags: int = 0) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors (close-on-exec); None once the other side is gone."""
    size = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
    try:
        payload, ancillary, _, _ = channel.recvmsg(LARGEST, size, flags | socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if not payload:
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    message = json.loads(payload)
    return message, list(descriptors)


def readable(descriptor: int, seconds: float) -> bool:
    """Whether something can be read, or the other side is gone, within that time. Any descriptor number will do."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def sender_of(channel: socket.socket) -> int:
    """The pid, as the kernel knows it, of whoever sent the next byte; 0 when the other end is gone. It needs SO_PASSCRED."""
    size = struct.calcsize("iII")
    content, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(size))
    if not content:
        return 0
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid: int = struct.unpack("iII", data[:size])[0]
            return pid
    return 0
