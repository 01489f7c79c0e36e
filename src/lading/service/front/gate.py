"""Which requests are let in at all: the Host and Origin checks that keep web pages out of a service on loopback."""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest


def is_loopback(host: str) -> bool:
    """For an address, or a name that always means this machine (RFC 6761)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Gate:
    """Hosts that requests may name besides loopback's; `any_host` where every request is signed anyway."""

    hosts: frozenset[str] = frozenset()
    any_host: bool = False

    def check(self, request: HttpRequest) -> None:
        """Raises ApiError for a name that was rebound to this service, or a page of another site."""
        self.check_host(request)
        origin = request.header("origin")
        if origin is not None and not self._known(urlsplit(origin).netloc):
            raise ApiError(
                "AccessDeniedException", f"requests from the Origin {origin[:200]!r} are refused", status=403
            )
        if request.header("sec-fetch-site") == "cross-site":
            raise ApiError("AccessDeniedException", "requests from another site's pages are refused", status=403)

    def check_host(self, request: HttpRequest) -> None:
        """The first half of `check`, for what web pages may call: function URLs, with their own CORS."""
        host = request.header("host") or ""
        if not self._known(host):
            raise ApiError("AccessDeniedException", f"the Host {host[:200]!r} is not one of this service's", status=403)

    def _known(self, netloc: str) -> bool:
        name, loopback = _read_host(netloc)
        return bool(name) and (loopback or name in self.hosts or self.any_host)


@functools.lru_cache(64)
def _read_host(netloc: str) -> tuple[str, bool]:
    """The name in a Host or Origin ("" for none), and whether it means this machine."""
    try:
        name = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return "", False
    plain = name.removeprefix("stream-").removeprefix("streaming-")  # botocore's host prefixes of StartLiveTail
    return name, is_loopback(plain)
