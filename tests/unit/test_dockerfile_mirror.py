"""Which registries a mirror stands before."""

from __future__ import annotations

import tomllib

from lading.build.dockerfile import mirrored


def test_a_mirror_is_asked_first_for_every_registry_of_the_dockerfile() -> None:
    lines = ("FROM --platform=linux/amd64 GHCR.io/team/base:1 AS one", "FROM python:3.13", "from localhost:5000/x")
    text = "\n".join((*lines, "COPY --from=a.b/c / /"))
    found = tomllib.loads(mirrored(text, "127.0.0.1:4566"))["registry"]
    assert [one["prefix"] for one in found] == ["docker.io", "ghcr.io", "localhost:5000", "public.ecr.aws"]
    assert {(one["mirror"][0]["location"], one["mirror"][0]["insecure"]) for one in found} == {("127.0.0.1:4566", True)}
    assert tomllib.loads(mirrored("", "mirror.example/aws"))["registry"][0]["mirror"][0]["insecure"] is False
