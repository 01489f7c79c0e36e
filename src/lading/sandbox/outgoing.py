"""The way out of environments: one router, a network namespace per owner, between them and this machine.

Environments hang on the router by a link each and reach what lies behind this machine, never it, each other, or
169.254.0.0/16. Whatever is in the router's namespace ends with its owner; the table on the host bears the owner's name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import threading
from collections import deque
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from lading.errors import SandboxError
from lading.sandbox.inside import kernel, netlink
from lading.sandbox.owners import is_left, owner_name

_UPLINK = "up"
_PREFIX = "lading"
_MOST_ROUTERS = 4_096
_MOST_WAYS = 16_384
_TABLES = re.compile(r"^table inet (lading\.[\d.]+-\d+)$", re.MULTILINE)
_RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_MOST_NAME_SERVERS = 3

_INSIDE = """
table inet lading {{
  chain input {{ type filter hook input priority 0; policy drop; }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    iifname "{up}" ct state established,related accept
    ip daddr {{ 169.254.0.0/16, 127.0.0.0/8 }} drop
    iifname != "{up}" oifname "{up}" accept
  }}
  chain out {{ type nat hook postrouting priority 100; oifname "{up}" masquerade; }}
}}
"""
_OUTSIDE = """
table inet {table} {{
  chain input {{
    type filter hook input priority -10;
    {names}
    iifname "{link}" ct state != {{ established, related }} drop
  }}
  chain forward {{
    type filter hook forward priority -10;
    iifname "{link}" oifname "lading*" drop
    oifname "{link}" ct state != {{ established, related }} drop
    iifname "{link}" tcp flags syn tcp option maxseg size set rt mtu
  }}
  chain out {{ type nat hook postrouting priority 100; ip saddr {inner} oifname != "{link}" masquerade; }}
}}
"""


@dataclass(frozen=True)
class Way:
    """One environment's link: its name at the router, its address and its gateway's."""

    link: str
    address: str
    gateway: str


def way(number: int) -> Way:
    """The addresses are known to the router only: every owner uses the same ones. number: 0 to 16,383."""
    low = number * 2
    return Way(f"v{number}", f"100.127.{low >> 8}.{(low & 255) + 1}", f"100.127.{low >> 8}.{low & 255}")


class Router:
    """A network namespace that forwards and hides environments' addresses. It lasts while `namespace` is open."""

    def __init__(self) -> None:
        """Raises SandboxError where a step fails; nothing stays then."""
        self.namespace = -1
        self._link = ""
        self._table = ""
        # the kernel removes a link some time after its environment: the one given back last is given out last
        self._free = deque(range(_MOST_WAYS))
        problem: list[BaseException] = []

        def work() -> None:
            try:
                self._open()
            except BaseException as error:
                problem.append(error)

        # a namespace belongs to a thread: this one's ends with it
        thread = threading.Thread(target=work, name="lading-router")
        thread.start()
        thread.join()
        if problem:
            self.close()
            if isinstance(problem[0], OSError):
                raise _failed(str(problem[0])) from problem[0]
            raise problem[0]

    def close(self) -> None:
        """Environments that still live lose their network."""
        if self.namespace >= 0:
            os.close(self.namespace)
            self.namespace = -1
        if self._table:
            with contextlib.suppress(SandboxError):
                _nft(f"delete table inet {self._table}")
            self._table = ""

    def take(self) -> Way:
        """A link that no environment has."""
        try:
            return way(self._free.popleft())
        except IndexError:
            raise SandboxError(f"{_MOST_WAYS} environments are alive", hint="close some first") from None

    def give_back(self, taken: Way) -> None:
        self._free.append(int(taken.link[1:]))

    def hang(self, taken: Way, namespace: int) -> None:
        """An eth0 in a network namespace (a descriptor) that can't join us by itself. Raises SandboxError."""
        problem: list[OSError] = []

        def work() -> None:
            try:
                kernel.setns(namespace, kernel.CLONE_NEWNET)
                netlink.leave_out_ipv6()
                kernel.setns(self.namespace, kernel.CLONE_NEWNET)
                netlink.hang(namespace, taken.link, taken.address, taken.gateway)
            except OSError as error:
                problem.append(error)

        thread = threading.Thread(target=work, name="lading-router")  # its namespace ends with it
        thread.start()
        thread.join()
        if problem:
            raise _failed(str(problem[0])) from problem[0]

    def _open(self) -> None:
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
            self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            _set("ipv4/ip_forward", "1")
            for name in ("all", "default"):
                with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                    _set(f"ipv6/conf/{name}/disable_ipv6", "1")
            _nft(_INSIDE.format(up=_UPLINK))
            inner, outer = self._connect(outside)
            kernel.setns(outside, kernel.CLONE_NEWNET)
        finally:
            os.close(outside)
        netlink.raise_link(self._link)
        netlink.add_address(self._link, outer, inner)
        _set("ipv4/ip_forward", "1")
        self._table = f"{owner_name(os.getpid())}-{self._link.removeprefix(_PREFIX)}"
        servers = ", ".join(name_servers())
        names = f'iifname "{self._link}" ip daddr {{ {servers} }} meta l4proto {{ tcp, udp }} th dport 53 accept'
        _nft(_OUTSIDE.format(table=self._table, link=self._link, inner=inner, names=names if servers else ""))

    def _connect(self, outside: int) -> tuple[str, str]:
        """A link to the host whose name nobody else has: the name decides its addresses."""
        for index in range(_MOST_ROUTERS):
            self._link = f"{_PREFIX}{index}"
            try:
                netlink.connect(_UPLINK, self._link, outside)
            except OSError as error:
                if error.errno == errno.EEXIST:
                    continue
                raise
            low = index * 4
            inner, outer = (f"198.19.{low >> 8}.{(low & 255) + end}" for end in (2, 1))
            netlink.add_address(_UPLINK, inner, outer)
            netlink.add_default_route(_UPLINK, outer)
            return inner, outer
        raise SandboxError(f"{_MOST_ROUTERS} networks are in use", hint="end other services first")


def find_problem() -> str:
    """Why there is no way out on this machine; empty where there is one. Looks only."""
    if os.geteuid() != 0:
        return "outgoing network needs root"
    if shutil.which("nft") is None:
        return "outgoing network needs the program nft (Debian: apt install nftables)"
    return ""


def name_servers() -> tuple[str, ...]:
    """IPv4 addresses that this machine asks for names, those on its loopback left out: nobody else reaches them."""
    for path in _RESOLVERS:
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue
        found = [words[1] for line in text.splitlines() if len(words := line.split()) > 1 and words[0] == "nameserver"]
        usable = [server for server in found if _reachable(server)]
        if usable:
            return tuple(usable[:_MOST_NAME_SERVERS])
    return ()


def sweep() -> list[str]:
    """Removes the tables of owners that are gone; returns their names. Their links went with them."""
    if find_problem() or not Path("/proc/net/netfilter").exists():
        return []
    swept = []
    for name in _TABLES.findall(_nft("list tables")):
        if is_left(name.rpartition("-")[0]):
            with contextlib.suppress(SandboxError):  # another start swept it meanwhile
                _nft(f"delete table inet {name}")
            swept.append(name)
    return swept


def _reachable(server: str) -> bool:
    try:
        address = ip_address(server)
    except ValueError:
        return False
    return address.version == 4 and not (address.is_loopback or address.is_unspecified or address.is_link_local)


def _set(name: str, value: str) -> None:
    path = Path("/proc/sys/net") / name
    if path.read_text("ascii").strip() != value:
        path.write_text(value, "ascii")


def _nft(commands: str) -> str:
    import subprocess

    try:
        done = subprocess.run(["nft", "-f", "-"], input=commands, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(f"nft: {error}") from error
    if done.returncode:
        raise _failed(f"nft: {done.stderr.strip()[:300]}")
    return done.stdout


def _failed(why: str) -> SandboxError:
    return SandboxError(f"no outgoing network: {why}", hint='use network = "none" (--network none)')
