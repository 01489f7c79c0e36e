"""Functions that are images, through boto3: created from a registry, pinned, updated, overridden, refused in AWS's words."""

from __future__ import annotations

import base64
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, Write
from image_support import require_base
from serve_support import ROLE, client, plain, refusal, service, settle, zipped

from lading.oci import media
from lading.oci.descriptor import digest_of, encode
from lading.oci.layout import Layout
from lading.service.roots import ImageWay

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from oci_registry import RegistryServer, serving

pytestmark = [pytest.mark.network, pytest.mark.root]
HANDLER = """
    import os
    def handler(event, context):
        return ["{version}", event, os.getcwd(), os.environ.get("COLOUR"), os.environ["AWS_EXECUTION_ENV"], os.getuid()]
    def other(event, context):
        return "other"
"""


@pytest.fixture(scope="module")
def base(lading: Command) -> Path:
    return require_base(lading)


@pytest.fixture(scope="module")
def registry(base: Path) -> Iterator[RegistryServer]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def api(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with service(tmp_path_factory.mktemp("state")) as url:
        yield client(url)


@pytest.fixture(scope="module")
def images(
    lading: Command, base: Path, registry: RegistryServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Tag → digest of what was built and pushed as `orders`."""
    found = {}
    for version in ("v1", "v2"):
        project = tmp_path_factory.mktemp(version)
        (project / "app.py").write_text(textwrap.dedent(HANDLER).replace("{version}", version))
        (project / "requirements.txt").write_text("")
        lading(
            "build",
            "--package",
            "image",
            "--base",
            base,
            "--runtime",
            "python3.13",
            "--handler",
            "app.handler",
            cwd=project,
        )
        [layout] = (project / "dist").glob("*.oci")
        lading("push", layout, f"{registry.name}/orders:{version}", cwd=project)
        found[version] = Layout(layout).image().digest
    return found


def create(api: Any, name: str, uri: str, **parameters: Any) -> dict[str, Any]:
    defaults = {"Role": ROLE, "PackageType": "Image", "Code": {"ImageUri": uri}, "Timeout": 20}
    response: dict[str, Any] = api.create_function(FunctionName=name, **(defaults | parameters))
    settle(api, name)
    return response


def invoke(api: Any, name: str, **parameters: Any) -> Any:
    response = api.invoke(FunctionName=name, Payload=b"{}", **parameters)
    return json.loads(response["Payload"].read())


def test_a_published_version_is_restored_from_a_snapshot(
    api: Any, registry: RegistryServer, images: dict[str, str]
) -> None:
    create(api, "snapped", f"{registry.name}/orders:v1", SnapStart={"ApplyOn": "PublishedVersions"})
    assert api.publish_version(FunctionName="snapped")["State"] == "Pending"
    api.get_waiter("published_version_active").wait(FunctionName="snapped", Qualifier="1", WaiterConfig={"Delay": 1})
    version = api.get_function_configuration(FunctionName="snapped", Qualifier="1")
    assert version["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    answer = api.invoke(FunctionName="snapped", Qualifier="1", Payload=b"{}", LogType="Tail")
    assert json.loads(answer["Payload"].read())[0] == "v1"
    assert b"Restore Duration: " in base64.b64decode(answer["LogResult"])
    api.delete_function(FunctionName="snapped")


def test_created_invoked_versioned_and_updated(api: Any, registry: RegistryServer, images: dict[str, str]) -> None:
    uri = f"{registry.name}/orders:v1"
    made = create(api, "orders", uri, Environment={"Variables": {"COLOUR": "blue"}})
    digest = images["v1"].removeprefix("sha256:")
    assert (made["State"], made["StateReasonCode"], made["CodeSha256"], made["CodeSize"]) == (
        "Pending",
        "Creating",
        digest,
        0,
    )
    assert (
        made["PackageType"] == "Image"
        and not {"Runtime", "Handler", "RuntimeVersionConfig", "ImageConfigResponse", "Layers"} & made.keys()
    )
    found = api.get_function(FunctionName="orders")
    resolved = f"{registry.name}/orders@{images['v1']}"
    assert found["Code"] == {"RepositoryType": "ECR", "ImageUri": uri, "ResolvedImageUri": resolved}
    assert found["Configuration"]["State"] == "Active"
    assert invoke(api, "orders") == ["v1", {}, "/var/task", "blue", "AWS_Lambda_Image", 993]
    assert api.publish_version(FunctionName="orders")["Version"] == "1"
    changed = api.update_function_code(FunctionName="orders", ImageUri=f"{registry.name}/orders:v2", Publish=True)
    assert (changed["Version"], changed["CodeSha256"]) == ("2", images["v2"].removeprefix("sha256:"))
    settle(api, "orders")
    api.get_waiter("function_active_v2").wait(FunctionName="orders", Qualifier="2")
    assert [invoke(api, "orders", Qualifier=one)[0] for one in ("1", "2", "$LATEST")] == ["v1", "v2", "v2"]
    assert "ImageUri" not in api.list_functions()["Functions"][0]


def test_the_digest_stays_when_the_tag_moves(api: Any, registry: RegistryServer, images: dict[str, str]) -> None:
    registry.manifests["orders", "moving"] = registry.manifests["orders", "v1"]
    create(api, "pinned", f"{registry.name}/orders:moving")
    registry.manifests["orders", "moving"] = registry.manifests["orders", "v2"]
    api.update_function_configuration(FunctionName="pinned", MemorySize=256)
    settle(api, "pinned")
    assert invoke(api, "pinned")[0] == "v1"
    api.update_function_code(FunctionName="pinned", ImageUri=f"{registry.name}/orders:moving")
    settle(api, "pinned")
    assert invoke(api, "pinned")[0] == "v2"


def test_image_config_overrides(api: Any, registry: RegistryServer, images: dict[str, str]) -> None:
    config = {"Command": ["app.other"], "WorkingDirectory": "/tmp"}
    made = create(api, "overridden", f"{registry.name}/orders:v1", ImageConfig=config)
    assert made["ImageConfigResponse"] == {"ImageConfig": config}
    assert invoke(api, "overridden") == "other"
    api.update_function_configuration(FunctionName="overridden", ImageConfig={"EntryPoint": ["/nowhere"]})
    settle(api, "overridden")
    failed = api.invoke(FunctionName="overridden", Payload=b"{}")
    answer = json.loads(failed["Payload"].read())
    assert failed["FunctionError"] == "Unhandled" and answer["errorType"] == "Runtime.InvalidEntrypoint"
    assert answer["errorMessage"].endswith("Error: fork/exec /nowhere: no such file or directory")
    api.update_function_configuration(FunctionName="overridden", ImageConfig={"WorkingDirectory": "/none"})
    settle(api, "overridden")
    assert invoke(api, "overridden")["errorType"] == "Runtime.InvalidWorkingDir"
    api.update_function_configuration(FunctionName="overridden", ImageConfig={})
    settle(api, "overridden")
    assert "ImageConfigResponse" not in plain(api.get_function_configuration(FunctionName="overridden"))
    assert invoke(api, "overridden")[0] == "v1"


def test_what_is_refused_is_refused_in_awss_words(api: Any, registry: RegistryServer, images: dict[str, str]) -> None:
    uri = f"{registry.name}/orders:v1"
    index = encode({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []})
    registry.manifests["orders", "index"] = (media.OCI_INDEX, index)
    plain_layer = json.loads(registry.manifests["orders", "v1"][1])
    plain_layer["layers"][0]["mediaType"] = media.OCI_LAYER
    registry.manifests["orders", "plain"] = (media.OCI_MANIFEST, encode(plain_layer))
    invalid, lacking = (
        "InvalidParameterValueException",
        "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.",
    )
    arn = "arn:aws:lambda:eu-west-1:000000000000:layer:x:1"

    def refused(code: dict[str, Any], **parameters: Any) -> tuple[int, str, str]:
        defaults = {"FunctionName": "refused", "Role": ROLE, "PackageType": "Image", "Code": code}
        return refusal(api.create_function, **(defaults | parameters))

    image = {"ImageUri": uri}
    assert (
        refused(image, Handler="app.handler")
        == refused(image, Runtime="python3.13")
        == refused(image, Layers=[arn])
        == (400, invalid, lacking)
    )
    missing = f"{registry.name}/orders:none"
    assert refused({"ImageUri": missing}) == (
        400,
        invalid,
        f"Source image {missing} does not exist. Provide a valid source image.",
    )
    ecr = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/none:latest"
    assert refused({"ImageUri": ecr}) == (
        400,
        invalid,
        f"Source image {ecr} does not exist. Provide a valid source image.",
    )
    assert refused({"ImageUri": "Not Valid"})[2] == "Source image Not Valid is not valid. Provide a valid source image."
    for tag in ("index", "plain"):
        bad = f"{registry.name}/orders:{tag}"
        said = f"The image manifest, config or layer media type for the source image {bad} is not supported."
        assert refused({"ImageUri": bad}) == (400, invalid, said)
    registry.login = "user:secret"
    try:
        denied = "Lambda does not have permission to access the ECR image. Check the ECR permissions."
        assert refused({"ImageUri": f"{registry.name}/orders:v2"}) == (403, "AccessDeniedException", denied)
    finally:
        registry.login = ""
    snapshot = refused(image, SnapStart={"ApplyOn": "PublishedVersions"}, EphemeralStorage={"Size": 1024})
    assert snapshot[1] == invalid and "more than 512 MB" in snapshot[2]
    assert refused({"ZipFile": zipped()})[1] == invalid and refused(image, PackageType="Zip")[1] == invalid
    create(api, "kept", uri)
    assert refusal(api.update_function_code, FunctionName="kept", ZipFile=zipped())[2] == (
        "Please provide ImageUri when updating a function with packageType Image."
    )
    assert refusal(api.update_function_configuration, FunctionName="kept", Layers=[arn])[2] == (
        "Lambda layers are not supported for functions created with container images."
    )
    assert refusal(api.get_function_code_signing_config, FunctionName="kept")[2] == (
        "Code signing is not supported for functions created with container images."
    )


def wait_for(api: Any, name: str, member: str, value: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        found: dict[str, Any] = api.get_function_configuration(FunctionName=name)
        if found.get(member) == value:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_an_image_that_breaks_later_says_why(api: Any, registry: RegistryServer, images: dict[str, str]) -> None:
    """Its manifest is there, and one of its layers not; then one that isn't what it says."""
    manifest = json.loads(registry.manifests["orders", "v1"][1])
    gone = dict(manifest, layers=[dict(manifest["layers"][0], digest=f"sha256:{'1' * 64}"), *manifest["layers"][1:]])
    registry.manifests["orders", "gone"] = (media.OCI_MANIFEST, encode(gone))
    pinned = digest_of(encode(gone))
    registry.manifests["orders", pinned] = registry.manifests["orders", "gone"]
    api.create_function(
        FunctionName="broken", Role=ROLE, PackageType="Image", Code={"ImageUri": f"{registry.name}/orders:gone"}
    )
    found = wait_for(api, "broken", "State", "Failed")
    assert found["StateReasonCode"] == "ImageDeleted"
    create(api, "updated", f"{registry.name}/orders:v1")
    api.update_function_code(FunctionName="updated", ImageUri=f"{registry.name}/orders:gone")
    found = wait_for(api, "updated", "LastUpdateStatus", "Failed")
    assert (found["LastUpdateStatusReasonCode"], found["State"]) == ("ImageDeleted", "Active")
    assert invoke(api, "updated")[0] == "v1"


def unpacked(state: Path) -> set[str]:
    """What stands unpacked for the images of a service."""
    return {path.name for path in (state / "images" / "unpacked").iterdir() if path.is_dir()}


def test_a_restart_keeps_and_runs_them(registry: RegistryServer, images: dict[str, str], tmp_path: Path) -> None:
    with service(tmp_path, images=ImageWay.UNPACK) as url:
        create(client(url), "kept", f"{registry.name}/orders:v1")
        create(client(url), "dropped", f"{registry.name}/orders:v2")
        trees = unpacked(tmp_path)
        client(url).delete_function(FunctionName="dropped")
    asked = len(registry.log)
    with service(tmp_path, images=ImageWay.UNPACK) as url:
        assert invoke(client(url), "kept")[0] == "v1"
        assert unpacked(tmp_path) < trees
    assert len(registry.log) == asked  # nothing was fetched again


def test_the_service_s_own_registry_is_ecr(lading: Command, base: Path, write: Write, tmp_path: Path) -> None:
    """What was pushed to the service's port is run by ECR's name, kept when the repository is gone, and by digest."""
    project = write(files={"app.py": 'def handler(event, context): return "from ecr"', "requirements.txt": ""})
    build = ("build", "--package", "image", "--base", base, "--runtime", "python3.13", "--handler", "app.handler")
    lading(*build, cwd=project)
    [layout] = (project / "dist").glob("*.oci")
    region = {"region_name": "us-east-1"}
    with service(tmp_path) as url:
        ecr, api = client(url, "ecr", **region), client(url, **region)
        repository = ecr.create_repository(repositoryName="team/orders")["repository"]
        lading("push", layout, f"{url.removeprefix('http://')}/team/orders:v1", cwd=project)
        name = f"{repository['registryId']}.dkr.ecr.us-east-1.amazonaws.com/team/orders"
        create(api, "by-tag", f"{name}:v1")
        digest = Layout(layout).image().digest
        create(api, "by-digest", f"{name}@{digest}")
        code = api.get_function(FunctionName="by-tag")["Code"]
        assert code == {"RepositoryType": "ECR", "ImageUri": f"{name}:v1", "ResolvedImageUri": f"{name}@{digest}"}
        assert invoke(api, "by-tag") == invoke(api, "by-digest") == "from ecr"
        ecr.delete_repository(repositoryName="team/orders", force=True)
        gone = refusal(api.update_function_code, FunctionName="by-tag", ImageUri=f"{name}:v1")
        assert gone[1:] == (
            "InvalidParameterValueException",
            f"Source image {name}:v1 does not exist. Provide a valid source image.",
        )
    shutil.rmtree(tmp_path / "images")
    with service(tmp_path) as url:  # unpacked anew from what the registry kept for the function
        assert invoke(client(url, **region), "by-tag") == "from ecr"
