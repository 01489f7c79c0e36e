"""Which user and password a URL wants: its own, an index's on the same host, UV_INDEX_<NAME>_*, netrc, keyring.

Looks only where uv looks. Nothing here is written or shown.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

_NAMED = re.compile(r"([A-Za-z0-9_.-]+)=(?=[a-z]+://)")
KEYRING_TIMEOUT = 30


@dataclass(frozen=True)
class Login:
    """For HTTP basic authentication."""

    user: str
    password: str = field(repr=False)


class Credentials:
    """Logins for the URLs of one run. `indexes` are `url` or `name=url`, as in `Lock.indexes`."""

    def __init__(self, indexes: Iterable[str]) -> None:
        self._indexes = [_index_login(index) for index in indexes]

    def find(self, url: str) -> Login | None:
        """What is known without asking anyone: sent with the first request."""
        parts = urlsplit(url)
        own = _own(parts)
        if own and own.password:
            return own
        return self._of_index(parts) or _from_netrc(parts) or own

    def ask(self, url: str) -> Login | None:
        """What the keyring knows, if the user told uv to ask it (UV_KEYRING_PROVIDER=subprocess); after a 401 only."""
        if os.environ.get("UV_KEYRING_PROVIDER") != "subprocess":
            return None
        login = self.find(url)
        for service in self._services(urlsplit(url)):
            found = _from_keyring(service, login.user if login else "")
            if found:
                return found
        return None

    def _of_index(self, parts: SplitResult) -> Login | None:
        """The login of an index on the same host; of several, the one with the longest common path."""
        same = [(index, login) for index, login in self._indexes if login and _realm(index) == _realm(parts)]
        if not same:
            return None
        return max(same, key=lambda pair: _common(pair[0].path, parts.path))[1]

    def _services(self, parts: SplitResult) -> list[str]:
        """Names under which a keyring may hold it: each index URL on that host, then the host."""
        urls = [
            index._replace(netloc=_host(index)).geturl() for index, _ in self._indexes if _realm(index) == _realm(parts)
        ]
        return [*dict.fromkeys(urls), _host(parts)]


def _index_login(index: str) -> tuple[SplitResult, Login | None]:
    match = _NAMED.match(index)
    parts = urlsplit(index[match.end() :] if match else index)
    name = re.sub(r"[^A-Za-z0-9]", "_", match[1]).upper() if match else ""
    user, password = (os.environ.get(f"UV_INDEX_{name}_{what}", "") for what in ("USERNAME", "PASSWORD"))
    if name and (user or password):
        return parts, Login(user, password)
    return parts, _own(parts)


def _own(parts: SplitResult) -> Login | None:
    if parts.username is None:
        return None
    return Login(unquote(parts.username), unquote(parts.password or ""))


def _common(first: str, second: str) -> int:
    """How many leading path segments two paths share."""
    pairs = zip(first.split("/"), second.split("/"), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _realm(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _from_netrc(parts: SplitResult) -> Login | None:
    import netrc

    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        entry = netrc.netrc(path).hosts.get(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return Login(entry[0] or entry[1] or "", entry[2] or "") if entry else None


def _from_keyring(service: str, user: str) -> Login | None:
    """What `keyring get` prints; uv asks in the same way. Without a user name, `--mode creds` gives both."""
    import subprocess

    arguments = ["get", service, user] if user else ["--mode", "creds", "get", service, ""]
    try:
        result = subprocess.run(
            ["keyring", *arguments],
            capture_output=True,
            text=True,
            timeout=KEYRING_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = result.stdout.splitlines()
    if result.returncode or not lines:
        return None
    return Login(user, lines[0]) if user else (Login(lines[0], lines[1]) if len(lines) > 1 else None)
