"""Fetches files over HTTP straight into the store, in parallel, verified against the lock. Knows nothing of packages."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lading.errors import DownloadError
from lading.model.blobs import Blobs, BlobWriter
from lading.model.lock import LockedFile
from lading.model.progress import Progress
from lading.resolve.credentials import Credentials, Login
from lading.resolve.redact import redact, strip_credentials

if TYPE_CHECKING:
    import httpx

CONNECTIONS = 8
ATTEMPTS = 4
BACK_OFF = 0.4
"""Seconds before the second attempt; doubled for each further one."""
MAX_WAIT = 30.0
"""Seconds at most for which a server's Retry-After is heeded."""
TIMEOUT = 30.0
"""Seconds without a byte before an attempt is given up."""
MAX_BYTES = 4 << 30
"""Largest file taken; Lambda's largest image is 10 GB, its largest package 250 MB."""
CHUNK = 256 << 10
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class UnreachableError(DownloadError):
    """A host does not answer, or answers with server errors, after several attempts."""


class RefusedError(DownloadError):
    """A host refuses a file (401, 403) or has none (404, 410)."""


class DigestMismatchError(DownloadError):
    """The bytes that came are not those the lock names."""


class TooLargeError(DownloadError):
    """More bytes came than the lock or lading's limit allows."""


class StoppedError(DownloadError):
    """Another file failed, so this one was given up."""


@dataclass(frozen=True)
class Transfer:
    """Where bytes go and who is told; shared by the threads of one download."""

    blobs: Blobs
    credentials: Credentials
    progress: Progress
    stop: threading.Event
    lock: threading.Lock


def download(
    files: Iterable[LockedFile], blobs: Blobs, credentials: Credentials, progress: Progress
) -> Iterator[LockedFile]:
    """Put every file into the store, yielding each once it is there. The first failure stops the rest and is raised."""
    transfer = Transfer(blobs, credentials, progress, threading.Event(), threading.Lock())
    remote = []
    for file in files:
        if file.url.startswith("file:"):
            _adopt(file, blobs)
            yield file
        else:
            remote.append(file)
    if remote:
        yield from _download_remote(sorted(remote, key=lambda file: -(file.size or 0)), transfer)


def _adopt(file: LockedFile, blobs: Blobs) -> None:
    path = Path(unquote(urlsplit(file.url).path))
    if not path.is_file():
        raise RefusedError(f"{file.name}: there is no file {path}", hint="restore it, or resolve again with --upgrade")
    try:
        blobs.adopt(path, expect=file.sha256)
    except DownloadError as error:
        raise _mismatch(file, error) from error


def _download_remote(files: list[LockedFile], transfer: Transfer) -> Iterator[LockedFile]:
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with _client() as client, ThreadPoolExecutor(min(CONNECTIONS, len(files))) as pool:
        futures = {pool.submit(_download_one, file, client, transfer): file for file in files}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BaseException:
            transfer.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _client() -> httpx.Client:
    import ssl

    import httpx

    system = any(os.environ.get(name, "") not in ("", "0", "false") for name in ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS"))
    return httpx.Client(
        verify=ssl.create_default_context() if system else True,
        follow_redirects=True,
        timeout=TIMEOUT,
        headers={"Accept-Encoding": "identity", "User-Agent": "lading"},
        limits=httpx.Limits(max_connections=CONNECTIONS),
    )


class _AgainError(Exception):
    """This attempt failed in a way that may pass: why, and the seconds to wait that the server asked for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def _download_one(file: LockedFile, client: httpx.Client, transfer: Transfer) -> None:
    login = transfer.credentials.find(file.url)
    with transfer.lock:
        task = transfer.progress.start(file.name, file.size)
    reason = ""
    for attempt in range(ATTEMPTS):
        if transfer.stop.is_set():
            raise StoppedError(f"{file.name}: given up because another file failed")
        try:
            if _attempt(file, client, login, transfer, task):
                break
            login = transfer.credentials.ask(file.url)
            if login is None:
                raise _refused(file, 401)
        except _AgainError as again:
            reason = redact(str(again))
            transfer.stop.wait(max(again.wait, BACK_OFF * 2**attempt) if attempt + 1 < ATTEMPTS else 0)
    else:
        raise _unreachable(file, reason or "401 Unauthorized, also with the keyring's login")
    with transfer.lock:
        transfer.progress.finish(task)


def _attempt(file: LockedFile, client: httpx.Client, login: Login | None, transfer: Transfer, task: int) -> bool:
    """True when the file is in the store, False when the server wants a login and none was sent. Raises _AgainError."""
    import httpx

    auth = httpx.BasicAuth(login.user, login.password) if login else None
    try:
        with client.stream("GET", strip_credentials(file.url), auth=auth) as response:
            status = response.status_code
            if status == 401 and login is None:
                return False
            if status in _AGAIN:
                raise _AgainError(f"{status} {response.reason_phrase}", _retry_after(response))
            if status != 200:
                raise _refused(file, status)
            _receive(file, response, transfer, task)
    except httpx.InvalidURL as error:
        raise UnreachableError(f"{file.name}: {redact(file.url)} is not a valid URL: {error}") from error
    except (httpx.TransportError, httpx.TooManyRedirects) as error:
        raise _AgainError(str(error) or type(error).__name__) from error
    return True


def _retry_after(response: httpx.Response) -> float:
    """Seconds, from a Retry-After that gives seconds; dates are not heeded."""
    value = response.headers.get("retry-after", "")
    return min(float(value), MAX_WAIT) if value.isdigit() else 0.0


def _receive(file: LockedFile, response: httpx.Response, transfer: Transfer, task: int) -> None:
    limit = MAX_BYTES if file.size is None else file.size
    received = 0
    try:
        with transfer.blobs.writer() as writer:
            for chunk in response.iter_raw(CHUNK):
                received += len(chunk)
                if received > limit:
                    raise TooLargeError(
                        f"{file.name} from {_host(file.url)} is larger than the {limit} bytes it should have",
                        hint="the file changed at its source; if that is meant: --upgrade",
                    )
                if transfer.stop.is_set():
                    raise StoppedError(f"{file.name}: given up because another file failed")
                writer.write(chunk)
                with transfer.lock:
                    transfer.progress.advance(task, len(chunk))
            if file.size is not None and received < file.size:
                raise _AgainError(f"only {received} of {file.size} bytes came")
            _commit(writer, file)
    except BaseException:
        with transfer.lock:
            transfer.progress.advance(task, -received)
        raise


def _commit(writer: BlobWriter, file: LockedFile) -> None:
    try:
        writer.commit(expect=file.sha256)
    except DownloadError as error:
        raise _mismatch(file, error) from error


def _mismatch(file: LockedFile, error: DownloadError) -> DigestMismatchError:
    return DigestMismatchError(
        f"{file.name} from {_host(file.url)} is not the file that the lock names",
        details=error.details,
        hint="the file changed at its source or was damaged on the way; if the change is meant: --upgrade",
    )


def _refused(file: LockedFile, status: int) -> RefusedError:
    if status in (401, 403):
        hint = "give the index's credentials as uv takes them: UV_INDEX_<NAME>_USERNAME and _PASSWORD, netrc or keyring"
    else:
        hint = "the file is gone from the index; choose another version with --upgrade"
    return RefusedError(f"{_host(file.url)} answered {status} for {file.name}", details=[redact(file.url)], hint=hint)


def _unreachable(file: LockedFile, reason: str) -> UnreachableError:
    return UnreachableError(
        f"{_host(file.url)} did not deliver {file.name} in {ATTEMPTS} attempts",
        details=[reason, redact(file.url)],
        hint="check the network and the index; what was fetched before stays, so run it again",
    )


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
