"""Push and pull against a registry that verifies: resumed, mounted, retried, refused; logins from files and helpers."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oci_registry import AMD64, RegistryServer, image_in, serving

from lading.errors import DownloadError
from lading.model.progress import Silent
from lading.oci import push as pushing
from lading.oci import registry as registries
from lading.oci.credentials import CredentialsError, find_login
from lading.oci.descriptor import Descriptor, ImageFormatError, Platform, encode
from lading.oci.image import empty
from lading.oci.layout import Document
from lading.oci.pull import pull
from lading.oci.push import push
from lading.oci.reference import ImageReferenceError, parse_reference
from lading.oci.registry import NotInRegistryError, RegistryError, UnauthorizedError, scheme
from lading.oci.validate import validate
from lading.store import Store, open_store


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "logins"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setattr(registries, "FIRST_PAUSE", 0.01)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return open_store(tmp_path / "other")


def test_what_is_pushed_is_pulled(server: RegistryServer, store: Store, other: Store) -> None:
    image, name = image_in(store, 100, 3 << 20), parse_reference(f"{server.name}/team/app:v1")
    pushed = push([image], [], name, Silent())
    assert (pushed.digest, pushed.blobs, pushed.present) == (image.digest, 3, 0)
    again = pull(name, AMD64, other.blobs, Silent())
    assert again.digest == image.digest and validate(again, AMD64) == ()
    by_digest = pull(parse_reference(f"{server.name}/team/app@{image.digest}"), None, other.blobs, Silent())
    assert by_digest.digest == image.digest


def test_only_what_is_missing_is_sent_or_fetched(server: RegistryServer, store: Store, other: Store) -> None:
    image, name = image_in(store, 100, 2000), parse_reference(f"{server.name}/app:1")
    push([image], [], name, Silent())
    more = image.append(image_in(store, 50).layers)
    pushed = push([more], [], name, Silent())
    assert (pushed.blobs, pushed.present) == (2, 2) and pushed.sent < 2000
    pull(name, AMD64, other.blobs, Silent())
    server.log.clear()
    pull(name, AMD64, other.blobs, Silent())
    assert [line for line in server.log if "/blobs/" in line] == []


def test_blobs_are_mounted_from_the_base(server: RegistryServer, store: Store) -> None:
    image = image_in(store, 100, 2000)
    push([image], [], parse_reference(f"{server.name}/base:1"), Silent())
    pushed = push([image], [], parse_reference(f"{server.name}/app:1"), Silent(), mount_from="base")
    assert (pushed.sent, pushed.mounted) == (0, 3)


def test_a_large_blob_goes_in_parts_and_a_broken_part_is_resumed(
    server: RegistryServer, store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "PART", 1 << 20)
    server.faults = [("PATCH", "/uploads/", "cut"), ("PATCH", "/uploads/", 503)]
    image, name = image_in(store, 5 << 20), parse_reference(f"{server.name}/app:1")
    push([image], [], name, Silent())
    assert sum("PATCH" in line for line in server.log) > 5
    assert validate(pull(name, AMD64, other.blobs, Silent()), AMD64) == ()


def test_a_broken_monolithic_upload_is_begun_anew(server: RegistryServer, store: Store) -> None:
    server.faults = [("PUT", "/uploads/", "cut")]
    image = image_in(store, 2 << 20)
    push([image], [], parse_reference(f"{server.name}/app:1"), Silent())
    assert ("app", image.layers[0].digest) in server.blobs


def test_a_broken_download_goes_on_where_it_broke(server: RegistryServer, store: Store, other: Store) -> None:
    image, name = image_in(store, 4 << 20), parse_reference(f"{server.name}/app:1")
    push([image], [], name, Silent())
    server.faults = [("GET", image.layers[0].digest, "cut"), ("GET", image.layers[0].digest, "cut")]
    assert validate(pull(name, AMD64, other.blobs, Silent()), AMD64) == ()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_answers_that_may_pass_are_waited_for(server: RegistryServer, store: Store, status: int) -> None:
    server.faults = [("PUT", "/manifests/", status), ("HEAD", "/blobs/", status)]
    push([image_in(store, 10)], [], parse_reference(f"{server.name}/app:1"), Silent())
    assert server.faults == []


def test_one_that_does_not_pass_ends_with_the_registry_s_words(server: RegistryServer, store: Store) -> None:
    server.faults = [("PUT", "/manifests/", 503)] * registries.TRIES
    with pytest.raises(RegistryError, match="503") as caught:
        push([image_in(store, 10)], [], parse_reference(f"{server.name}/app:1"), Silent())
    assert caught.value.details == ("FAULT: on request",)
    assert not server.manifests


def test_wrong_bytes_never_enter_the_store(server: RegistryServer, store: Store, other: Store) -> None:
    image, name = image_in(store, 5000), parse_reference(f"{server.name}/app:1")
    push([image], [], name, Silent())
    key = ("app", image.layers[0].digest)
    good = server.blobs[key]
    server.blobs[key] = bytes(len(good))
    with pytest.raises(DownloadError, match="another digest"):
        pull(name, AMD64, other.blobs, Silent())
    server.blobs[key] = good + b"more"
    with pytest.raises(ImageFormatError, match="longer"):
        pull(name, AMD64, other.blobs, Silent())
    assert not other.blobs.has(image.layers[0].descriptor.hex)
    kind, data = server.manifests["app", "1"]
    server.manifests["app", image.digest] = (kind, data + b" ")
    with pytest.raises(ImageFormatError, match="the registry gave"):
        pull(parse_reference(f"{server.name}/app@{image.digest}"), AMD64, other.blobs, Silent())


def test_an_index_is_a_choice_of_platform(server: RegistryServer, store: Store, other: Store) -> None:
    image = image_in(store, 10)
    arm = empty(Platform("linux", "arm64")).append(image.layers).configure({"Cmd": ["x"]})
    name = parse_reference(f"{server.name}/app:1")
    push([image, arm], [], name, Silent())
    assert pull(name, AMD64, other.blobs, Silent()).digest == image.digest
    assert pull(name, Platform("linux", "arm64"), other.blobs, Silent()).digest == arm.digest
    with pytest.raises(ImageFormatError, match="linux/amd64, linux/arm64"):
        pull(name, Platform("linux", "s390x"), other.blobs, Silent())


def test_what_is_attached_is_listed_under_the_fallback_tag(server: RegistryServer, store: Store) -> None:
    image = image_in(store, 10)
    nothing = Document.of("application/vnd.oci.empty.v1+json", b"{}")
    subject = Descriptor(image.media_type, image.digest, len(image.manifest)).as_dict()
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"mediaType": kind, "config": nothing.descriptor.as_dict(), "layers": [], "subject": subject}
    attached = [nothing, Document.of(kind, encode({**manifest, "schemaVersion": 2}))]
    for _ in range(2):
        push([image], attached, parse_reference(f"{server.name}/app:1"), Silent())
    index = json.loads(server.manifests["app", image.digest.replace(":", "-")][1])
    assert [entry["digest"] for entry in index["manifests"]] == [attached[1].descriptor.digest]


def write_login(folder: Path, server: RegistryServer, login: str = "me:secret") -> None:
    folder.mkdir(exist_ok=True)
    auths = {server.name: {"auth": base64.b64encode(login.encode()).decode()}}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))


@pytest.mark.parametrize("kind", ["bearer", "basic"])
def test_logins_are_taken_from_docker_s_file(server: RegistryServer, store: Store, tmp_path: Path, kind: str) -> None:
    server.login, server.auth = "me:secret", kind
    name = parse_reference(f"{server.name}/app:1")
    with pytest.raises(UnauthorizedError, match="does not let in app"):
        push([image_in(store, 10)], [], name, Silent())
    write_login(tmp_path / "logins", server)
    push([image_in(store, 10)], [], name, Silent())
    write_login(tmp_path / "logins", server, "me:wrong")
    with pytest.raises(UnauthorizedError) as caught:
        push([image_in(store, 10)], [], name, Silent())
    assert "wrong" not in str(caught.value) + "".join(caught.value.details) + caught.value.hint


def in_json(folder: str, name: str = "config.json", **document: Any) -> Callable[[Path, RegistryServer], None]:
    """Writes a file of logins below the user's home; `SERVER` stands for the registry's name."""

    def write(home: Path, server: RegistryServer) -> None:
        (home / folder).mkdir(parents=True, exist_ok=True)
        (home / folder / name).write_text(json.dumps(document).replace("SERVER", server.name))

    return write


AUTH = {"auth": base64.b64encode(b"me:secret").decode()}
AUTHS = {"auths": {"SERVER": AUTH}}
PLACES = {
    "stated": ({"REGISTRY_AUTH_FILE": "stated/my.json"}, in_json("stated", "my.json", **AUTHS)),
    "session": ({"XDG_RUNTIME_DIR": "run"}, in_json("run/containers", "auth.json", **AUTHS)),
    "configured": ({"XDG_CONFIG_HOME": "own"}, in_json("own/containers", "auth.json", **AUTHS)),
    "user": ({}, in_json(".config/containers", "auth.json", **AUTHS)),
    "docker's own": ({"DOCKER_CONFIG": "elsewhere"}, in_json("elsewhere", **AUTHS)),
    "docker": ({}, in_json(".docker", **AUTHS)),
    "docker, long ago": ({}, in_json("", ".dockercfg", SERVER=AUTH)),
    "namespace": ({}, in_json(".docker", auths={"SERVER/team": AUTH, "SERVER/other": {"auth": "eDp5"}})),
    "as a URL": ({}, in_json(".docker", auths={"https://SERVER/v2/": AUTH})),
    "in words": ({}, in_json(".docker", auths={"SERVER": {"username": "me", "password": "secret"}})),
    "token": ({}, in_json(".docker", auths={"SERVER": {"auth": "", "identitytoken": "refresh"}})),
    "helper": ({}, in_json(".docker", credHelpers={"SERVER": "test"}, auths={"SERVER": {"auth": "eDp5"}})),
    "helper for all": ({}, in_json(".docker", credsStore="test", auths={"SERVER": {}})),
    "helper with a token": ({"GIVES": "<token> refresh"}, in_json(".docker", credsStore="test")),
    "a helper that has none": ({"GIVES": ""}, in_json(".config/containers", "auth.json", credsStore="test")),
}
HELPER = """#!/bin/sh
# As docker's protocol has it: a name comes on standard input, a table goes out.
read name
[ "$1" = get ] || exit 9
[ "$GIVES" ] || { echo "credentials not found in native keychain"; exit 1; }
set -- $GIVES
printf '{"ServerURL": "%s", "Username": "%s", "Secret": "%s"}' "$name" "$1" "$2"
"""


@pytest.mark.parametrize("place", PLACES)
def test_a_push_finds_its_login(
    server: RegistryServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    environment, write = PLACES[place]
    home = tmp_path / "home"
    for name in ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIVES", "me secret")
    for name, value in environment.items():
        monkeypatch.setenv(name, value if name == "GIVES" else str(home / value))
    write(home, server)
    if place == "a helper that has none":
        in_json(".docker", **AUTHS)(home, server)  # the next file is looked into
    write_helper(home / "bin", HELPER, monkeypatch)
    server.login = "me:secret"
    push([image_in(store, 10)], [], parse_reference(f"{server.name}/team/app:1"), Silent())
    assert ("team/app", "1") in server.manifests


def write_helper(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """docker-credential-test, on PATH."""
    folder.mkdir()
    (folder / "docker-credential-test").write_text(text)
    (folder / "docker-credential-test").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_one_token_for_all_connections_and_a_token_server_that_fails_for_a_moment(
    server: RegistryServer, store: Store, tmp_path: Path
) -> None:
    server.login = "me:secret"
    write_login(tmp_path / "logins", server)
    server.faults = [("GET", "/token", 503)]
    push([image_in(store, *range(1, 9))], [], parse_reference(f"{server.name}/app:1"), Silent())
    assert sum("/token" in line for line in server.log) == 2
    server.faults = [("GET", "/token", 429)] * 50
    with pytest.raises(RegistryError, match=f"the token server of {server.name} failed with 429") as caught:
        push([image_in(store, 10)], [], parse_reference(f"{server.name}/app:1"), Silent())
    assert not isinstance(caught.value, UnauthorizedError) and caught.value.details == ("FAULT: on request",)


def test_a_missing_manifest_and_a_missing_registry_say_so(server: RegistryServer, other: Store) -> None:
    with pytest.raises(NotInRegistryError, match="no manifest v9") as caught:
        pull(parse_reference(f"{server.name}/app:v9"), AMD64, other.blobs, Silent())
    assert caught.value.details == ("MANIFEST_UNKNOWN: no such tag",)
    with pytest.raises(RegistryError, match="can't reach"):
        pull(parse_reference("127.0.0.1:1/app:v9"), AMD64, other.blobs, Silent())


def test_credential_helpers_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = """#!/bin/sh
read name
case "$name" in
ghcr.io) echo '{"Username": "me", "Secret": "s"}' ;;
token.io) echo '{"Username": "<token>", "Secret": "t"}' ;;
broken.io) echo nothing ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""
    write_helper(tmp_path / "bin", answer, monkeypatch)
    (tmp_path / "logins").mkdir()
    config = tmp_path / "logins" / "config.json"
    config.write_text(json.dumps({"credsStore": "test"}))
    login = find_login("ghcr.io")
    assert login and (login.user, login.secret) == ("me", "s") and "'s'" not in repr(login)
    token = find_login("token.io")
    assert token and token.token == "t"
    assert find_login("other.io") is None
    with pytest.raises(CredentialsError, match="gave no login"):
        find_login("broken.io")
    config.write_text(json.dumps({"credHelpers": {"a.io": "missing", "b.io": "../x"}}))
    with pytest.raises(CredentialsError, match="not on PATH"):
        find_login("a.io")
    with pytest.raises(CredentialsError, match="not a credential helper"):
        find_login("b.io")
    config.write_text("{")
    with pytest.raises(CredentialsError, match="can't read"):
        find_login("a.io")


def test_the_most_specific_login_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def auth(text: str) -> dict[str, str]:
        return {"auth": base64.b64encode(text.encode()).decode()}

    path = tmp_path / "auth.json"
    table = {"r.io": auth("a:1"), "r.io/team": auth("b:2"), "https://index.docker.io/v1/": auth("c:3")}
    path.write_text(json.dumps({"auths": table}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    found = [find_login(*key) for key in [("r.io", "x"), ("r.io", "team/x"), ("docker.io", "library/python")]]
    assert [login.user for login in found if login] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.13-slim", "docker.io/library/python:3.13-slim"),
        ("team/app", "docker.io/team/app:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("localhost/a", "localhost/a:latest"),
        ("docker://ghcr.io/x/y", "ghcr.io/x/y:latest"),
        ("public.ecr.aws/lambda/python:3.13", "public.ecr.aws/lambda/python:3.13"),
        ("r.io/a@sha256:" + "a" * 64, "r.io/a@sha256:" + "a" * 64),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
    ],
)
def test_references(text: str, expected: str) -> None:
    assert str(parse_reference(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "UPPER", "r.io/", "a:", "a:b c", "a@sha256:12", "a@", "../x", "r.io/a//b", "ho st.io/a", "a" * 300]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ImageReferenceError, match="not an image reference"):
        parse_reference(text)


def test_plain_http_is_for_this_machine_only() -> None:
    names = ["localhost", "localhost:5000", "127.0.0.1:5000", "127.evil.io", "evil.io:5000", "localhost.evil.io"]
    assert [scheme(name) for name in names] == ["http", "http", "http", "https", "https", "https"]
