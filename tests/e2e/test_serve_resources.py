"""Layers, policies, tags, concurrency, event invoke, URL, signing and management configurations, with real boto3."""

from __future__ import annotations

import itertools
import json
import urllib.request
from typing import Any

import pytest
from serve_support import ACCOUNT, REGION, ROLE, client, create, plain, refusal, settle, zipped

L = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
NUMBERS = itertools.count()
STALE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def function(api: Any, request: pytest.FixtureRequest) -> str:
    """A function of the test's own with version 1 and the alias `live` on it."""
    name = request.node.originalname[:55] + str(next(NUMBERS))
    create(api, name, Publish=True)
    settle(api, f"{name}:1")
    api.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return name


def test_layers(api: Any) -> None:
    package = zipped({"python/a.py": "x = 1"})
    first = plain(api.publish_layer_version(
        LayerName="shared", Content={"ZipFile": package}, CompatibleRuntimes=["python3.13"], CompatibleArchitectures=["x86_64"],
        Description="d", LicenseInfo="MIT",
    ))  # fmt: skip
    location = first["Content"].pop("Location")
    assert urllib.request.urlopen(location).read() == package
    assert first["Content"]["CodeSize"] == len(package)
    assert (first["LayerArn"], first["LayerVersionArn"], first["Version"]) == (
        f"{L}:layer:shared",
        f"{L}:layer:shared:1",
        1,
    )
    assert api.publish_layer_version(LayerName="shared", Content={"ZipFile": package})["Version"] == 2
    by_arn = plain(api.get_layer_version_by_arn(Arn=f"{L}:layer:shared:1"))
    assert {**by_arn, "Content": None} == {
        **plain(api.get_layer_version(LayerName="shared", VersionNumber=1)),
        "Content": None,
    }
    listed = api.list_layer_versions(LayerName="shared")["LayerVersions"]
    assert [version["Version"] for version in listed] == [2, 1]
    assert "CompatibleRuntimes" not in listed[0] and "Content" not in listed[0]
    fitting = api.list_layers(CompatibleRuntime="python3.13")["Layers"]
    assert [(layer["LayerName"], layer["LatestMatchingVersion"]["Version"]) for layer in fitting] == [("shared", 1)]
    assert api.list_layers(CompatibleArchitecture="arm64")["Layers"] == []
    api.delete_layer_version(LayerName="shared", VersionNumber=2)
    api.delete_layer_version(LayerName="shared", VersionNumber=2)
    assert (
        refusal(api.get_layer_version, LayerName="shared", VersionNumber=2)[2]
        == "The resource you requested does not exist."
    )
    assert (
        refusal(api.get_layer_version, LayerName="shared", VersionNumber=0)[2] == "Layer Version Cannot be less than 1"
    )
    assert api.publish_layer_version(LayerName="shared", Content={"ZipFile": package})["Version"] == 3


def test_layer_pages(url: str) -> None:
    mine = client(url, aws_access_key_id="333333333333")
    for name in "abc":
        for _ in range(3):
            mine.publish_layer_version(LayerName=name, Content={"ZipFile": zipped()})
    pages = mine.get_paginator("list_layer_versions").paginate(LayerName="b", PaginationConfig={"PageSize": 2})
    assert [[version["Version"] for version in page["LayerVersions"]] for page in pages] == [[3, 2], [1]]
    pages = mine.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 2})
    assert [[layer["LayerName"] for layer in page["Layers"]] for page in pages] == [["a", "b"], ["c"]]


def test_functions_with_layers(api: Any) -> None:
    arns = [
        api.publish_layer_version(LayerName=f"part{n}", Content={"ZipFile": zipped()})["LayerVersionArn"]
        for n in range(6)
    ]
    create(api, "layered", Layers=arns[:2])
    layers = api.get_function_configuration(FunctionName="layered")["Layers"]
    assert layers == [{"Arn": arn, "CodeSize": len(zipped())} for arn in arns[:2]]

    def change(layers: list[str]) -> str:
        return refusal(api.update_function_configuration, FunctionName="layered", Layers=layers)[2]

    assert change(arns) == "Cannot reference more than 5 layers."
    assert change([arns[0], arns[0]]) == (
        "Two different versions of the same layer are not allowed to be referenced in the same function. "
        f"{arns[0]} and {arns[0]} are versions of the same layer."
    )
    assert change([f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:part0:1"]) == (
        f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}."
    )
    arm = api.publish_layer_version(LayerName="arm", Content={"ZipFile": zipped()}, CompatibleArchitectures=["arm64"])
    assert "not compatible with the architecture x86_64" in change([arm["LayerVersionArn"]])
    api.delete_layer_version(LayerName="part0", VersionNumber=1)
    assert api.get_function_configuration(FunctionName="layered")["Layers"] == layers
    api.update_function_configuration(FunctionName="layered", Layers=[])
    settle(api, "layered")
    assert "Layers" not in api.get_function_configuration(FunctionName="layered")


def test_a_layer_is_another_account_s_only_when_shared(url: str, api: Any) -> None:
    arn = api.publish_layer_version(LayerName="lent", Content={"ZipFile": zipped()})["LayerVersionArn"]
    other = client(url, aws_access_key_id="444444444444")
    assert refusal(other.get_layer_version_by_arn, Arn=arn)[:2] == (403, "AccessDeniedException")
    api.add_layer_version_permission(
        LayerName="lent", VersionNumber=1, StatementId="s", Action="lambda:GetLayerVersion", Principal="444444444444"
    )
    assert other.get_layer_version_by_arn(Arn=arn)["Version"] == 1
    create(other, "borrower", Role="arn:aws:iam::444444444444:role/r", Layers=[arn])


def test_layer_policies(api: Any) -> None:
    api.publish_layer_version(LayerName="open", Content={"ZipFile": zipped()})
    layer = {"LayerName": "open", "VersionNumber": 1}
    assert refusal(api.get_layer_version_policy, **layer)[2] == "No policy is associated with the given resource."
    permission = {"Action": "lambda:GetLayerVersion", "Principal": "*", **layer}
    added = api.add_layer_version_permission(StatementId="s1", **permission)
    assert json.loads(added["Statement"]) == {
        "Sid": "s1", "Effect": "Allow", "Principal": "*", "Action": "lambda:GetLayerVersion", "Resource": f"{L}:layer:open:1",
    }  # fmt: skip
    policy = api.get_layer_version_policy(**layer)
    assert policy["RevisionId"] == added["RevisionId"]
    assert json.loads(policy["Policy"])["Statement"] == [json.loads(added["Statement"])]
    assert refusal(api.add_layer_version_permission, StatementId="s1", **permission)[2] == (
        "The statement id (s1) provided already exists. "
        "Please provide a new statement id, or remove the existing statement."
    )
    assert refusal(api.add_layer_version_permission, StatementId="s2", RevisionId=STALE, **permission)[2].endswith(
        "Call the GetLayerPolicy API to retrieve the latest Revision Id"
    )
    assert refusal(api.remove_layer_version_permission, StatementId="s9", **layer)[2] == (
        "Statement s9 is not found in resource policy."
    )
    api.remove_layer_version_permission(StatementId="s1", **layer)
    assert refusal(api.get_layer_version_policy, LayerName="none", VersionNumber=1)[2] == (
        f"Layer version {L}:layer:none:1 does not exist."
    )


def test_function_policies(api: Any, function: str) -> None:
    arn = f"{L}:function:{function}"
    revision = api.get_function_configuration(FunctionName=function)["RevisionId"]
    added = api.add_permission(
        FunctionName=function, StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::bucket", SourceAccount="111111111111", RevisionId=revision,
    )  # fmt: skip
    statement = {
        "Sid": "s3", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "lambda:InvokeFunction",
        "Resource": arn,
        "Condition": {"StringEquals": {"AWS:SourceAccount": "111111111111"}, "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}},
    }  # fmt: skip
    assert json.loads(added["Statement"]) == statement
    policy = api.get_policy(FunctionName=function)
    assert json.loads(policy["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    assert policy["RevisionId"] == api.get_function_configuration(FunctionName=function)["RevisionId"] != revision
    assert (
        refusal(api.get_policy, FunctionName=function, Qualifier="live")[2]
        == "The resource you requested does not exist."
    )
    own = api.add_permission(
        FunctionName=function, Qualifier="live", StatementId="x", Action="lambda:*", Principal="111111111111"
    )
    assert json.loads(own["Statement"])["Resource"] == f"{arn}:live"
    assert json.loads(own["Statement"])["Principal"] == {"AWS": "arn:aws:iam::111111111111:root"}
    api.remove_permission(FunctionName=function, StatementId="s3")
    assert refusal(api.get_policy, FunctionName=function)[2] == "The resource you requested does not exist."
    assert refusal(api.remove_permission, FunctionName=function, StatementId="s3")[2] == (
        "No policy is associated with the given resource."
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"FunctionName": "none"}, f"Function not found: {L}:function:none"),
        ({"Qualifier": "$LATEST"}, "We currently do not support adding policies for $LATEST."),
        ({"Qualifier": "nothing"}, "Cannot find alias arn: {arn}:nothing"),
        ({"Qualifier": "42"}, "Function not found: {arn}:42"),
        ({"Qualifier": "with-$"}, "Function not found: {arn}:with-$"),
        ({"Principal": "some.where"}, "The provided principal was invalid. Please check the principal and try again."),
        (
            {"RevisionId": STALE},
            ("The Revision Id provided does not match the latest Revision Id. "
            "Call the GetPolicy API to retrieve the latest Revision Id"),
        ),
    ],
)  # fmt: skip
def test_refused_permissions(api: Any, function: str, parameters: dict[str, str], message: str) -> None:
    whole = {
        "FunctionName": function,
        "StatementId": "s",
        "Action": "lambda:InvokeFunction",
        "Principal": "*",
    } | parameters
    assert refusal(api.add_permission, **whole)[2] == message.format(arn=f"{L}:function:{function}")


def test_a_policy_has_a_largest_size(api: Any, function: str) -> None:
    found = ""
    for number in range(200):
        try:
            api.add_permission(
                FunctionName=function, StatementId=f"{number:03d}" + "s" * 90, Action="lambda:InvokeFunction", Principal="*",
                SourceArn="arn:aws:s3:::" + "b" * 200,
            )  # fmt: skip
        except api.exceptions.PolicyLengthExceededException as error:
            found = error.response["Error"]["Message"]
            break
    assert found.endswith("is bigger than the limit (20480).")


def test_resource_policies(api: Any, function: str) -> None:
    arn = f"{L}:function:{function}"
    document = {"Version": "2012-10-17", "Statement": [
        {"Sid": "a", "Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": arn}
    ]}  # fmt: skip
    put = api.put_resource_policy(ResourceArn=arn, Policy=json.dumps(document))
    assert json.loads(put["Policy"])["Statement"] == document["Statement"]
    assert plain(api.get_resource_policy(ResourceArn=arn)) == plain(put)
    assert api.get_policy(FunctionName=function)["Policy"] == put["Policy"]
    assert refusal(api.put_resource_policy, ResourceArn=arn, Policy="{}")[1] == "InvalidParameterValueException"
    assert refusal(api.delete_resource_policy, ResourceArn=arn, RevisionId=STALE)[0] == 412
    api.delete_resource_policy(ResourceArn=arn)
    assert refusal(api.get_resource_policy, ResourceArn=arn)[0] == 404


def test_tags(api: Any) -> None:
    create(api, "tagged", Tags={"a": "1"})
    arn = f"{L}:function:tagged"
    api.tag_resource(Resource=arn, Tags={"b": "2", "a": "changed"})
    assert api.list_tags(Resource=arn)["Tags"] == {"a": "changed", "b": "2"}
    assert api.get_function(FunctionName="tagged")["Tags"] == {"a": "changed", "b": "2"}
    api.untag_resource(Resource=arn, TagKeys=["a", "b", "c"])
    assert api.list_tags(Resource=arn)["Tags"] == {}
    assert "Tags" not in api.get_function(FunctionName="tagged")
    assert refusal(api.tag_resource, Resource=f"{arn}:1", Tags={"a": "b"})[2] == (
        "Tags on function aliases and versions are not supported. Please specify a function ARN."
    )
    assert refusal(api.list_tags, Resource=f"{L}:function:none")[2] == f"Function not found: {L}:function:none"
    assert refusal(api.tag_resource, Resource=arn, Tags={f"k{n}": "" for n in range(51)})[2] == (
        "Number of tags exceeds resource tag limit."
    )


def test_reserved_concurrency(url: str) -> None:
    mine = client(url, aws_access_key_id="555555555555")
    create(mine, "reserved")
    assert plain(mine.get_function_concurrency(FunctionName="reserved")) == {}
    assert mine.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=0) is not None
    assert mine.get_function(FunctionName="reserved")["Concurrency"] == {"ReservedConcurrentExecutions": 0}
    mine.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=900)
    assert mine.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 100
    assert refusal(mine.put_function_concurrency, FunctionName="reserved", ReservedConcurrentExecutions=901)[2] == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [100]."
    )
    mine.delete_function_concurrency(FunctionName="reserved")
    assert "Concurrency" not in mine.get_function(FunctionName="reserved")
    arn = "arn:aws:lambda:eu-west-1:555555555555:function"
    assert refusal(mine.put_function_concurrency, FunctionName="none", ReservedConcurrentExecutions=1)[2] == (
        f"Function not found: {arn}:none:$LATEST"
    )
    assert refusal(mine.put_function_concurrency, FunctionName=f"{arn}:reserved:1", ReservedConcurrentExecutions=1)[
        2
    ] == (
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN."
    )


def test_provisioned_concurrency(api: Any, function: str) -> None:
    def put(qualifier: str, amount: int = 1) -> Any:
        return api.put_provisioned_concurrency_config(
            FunctionName=function, Qualifier=qualifier, ProvisionedConcurrentExecutions=amount
        )

    made = put("1", 2)
    assert (made["RequestedProvisionedConcurrentExecutions"], made["Status"]) == (2, "IN_PROGRESS")
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert refusal(lambda: put("live"))[1:] == (
        "ResourceConflictException",
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
    )  # fmt: skip
    assert refusal(lambda: put("$LATEST"))[2] == (
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    )
    assert refusal(lambda: put("none"))[2] == f"Cannot find alias arn: {L}:function:{function}:none"
    assert refusal(lambda: put("1", 1001))[2] == (
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000]."
    )
    assert refusal(api.put_function_concurrency, FunctionName=function, ReservedConcurrentExecutions=1)[2] == (
        " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2]."
    )
    listed = api.list_provisioned_concurrency_configs(FunctionName=function)["ProvisionedConcurrencyConfigs"]
    assert [config["FunctionArn"] for config in listed] == [f"{L}:function:{function}:1"]
    api.delete_provisioned_concurrency_config(FunctionName=function, Qualifier="1")
    assert refusal(api.get_provisioned_concurrency_config, FunctionName=function, Qualifier="1")[1:] == (
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
    )
    put("live")
    assert refusal(lambda: put("1"))[2] == "Version is pointed by a Provisioned Concurrency alias"
    api.delete_alias(FunctionName=function, Name="live")
    assert api.list_provisioned_concurrency_configs(FunctionName=function)["ProvisionedConcurrencyConfigs"] == []


def test_event_invoke_configs(api: Any, function: str) -> None:
    arn = f"{L}:function:{function}"
    put = plain(api.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=0))
    assert put.pop("LastModified").tzinfo is not None
    assert put == {
        "FunctionArn": f"{arn}:$LATEST", "MaximumRetryAttempts": 0, "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
    }  # fmt: skip
    updated = api.update_function_event_invoke_config(FunctionName=function, MaximumEventAgeInSeconds=60)
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (0, 60)
    queue = {"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"}}
    api.put_function_event_invoke_config(FunctionName=function, Qualifier="live", DestinationConfig=queue)
    listed = api.list_function_event_invoke_configs(FunctionName=function)["FunctionEventInvokeConfigs"]
    assert {config["FunctionArn"] for config in listed} == {f"{arn}:$LATEST", f"{arn}:live"}
    api.delete_function_event_invoke_config(FunctionName=function)
    assert refusal(api.get_function_event_invoke_config, FunctionName=function)[2] == (
        f"The function {arn}:$LATEST doesn't have an EventInvokeConfig"
    )

    def refused(**parameters: Any) -> str:
        return refusal(api.put_function_event_invoke_config, FunctionName=function, **parameters)[2]

    assert refused() == "You must specify at least one of error handling or destination setting."
    assert refused(DestinationConfig={"OnSuccess": {"Destination": arn}}) == (
        "You can't specify the function as a destination for itself."
    )
    other = f"{L}:function:none"
    assert (
        refused(DestinationConfig={"OnSuccess": {"Destination": other}}) == f"The destination ARN {other} is invalid."
    )
    role = "arn:aws:iam::000000000000:role/r"
    assert refused(DestinationConfig={"OnSuccess": {"Destination": role}}) == (
        "The provided destination config DestinationConfig("
        f"onSuccess=OnSuccess(destination={role}), onFailure=null) is invalid."
    )
    assert refused(Qualifier="none", MaximumRetryAttempts=1) == "The function doesn't exist."


def test_url_configs(api: Any, function: str) -> None:
    made = plain(api.create_function_url_config(FunctionName=function, AuthType="NONE", Cors={"AllowOrigins": ["*"]}))
    assert set(made) == {"FunctionUrl", "FunctionArn", "AuthType", "Cors", "CreationTime"}
    assert f".lambda-url.{REGION}.localhost:" in made["FunctionUrl"]
    found = plain(api.get_function_url_config(FunctionName=function))
    assert found == made | {"InvokeMode": "BUFFERED", "LastModifiedTime": found["LastModifiedTime"]}
    assert refusal(api.create_function_url_config, FunctionName=function, AuthType="NONE") == (
        409, "ResourceConflictException",
        (f"Failed to create function url config for [functionArn = {L}:function:{function}]. "
        "Error message:  FunctionUrlConfig exists for this Lambda function"),
    )  # fmt: skip
    own = api.create_function_url_config(
        FunctionName=function, Qualifier="live", AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM"
    )
    assert (own["FunctionArn"], own["InvokeMode"]) == (f"{L}:function:{function}:live", "RESPONSE_STREAM")
    assert own["FunctionUrl"] != made["FunctionUrl"]
    assert api.update_function_url_config(FunctionName=function, AuthType="AWS_IAM")["AuthType"] == "AWS_IAM"
    assert len(api.list_function_url_configs(FunctionName=function)["FunctionUrlConfigs"]) == 2
    api.delete_function_url_config(FunctionName=function)
    for call in (api.get_function_url_config, api.delete_function_url_config):
        assert refusal(call, FunctionName=function)[2] == "The resource you requested does not exist."
    assert refusal(api.create_function_url_config, FunctionName="none", AuthType="NONE")[2] == "Function does not exist"


def test_account_settings_tell_what_is_used(url: str) -> None:
    mine = client(url, aws_access_key_id="666666666666")
    assert mine.get_account_settings()["AccountUsage"] == {"TotalCodeSize": 0, "FunctionCount": 0}
    create(mine, "one", Publish=True)
    mine.publish_layer_version(LayerName="l", Content={"ZipFile": zipped()})
    settings = plain(mine.get_account_settings())
    assert settings == {
        "AccountLimit": {
            "TotalCodeSize": 300 * 2**30, "CodeSizeUnzipped": 262144000, "CodeSizeZipped": 52428800,
            "ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000,
        },
        "AccountUsage": {"TotalCodeSize": 3 * len(zipped()), "FunctionCount": 1},
    }  # fmt: skip


def test_code_signing(api: Any, function: str) -> None:
    publishers = {"SigningProfileVersionArns": [f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p"]}
    config = api.create_code_signing_config(AllowedPublishers=publishers, Tags={"a": "b"})["CodeSigningConfig"]
    arn = config["CodeSigningConfigArn"]
    assert config["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    assert api.list_tags(Resource=arn)["Tags"] == {"a": "b"}
    assert api.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"] == config
    assert plain(api.get_function_code_signing_config(FunctionName=function)) == {}
    api.put_function_code_signing_config(FunctionName=function, CodeSigningConfigArn=arn)
    assert plain(api.get_function_code_signing_config(FunctionName=function)) == {
        "CodeSigningConfigArn": arn, "FunctionName": function,
    }  # fmt: skip
    users = api.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"]
    assert users == [f"{L}:function:{function}"]
    assert refusal(api.delete_code_signing_config, CodeSigningConfigArn=arn)[0] == 409
    strict = {"UntrustedArtifactOnDeployment": "Enforce"}
    api.update_code_signing_config(CodeSigningConfigArn=arn, CodeSigningPolicies=strict)
    assert (
        refusal(api.update_function_code, FunctionName=function, ZipFile=zipped())[1]
        == "CodeVerificationFailedException"
    )
    api.delete_function_code_signing_config(FunctionName=function)
    api.delete_code_signing_config(CodeSigningConfigArn=arn)
    assert refusal(api.get_code_signing_config, CodeSigningConfigArn=arn)[2] == (
        f"The Lambda code signing configuration {arn} can not be found."
    )
    assert refusal(api.put_function_code_signing_config, FunctionName=function, CodeSigningConfigArn=arn)[1:] == (
        "CodeSigningConfigNotFoundException",
        (
            "The code signing configuration cannot be found. "
            f"Check that the provided configuration is not deleted: {arn}."
        ),
    )


def test_management(api: Any, function: str) -> None:
    arn = f"{L}:function:{function}"
    assert plain(api.get_runtime_management_config(FunctionName=function)) == {
        "UpdateRuntimeOn": "Auto",
        "FunctionArn": arn,
    }
    api.put_runtime_management_config(FunctionName=function, UpdateRuntimeOn="FunctionUpdate")
    assert api.get_runtime_management_config(FunctionName=function)["UpdateRuntimeOn"] == "FunctionUpdate"
    assert refusal(api.put_runtime_management_config, FunctionName=function, UpdateRuntimeOn="Manual")[0] == 400
    assert api.get_function_recursion_config(FunctionName=function)["RecursiveLoop"] == "Terminate"
    api.put_function_recursion_config(FunctionName=function, RecursiveLoop="Allow")
    assert api.get_function_recursion_config(FunctionName=function)["RecursiveLoop"] == "Allow"
    scaling = {"MinExecutionEnvironments": 1, "MaxExecutionEnvironments": 2}
    state = api.put_function_scaling_config(FunctionName=function, Qualifier="1", FunctionScalingConfig=scaling)
    assert state["FunctionState"] == "Active"
    assert plain(api.get_function_scaling_config(FunctionName=function, Qualifier="1")) == {
        "FunctionArn": f"{arn}:1", "RequestedFunctionScalingConfig": scaling,
    }  # fmt: skip


def test_a_deleted_function_takes_everything_with_it(api: Any, function: str) -> None:
    api.create_function_url_config(FunctionName=function, AuthType="NONE")
    api.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=0)
    api.add_permission(FunctionName=function, StatementId="s", Action="lambda:InvokeFunction", Principal="*")
    api.delete_function(FunctionName=function)
    create(api, function, Role=ROLE)
    assert refusal(api.get_policy, FunctionName=function)[0] == 404
    assert refusal(api.get_function_url_config, FunctionName=function)[0] == 404
    assert refusal(api.get_function_event_invoke_config, FunctionName=function)[0] == 404
    assert api.list_aliases(FunctionName=function)["Aliases"] == []
