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
_FIRST_LINK, _ETH0 = 16, 4096
"""Numbers of the router's links, and of an environment's: whoever gives them doesn't have to ask for them."""
_Request = tuple[int, bytes, int, str]
"""Kind, content, how, and what it is about."""


def connect(name: str, peer: str, namespace: int, index: int = 0) -> None:
    """A veth pair: `name` here, up, and `peer` in the other network namespace (a descriptor), to be raised there."""
    _perform([_veth(name, peer, namespace, index)])


def raise_link(name: str) -> None:
    _perform([_raised(socket.if_nametoindex(name), name)])


def add_address(name: str, address: str, other: str) -> None:
    """An address of a link, with the one at its other end: a route to that one comes with it."""
    _perform([_address(socket.if_nametoindex(name), address, other)])


def add_default_route(name: str, gateway: str) -> None:
    _perform([_default_route(socket.if_nametoindex(name), gateway)])


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
    index = _FIRST_LINK + int(name[1:])
    _perform([_veth(name, "eth0", namespace, index), _address(index, gateway, address)])


def set_up(address: str, gateway: str) -> None:
    """At the other end of a link that hangs at the router."""
    _perform([_raised(_ETH0, "eth0"), _address(_ETH0, address, gateway), _default_route(_ETH0, gateway)])


def _veth(name: str, peer: str, namespace: int, index: int) -> _Request:
    there = _link(_ETH0 if index else 0, flags=0) + _attribute(_NAME, peer.encode() + b"\0")
    there += _attribute(_NAMESPACE, struct.pack("=I", namespace))
    kind = _attribute(_KIND, b"veth") + _attribute(_DATA, _attribute(_PEER, there))
    content = _link(index) + _attribute(_NAME, name.encode() + b"\0") + _attribute(_LINKINFO, kind)
    return _NEWLINK, content, _EXCLUSIVE | _CREATE, f"veth {name}"


def _raised(index: int, name: str) -> _Request:
    return _NEWLINK, _link(index), 0, f"raise {name}"


def _address(index: int, address: str, other: str) -> _Request:
    content = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, index)
    content += _attribute(_LOCAL, socket.inet_aton(address)) + _attribute(_ADDRESS, socket.inet_aton(other))
    return _NEWADDR, content, _EXCLUSIVE | _CREATE, address


def _default_route(index: int, gateway: str) -> _Request:
    table, boot, everywhere, unicast = 254, 3, 0, 1
    content = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, table, boot, everywhere, unicast, 0)
    content += _attribute(_DESTINATION_LINK, struct.pack("=I", index))
    content += _attribute(_GATEWAY, socket.inet_aton(gateway))
    return _NEWROUTE, content, _EXCLUSIVE | _CREATE, f"route by {gateway}"


def _link(index: int = 0, flags: int = _UP) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", len(content) + 4, kind) + content + bytes(-len(content) % 4)


def _perform(requests: list[_Request]) -> None:
    """All of them in one message, in order; a failed one is raised once all are answered."""
    packets = []
    for number, (kind, content, how, _) in enumerate(requests):
        packets.append(struct.pack("=IHHII", 16 + len(content), kind, _REQUEST | _ACK | how, number, 0) + content)
    failed = None
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        channel.send(b"".join(packets))
        for _ in requests:
            answer = channel.recv(4096)
            kind, number = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=I", answer, 8)[0]
            error = struct.unpack_from("=i", answer, 16)[0]
            if kind == _ERROR and error and failed is None:
                failed = OSError(-error, f"netlink: {os.strerror(-error)}", requests[number][3])
    if failed is not None:
        raise failed
