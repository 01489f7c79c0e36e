"""`lading image mount|unmount|peer`: the commands that read lazy images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lading.cli.image_store import find_digest, find_key, find_store, place
from lading.errors import LadingError, UsageError

if TYPE_CHECKING:
    from lading.lazy.images import LazyImages
    from lading.lazy.opening import Opening


@click.command()
@click.argument("digest")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@place
@click.option("--cache-size", metavar="SIZE", default="20GB", show_default=True, help="Of the local disk cache.")
@click.option("--peer", "peers", metavar="URL", multiple=True, help="A cache node, at least five: `lading image peer`.")
@click.option(
    "--peer-token-file", type=click.Path(path_type=Path, dir_okay=False), help="File with the token of the peers."
)
def mount(
    digest: str, folder: Path, store: str, key: Path | None, account: str, cache_size: str, peers: tuple[str, ...],
    peer_token_file: Path | None,
) -> None:  # fmt: skip
    """Mount the image of the OCI manifest DIGEST at FOLDER, read-only, until interrupted or unmounted (as root)."""
    from lading.cli.cache import parse_size
    from lading.lazy.images import LazyImages
    from lading.lazy.objects import default_store
    from lading.lazy.opening import open_source, publish_trace
    from lading.lazy.peer_server import read_token
    from lading.lazy.settings import ReaderSettings, default_cache

    target = find_store(store)
    settings = ReaderSettings(
        default_cache(),
        store or default_store(),
        parse_size(cache_size),
        peers,
        read_token(peer_token_file) if peer_token_file else "",
    )
    with LazyImages(settings) as images:
        images.start()
        own = find_key(key, account)
        opening = open_source(target, own, find_digest(digest))
        try:
            order = _hold(images, opening, folder)
            try:
                publish_trace(target, own, opening, order)
            except LadingError as error:  # such as a store that only gives
                click.echo(f"the recorded start stays on this machine: {error.message}", err=True)
        finally:
            opening.lease.release()


def _hold(images: LazyImages, opening: Opening, folder: Path) -> list[int]:
    """Mounted until a signal comes or somebody unmounts it. Returns the recorded start."""
    import signal

    from lading.lazy import mount as mounting

    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    image = images.open(opening.source)
    opening.confirm()
    mounting.bind(image.path, folder)
    try:
        click.echo(f"{folder}: mounted; ends with Ctrl-C or `lading image unmount {folder}`")
        while signal.sigtimedwait(signals, 0.5) is None and mounting.is_mounted(folder):
            opening.lease.keep()
        return images.settled(image)
    finally:
        mounting.unbind(folder)
        images.close(image)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def unmount(folder: Path) -> None:
    """Unmount what `lading image mount` has mounted at FOLDER; that command ends then."""
    from lading.lazy import mount as mounting

    if not mounting.is_mounted(folder):
        raise UsageError(f"no lazy image is mounted at {folder}", hint=f"mount one: lading image mount DIGEST {folder}")
    mounting.unbind(folder)


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; beyond loopback: --token-file."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=4570, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--cache", type=click.Path(path_type=Path, file_okay=False), help="Where shards are kept. [default: the user's]"
)
@click.option("--cache-size", metavar="SIZE", default="20GB", show_default=True, help="How many bytes of them.")
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False), help="File with what readers must know.")
def peer(host: str, port: int, cache: Path | None, cache_size: str, token_file: Path | None) -> None:
    """A cache node for readers on other machines: holds shards of encrypted chunks, until interrupted."""
    import asyncio
    import contextlib
    import signal

    from lading.cli.cache import parse_size
    from lading.lazy.disk_cache import DiskCache
    from lading.lazy.peer_server import PeerServer, bind, read_token
    from lading.lazy.settings import default_cache

    token = read_token(token_file) if token_file else ""
    listener = bind(host, port, token)
    server = PeerServer(DiskCache(cache or default_cache() / "peer", parse_size(cache_size)), token)
    name = f"[{host}]" if ":" in host else host
    click.echo(f"lading image peer: http://{name}:{listener.getsockname()[1]}")

    async def serve() -> None:
        task = asyncio.ensure_future(server.serve(listener))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(serve())
