"""The registry with the clients that people have: skopeo, podman, buildah, oras, the AWS command line, and lading itself."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import LADING, Command
from registry_support import Podman, aws, make_image, program, run
from serve_support import client, service

KEYS = {"AKIDEXAMPLE": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(walls=None) as address:
        yield address


@pytest.fixture(scope="module")
def host(url: str) -> str:
    return urlsplit(url).netloc


@pytest.fixture
def podman() -> Iterator[Podman]:
    """Below a short path, which podman insists on."""
    with tempfile.TemporaryDirectory(prefix="lading-") as folder:
        own = Podman(Path(folder))
        yield own
        own("rmi", "--all", "--force")


def repository(url: str, name: str) -> str:
    """A new one, by the AWS command line; its URI."""
    answer = json.loads(aws(url, "ecr", "create-repository", "--repository-name", name))
    return str(answer["repository"]["repositoryUri"])


def test_skopeo_copies_lists_and_deletes(url: str, host: str, tmp_path: Path) -> None:
    skopeo = program("skopeo")
    image = make_image(tmp_path / "image", "one", "two")
    uri = repository(url, "skopeo/app")
    assert uri == f"{host}/skopeo/app"
    source, target = f"oci:{tmp_path / 'image'}:latest", f"docker://{uri}:v1"
    run(skopeo, "copy", "--dest-tls-verify=false", source, target)
    back = f"oci:{tmp_path / 'back'}:v1"
    run(skopeo, "copy", "--src-tls-verify=false", "--preserve-digests", target, back)
    assert json.loads((tmp_path / "back" / "index.json").read_text())["manifests"][0]["digest"] == image.digest
    docker = f"docker://{uri}:docker"
    run(skopeo, "copy", "--dest-tls-verify=false", "--format", "v2s2", source, docker)
    tags = [skopeo, "list-tags", "--tls-verify=false", f"docker://{uri}"]
    assert json.loads(run(*tags))["Tags"] == ["docker", "v1"]
    run(skopeo, "delete", "--tls-verify=false", target)
    assert json.loads(run(*tags))["Tags"] == ["docker"]
    assert "does not exist" in run(skopeo, "copy", "--dest-tls-verify=false", source, f"docker://{host}/no:1", code=1)


def test_podman_logs_in_pushes_and_pulls(url: str, host: str, tmp_path: Path, podman: Podman) -> None:
    """As the walk-through has it: get-login-password | login, then tag, push and pull."""
    make_image(tmp_path / "image", "podman")
    uri = repository(url, "podman/app")
    assert "invalid username/password" in podman.remote(
        "login", "-u", "AWS", "--password-stdin", host, stdin="no", code=125
    )
    password = aws(url, "ecr", "get-login-password")
    assert "Login Succeeded" in podman.remote("login", "-u", "AWS", "--password-stdin", host, stdin=password)
    identity = podman("pull", "--quiet", f"oci:{tmp_path / 'image'}:latest").strip()
    podman("tag", identity, f"{uri}:v1")
    podman.remote("push", f"{uri}:v1")
    podman("rmi", "--all", "--force")
    podman.remote("pull", f"{uri}:v1")
    assert identity in podman("images", "--quiet", "--no-trunc")
    detail = json.loads(aws(url, "ecr", "describe-images", "--repository-name", "podman/app"))["imageDetails"][0]
    assert detail["imageTags"] == ["v1"] and "lastRecordedPullTime" in detail


def test_docker_s_command_logs_in_and_looks(url: str, host: str, tmp_path: Path) -> None:
    """Its command line alone: it moves no images without an engine, which no test machine has."""
    docker, logins = program("docker"), {"DOCKER_CONFIG": str(tmp_path)}
    image, uri = make_image(tmp_path / "image", "docker"), repository(url, "docker/app")
    login = (docker, "login", "-u", "AWS", "--password-stdin", host)
    assert "unauthorized" in run(*login, stdin="wrong", code=1, **logins)
    assert "Login Succeeded" in run(*login, stdin=aws(url, "ecr", "get-login-password"), **logins)
    run(LADING, "push", tmp_path / "image", f"{uri}:v1", **logins)
    seen = json.loads(run(docker, "manifest", "inspect", "--insecure", f"{uri}:v1", **logins))
    assert seen == json.loads(image.manifest)


def test_buildah_pushes_what_it_builds(url: str, host: str, tmp_path: Path) -> None:
    uri = repository(url, "buildah/app")
    storage = ["--root", tmp_path / "storage", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
    buildah = [program("buildah"), *storage]
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY app.py /\nCMD ["/app.py"]\n')
    (tmp_path / "app.py").write_text("print('hello')\n")
    run(*buildah, "bud", "--isolation", "chroot", "-t", f"{uri}:v1", tmp_path)
    run(*buildah, "push", "--tls-verify=false", f"{uri}:v1")
    assert json.loads(run(program("skopeo"), "inspect", "--tls-verify=false", f"docker://{uri}:v1"))["Layers"]
    run(*buildah, "rmi", "--all", "--force")


def test_oras_pushes_pulls_and_attaches(url: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import oras.client

    repository(url, "oras/things")
    (tmp_path / "thing.txt").write_text("a thing " * 1000)
    monkeypatch.chdir(tmp_path)
    registry = oras.client.OrasClient(hostname=host, insecure=True)
    target = f"{host}/oras/things:v1"
    for chunked in (False, True):
        assert registry.push(target, files=["thing.txt"], do_chunked=chunked, chunk_size=1000).status_code == 201
    (pulled,) = registry.pull(target, outdir=str(tmp_path / "back"))
    assert Path(pulled).read_text() == "a thing " * 1000
    assert registry.get_tags(f"{host}/oras/things") == ["v1"]


def test_lading_pushes_mounts_and_attaches(lading: Command, url: str, host: str, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", "lading", "app")
    uris = [repository(url, name) for name in ("lading/one", "lading/two")]
    first = lading("push", tmp_path / "image", f"{uris[0]}:v1", "--json", cwd=tmp_path).json
    assert (first["digest"], first["blobs"]) == (image.digest, 3)
    again = lading("push", tmp_path / "image", f"{uris[0]}:v2", "--json", cwd=tmp_path).json
    assert (again["sent"], again["present"]) == (0, 3)
    other = lading(
        "push", tmp_path / "image", f"{uris[1]}:v1", "--mount-from", "lading/one", "--json", cwd=tmp_path
    ).json
    assert (other["sent"], other["mounted"]) == (0, 3)
    named = f"000000000000.dkr.ecr.eu-west-1.localhost:{urlsplit(url).port}/lading/two:v2"
    assert lading("push", tmp_path / "image", named, "--json", cwd=tmp_path).json["present"] == 3


def test_with_keys_only_a_login_lets_in(lading: Command, tmp_path: Path, podman: Podman) -> None:
    with service(walls=None, keys=KEYS) as url:
        host = urlsplit(url).netloc
        key, secret = next(iter(KEYS.items()))
        own = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
        aws(url, "ecr", "create-repository", "--repository-name", "app", **own)
        anonymous = httpx.get(f"{url}/v2/app/tags/list")
        assert anonymous.status_code == 401
        assert anonymous.headers["WWW-Authenticate"] == f'Basic realm="{url}/",service="ecr.amazonaws.com"'
        token = httpx.get(f"{url}/_lading/registry/token")
        assert token.status_code == 401
        assert "UnrecognizedClient" in aws(url, "ecr", "get-login-password", code=255)
        make_image(tmp_path / "image", "keys")
        password = aws(url, "ecr", "get-login-password", **own)
        podman.remote("login", "-u", "AWS", "--password-stdin", host, stdin=password)
        logins = {"REGISTRY_AUTH_FILE": str(podman.logins)}
        lading("push", tmp_path / "image", f"{host}/app:v1", cwd=tmp_path, env=logins)
        refused = lading(
            "push", tmp_path / "image", f"{host}/app:v2", cwd=tmp_path, env={"REGISTRY_AUTH_FILE": "/none"}, code=4
        )
        assert "let in" in refused.err or "log in" in refused.err


def test_a_login_is_of_its_account_and_of_its_time(url: str) -> None:
    ecr = client(url, "ecr", aws_access_key_id="111122223333")
    ecr.create_repository(repositoryName="mine")
    data = ecr.get_authorization_token()["authorizationData"][0]
    login = {"Authorization": f"Basic {data['authorizationToken']}"}
    assert data["proxyEndpoint"] == url
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")
    names = {
        "111122223333.dkr.ecr.eu-west-1.amazonaws.com": 200,
        "111122223333.dkr.ecr.us-east-1.localhost:4566": 404,
        "000000000000.dkr.ecr.eu-west-1.localhost:4566": 403,
        "evil.example": 403,
    }
    for name, status in names.items():
        assert httpx.get(f"{url}/v2/mine/tags/list", headers={**login, "Host": name}).status_code == status
    assert httpx.get(f"{url}/v2/mine/tags/list", headers=login).status_code == 200
    assert httpx.get(f"{url}/v2/mine/tags/list").json()["errors"][0]["code"] == "NAME_UNKNOWN"
    wrong = ["Basic x", "Basic " + base64.b64encode(b"AWS:x").decode(), "Bearer a.b", "Digest x", "Basic ü"]
    for header in wrong:
        answer = httpx.get(f"{url}/v2/mine/tags/list", headers={"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401, header
    httpx.post(f"{url}/_lading/clock", params={"step": 13 * 3600}).raise_for_status()
    late = httpx.get(f"{url}/v2/mine/tags/list", headers=login)
    assert (late.status_code, "expired" in late.text) == (401, True)


def test_other_sites_pages_are_refused(url: str) -> None:
    answer = httpx.post(f"{url}/v2/mine/blobs/uploads/", headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, "DENIED")
