"""Network links, addresses and routes of the current network namespace, by rtnetlink: no program has to be started.

Runs inside too: standard library only, syntax of Python 3.9. Each call raises OSError with its name and its target.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from lading.sandbox.inside import kernel

_NEWLINK, _NEWADDR, _NEWROUTE = 16, 20, 24
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 1, 4, 0x200, 0x400
_ERROR = 2
_UP = 1
_NAME, _LINKINFO, _NAMESPACE = 3, 18, 28
_KIND, _DATA, _PEER = 1, 2, 1
_ADDRESS, _LOCAL = 1, 2
_DESTINATION_LINK, _GATEWAY = 4, 5


def connect(name: str, peer: str, namespace: int) -> None:
    """A veth pair: `name` here, up, and `peer` in the other network namespace (a descriptor), to be raised there."""
    there = (
        _link(flags=0) + _attribute(_NAME, peer.encode() + b"\0") + _attribute(_NAMESPACE, struct.pack("=I", namespace))
    )
    kind = _attribute(_KIND, b"veth") + _attribute(_DATA, _attribute(_PEER, there))
    _request(_NEWLINK, _link() + _attribute(_NAME, name.encode() + b"\0") + _attribute(_LINKINFO, kind), f"veth {name}")


def raise_link(name: str) -> None:
    _request(_NEWLINK, _link(socket.if_nametoindex(name)), f"raise {name}", how=0)


def add_address(name: str, address: str, other: str) -> None:
    """An address of a link, with the one at its other end: a route to that one comes with it."""
    content = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, socket.if_nametoindex(name))
    content += _attribute(_LOCAL, socket.inet_aton(address)) + _attribute(_ADDRESS, socket.inet_aton(other))
    _request(_NEWADDR, content, f"{address} on {name}")


def add_default_route(name: str, gateway: str) -> None:
    table, boot, everywhere, unicast = 254, 3, 0, 1
    content = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, table, boot, everywhere, unicast, 0)
    content += _attribute(_DESTINATION_LINK, struct.pack("=I", socket.if_nametoindex(name)))
    _request(_NEWROUTE, content + _attribute(_GATEWAY, socket.inet_aton(gateway)), f"route by {gateway}")


def join_router(router: int, name: str, address: str, gateway: str) -> None:
    """Gives this namespace an eth0 whose other end, `name`, is in the router's namespace (a descriptor)."""
    leave_out_ipv6()
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.setns(router, kernel.CLONE_NEWNET)
        try:
            hang(own, name, address, gateway)
        finally:
            kernel.setns(own, kernel.CLONE_NEWNET)
    finally:
        os.close(own)
    set_up(address, gateway)


def leave_out_ipv6() -> None:
    """Of links that come to this namespace from now on: nothing here routes it, and looking for neighbours costs as much as
    the link. The loopback has it.
    """
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        descriptor = os.open("/proc/sys/net/ipv6/conf/default/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"1")
        finally:
            os.close(descriptor)


def hang(namespace: int, name: str, address: str, gateway: str) -> None:
    """At the router: a link whose other end is eth0 in another namespace (a descriptor)."""
    connect(name, "eth0", namespace)
    add_address(name, gateway, address)


def set_up(address: str, gateway: str) -> None:
    """At the other end of a link that hangs at the router."""
    raise_link("eth0")
    add_address("eth0", address, gateway)
    add_default_route("eth0", gateway)


def _link(index: int = 0, flags: int = _UP) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", len(content) + 4, kind) + content + bytes(-len(content) % 4)


def _request(kind: int, content: bytes, target: str, how: int = _EXCLUSIVE | _CREATE) -> None:
    header = struct.pack("=IHHII", 16 + len(content), kind, _REQUEST | _ACK | how, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        channel.send(header + content)
        answer = channel.recv(4096)
    got, number = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0]
    if got == _ERROR and number:
        raise OSError(-number, f"netlink: {os.strerror(-number)}", target)
