"""The options of `lading image …` that say which store, whose images and under which key, and what they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lading.errors import UsageError

if TYPE_CHECKING:
    from lading.lazy.keys import AccountKey, MasterKey
    from lading.lazy.roots import ImageStore

Function = TypeVar("Function", bound=Callable[..., Any])


def place(function: Function) -> Function:
    """The options that say which store, whose images, under which key."""
    for option in (
        click.option("--account", default="000000000000", show_default=True, help="Whose images."),
        click.option("--key", type=click.Path(path_type=Path), help="Key file. [default: $LADING_LAZY_KEY or the user's]"),
        click.option(
            "--store", metavar="STORE", default="",
            help="A folder or s3://bucket/prefix[?endpoint=URL]. [default: $LADING_LAZY_STORE or the user's]",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def find_store(address: str) -> ImageStore:
    from lading.lazy.objects import default_store, open_objects
    from lading.lazy.roots import ImageStore as Opened

    return Opened(open_objects(address or default_store()))


def find_master(path: Path | None) -> MasterKey:
    from lading.lazy.keys import default_key_file, read_key

    return read_key(path or default_key_file())


def find_key(path: Path | None, account: str) -> AccountKey:
    return find_master(path).account(account)


def find_digest(text: str) -> str:
    from lading.oci.descriptor import DIGEST

    if not DIGEST.fullmatch(text):
        raise UsageError(f"not a digest: {text!r}", hint="sha256: and 64 hex digits, as lading image stats prints")
    return text
