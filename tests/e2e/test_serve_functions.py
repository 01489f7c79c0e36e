"""Functions, versions and aliases against a served endpoint, with real boto3."""

from __future__ import annotations

import base64
import hashlib
import urllib.error
import urllib.request
from typing import Any

import pytest
from serve_support import ACCOUNT, CODE, REGION, ROLE, client, create, plain, refusal, settle, zipped

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"


def test_create_answers_with_aws_fields_and_no_others(api: Any) -> None:
    package = zipped()
    made = plain(api.create_function(
        FunctionName="fields", Runtime="python3.13", Role=ROLE, Handler="app.handler", Code={"ZipFile": package}
    ))  # fmt: skip
    assert set(made) == {
        "FunctionName", "FunctionArn", "Runtime", "Role", "Handler", "CodeSize", "Description", "Timeout", "MemorySize",
        "LastModified", "CodeSha256", "Version", "TracingConfig", "RevisionId", "State", "StateReason", "StateReasonCode",
        "PackageType", "Architectures", "EphemeralStorage", "SnapStart", "RuntimeVersionConfig", "LoggingConfig",
    }  # fmt: skip
    assert made["State"] == "Pending"
    assert made["StateReason"] == "The function is being created."
    assert made["CodeSize"] == len(package)
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(package).digest()).decode()
    assert (made["Timeout"], made["MemorySize"], made["EphemeralStorage"]) == (3, 128, {"Size": 512})
    settle(api, "fields")
    active = plain(api.get_function_configuration(FunctionName="fields"))
    assert set(active) == set(made) - {"StateReason", "StateReasonCode"} | {"LastUpdateStatus"}
    assert (active["State"], active["LastUpdateStatus"]) == ("Active", "Successful")
    assert active["RevisionId"] != made["RevisionId"]


def test_code_location_gives_the_very_bytes(api: Any) -> None:
    create(api, "bytes")
    location = api.get_function(FunctionName="bytes")["Code"]["Location"]
    with urllib.request.urlopen(location) as response:
        assert response.read() == zipped()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(location[:-4] + "0000")
    assert caught.value.code == 403


def test_a_function_is_found_by_name_and_by_whole_and_partial_arn(api: Any) -> None:
    create(api, "found")
    for reference in (
        "found",
        f"{ARN}:found",
        f"{ACCOUNT}:function:found",
        "function:found",
        f"{REGION}:{ACCOUNT}:found",
    ):
        assert api.get_function(FunctionName=reference)["Configuration"]["FunctionName"] == "found"
    assert api.get_function(FunctionName="found:$LATEST")["Configuration"]["FunctionArn"] == f"{ARN}:found:$LATEST"


def test_not_found_and_misdirected(api: Any) -> None:
    assert refusal(api.get_function, FunctionName="none") == (
        404, "ResourceNotFoundException", f"Function not found: {ARN}:none"
    )  # fmt: skip
    assert refusal(api.get_function, FunctionName="none", Qualifier="7")[2] == f"Function not found: {ARN}:none:7"
    elsewhere = f"arn:aws:lambda:ap-southeast-1:{ACCOUNT}:function:none"
    assert refusal(api.get_function, FunctionName=elsewhere)[2] == (
        f"Functions from 'ap-southeast-1' are not reachable in this region ('{REGION}')"
    )
    other = f"arn:aws:lambda:{REGION}:111111111111:function:none"
    assert refusal(api.get_function, FunctionName=other)[:2] == (403, "AccessDeniedException")
    assert refusal(api.get_function, FunctionName="none:1", Qualifier="2")[1:] == (
        "InvalidParameterValueException",
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


def test_accounts_and_regions_are_apart(url: str, api: Any) -> None:
    create(api, "mine")
    other_account = client(url, aws_access_key_id="123456789012")
    other_region = client(url, region_name="us-east-1")
    for stranger in (other_account, other_region):
        assert refusal(stranger.get_function, FunctionName="mine")[0] == 404
    create(other_account, "mine")
    arn = other_account.get_function(FunctionName="mine")["Configuration"]["FunctionArn"]
    assert arn == f"arn:aws:lambda:{REGION}:123456789012:function:mine"


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        (
            {"Code": {"ZipFile": b"no zip"}},
            "InvalidParameterValueException",
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
        (
            {"Runtime": "python3.7"},
            "InvalidParameterValueException",
            (
                "The runtime parameter of python3.7 is no longer supported for creating or updating AWS Lambda functions. "
                "We recommend you use a supported runtime while creating or updating functions."
            ),
        ),
        (
            {"Environment": {"Variables": {"AWS_REGION": "x"}}},
            "InvalidParameterValueException",
            (
                "Lambda was unable to configure your environment variables because the environment variables you have provided "
                "contains reserved keys that are currently not supported for modification. "
                "Reserved keys used in this request: AWS_REGION"
            ),
        ),
        (
            {"Environment": {"Variables": {"BIG": "x" * 4096}}},
            "InvalidParameterValueException",
            "Lambda was unable to configure your environment variables because the environment variables you have provided "
            'exceeded the 4KB limit. String measured: {"BIG":"' + "x" * 4096 + '"}',
        ),
        (
            {"Layers": [f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:none:1"]},
            "InvalidParameterValueException",
            f"Layer version arn:aws:lambda:{REGION}:{ACCOUNT}:layer:none:1 does not exist.",
        ),
        (
            {"Tags": {f"key{number}": "x" for number in range(51)}},
            "InvalidParameterValueException",
            "Number of tags exceeds resource tag limit.",
        ),
        (
            {"Runtime": "nodejs22.x"},
            "NotImplementedException",
            None,
        ),
        (
            {"Timeout": 901},
            "ValidationException",
            (
                "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: "
                "Member must have value less than or equal to 900"
            ),
        ),
        (
            {"FunctionName": "n" * 65},
            "InvalidParameterValueException",
            (
                f"1 validation error detected: Value '{'n' * 65}' at 'functionName' failed to satisfy constraint: "
                "Member must have length less than or equal to 64"
            ),
        ),
        (
            {"Code": {"ZipFile": zipped(), "S3Bucket": "bucket"}},
            "InvalidParameterValueException",
            "Please do not provide other FunctionCode parameters when providing a ZipFile.",
        ),
        ({"Code": {}}, "InvalidParameterValueException", "Please provide a source for function code."),
    ],
)
def test_refused_creations_leave_nothing(api: Any, parameters: dict[str, Any], code: str, message: str | None) -> None:
    whole = {
        "FunctionName": "refused", "Runtime": "python3.13", "Role": ROLE, "Handler": "app.handler",
        "Code": {"ZipFile": zipped()},
    } | parameters  # fmt: skip
    found = refusal(api.create_function, **whole)
    assert found[1] == code
    assert message is None or found[2] == message
    assert refusal(api.get_function, FunctionName="refused")[0] == 404


def test_creating_twice_conflicts(api: Any) -> None:
    create(api, "twice")
    assert refusal(
        api.create_function, FunctionName="twice", Runtime="python3.13", Role=ROLE, Handler="h.h", Code={"ZipFile": zipped()}
    ) == (409, "ResourceConflictException", "Function already exist: twice")  # fmt: skip


def test_members_that_would_leave_the_folder_are_refused(api: Any) -> None:
    for name in ("../evil.py", "/etc/evil.py", "a/../../evil.py"):
        found = refusal(
            api.create_function, FunctionName="evil", Runtime="python3.13", Role=ROLE, Handler="h.h",
            Code={"ZipFile": zipped({name: CODE})},
        )  # fmt: skip
        assert found[2] == "Could not unzip uploaded file. Please check your file, then try to upload again."


def test_update_changes_what_is_given_and_moves_through_in_progress(api: Any) -> None:
    create(api, "changed", Environment={"Variables": {"KEEP": "1"}}, Description="first")
    update = api.update_function_configuration(
        FunctionName="changed", MemorySize=512, LoggingConfig={"LogFormat": "JSON"}
    )
    assert (update["State"], update["LastUpdateStatus"]) == ("Active", "InProgress")
    assert update["LastUpdateStatusReason"] == "The function is being created."
    settle(api, "changed")
    now = api.get_function_configuration(FunctionName="changed")
    assert (now["MemorySize"], now["Description"], now["Environment"]) == (512, "first", {"Variables": {"KEEP": "1"}})
    assert now["LoggingConfig"] == {
        "LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", "LogGroup": "/aws/lambda/changed",
    }  # fmt: skip
    assert "LastUpdateStatusReason" not in now


def test_revisions_are_preconditions(api: Any) -> None:
    create(api, "revised")
    stale = "00000000-0000-0000-0000-000000000000"
    expected = (
        412,
        "PreconditionFailedException",
        (
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
        ),
    )
    assert refusal(api.update_function_code, FunctionName="revised", ZipFile=zipped(), RevisionId=stale) == expected
    assert refusal(api.update_function_configuration, FunctionName="revised", Timeout=9, RevisionId=stale) == expected
    assert refusal(api.publish_version, FunctionName="revised", RevisionId=stale) == expected
    current = api.get_function_configuration(FunctionName="revised")["RevisionId"]
    assert api.update_function_configuration(FunctionName="revised", Timeout=9, RevisionId=current)["Timeout"] == 9


def test_a_dry_run_changes_nothing(api: Any) -> None:
    create(api, "dry")
    before = plain(api.get_function_configuration(FunctionName="dry"))
    answer = api.update_function_code(FunctionName="dry", ZipFile=zipped({"app.py": "x = 1"}), DryRun=True)
    assert answer["CodeSha256"] != before["CodeSha256"]
    assert plain(api.get_function_configuration(FunctionName="dry")) == before


def test_publishing_makes_a_version_only_when_something_changed(api: Any) -> None:
    create(api, "published")
    first = api.publish_version(FunctionName="published", Description="one")
    assert (first["Version"], first["FunctionArn"], first["Description"]) == ("1", f"{ARN}:published:1", "one")
    assert api.publish_version(FunctionName="published")["Version"] == "1"
    changed = api.update_function_code(FunctionName="published", ZipFile=zipped({"app.py": "x = 2"}), Publish=True)
    assert (changed["Version"], changed["State"]) == ("2", "Pending")
    settle(api, "published:2")
    settle(api, "published")
    assert api.get_function_configuration(FunctionName="published", Qualifier="1")["CodeSha256"] == first["CodeSha256"]
    versions = api.list_versions_by_function(FunctionName="published")["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1", "2"]
    assert versions[0]["FunctionArn"] == f"{ARN}:published:$LATEST"
    assert not {"State", "LastUpdateStatus", "RuntimeVersionConfig"} & set(versions[0])
    wrong = refusal(api.publish_version, FunctionName="published", CodeSha256="nonsense")
    assert wrong[2].startswith("CodeSHA256 (nonsense) is different from current CodeSHA256 in $LATEST (")


def test_publish_on_create(api: Any) -> None:
    made = create(api, "born-published", Publish=True)
    assert (made["Version"], made["State"]) == ("1", "Pending")
    settle(api, "born-published:1")
    assert api.publish_version(FunctionName="born-published")["Version"] == "1"


def test_aliases(api: Any) -> None:
    create(api, "aliased", Publish=True)
    settle(api, "aliased:1")
    api.update_function_configuration(FunctionName="aliased", Description="second")
    settle(api, "aliased")
    assert api.publish_version(FunctionName="aliased")["Version"] == "2"
    alias = plain(api.create_alias(
        FunctionName="aliased", Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}}
    ))  # fmt: skip
    assert alias == {
        "AliasArn": f"{ARN}:aliased:live", "Name": "live", "FunctionVersion": "1", "Description": "",
        "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1}}, "RevisionId": alias["RevisionId"],
    }  # fmt: skip
    assert plain(api.get_alias(FunctionName="aliased", Name="live")) == alias
    reached = api.get_function(FunctionName="aliased", Qualifier="live")["Configuration"]
    assert (reached["Version"], reached["FunctionArn"]) == ("1", f"{ARN}:aliased:live")
    moved = api.update_alias(FunctionName="aliased", Name="live", FunctionVersion="2", RoutingConfig={})
    assert moved["FunctionVersion"] == "2" and "RoutingConfig" not in moved
    assert refusal(api.delete_function, FunctionName="aliased", Qualifier="2")[1] == "ResourceConflictException"
    assert [entry["Name"] for entry in api.list_aliases(FunctionName="aliased", FunctionVersion="2")["Aliases"]] == [
        "live"
    ]
    assert api.list_aliases(FunctionName="aliased", FunctionVersion="1")["Aliases"] == []
    api.delete_alias(FunctionName="aliased", Name="live")
    api.delete_alias(FunctionName="aliased", Name="live")
    assert (
        refusal(api.get_alias, FunctionName="aliased", Name="live")[2] == f"Cannot find alias arn: {ARN}:aliased:live"
    )


@pytest.mark.parametrize(
    ("version", "weights", "message"),
    [
        (
            "1",
            {"1": 0.5},
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        ("$LATEST", {"1": 0.5}, "$LATEST is not supported for an alias pointing to more than 1 version"),
        ("1", {"2": 0.5, "3": 0.5}, "Number of items in AdditionalVersionWeights cannot be greater than 1"),
        ("1", {"10": 0.5}, f"Function not found: {ARN}:routed:10"),
        ("10", {}, f"Function not found: {ARN}:routed:10"),
    ],
)
def test_refused_aliases(api: Any, version: str, weights: dict[str, float], message: str) -> None:
    if "routed" not in [function["FunctionName"] for function in api.list_functions()["Functions"]]:
        create(api, "routed", Publish=True)
    found = refusal(
        api.create_alias, FunctionName="routed", Name="a", FunctionVersion=version,
        RoutingConfig={"AdditionalVersionWeights": weights},
    )  # fmt: skip
    assert found[2] == message


def test_deleting(api: Any) -> None:
    create(api, "gone", Publish=True)
    settle(api, "gone:1")
    assert refusal(api.delete_function, FunctionName="gone", Qualifier="$LATEST")[2] == (
        "$LATEST version cannot be deleted without deleting the function."
    )
    assert refusal(api.delete_function, FunctionName="gone", Qualifier="name")[2] == (
        "Deletion of aliases is not currently supported."
    )
    assert api.delete_function(FunctionName="gone", Qualifier="1")["ResponseMetadata"]["HTTPStatusCode"] == 204
    api.delete_function(FunctionName="gone")
    assert refusal(api.get_function, FunctionName="gone")[0] == 404
    assert refusal(api.delete_function, FunctionName="gone")[2] == f"Function not found: {ARN}:gone"
    create(api, "gone")
    assert [v["Version"] for v in api.list_versions_by_function(FunctionName="gone")["Versions"]] == ["$LATEST"]


def test_lists_come_in_pages(url: str) -> None:
    mine = client(url, aws_access_key_id="222222222222")
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        create(mine, name, Publish=name == "page-3")
    pages = list(mine.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    assert [[function["FunctionName"] for function in page["Functions"]] for page in pages] == [
        names[:2],
        names[2:4],
        names[4:],
    ]
    every = mine.get_paginator("list_functions").paginate(FunctionVersion="ALL", PaginationConfig={"PageSize": 2})
    arns = [function["FunctionArn"].partition("function:")[2] for page in every for function in page["Functions"]]
    assert arns == [
        "page-0:$LATEST",
        "page-1:$LATEST",
        "page-2:$LATEST",
        "page-3:$LATEST",
        "page-3:1",
        "page-4:$LATEST",
    ]
    assert refusal(mine.list_functions, Marker="not one of ours!")[1] == "InvalidParameterValueException"


def test_snapstart_can_be_said_to_be_off(api: Any) -> None:
    create(api, "unsnapped", SnapStart={"ApplyOn": "None"})
    found = api.get_function_configuration(FunctionName="unsnapped")["SnapStart"]
    assert found == {"ApplyOn": "None", "OptimizationStatus": "Off"}


def test_what_waits_for_later_says_so(api: Any) -> None:
    status, code, message = refusal(api.list_capacity_providers)
    assert (status, code) == (501, "NotImplementedException")
    assert message == "ListCapacityProviders is not implemented by lading's local service"
    assert refusal(api.create_event_source_mapping, FunctionName="f!")[1] == "ValidationException"


def test_another_service_is_named(url: str) -> None:
    status, code, _ = refusal(client(url, "ecs").list_clusters)
    assert (status, code) == (501, "NotImplementedException")


def test_a_layer_of_another_architecture(api: Any) -> None:
    content = {"ZipFile": zipped()}
    layer = api.publish_layer_version(LayerName="x86", Content=content, CompatibleArchitectures=["x86_64"])
    arn = layer["LayerVersionArn"]
    message = f"Layer version {arn} is not compatible with the architecture arm64."
    assert refusal(
        api.create_function, FunctionName="arm", Runtime="python3.13", Role=ROLE, Handler="h.h", Code=content, Layers=[arn],
        Architectures=["arm64"],
    ) == (400, "InvalidParameterValueException", message)  # fmt: skip
    create(api, "turned", Layers=[arn])
    code = {"FunctionName": "turned", "ZipFile": zipped(), "Architectures": ["arm64"]}
    assert refusal(api.update_function_code, **code) == (400, "InvalidParameterValueException", message)
    api.delete_layer_version(LayerName="x86", VersionNumber=1)
    api.update_function_code(**code)
    settle(api, "turned")


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"Runtime": "nodejs22.x"}, "the runtime nodejs22.x"),
        ({"VpcConfig": {"SubnetIds": ["subnet-12345678"]}}, "VpcConfig with subnets or security groups"),
    ],
)
def test_a_501_names_the_operation_and_what_is_missing(api: Any, parameters: dict[str, Any], what: str) -> None:
    given = {"Runtime": "python3.13", "Role": ROLE, "Handler": "h.h", "Code": {"ZipFile": zipped()}} | parameters
    status, code, message = refusal(api.create_function, FunctionName="missing", **given)
    assert (status, code) == (501, "NotImplementedException")
    assert message.startswith(f"CreateFunction: {what} is not implemented by lading's local service")
    assert refusal(api.get_function, FunctionName="missing")[0] == 404


def test_a_service_that_isn_t_here_is_named_with_its_operation(api: Any) -> None:
    other = client(api.meta.endpoint_url, "athena")
    status, _, message = refusal(other.list_work_groups)
    assert (status, message) == (501, "ListWorkGroups: lading's local service does not serve athena")
    # one that speaks XML, and that tools for stacks begin with
    status, code, message = refusal(client(api.meta.endpoint_url, "cloudformation").list_stacks)
    assert (status, code) == (501, "NotImplementedException")
    assert message.startswith(
        "POST /: lading's local service does not serve cloudformation without the services beside Lambda"
    )
