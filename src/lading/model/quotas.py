"""AWS Lambda's quotas as one value. The numbers and their sources are in data/quotas.toml, never in code."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass, field
from importlib import resources


@dataclass(frozen=True)
class Quotas:
    """Bounds are inclusive (least, most): sizes in MB, times in seconds, lengths in characters."""

    memory: tuple[int, int]
    timeout: tuple[int, int]
    ephemeral_storage: tuple[int, int]
    layers: int
    unzipped: int
    """Bytes of a function's code and layers together."""
    direct_upload: int
    """Bytes of a zip inside a request; larger ones go through S3."""
    environment_bytes: int
    function_name: int
    layer_name: int
    handler: int
    description: int
    reserved_variables: frozenset[str] = field(hash=False)


@functools.cache
def quotas() -> Quotas:
    """Today's quotas."""
    data = tomllib.loads(resources.files("lading.model.data").joinpath("quotas.toml").read_text("utf-8"))
    function, text = data["function"], data["text"]
    return Quotas(
        memory=tuple(function["memory"]),
        timeout=tuple(function["timeout"]),
        ephemeral_storage=tuple(function["ephemeral-storage"]),
        layers=function["layers"],
        unzipped=data["package"]["unzipped"],
        direct_upload=data["package"]["direct-upload"],
        environment_bytes=function["environment-bytes"],
        function_name=text["function-name"],
        layer_name=text["layer-name"],
        handler=text["handler"],
        description=text["description"],
        reserved_variables=frozenset(data["environment"]["reserved"]),
    )
