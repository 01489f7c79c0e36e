"""`lading image …`: container images as lazy images, and the store that holds them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lading.cli.image_mount import mount, peer, unmount
from lading.cli.image_store import find_digest, find_key, find_master, find_store, place
from lading.errors import UsageError

if TYPE_CHECKING:
    from lading.lazy.convert import Conversion
    from lading.lazy.keys import AccountKey
    from lading.lazy.roots import ImageStore
    from lading.model.progress import Progress
    from lading.oci.image import Image

Function = TypeVar("Function", bound=Callable[..., Any])


@click.group(name="image")
def command() -> None:
    """Lazy images: converted once, mounted anywhere, fetched as they are read."""


for reading in (mount, unmount, peer):
    command.add_command(reading)


@command.command()
@click.argument("image")
@place
@click.option(
    "--trace",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Paths that a start reads, one a line: they are packed together. Or a recorded start: the store keeps it.",
)
@click.option("--architecture", metavar="ARCH", default="", help="Of an image for several: x86_64 or arm64.")
@click.option("--threads", type=click.IntRange(1, 64), help="Chunks sealed and sent at once. [default: 4; 16 for S3]")
@click.option("--again", is_flag=True, help="Also when the store has the image: what is missing is sent.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert(
    image: str, store: str, key: Path | None, account: str, trace: Path | None, architecture: str, threads: int | None,
    again: bool, as_json: bool,
) -> None:  # fmt: skip
    """Convert IMAGE, a layout folder, docker-archive or reference, into the store: only chunks that it lacks."""
    from lading.cli.progress import choose_progress
    from lading.lazy.convert import Settings
    from lading.lazy.convert import convert as run
    from lading.lazy.keys import default_key_file, ensure_key
    from lading.store import open_store

    target = find_store(store)
    recorded = _trace(trace) if trace and trace.read_bytes()[:1] == b"{" else None
    settings = Settings(
        master=ensure_key(key or default_key_file()),
        account=account,
        workshop=open_store().temporary,
        threads=threads or (16 if str(target.objects).startswith("s3:") else 4),
        first=trace.read_text("utf-8", "surrogateescape").splitlines() if trace and not recorded else (),
        again=again,
    )
    with choose_progress() as progress:
        done = run(_image(image, architecture, progress), target, settings, progress)
    if recorded:
        _keep(recorded, done, target, settings.key)
    _report(done, as_json=as_json)


def _keep(recorded: tuple[int, list[int]], done: Conversion, store: ImageStore, key: AccountKey) -> None:
    """A recorded start of this very image: other machines fetch ahead by it."""
    from lading.lazy.recorded import keep_trace

    chunks, order = recorded
    if chunks != len(done.manifest.data) or not all(0 <= index < chunks for index in order):
        raise UsageError(
            f"the recorded start is of another image: it has {chunks:,} chunks, this one {len(done.manifest.data):,}",
            hint="mount this image, start the function in it, and take the trace that was recorded then",
        )
    keep_trace(store, key, done.root, done.manifest, order)


def _report(done: Conversion, *, as_json: bool) -> None:
    from lading.cli.text import size

    parts = {"data": done.data, "metadata": done.metadata}
    if as_json:
        document = {
            "digest": done.digest,
            "root": done.root.id,
            "known": done.known,
            "manifest_bytes": done.manifest_bytes,
            "image_bytes": done.image_bytes,
            "inherited": done.inherited,
            **{name: vars(tally) for name, tally in parts.items()},
        }
        click.echo(json.dumps(document))
        return
    click.echo(done.digest)
    if done.known:
        click.echo("the store has this image already", err=True)
    for name, tally in parts.items():
        counts = f"{tally.unique:,} unique, {tally.shared:,} shared"
        more = f", {tally.repeated:,} repeated, {tally.zero:,} zero" if tally.repeated or tally.zero else ""
        click.echo(f"{name:<9} {counts}{more}; sent {size(tally.sent)} for {size(tally.unique_bytes)}", err=True)
    if done.inherited:
        click.echo(
            f"start     {done.inherited:,} chunks will be fetched ahead, as a start of a like image was", err=True
        )
    click.echo(
        f"image     {size(done.image_bytes)}, {done.share:.2%} of its chunks new; manifest {size(done.manifest_bytes)}",
        err=True,
    )


@command.command()
@place
@click.option("--also-account", "others", metavar="ACCOUNT", multiple=True, help="Another account whose images count.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def stats(store: str, key: Path | None, account: str, others: tuple[str, ...], as_json: bool) -> None:
    """What the store holds, image by image, and what readers on this machine found in which tier."""
    from lading.cli.image_readers import read_readers, show_readers
    from lading.cli.text import count, size
    from lading.lazy.stats import measure

    keys = {name: find_key(key, name) for name in (account, *others)}
    found, readers = measure(find_store(store), *keys.values()), read_readers()
    accounts = {one.id.hex(): f"  account {name}" if others else "" for name, one in keys.items()}
    if as_json:
        document = {**vars(found), "factor": found.factor, "images": [_plain(line) for line in found.images]}
        document["readers"] = readers
        click.echo(json.dumps(document))
        return
    for line in found.images:
        click.echo(
            f"{line.digest}  {size(line.content):>9}  {size(line.own):>9} of its own  {line.chunks:,} chunks"
            f"{accounts[line.key]}"
        )
    click.echo(
        f"{count(len(found.images), 'image')}, {size(found.content)} in all; {size(found.distinct)} different, "
        f"{size(found.stored)} stored: {found.factor:.1f} times smaller"
    )
    if found.foreign:
        click.echo(f"and {count(found.foreign, 'image')} of other accounts", err=True)
    show_readers(readers, {line.reader: line.digest for line in found.images})


def _plain(line: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(line)


@command.command()
@place
@click.option(
    "--also-account", "others", metavar="ACCOUNT", multiple=True, help="Another account with images in the store."
)
@click.option("--new-salt", is_flag=True, help="Seal everything anew under a fresh salt.")
@click.option(
    "--grace",
    metavar="HOURS",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="How long an emptied root is kept.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def gc(
    store: str, key: Path | None, account: str, others: tuple[str, ...], new_salt: bool, grace: float, as_json: bool
) -> None:
    """Free what no image needs. Converters and readers at work are not disturbed; run it again after the grace."""
    from lading.cli.text import count
    from lading.lazy.collect import Collector

    collector = Collector(find_store(store), find_master(key), [account, *others], grace=grace * 3600)
    done = collector.collect(new_salt=new_salt)
    if as_json:
        click.echo(json.dumps(vars(done)))
        return
    for reason in done.waiting:
        click.echo(reason, err=True)
    if done.made:
        click.echo(f"new root {done.made}: {count(done.images, 'image')}, {count(done.chunks, 'chunk')} moved")
    for root in done.expired:
        click.echo(f"root {root} has expired")
    for root in done.removed:
        click.echo(f"root {root} removed")
    click.echo(f"deleted {count(done.deleted, 'object')}")


@command.command()
@click.argument("digest")
@place
def remove(digest: str, store: str, key: Path | None, account: str) -> None:
    """Forget the image of the OCI manifest DIGEST; `lading image gc` frees its chunks."""
    target, digest = find_store(store), find_digest(digest)
    if not target.remove(find_key(key, account).id, digest):
        raise UsageError(f"the store has no image {digest} of account {account}", hint="lading image stats")
    click.echo(f"removed {digest}")


@command.command()
@click.argument("digest")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@place
def export(digest: str, folder: Path, store: str, key: Path | None, account: str) -> None:
    """Write the image of the OCI manifest DIGEST into FOLDER, each chunk verified: for standard tools to read."""
    from lading.lazy.export import export as write
    from lading.lazy.manifest import open_manifest

    target, own = find_store(store), find_key(key, account)
    root, sealed = target.find(own.id, find_digest(digest))
    write(target, root, open_manifest(sealed, own), folder)
    click.echo(str(folder))


@command.command()
@click.argument("image", metavar="DIGEST|TRACE")
@place
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("heat.svg"),
    show_default=True,
    help="A .svg or .png file.",
)
def heat(image: str, output: Path, store: str, key: Path | None, account: str) -> None:
    """Draw which chunks a start touched, dark ones first, light ones last: of the image DIGEST as mounted here, or a TRACE."""
    from lading.lazy.heat import draw_png, draw_svg, make_heat

    if output.suffix not in (".svg", ".png"):
        raise UsageError(f"no picture format is called {output.suffix!r}", hint="--output heat.svg, or heat.png")
    path = _recorded(image, store, key, account)
    chunks, order = _trace(path)
    picture = make_heat(image if image.startswith("sha256:") else path.name, chunks, order)
    if output.suffix == ".svg":
        output.write_text(draw_svg(picture), "utf-8")
    else:
        output.write_bytes(draw_png(picture))
    click.echo(f"{output}  {len(picture.order):,} of {chunks:,} chunks touched ({picture.share:.1%})")


def _recorded(trace: str, store: str, key: Path | None, account: str) -> Path:
    """The file of a trace that is given so, or that readers here keep of an image."""
    from lading.lazy.manifest import identify, open_manifest
    from lading.lazy.settings import default_cache
    from lading.oci.descriptor import DIGEST

    path = Path(trace)
    if DIGEST.fullmatch(trace):
        own = find_key(key, account)
        _, sealed = find_store(store).find(own.id, trace)
        path = default_cache() / "traces" / identify(open_manifest(sealed, own))
        if not path.is_file():
            raise UsageError(
                f"no start of {trace} was recorded on this machine",
                hint=f"read in it: lading image mount {trace} FOLDER",
            )
    elif not path.is_file():
        raise UsageError(
            f"no trace {trace!r}", hint="an image's digest, as lading image stats prints, or a trace's file"
        )
    return path


def _trace(path: Path) -> tuple[int, list[int]]:
    """A trace as the reader records it: {"version": 1, "of": chunks, "chunks": [index, …]}."""
    try:
        document = json.loads(path.read_bytes())
        chunks, order = document["of"], document["chunks"]
        if document["version"] != 1 or not 0 < chunks < 1 << 24 or not all(type(index) is int for index in order):
            raise ValueError("not of version 1")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} is no start-up trace: {error}", hint="give one that a mounted image recorded"
        ) from None
    return chunks, order


def _image(text: str, architecture: str, progress: Progress) -> Image:
    """A layout folder, a docker-archive, or what a registry has under a reference."""
    from lading.model.target import Architecture
    from lading.oci.descriptor import Platform
    from lading.oci.docker_archive import read_docker_archive
    from lading.oci.layout import Layout
    from lading.oci.pull import pull
    from lading.oci.reference import parse_reference
    from lading.store import open_store

    if architecture and architecture not in [one.value for one in Architecture]:
        raise UsageError(f"no architecture {architecture!r}", hint="x86_64 or arm64")
    processor = {"x86_64": "amd64", "arm64": "arm64"}.get(architecture, "")
    platform = Platform("linux", processor) if processor else None
    path, store = Path(text), open_store()
    if path.is_dir():
        return Layout(path).image(platform)
    if path.is_file():
        return read_docker_archive(path.absolute(), store.blobs, store.actions)
    return pull(parse_reference(text), platform, store.blobs, progress)
