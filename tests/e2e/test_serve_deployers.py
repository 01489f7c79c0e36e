"""The calls that deployment tools make, in their order, with what they read of the answers.

Terraform's AWS provider as read in its public source (internal/service/lambda, iam/role.go, s3/object.go; November 2026); CDK's
hotswap, `sam sync` and CloudFormation as generally known. The tools themselves aren't run here.
"""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64encode
from collections.abc import Iterator
from hashlib import md5
from typing import Any

import pytest
from serve_support import ACCOUNT, REGION, client, refusal, service, settle, zipped

TRUST = json.dumps({
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
})  # fmt: skip
ROLE = f"arn:aws:iam::{ACCOUNT}:role/deployed"
FIRST, SECOND = zipped({"app.py": "one = 1\n"}), zipped({"app.py": "two = 2\n"})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(neighbours={}) as address:
        client(address, "iam").create_role(RoleName="deployed", AssumeRolePolicyDocument=TRUST)
        yield address


def sha256(data: bytes) -> str:
    return b64encode(hashlib.sha256(data).digest()).decode()


def read_function(api: Any, name: str) -> dict[str, Any]:
    """As `resourceFunctionRead`: the function, its newest version, its code signing configuration."""
    found: dict[str, Any] = api.get_function(FunctionName=name)
    assert found["Code"]["Location"].startswith("http")
    pages = api.get_paginator("list_versions_by_function").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 50}
    )
    versions = [version for page in pages for version in page["Versions"]]
    found["latest"] = versions[-1]["Version"]
    signing = api.get_function_code_signing_config(FunctionName=name)
    assert "CodeSigningConfigArn" not in signing
    return found


def wait_created(api: Any, name: str) -> None:
    """As `waitFunctionCreated`: from Pending to Active, and nothing else on the way."""
    deadline = time.monotonic() + 30
    while (state := api.get_function(FunctionName=name)["Configuration"]["State"]) != "Active":
        assert state == "Pending" and time.monotonic() < deadline
        time.sleep(0.01)


def wait_updated(api: Any, name: str) -> None:
    deadline = time.monotonic() + 30
    while (status := api.get_function(FunctionName=name)["Configuration"]["LastUpdateStatus"]) != "Successful":
        assert status == "InProgress" and time.monotonic() < deadline
        time.sleep(0.01)


def terraform_create(api: Any, name: str, **parameters: Any) -> dict[str, Any]:
    api.create_function(
        **{
            "FunctionName": name, "Role": ROLE, "Handler": "app.handler", "Runtime": "python3.13", "PackageType": "Zip",
            "Code": {"ZipFile": FIRST}, "Description": "", "MemorySize": 128, "Timeout": 3, "Publish": False,
            "Architectures": ["x86_64"], "EphemeralStorage": {"Size": 512}, "Tags": {}, **parameters,
        }
    )  # fmt: skip
    wait_created(api, name)
    return read_function(api, name)


def test_terraform_function_from_create_to_destroy(api: Any) -> None:
    found = terraform_create(api, "tf", Environment={"Variables": {"STAGE": "one"}}, Tags={"team": "a"})
    configuration = found["Configuration"]
    assert (configuration["CodeSha256"], found["latest"], found["Tags"]) == (sha256(FIRST), "$LATEST", {"team": "a"})
    assert configuration["TracingConfig"] == {"Mode": "PassThrough"} and "Concurrency" not in found
    assert configuration["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/tf"}
    assert not {"VpcConfig", "DeadLetterConfig", "KMSKeyArn", "Layers", "ImageConfigResponse"} & set(configuration)
    # a plan without changes: the same read, twice alike
    again = read_function(api, "tf")["Configuration"]
    assert again == configuration
    # apply: configuration first, then code, then concurrency, then a version
    api.update_function_configuration(
        FunctionName="tf", Description="new", Environment={"Variables": {}}, Layers=[], Timeout=9, MemorySize=256,
        VpcConfig={"SubnetIds": [], "SecurityGroupIds": [], "Ipv6AllowedForDualStack": False},
        DeadLetterConfig={"TargetArn": ""}, KMSKeyArn="", TracingConfig={"Mode": "Active"},
    )  # fmt: skip
    wait_updated(api, "tf")
    api.update_function_code(FunctionName="tf", ZipFile=SECOND, Architectures=["x86_64"])
    wait_updated(api, "tf")
    api.put_function_concurrency(FunctionName="tf", ReservedConcurrentExecutions=5)
    published = api.publish_version(FunctionName="tf")
    settled = api.get_function_configuration(FunctionName=published["FunctionArn"], Qualifier=published["Version"])
    assert (settled["LastUpdateStatus"], settled["State"]) == ("Successful", "Active")
    found = read_function(api, "tf")
    assert (found["latest"], found["Concurrency"]) == ("1", {"ReservedConcurrentExecutions": 5})
    assert found["Configuration"]["CodeSha256"] == sha256(SECOND)
    assert "Environment" not in found["Configuration"] and "Layers" not in found["Configuration"]
    # tags have a call of their own, with the unqualified ARN
    arn = found["Configuration"]["FunctionArn"]
    api.untag_resource(Resource=arn, TagKeys=["team"])
    api.tag_resource(Resource=arn, Tags={"owner": "b"})
    assert api.list_tags(Resource=arn)["Tags"] == {"owner": "b"}
    api.delete_function_concurrency(FunctionName="tf")
    assert "Concurrency" not in read_function(api, "tf")
    # destroy, and once more what is gone already
    api.delete_function(FunctionName="tf")
    assert refusal(api.get_function, FunctionName="tf")[:2] == (404, "ResourceNotFoundException")
    assert refusal(api.delete_function, FunctionName="tf")[:2] == (404, "ResourceNotFoundException")


def test_terraform_waits_for_a_role_that_isn_t_there_yet(url: str, api: Any) -> None:
    """The provider tries again on this very message."""
    late = f"arn:aws:iam::{ACCOUNT}:role/late"
    status, code, message = refusal(
        api.create_function,
        FunctionName="early",
        Role=late,
        Handler="a.h",
        Runtime="python3.13",
        Code={"ZipFile": FIRST},
    )
    assert (status, code) == (400, "InvalidParameterValueException")
    assert "The role defined for the function cannot be assumed by Lambda" in message
    iam = client(url, "iam")
    made = iam.create_role(RoleName="late", AssumeRolePolicyDocument=TRUST, Path="/", MaxSessionDuration=3600)["Role"]
    assert made["Arn"] == late
    assert iam.get_role(RoleName="late")["Role"]["RoleId"] == made["RoleId"]
    iam.attach_role_policy(
        RoleName="late", PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    )
    assert iam.list_role_policies(RoleName="late")["PolicyNames"] == []
    attached = iam.list_attached_role_policies(RoleName="late")["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in attached] == ["AWSLambdaBasicExecutionRole"]
    terraform_create(api, "early", Role=late)
    api.delete_function(FunctionName="early")
    assert iam.list_instance_profiles_for_role(RoleName="late")["InstanceProfiles"] == []
    for policy in attached:
        iam.detach_role_policy(RoleName="late", PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName="late")
    assert refusal(iam.get_role, RoleName="late")[:2] == (404, "NoSuchEntity")


def test_terraform_layer_version(api: Any) -> None:
    made = api.publish_layer_version(
        LayerName="tf-layer",
        Content={"ZipFile": FIRST},
        CompatibleRuntimes=["python3.13"],
        Description="",
        LicenseInfo="",
    )
    found = api.get_layer_version(LayerName="tf-layer", VersionNumber=made["Version"])
    assert found["LayerVersionArn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:tf-layer:1" == made["LayerVersionArn"]
    assert (found["Content"]["CodeSha256"], found["Content"]["CodeSize"]) == (sha256(FIRST), len(FIRST))
    api.delete_layer_version(LayerName="tf-layer", VersionNumber=1)
    status, code, _ = refusal(api.get_layer_version, LayerName="tf-layer", VersionNumber=1)
    assert (status, code) == (404, "ResourceNotFoundException")


def test_terraform_alias_and_permission(api: Any) -> None:
    terraform_create(api, "aliased", Publish=True)
    api.update_function_code(FunctionName="aliased", ZipFile=SECOND)
    wait_updated(api, "aliased")
    assert api.publish_version(FunctionName="aliased")["Version"] == "2"
    made = api.create_alias(FunctionName="aliased", Name="live", FunctionVersion="1", Description="", RoutingConfig={})
    found = api.get_alias(FunctionName="aliased", Name="live")
    assert (found["AliasArn"], found["FunctionVersion"]) == (made["AliasArn"], "1") and "RoutingConfig" not in found
    shifted = {"AdditionalVersionWeights": {"2": 0.1}}
    api.update_alias(FunctionName="aliased", Name="live", FunctionVersion="1", Description="", RoutingConfig=shifted)
    assert api.get_alias(FunctionName="aliased", Name="live")["RoutingConfig"] == shifted
    api.update_alias(FunctionName="aliased", Name="live", FunctionVersion="2", Description="", RoutingConfig={})
    found = api.get_alias(FunctionName="aliased", Name="live")
    assert found["FunctionVersion"] == "2" and "RoutingConfig" not in found

    source = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:api/*"
    api.add_permission(
        FunctionName="aliased", Qualifier="live", StatementId="gateway", Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com", SourceArn=source, SourceAccount=ACCOUNT,
    )  # fmt: skip
    [statement] = json.loads(api.get_policy(FunctionName="aliased", Qualifier="live")["Policy"])["Statement"]
    assert (statement["Sid"], statement["Action"]) == ("gateway", "lambda:InvokeFunction")
    assert statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert statement["Condition"]["ArnLike"]["AWS:SourceArn"] == source
    assert statement["Condition"]["StringEquals"]["AWS:SourceAccount"] == ACCOUNT
    assert statement["Resource"] == made["AliasArn"]
    assert refusal(api.get_policy, FunctionName="aliased")[:2] == (404, "ResourceNotFoundException")
    twice = refusal(
        api.add_permission, FunctionName="aliased", Qualifier="live", StatementId="gateway", Principal="s3.amazonaws.com",
        Action="lambda:InvokeFunction",
    )  # fmt: skip
    assert twice[:2] == (409, "ResourceConflictException")
    api.add_permission(
        FunctionName="aliased", Qualifier="live", StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*",
        FunctionUrlAuthType="AWS_IAM", PrincipalOrgID="o-a1b2c3d4e5", EventSourceToken="token",
    )  # fmt: skip
    _, second = json.loads(api.get_policy(FunctionName="aliased", Qualifier="live")["Policy"])["Statement"]
    assert (second["Principal"], second["Sid"]) == ("*", "url")
    assert second["Condition"]["StringEquals"] == {
        "lambda:FunctionUrlAuthType": "AWS_IAM", "aws:PrincipalOrgID": "o-a1b2c3d4e5", "lambda:EventSourceToken": "token",
    }  # fmt: skip
    api.remove_permission(FunctionName="aliased", Qualifier="live", StatementId="url")
    api.remove_permission(FunctionName="aliased", Qualifier="live", StatementId="gateway")
    assert refusal(api.get_policy, FunctionName="aliased", Qualifier="live")[:2] == (404, "ResourceNotFoundException")
    again = refusal(api.remove_permission, FunctionName="aliased", Qualifier="live", StatementId="gateway")
    assert again[:2] == (404, "ResourceNotFoundException")
    api.delete_alias(FunctionName="aliased", Name="live")
    assert refusal(api.get_alias, FunctionName="aliased", Name="live")[:2] == (404, "ResourceNotFoundException")


def test_terraform_object_and_the_function_made_of_it(url: str, api: Any) -> None:
    s3 = client(url, "s3")
    s3.create_bucket(Bucket="artifacts", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="artifacts", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="artifacts", Key="f.zip", Body=FIRST)["VersionId"]
    head = s3.head_object(Bucket="artifacts", Key="f.zip")
    assert (head["ContentLength"], head["VersionId"]) == (len(FIRST), first)
    assert s3.get_object_tagging(Bucket="artifacts", Key="f.zip")["TagSet"] == []
    second = s3.put_object(Bucket="artifacts", Key="f.zip", Body=SECOND)["VersionId"]
    code = {"S3Bucket": "artifacts", "S3Key": "f.zip", "S3ObjectVersion": first}
    assert terraform_create(api, "from-s3", Code=code)["Configuration"]["CodeSha256"] == sha256(FIRST)
    api.update_function_code(FunctionName="from-s3", S3Bucket="artifacts", S3Key="f.zip", S3ObjectVersion=second)
    wait_updated(api, "from-s3")
    assert read_function(api, "from-s3")["Configuration"]["CodeSha256"] == sha256(SECOND)
    api.delete_function(FunctionName="from-s3")
    for version in (first, second):
        s3.delete_object(Bucket="artifacts", Key="f.zip", VersionId=version)
    s3.delete_bucket(Bucket="artifacts")


def read_role(iam: Any, name: str) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """As `resourceRoleRead`: the role, its inline policies, what is attached."""
    role: dict[str, Any] = iam.get_role(RoleName=name)["Role"]
    assert role["Arn"].startswith("arn:aws:iam::"), "a unique id in place of the ARN is asked for again"
    names = iam.get_paginator("list_role_policies").paginate(RoleName=name).build_full_result()["PolicyNames"]
    inline = {one: iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in names}
    pages = iam.get_paginator("list_attached_role_policies").paginate(RoleName=name)
    attached = [one["PolicyArn"] for page in pages for one in page["AttachedPolicies"]]
    return role, inline, attached


def test_terraform_role_from_create_to_destroy(url: str) -> None:
    iam = client(url, "iam")
    basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
    iam.create_role(
        RoleName="tf-role", AssumeRolePolicyDocument=TRUST, Path="/", Description="first", MaxSessionDuration=3600,
        Tags=[{"Key": "team", "Value": "a"}],
    )  # fmt: skip
    iam.put_role_policy(RoleName="tf-role", PolicyName="read", PolicyDocument=json.dumps(allow))
    iam.attach_role_policy(RoleName="tf-role", PolicyArn=basic)
    role, inline, attached = read_role(iam, "tf-role")
    assert (role["Description"], role["MaxSessionDuration"], role["Path"]) == ("first", 3600, "/")
    assert (role["Tags"], inline, attached) == ([{"Key": "team", "Value": "a"}], {"read": allow}, [basic])
    assert role["AssumeRolePolicyDocument"] == json.loads(TRUST) and "PermissionsBoundary" not in role
    # update: each attribute has its call
    both = json.loads(TRUST)
    both["Statement"][0]["Principal"]["Service"] = ["lambda.amazonaws.com", "edgelambda.amazonaws.com"]
    iam.update_assume_role_policy(RoleName="tf-role", PolicyDocument=json.dumps(both))
    iam.update_role_description(RoleName="tf-role", Description="second")
    iam.update_role(RoleName="tf-role", MaxSessionDuration=7200)
    iam.put_role_permissions_boundary(RoleName="tf-role", PermissionsBoundary="arn:aws:iam::aws:policy/ReadOnlyAccess")
    iam.delete_role_policy(RoleName="tf-role", PolicyName="read")
    iam.put_role_policy(RoleName="tf-role", PolicyName="write", PolicyDocument=json.dumps(allow))
    iam.untag_role(RoleName="tf-role", TagKeys=["team"])
    iam.tag_role(RoleName="tf-role", Tags=[{"Key": "owner", "Value": "b"}])
    role, inline, attached = read_role(iam, "tf-role")
    assert (role["Description"], role["MaxSessionDuration"], role["AssumeRolePolicyDocument"]) == ("second", 7200, both)
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == "arn:aws:iam::aws:policy/ReadOnlyAccess"
    assert (role["Tags"], list(inline), attached) == ([{"Key": "owner", "Value": "b"}], ["write"], [basic])
    iam.delete_role_permissions_boundary(RoleName="tf-role")
    assert "PermissionsBoundary" not in read_role(iam, "tf-role")[0]
    # destroy: what hangs on it first
    assert refusal(iam.delete_role, RoleName="tf-role")[:2] == (409, "DeleteConflict")
    assert iam.list_instance_profiles_for_role(RoleName="tf-role")["InstanceProfiles"] == []
    iam.detach_role_policy(RoleName="tf-role", PolicyArn=basic)
    assert refusal(iam.detach_role_policy, RoleName="tf-role", PolicyArn=basic)[:2] == (404, "NoSuchEntity")
    iam.delete_role_policy(RoleName="tf-role", PolicyName="write")
    iam.delete_role(RoleName="tf-role")
    assert refusal(iam.get_role, RoleName="tf-role")[:2] == (404, "NoSuchEntity")


def test_terraform_object_from_create_to_destroy(url: str) -> None:
    """`resourceObjectUpload`, `Read`, `Update` and `Delete`, with and without versions."""
    s3 = client(url, "s3")
    s3.create_bucket(Bucket="tf-objects", CreateBucketConfiguration={"LocationConstraint": REGION})
    plain = {"Bucket": "tf-objects", "Key": "plain.txt"}
    s3.put_object(**plain, Body=b"one", ContentType="text/plain", Metadata={"a": "b"}, Tagging="team=a&stage=x%20y")
    head = s3.head_object(**plain)
    assert (head["ETag"], head["ContentType"], head["Metadata"]) == (
        f'"{md5(b"one").hexdigest()}"',
        "text/plain",
        {"a": "b"},
    )
    assert not {"VersionId", "StorageClass", "ObjectLockMode", "WebsiteRedirectLocation"} & set(head)
    tags = {one["Key"]: one["Value"] for one in s3.get_object_tagging(**plain)["TagSet"]}
    assert tags == {"team": "a", "stage": "x y"}
    s3.put_object_acl(**plain, ACL="private")
    s3.put_object_tagging(**plain, Tagging={"TagSet": [{"Key": "owner", "Value": "b"}]})
    s3.delete_object_tagging(**plain)
    assert s3.get_object_tagging(**plain)["TagSet"] == []
    s3.put_object(**plain, Body=b"two", ChecksumAlgorithm="SHA256", ServerSideEncryption="AES256")
    head = s3.head_object(**plain, ChecksumMode="ENABLED")
    assert (head["ChecksumSHA256"], head["ServerSideEncryption"]) == (sha256(b"two"), "AES256")
    s3.delete_object(**plain)
    assert refusal(s3.head_object, **plain)[0] == 404
    s3.delete_object(**plain)  # what is gone already is no error

    s3.put_bucket_versioning(Bucket="tf-objects", VersioningConfiguration={"Status": "Enabled"})
    kept = {"Bucket": "tf-objects", "Key": "kept.txt"}
    made = [s3.put_object(**kept, Body=body)["VersionId"] for body in (b"one", b"two")]
    assert s3.head_object(**kept)["VersionId"] == made[1]
    s3.put_object(Bucket="tf-objects", Key="kept.txt.other", Body=b"")  # the prefix finds it, too
    pages = s3.get_paginator("list_object_versions").paginate(Bucket="tf-objects", Prefix="kept.txt")
    found = [one["VersionId"] for page in pages for one in page["Versions"] if one["Key"] == "kept.txt"]
    assert sorted(found) == sorted(made)
    for version in found:
        s3.delete_object(**kept, VersionId=version)
    assert refusal(s3.head_object, **kept)[0] == 404


def test_hotswap_and_sync(api: Any) -> None:
    """New code, waited for; a version of it; the alias on it."""
    terraform_create(api, "swapped", Publish=True)
    api.create_alias(FunctionName="swapped", Name="live", FunctionVersion="1")
    answer = api.update_function_code(FunctionName="swapped", ZipFile=SECOND)
    settle(api, "swapped")
    published = api.publish_version(FunctionName="swapped", CodeSha256=answer["CodeSha256"])
    api.get_waiter("published_version_active").wait(
        FunctionName="swapped", Qualifier=published["Version"], WaiterConfig={"Delay": 1}
    )
    api.update_alias(FunctionName="swapped", Name="live", FunctionVersion=published["Version"])
    found = api.get_function(FunctionName="swapped", Qualifier="live")["Configuration"]
    assert found["CodeSha256"] == sha256(SECOND)


def test_cloudformation_s_handlers(api: Any) -> None:
    """A function, its version, alias, permission, URL and event invoke configuration, read after each; then backwards."""
    name = "stack-function-1A2B3C"
    terraform_create(api, name, Tags={"aws-stack": "stack"}, LoggingConfig={"LogFormat": "JSON"})
    version = api.publish_version(FunctionName=name, Description="v")["Version"]
    assert api.get_function(FunctionName=name, Qualifier=version)["Configuration"]["Description"] == "v"
    api.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    api.put_function_event_invoke_config(FunctionName=name, Qualifier="live", MaximumRetryAttempts=1)
    assert api.get_function_event_invoke_config(FunctionName=name, Qualifier="live")["MaximumRetryAttempts"] == 1
    made = api.create_function_url_config(FunctionName=name, Qualifier="live", AuthType="AWS_IAM")
    assert api.get_function_url_config(FunctionName=name, Qualifier="live")["FunctionUrl"] == made["FunctionUrl"]
    api.put_runtime_management_config(FunctionName=name, UpdateRuntimeOn="Auto")
    assert api.get_runtime_management_config(FunctionName=name)["UpdateRuntimeOn"] == "Auto"
    assert api.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    api.delete_function_url_config(FunctionName=name, Qualifier="live")
    api.delete_function_event_invoke_config(FunctionName=name, Qualifier="live")
    in_use = refusal(api.delete_function, FunctionName=name, Qualifier=version)
    assert in_use[:2] == (409, "ResourceConflictException")
    api.delete_alias(FunctionName=name, Name="live")
    api.delete_function(FunctionName=name, Qualifier=version)
    api.delete_function(FunctionName=name)
    assert refusal(api.get_function, FunctionName=name)[:2] == (404, "ResourceNotFoundException")


def test_what_carries_a_tag_is_found_among_functions_and_neighbours(url: str, api: Any) -> None:
    terraform_create(api, "tagged", Tags={"owner-of": "all"})
    client(url, "sqs").create_queue(QueueName="tagged", tags={"owner-of": "all"})
    tagging = client(url, "resourcegroupstaggingapi")

    def found(*types: str) -> list[str]:
        answer = tagging.get_resources(TagFilters=[{"Key": "owner-of"}], ResourceTypeFilters=list(types))
        return [one["ResourceARN"] for one in answer["ResourceTagMappingList"]]

    function, queue = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:tagged", f"arn:aws:sqs:{REGION}:{ACCOUNT}:tagged"
    assert (found(), found("sqs"), found("lambda")) == ([function, queue], [queue], [function])
