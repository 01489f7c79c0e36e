"""Takes credentials out of text that is shown or written. Everything that leaves this package goes through here."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?<=://)[^\s/@'\"`]+@")


def strip_credentials(url: str) -> str:
    """The URL without `user:password@`."""
    return _USERINFO.sub("", url)


def redact(text: str) -> str:
    """The text with `user:password@` of every URL in it masked."""
    return _USERINFO.sub("****@", text)
