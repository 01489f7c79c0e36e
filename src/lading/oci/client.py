"""The HTTP client for registries, light where a registry is on this machine: what TLS needs is loaded when something uses it."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


def make_client() -> httpx.Client:
    """Redirects by hand; a read may stall for a minute, never for ever."""
    _load()
    import httpx

    limits = httpx.Limits(max_connections=16, max_keepalive_connections=8)

    class Transport(httpx.BaseTransport):
        """Plain requests go out without certificates being read, which takes longer than a small push; others are verified.

        Names below .localhost mean this machine (RFC 6761), whether its resolver knows that or not.
        """

        def __init__(self) -> None:
            self._plain = httpx.HTTPTransport(limits=limits, verify=False)  # it never sees an https URL
            self._secure: httpx.HTTPTransport | None = None
            self._lock = threading.Lock()

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.host.endswith(".localhost"):
                request.url = request.url.copy_with(host="127.0.0.1")  # the Host header keeps the name
            if request.url.scheme == "http":
                return self._plain.handle_request(request)
            return self._verifying().handle_request(request)

        def _verifying(self) -> httpx.HTTPTransport:
            with self._lock:
                if self._secure is None:
                    self._secure = httpx.HTTPTransport(limits=limits)
                return self._secure

        def close(self) -> None:
            self._plain.close()
            if self._secure is not None:
                self._secure.close()

    timeout = httpx.Timeout(60.0, connect=15.0)
    return httpx.Client(
        follow_redirects=False, timeout=timeout, transport=Transport(), headers={"User-Agent": "lading"}
    )


def _load() -> None:
    """httpx without the command line that it loads where rich and pygments are installed: a third of its import."""
    if "httpx" not in sys.modules and "httpx._main" not in sys.modules:
        sys.modules["httpx._main"] = None  # type: ignore[assignment]
        try:
            importlib.import_module("httpx")
        finally:
            del sys.modules["httpx._main"]
