"""Which proxy a request goes by: the variables that curl and Go's clients read."""

from __future__ import annotations

import pytest

from lading.oci.proxy import BadProxyError, find_proxy

HTTPS = {"HTTPS_PROXY": "http://proxy.example:3128"}
WAY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, ("https", "ghcr.io", 443), None),
        (HTTPS, ("https", "ghcr.io", 443), WAY),
        (HTTPS, ("http", "ghcr.io", 80), None),
        ({"https_proxy": "one:1", "HTTPS_PROXY": "two:2"}, ("https", "ghcr.io", 443), "http://one:1"),
        ({"https_proxy": "", "ALL_PROXY": "all"}, ("https", "ghcr.io", 443), "http://all:80"),
        ({"HTTP_PROXY": "one:1"}, ("http", "ghcr.io", 80), "http://one:1"),
        ({"HTTP_PROXY": "one:1", "REQUEST_METHOD": "GET"}, ("http", "ghcr.io", 80), None),
        *((HTTPS, ("https", here, 443), None) for here in ("localhost", "a.localhost", "127.1.2.3", "::1")),
    ],
)
def test_the_variable_for_a_scheme(
    environment: dict[str, str], url: tuple[str, str, int], expected: str | None
) -> None:
    found = find_proxy(*url, environment)
    assert (str(found) if found else None) == expected


@pytest.mark.parametrize(
    ("exceptions", "direct", "proxied"),
    [
        ("*", ["ghcr.io"], []),
        ("example.com", ["example.com", "a.example.com", "EXAMPLE.com", "example.com."], ["myexample.com", "com"]),
        (".example.com", ["a.example.com", "b.a.example.com"], ["example.com"]),
        ("*.example.com, other.io", ["a.example.com", "other.io"], ["example.com"]),
        ("example.com:443 other.io:8443", ["example.com"], ["other.io"]),
        ("10.0.0.0/8,192.168.1.7", ["10.1.2.3", "192.168.1.7"], ["11.1.2.3", "192.168.1.8", "10.example.com"]),
        ("fd00::/8,[2001:db8::1]:443,2001:db8::2", ["fd00::5", "2001:db8::1", "2001:db8::2"], ["2001:db8::3"]),
        ("not/a/network,,", [], ["10.0.0.1", "ghcr.io"]),
    ],
)
def test_what_is_reached_directly(exceptions: str, direct: list[str], proxied: list[str]) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        found = {host: find_proxy("https", host, 443, {**HTTPS, name: exceptions}) for host in (*direct, *proxied)}
        assert [host for host, proxy in found.items() if proxy is None] == direct


def test_a_login_for_the_proxy_is_sent_and_never_shown() -> None:
    found = find_proxy("https", "ghcr.io", 443, {"HTTPS_PROXY": "http://me:s%40crit@proxy.example:3128"})
    assert found is not None and found.authorization == "Basic bWU6c0Bjcml0"
    assert "crit" not in f"{found}{found!r}" and str(found) == WAY


@pytest.mark.parametrize("value", ["socks5://me:secret@proxy:1080", "https://proxy:443", "http://", "http://a:99999"])
def test_what_is_no_such_proxy_is_an_error(value: str) -> None:
    with pytest.raises(BadProxyError, match=r"ALL_PROXY is '.*only proxies of the form http://HOST:PORT") as caught:
        find_proxy("https", "ghcr.io", 443, {"ALL_PROXY": value})
    assert "secret" not in str(caught.value)
