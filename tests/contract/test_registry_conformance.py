"""The registry against what the OCI distribution specification (1.1) has a registry do, one request a row, by workflow:
pull, push, content discovery, content management. Rows of a workflow build on one another, as a client's requests do."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import boto3
import httpx
import pytest

from lading.oci import media
from lading.service.embed import Settings, serving


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def strong(data: bytes) -> str:
    """The digest by the other algorithm that the specification registers."""
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


def described(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


CONFIG = b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}'
BLOB = bytes(range(256)) * 40
MANIFEST = encoded(
    {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": described(CONFIG, media.OCI_CONFIG),
        "layers": [described(BLOB, media.OCI_LAYER_GZIP)],
    }
)
STRONG = encoded(
    {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": described(CONFIG, media.OCI_CONFIG, digest=strong(CONFIG)),
        "layers": [described(BLOB, media.OCI_LAYER_GZIP, digest=strong(BLOB))],
        "subject": described(CONFIG, media.OCI_MANIFEST, digest=strong(b"not there")),
    }
)
EMPTY = b"{}"
ARTIFACT_TYPE = "application/vnd.example.sbom"


def referrer(artifact_type: str, note: str) -> bytes:
    return encoded(
        {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": described(EMPTY, media.OCI_EMPTY),
            "layers": [described(EMPTY, media.OCI_EMPTY)],
            "subject": described(MANIFEST, media.OCI_MANIFEST),
            "annotations": {"note": note},
        }
    )


SBOM, SIGNATURE = referrer(ARTIFACT_TYPE, "one"), referrer("application/vnd.example.signature", "two")
INDEX = encoded(
    {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [described(MANIFEST, media.OCI_MANIFEST)]}
)
NOBODY = digest(b"nobody has this")
JSON_MANIFEST = {"Content-Type": media.OCI_MANIFEST}
JSON_INDEX = {"Content-Type": media.OCI_INDEX}
OCTETS = {"Content-Type": "application/octet-stream"}
HALF = len(BLOB) // 2


NOTHING: Mapping[str, str] = MappingProxyType({})


class Row(NamedTuple):
    """A request and what must come back. `{session}` is where the last upload goes on; a code is an error's."""

    method: str
    path: str
    status: int
    expect: Mapping[str, str] = NOTHING
    headers: Mapping[str, str] = NOTHING
    body: bytes = b""
    code: str = ""
    content: bytes | None = None


def part(start: int, end: int, size: int | None = None) -> dict[str, str]:
    return {
        **OCTETS,
        "Content-Range": f"{start}-{end - 1}",
        "Content-Length": str(end - start if size is None else size),
    }


def monolithic(data: bytes, named: Callable[[bytes], str] = digest) -> list[Row]:
    where = {"Location": f"/v2/team/app/blobs/{named(data)}", "Docker-Content-Digest": named(data)}
    return [
        Row("POST", "/v2/team/app/blobs/uploads/", 202, {"Range": "0-0", "Docker-Upload-UUID": r"[0-9a-f-]{36}"}),
        Row("PUT", f"{{session}}?digest={named(data)}", 201, where, OCTETS, data),
    ]


PUSH = [
    Row("POST", "/v2/none/blobs/uploads/", 404, code="NAME_UNKNOWN"),
    Row("POST", "/v2/UPPER/blobs/uploads/", 400, code="NAME_INVALID"),
    Row("HEAD", f"/v2/team/app/blobs/{digest(BLOB)}", 404),
    Row("PUT", "/v2/team/app/manifests/v1", 400, {}, JSON_MANIFEST, MANIFEST, code="MANIFEST_BLOB_UNKNOWN"),
    *monolithic(CONFIG),
    Row(
        "POST", f"/v2/team/app/blobs/uploads/?digest={digest(EMPTY)}", 201,
        {"Location": f"/v2/team/app/blobs/{digest(EMPTY)}"}, OCTETS, EMPTY,
    ),
    # Chunks: in order only, asked about, gone on with.
    Row("POST", "/v2/team/app/blobs/uploads/", 202),
    Row("PATCH", "{session}", 202, {"Range": f"0-{HALF - 1}"}, part(0, HALF), BLOB[:HALF]),
    Row("PATCH", "{session}", 416, {"Range": f"0-{HALF - 1}"}, part(0, HALF), BLOB[:HALF], "BLOB_UPLOAD_INVALID"),
    Row("PATCH", "{session}", 416, {}, part(HALF + 1, len(BLOB)), BLOB[HALF + 1 :], "BLOB_UPLOAD_INVALID"),
    Row("PATCH", "{session}", 400, {}, part(HALF, len(BLOB), 5), b"12345", "SIZE_INVALID"),
    Row("PATCH", "{session}", 416, {}, {**OCTETS, "Content-Range": "all"}, b"", "BLOB_UPLOAD_INVALID"),
    Row("GET", "{session}", 204, {"Range": f"0-{HALF - 1}", "Location": r"/v2/team/app/blobs/uploads/[\w-]+"}),
    Row("PUT", "{session}", 400, {}, part(HALF, len(BLOB)), BLOB[HALF:], "DIGEST_INVALID"),
    Row(
        "PUT", f"{{session}}?digest={digest(BLOB)}", 201, {"Docker-Content-Digest": digest(BLOB)},
        part(HALF, len(BLOB)), BLOB[HALF:],
    ),
    Row("GET", "{session}", 404, code="BLOB_UPLOAD_UNKNOWN"),
    # All at once without a Content-Range, then nothing more with the PUT.
    Row("POST", "/v2/team/app/blobs/uploads/", 202),
    Row("PATCH", "{session}", 202, {"Range": f"0-{len(BLOB) - 1}"}, OCTETS, BLOB),
    Row("PUT", f"{{session}}?digest={digest(BLOB)}", 201),
    # What isn't what it says leaves nothing.
    Row("POST", "/v2/team/app/blobs/uploads/", 202),
    Row("PUT", f"{{session}}?digest={NOBODY}", 400, {}, OCTETS, BLOB, "DIGEST_INVALID"),
    Row("GET", "{session}", 404, code="BLOB_UPLOAD_UNKNOWN"),
    Row("HEAD", f"/v2/team/app/blobs/{NOBODY}", 404),
    Row("POST", "/v2/team/app/blobs/uploads/?digest=sha512:00", 400, code="DIGEST_INVALID"),
    # Given up.
    Row("POST", "/v2/team/app/blobs/uploads/", 202),
    Row("GET", "/v2/team/other/blobs/uploads/{identity}", 404, code="BLOB_UPLOAD_UNKNOWN"),
    Row("DELETE", "{session}", 204),
    Row("DELETE", "{session}", 404, code="BLOB_UPLOAD_UNKNOWN"),
    # Mounts: from a repository that has it; else an upload begins.
    Row(
        "POST", f"/v2/team/other/blobs/uploads/?mount={digest(BLOB)}&from=team/app", 201,
        {"Location": f"/v2/team/other/blobs/{digest(BLOB)}"},
    ),
    Row("HEAD", f"/v2/team/other/blobs/{digest(BLOB)}", 200),
    Row("POST", f"/v2/team/other/blobs/uploads/?mount={NOBODY}&from=team/app", 202),
    Row("POST", f"/v2/team/other/blobs/uploads/?mount={digest(CONFIG)}&from=none", 202),
    Row("POST", f"/v2/team/other/blobs/uploads/?mount={digest(CONFIG)}", 202),
    Row("POST", f"/v2/none/blobs/uploads/?mount={digest(BLOB)}&from=team/app", 404, code="NAME_UNKNOWN"),
    # Manifests.
    Row(
        "PUT", "/v2/team/app/manifests/v1", 201,
        {"Location": f"/v2/team/app/manifests/{digest(MANIFEST)}", "Docker-Content-Digest": digest(MANIFEST)},
        JSON_MANIFEST, MANIFEST,
    ),
    Row("PUT", f"/v2/team/app/manifests/{digest(MANIFEST)}", 201, {}, JSON_MANIFEST, MANIFEST),
    Row("PUT", f"/v2/team/app/manifests/{NOBODY}", 400, {}, JSON_MANIFEST, MANIFEST, "DIGEST_INVALID"),
    Row("PUT", "/v2/team/app/manifests/v1", 400, {}, JSON_INDEX, MANIFEST, "MANIFEST_INVALID"),
    Row("PUT", "/v2/team/app/manifests/v1", 400, {}, JSON_MANIFEST, b"{", "MANIFEST_INVALID"),
    Row("PUT", "/v2/team/app/manifests/v1", 413, {}, JSON_MANIFEST, b" " * (media.LARGEST_MANIFEST + 1), "SIZE_INVALID"),
    Row("PUT", "/v2/team/app/manifests/.bad", 400, {}, JSON_MANIFEST, MANIFEST, "TAG_INVALID"),
    Row("PUT", "/v2/team/app/manifests/all", 201, {}, JSON_INDEX, INDEX),
    Row("PUT", "/v2/team/other/manifests/all", 400, {}, JSON_INDEX, INDEX, "MANIFEST_BLOB_UNKNOWN"),
]  # fmt: skip

PULL = [
    Row("GET", f"/v2/team/app/blobs/{digest(BLOB)}", 200, {"Content-Length": str(len(BLOB))}, content=BLOB),
    Row(
        "HEAD", f"/v2/team/app/blobs/{digest(BLOB)}", 200,
        {"Content-Length": str(len(BLOB)), "Docker-Content-Digest": digest(BLOB), "Accept-Ranges": "bytes"},
    ),
    Row("GET", f"/v2/team/app/blobs/{digest(BLOB).replace(':', '%3A')}", 200, content=BLOB),
    Row("GET", f"/v2/team/app/blobs/{NOBODY}", 404, code="BLOB_UNKNOWN"),
    Row("GET", f"/v2/none/blobs/{digest(BLOB)}", 404, code="NAME_UNKNOWN"),
    Row("GET", f"/v2/team/other/blobs/{digest(CONFIG)}", 404, code="BLOB_UNKNOWN"),
    Row("GET", "/v2/team/app/blobs/sha256:short", 400, code="DIGEST_INVALID"),
    *(
        Row(
            "GET", f"/v2/team/app/blobs/{digest(BLOB)}", 206, {"Content-Range": f"bytes {first}-{last}/{len(BLOB)}"},
            {"Range": text}, content=BLOB[first : last + 1],
        )
        for text, first, last in (
            ("bytes=0-0", 0, 0), ("bytes=100-199", 100, 199), ("bytes=100-", 100, len(BLOB) - 1),
            ("bytes=-7", len(BLOB) - 7, len(BLOB) - 1), ("bytes=5-999999999", 5, len(BLOB) - 1),
        )
    ),
    Row("GET", f"/v2/team/app/blobs/{digest(BLOB)}", 416, {"Content-Range": r"bytes \*/\d+"}, {"Range": "bytes=10240-"}),
    Row("GET", f"/v2/team/app/blobs/{digest(BLOB)}", 200, {}, {"Range": "bytes=9-1"}, content=BLOB),
    Row("GET", f"/v2/team/app/blobs/{digest(BLOB)}", 200, {}, {"Range": "lines=1-2"}, content=BLOB),
    *(
        Row(
            method, f"/v2/team/app/manifests/{name}", 200,
            {
                "Content-Type": re.escape(media.OCI_MANIFEST), "Docker-Content-Digest": digest(MANIFEST),
                "Content-Length": str(len(MANIFEST)),
            },
            content=MANIFEST if method == "GET" else b"",
        )
        for method in ("GET", "HEAD") for name in ("v1", digest(MANIFEST))
    ),
    Row("GET", "/v2/team/app/manifests/all", 200, {"Content-Type": re.escape(media.OCI_INDEX)}, content=INDEX),
    Row("GET", "/v2/team/app/manifests/none", 404, code="MANIFEST_UNKNOWN"),
    Row("HEAD", f"/v2/team/app/manifests/{NOBODY}", 404),
    Row("GET", "/v2/team/app/manifests/.bad", 400, code="TAG_INVALID"),
    Row("GET", "/v2/none/manifests/v1", 404, code="NAME_UNKNOWN"),
    Row("GET", "/v2/team/app/nothing/v1", 404, code="NAME_UNKNOWN"),
    Row("POST", "/v2/team/app/manifests/v1", 405, {"Allow": ".*PUT.*"}, code="UNSUPPORTED"),
]  # fmt: skip

DISCOVERY = [
    *(Row("PUT", f"/v2/team/app/manifests/{tag}", 201, {}, JSON_MANIFEST, MANIFEST) for tag in ("v3", "v2")),
    Row("GET", "/v2/team/app/tags/list", 200, content=encoded({"name": "team/app", "tags": ["all", "v1", "v2", "v3"]})),
    Row(
        "GET", "/v2/team/app/tags/list?n=2", 200, {"Link": re.escape('</v2/team/app/tags/list?n=2&last=v1>; rel="next"')},
        content=encoded({"name": "team/app", "tags": ["all", "v1"]}),
    ),
    Row(
        "GET", "/v2/team/app/tags/list?n=2&last=v1", 200, {"Link": ""},
        content=encoded({"name": "team/app", "tags": ["v2", "v3"]}),
    ),
    Row("GET", "/v2/team/app/tags/list?n=0", 200, {"Link": ""}, content=encoded({"name": "team/app", "tags": []})),
    Row("GET", "/v2/team/app/tags/list?n=-1", 400, code="PAGINATION_NUMBER_INVALID"),
    Row("GET", "/v2/none/tags/list", 404, code="NAME_UNKNOWN"),
    Row("GET", "/v2/_catalog", 200, content=encoded({"repositories": ["team/app", "team/other"]})),
    Row("GET", "/v2/_catalog?n=1", 200, {"Link": r"</v2/_catalog\?n=1&last=team%2Fapp>.*"}),
    # Referrers: none is an empty index; a subject need not be there.
    Row("GET", f"/v2/team/app/referrers/{digest(MANIFEST)}", 200, {"Content-Type": re.escape(media.OCI_INDEX)}),
    Row("PUT", f"/v2/team/app/manifests/{digest(SBOM)}", 201, {"OCI-Subject": digest(MANIFEST)}, JSON_MANIFEST, SBOM),
    Row("PUT", "/v2/team/app/manifests/signed", 201, {"OCI-Subject": digest(MANIFEST)}, JSON_MANIFEST, SIGNATURE),
    Row("GET", f"/v2/team/app/referrers/{digest(MANIFEST)}", 200, {"OCI-Filters-Applied": ""}),
    Row(
        "GET", f"/v2/team/app/referrers/{digest(MANIFEST)}?artifactType={ARTIFACT_TYPE}", 200,
        {"OCI-Filters-Applied": "artifactType"},
        content=encoded({
            "schemaVersion": 2, "mediaType": media.OCI_INDEX,
            "manifests": [
                described(SBOM, media.OCI_MANIFEST, artifactType=ARTIFACT_TYPE, annotations={"note": "one"})
            ],
        }),
    ),
    Row("GET", "/v2/team/app/referrers/v1", 400, code="DIGEST_INVALID"),
]  # fmt: skip

MANAGEMENT = [
    Row("DELETE", "/v2/team/app/manifests/v3", 202),
    Row("GET", "/v2/team/app/manifests/v3", 404, code="MANIFEST_UNKNOWN"),
    Row("GET", f"/v2/team/app/manifests/{digest(MANIFEST)}", 200),
    Row("DELETE", "/v2/team/app/manifests/v3", 404, code="MANIFEST_UNKNOWN"),
    Row("DELETE", f"/v2/team/app/blobs/{digest(BLOB)}", 405, code="UNSUPPORTED"),
    Row("DELETE", f"/v2/team/app/manifests/{digest(MANIFEST)}", 405, code="UNSUPPORTED"),
    Row("DELETE", f"/v2/team/app/manifests/{digest(INDEX)}", 202),
    Row("DELETE", f"/v2/team/app/manifests/{digest(MANIFEST)}", 202),
    *(
        Row("GET", f"/v2/team/app/manifests/{name}", 404, code="MANIFEST_UNKNOWN")
        for name in ("v1", "v2", "all", digest(MANIFEST))
    ),
    Row("GET", "/v2/team/app/tags/list", 200, content=encoded({"name": "team/app", "tags": ["signed"]})),
    Row("DELETE", f"/v2/team/app/blobs/{digest(BLOB)}", 202),
    Row("GET", f"/v2/team/app/blobs/{digest(BLOB)}", 404, code="BLOB_UNKNOWN"),
    Row("DELETE", f"/v2/team/app/blobs/{digest(BLOB)}", 404, code="BLOB_UNKNOWN"),
    Row("GET", f"/v2/team/other/blobs/{digest(BLOB)}", 200, content=BLOB),
]

SHA512 = [
    Row("HEAD", f"/v2/team/app/blobs/{strong(BLOB)}", 404),
    *monolithic(BLOB, strong),
    Row("POST", f"/v2/team/app/blobs/uploads/?digest={strong(CONFIG)}", 201, {}, OCTETS, CONFIG),
    Row("POST", "/v2/team/app/blobs/uploads/", 202),
    Row("PUT", f"{{session}}?digest={strong(b'other')}", 400, {}, OCTETS, BLOB, "DIGEST_INVALID"),
    Row("GET", f"/v2/team/app/blobs/{strong(BLOB)}", 200, {"Docker-Content-Digest": strong(BLOB)}, content=BLOB),
    Row("GET", f"/v2/team/app/blobs/{strong(BLOB)}", 206, {}, {"Range": "bytes=1-2"}, content=BLOB[1:3]),
    Row("GET", f"/v2/team/app/blobs/{digest(BLOB)}", 404, code="BLOB_UNKNOWN"),
    Row("POST", f"/v2/team/other/blobs/uploads/?mount={strong(BLOB)}&from=team/app", 201),
    Row("GET", f"/v2/team/other/blobs/{strong(BLOB)}", 200, content=BLOB),
    Row("PUT", f"/v2/team/app/manifests/{strong(b'other')}", 400, {}, JSON_MANIFEST, STRONG, "DIGEST_INVALID"),
    Row(
        "PUT", f"/v2/team/app/manifests/{strong(STRONG)}", 201,
        {"Docker-Content-Digest": strong(STRONG), "OCI-Subject": strong(b"not there")}, JSON_MANIFEST, STRONG,
    ),
    Row("GET", f"/v2/team/app/manifests/{strong(STRONG)}", 200, {"ETag": f'"{strong(STRONG)}"'}, content=STRONG),
    Row("GET", f"/v2/team/app/referrers/{strong(b'not there')}", 200, {"Content-Type": re.escape(media.OCI_INDEX)}),
    Row("PUT", "/v2/team/app/manifests/strong", 201, {"Docker-Content-Digest": digest(STRONG)}, JSON_MANIFEST, STRONG),
    Row("DELETE", f"/v2/team/app/blobs/{strong(BLOB)}", 405, code="UNSUPPORTED"),
    *(Row("DELETE", f"/v2/team/app/manifests/{name(STRONG)}", 202) for name in (strong, digest)),
    Row("DELETE", f"/v2/team/app/blobs/{strong(BLOB)}", 202),
    Row("GET", f"/v2/team/app/blobs/{strong(BLOB)}", 404, code="BLOB_UNKNOWN"),
]  # fmt: skip


class Client:
    """Sends rows one after the other, and remembers where an upload goes on."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=30)
        self.session = ""

    def check(self, row: Row) -> None:
        path = row.path.replace("{session}", self.session).replace("{identity}", self.session.rpartition("/")[2])
        answer = self.http.request(row.method, path, headers=row.headers, content=row.body)
        what = f"{row.method} {path}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code == row.status, what
        assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0", what
        for name, pattern in row.expect.items():
            assert re.fullmatch(pattern, answer.headers.get(name, "")), f"{what}: {name}: {answer.headers.get(name)}"
        if row.code:
            (error,) = answer.json()["errors"]
            assert error["code"] == row.code and error["message"], what
        if row.content is not None:
            same = answer.content == row.content
            assert same or answer.json() == json.loads(row.content), what
        if answer.status_code == 202 and "Docker-Upload-UUID" in answer.headers:
            self.session = answer.headers["Location"]


@pytest.fixture
def client() -> Iterator[Client]:
    with serving(Settings(port=0, walls=None)) as url:
        ecr = boto3.client(
            "ecr", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        for name in ("team/app", "team/other"):
            ecr.create_repository(repositoryName=name)
        yield Client(url)


def test_conformance(client: Client) -> None:
    """The workflows in this order: each needs what the ones before left."""
    for row in (*PUSH, *PULL, *DISCOVERY, *MANAGEMENT, *SHA512):
        client.check(row)


def test_clients_are_asked_for_a_token_which_anybody_gets(client: Client) -> None:
    asked = client.http.get("/v2/")
    assert asked.status_code == 401 and asked.json()["errors"][0]["code"] == "UNAUTHORIZED"
    match = re.fullmatch(r'Bearer realm="([^"]+)",service="([^"]+)"', asked.headers["WWW-Authenticate"])
    assert match is not None
    for login in (None, ("", "")):
        token = httpx.get(match[1], params={"service": match[2]}, auth=login).json()["token"]
        assert client.http.get("/v2/", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_the_public_suite(client: Client, tmp_path: Path) -> None:
    """OCI's own program (opencontainers/distribution-spec, conformance): where it is installed, it finds nothing."""
    program = os.environ.get("LADING_OCI_CONFORMANCE") or shutil.which("oci-conformance")
    if not program:
        pytest.skip("OCI's conformance program is not on PATH as oci-conformance, nor named by LADING_OCI_CONFORMANCE")
    on = ("API_BLOBS_UPLOAD_CANCEL", "API_BLOBS_DIGEST_HEADER", "API_MANIFESTS_DIGEST_HEADER")
    settings = {"REGISTRY": client.http.base_url.netloc.decode(), "TLS": "disabled", "VERSION": "1.1",
                "REPO1": "team/app", "REPO2": "team/other", "RESULTS_DIR": str(tmp_path),
                **dict.fromkeys(on, "true")}  # fmt: skip
    environment = {**os.environ, **{f"OCI_{name}": value for name, value in settings.items()}}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
