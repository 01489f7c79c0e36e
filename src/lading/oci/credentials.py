"""Logins for registries, from the files and helpers that docker and podman keep. Reads, never writes; asks nobody.

Order, as podman has it: $REGISTRY_AUTH_FILE or else the session's auth.json, the user's, docker's config.json, .dockercfg;
in each file a helper for the registry, the stored login, the general helper. Source: containers-auth.json(5), "docker login".
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lading.errors import ConfigError
from lading.oci.reference import DOCKER_HUB

SECONDS = 30
"""How long a helper may take."""
LARGEST_FILE = 1 << 20
_DOCKER_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[\w.-]{1,64}", re.ASCII)
TOKEN_USER = "<token>"
_OLD_FILE = ".dockercfg"
"""Docker's file before config.json: a table of logins and nothing around it."""


class CredentialsError(ConfigError):
    """A credentials file or helper that can't be read."""


@dataclass(frozen=True)
class Login:
    """A user and a secret, or an identity (refresh) token."""

    user: str = ""
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


def find_login(registry: str, repository: str = "") -> Login | None:
    """The login for a repository of a registry; None where there is none. Raises CredentialsError."""
    for path in _files():
        if path.is_file():
            document = _read(path)
            if path.name == _OLD_FILE:
                document = {"auths": document}
            login = _from_document(document, path, registry, repository)
            if login:
                return login
    return None


def _files() -> Iterator[Path]:
    stated = os.environ.get("REGISTRY_AUTH_FILE")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if stated:
        yield Path(stated)
    elif runtime:
        yield Path(runtime, "containers", "auth.json")
    else:
        yield Path(f"/run/containers/{os.getuid()}/auth.json")
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    yield Path(config, "containers", "auth.json")
    yield Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    yield Path.home() / _OLD_FILE


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError("it is too large")
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CredentialsError(f"can't read {path}: {error}", hint="log in again: podman login, docker login") from None
    if not isinstance(document, Mapping):
        raise CredentialsError(f"{path} is not a table", hint="log in again: podman login, docker login")
    return document


def _from_document(document: Mapping[str, Any], path: Path, registry: str, repository: str) -> Login | None:
    """1. the registry's own helper 2. a stored login, the most specific first 3. the helper for all."""
    helpers, auths = _table(document, "credHelpers"), _table(document, "auths")
    keys = _keys(registry, repository)
    helper = next((helpers[key] for key in keys if isinstance(helpers.get(key), str)), None)
    if helper:
        return _ask(helper, keys[-1] if registry == DOCKER_HUB else registry)
    general = document.get("credsStore")
    by_host = {_host(key): value for key, value in auths.items()}
    for key in keys:
        entry = auths.get(key) or by_host.get(key)
        if isinstance(entry, Mapping) and (login := _stored(entry, path, key)):
            return login
    if isinstance(general, str) and general:
        return _ask(general, keys[-1] if registry == DOCKER_HUB else registry)
    return None


def _keys(registry: str, repository: str) -> list[str]:
    """From the repository up to the registry; Docker Hub's old address last."""
    parts = repository.split("/") if repository else []
    keys = ["/".join([registry, *parts[:end]]) for end in range(len(parts), -1, -1)]
    return [*keys, "index.docker.io", _DOCKER_KEY] if registry == DOCKER_HUB else keys


def _host(key: str) -> str:
    """ "https://ghcr.io/v2/" as "ghcr.io"."""
    bare = re.sub(r"^https?://", "", key)
    return re.sub(r"/v[12]/?$|/$", "", bare)


def _stored(entry: Mapping[str, Any], path: Path, key: str) -> Login | None:
    token = entry.get("identitytoken")
    auth = entry.get("auth")
    if isinstance(token, str) and token:
        return Login(token=token)
    if isinstance(auth, str) and auth:
        try:
            user, _, secret = base64.b64decode(auth, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise CredentialsError(
                f"{path} has a broken login for {key}", hint=f"log in again: podman login {key}"
            ) from None
        return Login(user, secret.rstrip("\0"))
    name, password = entry.get("username"), entry.get("password")
    return Login(name, password) if isinstance(name, str) and isinstance(password, str) and name else None


def _ask(helper: str, registry: str) -> Login | None:
    """Run docker-credential-HELPER get. Raises CredentialsError for one that is missing or fails."""
    import subprocess

    if not _HELPER.fullmatch(helper):
        raise CredentialsError(f"not a credential helper: {helper!r}", hint="check ~/.docker/config.json")
    program = shutil.which(f"docker-credential-{helper}")
    if program is None:
        raise CredentialsError(
            f"the credential helper docker-credential-{helper} for {registry} is not on PATH",
            hint="install it, or remove it from ~/.docker/config.json",
        )
    try:
        done = subprocess.run(
            [program, "get"], input=registry.encode(), capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CredentialsError(f"docker-credential-{helper} failed: {error}", hint="run it by hand") from None
    if done.returncode:
        said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
        if "credentials not found" in said:
            return None
        raise CredentialsError(f"docker-credential-{helper} failed", details=said.splitlines()[:3], hint="log in again")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(f"docker-credential-{helper} gave no login", hint="run it by hand") from None
    return Login(token=secret) if user == TOKEN_USER else Login(user, secret)


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}
