"""moto behind plain HTTP values: a WSGI call per request, on threads of its own. Its state is the process's,
and is forgotten when the last service that uses it ends."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import io
import threading
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, HttpResponse
from lading.service.control.names import Scope
from lading.service.front.keyring import IssuedKey
from lading.service.front.plain import plain_error
from lading.service.neighbours.bucket_policies import leave_conditions_alone
from lading.service.neighbours.mended import mend
from lading.service.triggers.handover import foresee, gathering, install
from lading.service.triggers.trigger import Taker

SERVICES = (
    "s3", "iam", "sts", "sqs", "sns", "dynamodb", "events", "scheduler", "ssm", "secretsmanager", "kms", "kinesis", "ec2",
)  # fmt: skip
"""By the name that requests are signed for."""
_STARTING = threading.Lock()
TURN = threading.Lock()
"""moto walks its dictionaries unguarded: of two requests at once one may fail. Not for SQS, where one may wait for messages."""
_USERS: list[object] = []
"""The services of this process that are up: moto's state is one for them all."""


def join_moto(user: object) -> None:
    """Pair with `leave_moto`."""
    with _STARTING:
        _USERS.append(user)


def leave_moto(user: object) -> None:
    """The last one to leave empties every bucket, queue, role, …"""
    with _STARTING:
        _USERS.remove(user)
        if _USERS or not _application.cache_info().currsize:
            return
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()


@functools.cache
def _application() -> Any:
    from moto.core.config import default_user_config
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    default_user_config["iam"]["load_aws_managed_policies"] = True
    return DomainDispatcherApplication(create_backend_app)


def call_moto(
    service: str, request: HttpRequest, account: str, url: str, *, taker: Taker | None = None
) -> HttpResponse:
    """Blocks. `service`: as requests are signed for it; its first call loads it (up to a second). `url`: where it was reached.
    `taker`: who invokes functions for what the request causes, before it is answered."""
    with _STARTING:
        application = _application()
        install(service)
        if service == "s3":
            leave_conditions_alone()
    status: list[str] = []
    headers: list[tuple[str, str]] = []

    def start(line: str, pairs: list[tuple[str, str]], error: object = None) -> None:
        status[:], headers[:] = [line], pairs

    standings = foresee(service, request, taker)
    refused: HttpResponse | None = None
    with contextlib.nullcontext() if service == "sqs" else TURN, gathering(taker, request, standings) as triggers:
        try:
            mended = mend(service, request, account)
            body = b"".join(application(_environment(mended, account, url), start))
        except NotImplementedError as error:
            refused = plain_error(ApiError("NotImplementedException", str(error), status=501), request, service)
    if triggers and taker is not None:
        taker.take(triggers)
    if refused is not None:
        return refused
    found: dict[str, str] = {}
    for name, value in headers:
        if name.lower() not in ("content-length", "connection", "date", "server") or (
            name.lower() == "content-length" and request.method == "HEAD"
        ):
            found["Content-Length" if name.lower() == "content-length" else name] = value
    return HttpResponse(int(status[0].split()[0]), found, b"" if request.method == "HEAD" else body)


def _environment(request: HttpRequest, account: str, url: str) -> dict[str, Any]:
    """WSGI's (PEP 3333)."""
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in request.query)
    host = request.header("host") or url.partition("//")[2]
    name, _, port = host.rpartition(":") if ":" in host else (host, "", "80")
    environment: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "RAW_URI": request.path + (f"?{query}" if query else ""),
        "REQUEST_URI": request.path + (f"?{query}" if query else ""),
        "QUERY_STRING": query,
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "CONTENT_TYPE": request.header("content-type") or "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for header, value in request.headers.items():
        if header not in ("content-length", "content-type", "transfer-encoding", "x-moto-account-id"):
            environment["HTTP_" + header.upper().replace("-", "_")] = value
    return environment | {"HTTP_HOST": host, "HTTP_X_MOTO_ACCOUNT_ID": account}


def forget_iterator(scope: Scope, iterator: str) -> None:
    """A shard iterator of DynamoDB Streams that was used: each read makes another, and moto keeps them all."""
    from moto.dynamodbstreams.models import dynamodbstreams_backends

    dynamodbstreams_backends[scope.account][scope.region].shard_iterators.pop(iterator, None)


def assume_role(scope: Scope, role: str, session: str, seconds: int) -> tuple[str, str, str]:
    """Access key, secret and session token, as STS's AssumeRole gives them. Expired sessions are forgotten."""
    from moto.core.utils import utcnow
    from moto.sts.models import sts_backends

    made = sts_backends[scope.account][scope.partition].assume_role(scope.region, session, role, "", seconds, "")
    with _STARTING:
        sessions = sts_backends[made.account_id][scope.partition].assumed_roles
        while sessions[0].expiration < utcnow():
            del sessions[0]
    return made.access_key_id, made.secret_access_key, made.session_token


def issued_key(access_key: str) -> IssuedKey | None:
    """An access key that IAM or STS made here; None for any other."""
    if not _application.cache_info().currsize:
        return None
    from moto.iam.models import iam_backends
    from moto.sts.models import sts_backends

    for number, account in list(iam_backends.items()):
        for backend in list(account.values()):
            for user in list(backend.users.values()):
                for key in user.access_keys:
                    if key.access_key_id == access_key and key.status == "Active":
                        return IssuedKey(str(key.secret_access_key), number)
    for number, sessions in list(sts_backends.items()):
        for sts in list(sessions.values()):
            role = next((one for one in list(sts.assumed_roles) if one.access_key_id == access_key), None)
            if role is not None:
                expires = role.expiration.replace(tzinfo=dt.UTC).timestamp()
                return IssuedKey(str(role.secret_access_key), number, expires)
    return None
