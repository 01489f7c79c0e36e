"""Which proxy stands before a host: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, read as curl and Go's clients read them.

Sources: curl(1), "ENVIRONMENT"; golang.org/x/net/http/httpproxy. Proxies that are asked by plain HTTP only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):(\d{1,5})")
"""An address of IPv6 has a port only where it stands in brackets."""


class BadProxyError(Exception):
    """A variable that names no proxy which can be used."""


@dataclass(frozen=True)
class Proxy:
    """Where to connect to in place of the host. `authorization` is a header's value, or empty."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"


def find_proxy(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for requests to a host; None where there is none. This machine is never behind one. Raises BadProxyError."""
    for name in (f"{scheme}_proxy", "all_proxy"):
        # In CGI programs HTTP_PROXY is a header that the client sent.
        upper = "" if name == "http_proxy" and "REQUEST_METHOD" in environment else name.upper()
        for variable in (name, upper):
            if value := environment.get(variable, "").strip():
                exceptions = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
                return None if _is_direct(host, port, exceptions) else _read(value, variable)
    return None


def _read(value: str, variable: str) -> Proxy:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if not host or parts.scheme != "http":
        shown = value.rpartition("@")[2]  # what comes before may be a password
        raise BadProxyError(f"{variable} is {shown[:200]!r}: only proxies of the form http://HOST:PORT can be used")
    return Proxy(host, port, _authorization(parts.username, parts.password))


def _authorization(user: str | None, password: str | None) -> str:
    if user is None:
        return ""
    from base64 import b64encode

    return "Basic " + b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()


def _is_direct(host: str, port: int, exceptions: str) -> bool:
    """Whether a host is this machine or among NO_PROXY's entries: names with all below them, addresses, networks, "*"."""
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost") or _lies_in(host, "127.0.0.0/8") or host == "::1":
        return True
    return any(_matches(host, port, entry) for entry in exceptions.lower().replace(",", " ").split())


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _lies_in(host, entry)
    with_port = _WITH_PORT.fullmatch(entry)
    if with_port is not None:
        if int(with_port[2]) != port:
            return False
        entry = with_port[1]
    entry = entry.strip("[]").removeprefix("*").rstrip(".")
    return host == entry or host.endswith(entry if entry.startswith(".") else f".{entry}")


def _lies_in(host: str, network: str) -> bool:
    if not (host[:1].isdigit() or ":" in host):
        return False  # a name
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
