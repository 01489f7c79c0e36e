"""External extensions of a function: which programs of /opt/extensions are started."""

from __future__ import annotations

import os

from lading.service.pool.function import FunctionVersion


def find_extensions(function: FunctionVersion) -> tuple[str, ...]:
    """Executables of /opt/extensions, from every layer, in the order they are started (by name)."""
    names = set()
    for layer in function.spec.layers:
        folder = layer / "extensions"
        if folder.is_dir():
            names |= {path.name for path in folder.iterdir() if path.is_file() and os.access(path, os.X_OK)}
    if function.spec.image:
        view = function.spec.image.view
        found = {name: view.follow(f"opt/extensions/{name}") for name in view.list("opt/extensions")}
        names |= {name for name, path in found.items() if path and path.is_file() and os.access(path, os.X_OK)}
    return tuple(sorted(names))
