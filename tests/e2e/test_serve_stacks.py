"""Stacks through boto3: what a template says is made by this service and its neighbours, changed, taken back, deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from serve_support import REGION, client, refusal, service, zipped
from stack_support import IAM, ROLE, Stack, body, function, shortened


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(neighbours={}) as url:
        s3 = client(url, "s3", patience=120)
        s3.create_bucket(Bucket="stack-packages", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="stack-packages", Key="app.zip", Body=zipped())
        s3.put_object(Bucket="stack-packages", Key="layer.zip", Body=zipped({"python/common.py": "X = 1\n"}))
        yield url


@pytest.fixture(scope="module")
def api(url: str) -> Any:
    return client(url, "cloudformation", patience=120)


FIRST = {
    "Role": ROLE,
    "Logs": {
        "Type": "AWS::Logs::LogGroup",
        "Properties": {"LogGroupName": {"Fn::Sub": "/aws/lambda/${Orders}"}, "RetentionInDays": "14"},
    },
    "Orders": function(
        MemorySize={"Ref": "Memory"},
        Environment={"Variables": {"STAGE": {"Fn::Sub": "${AWS::StackName}-${AWS::Region}"}}},
        Tags=[{"Key": "own", "Value": "1"}],
    ),
    "Version": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Orders"}}},
    "Live": {
        "Type": "AWS::Lambda::Alias",
        "Properties": {
            "FunctionName": {"Ref": "Orders"},
            "Name": "live",
            "FunctionVersion": {"Fn::GetAtt": ["Version", "Version"]},
        },
    },
    "Url": {
        "Type": "AWS::Lambda::Url",
        "Properties": {"TargetFunctionArn": {"Fn::GetAtt": ["Orders", "Arn"]}, "Qualifier": "live", "AuthType": "NONE"},
        "DependsOn": "Live",
    },
    "Open": {
        "Type": "AWS::Lambda::Permission",
        "Properties": {
            "FunctionName": {"Ref": "Live"},
            "Action": "lambda:InvokeFunctionUrl",
            "Principal": "*",
            "FunctionUrlAuthType": "NONE",
        },
    },
}
OUTPUTS = {
    "Name": {"Value": {"Ref": "Orders"}, "Export": {"Name": "orders-name"}, "Description": "a function"},
    "Arn": {"Value": {"Fn::GetAtt": ["Orders", "Arn"]}},
    "Live": {"Value": {"Ref": "Live"}},
    "Url": {"Value": {"Fn::GetAtt": ["Url", "FunctionUrl"]}},
}
MEMORY = {"Memory": {"Type": "Number", "Default": 256}}


def test_a_stack_from_its_creation_to_its_deletion(url: str, api: Any) -> None:
    stack, functions = Stack(api, "orders"), client(url)
    text = body(FIRST, Parameters=MEMORY, Outputs=OUTPUTS, Description="all of it")
    assert stack.create(text, Tags=[{"Key": "team", "Value": "a"}]) == "CREATE_COMPLETE"
    api.get_waiter("stack_create_complete").wait(StackName="orders")
    described, found = stack.described(), stack.outputs()
    assert described["Description"] == "all of it" and described["Tags"] == [{"Key": "team", "Value": "a"}]
    assert found["Arn"] == f"arn:aws:lambda:{REGION}:000000000000:function:{found['Name']}"
    assert found["Name"].startswith("orders-Orders-") and found["Live"] == f"{found['Arn']}:live"
    answer = functions.invoke(FunctionName=found["Live"], Payload=b"{}")
    assert json.load(answer["Payload"]) == [{}, f"orders-{REGION}", "256"] and answer["ExecutedVersion"] == "1"
    assert functions.list_tags(Resource=found["Arn"])["Tags"] == {"team": "a", "own": "1"}
    assert (
        found["Url"] == functions.get_function_url_config(FunctionName=found["Name"], Qualifier="live")["FunctionUrl"]
    )
    groups = client(url, "logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{found['Name']}")["logGroups"]
    assert [group["retentionInDays"] for group in groups] == [14]
    assert stack.physical()["Logs"] == f"/aws/lambda/{found['Name']}"

    with pytest.raises(Exception, match=r"Stack \[orders\] already exists"):
        stack.create(text)
    parameters = [{"ParameterKey": "Memory", "ParameterValue": "512"}]
    changed = text.replace('"14"', '"30"')
    assert stack.update(changed, Parameters=parameters) == "UPDATE_COMPLETE"
    assert functions.get_function_configuration(FunctionName=found["Name"])["MemorySize"] == 512
    assert [one for one in shortened(stack.events()) if "UPDATE_COMPLETE" in one] == [
        "Orders UPDATE_COMPLETE", "Logs UPDATE_COMPLETE", "orders UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "orders UPDATE_COMPLETE",
    ]  # fmt: skip
    kept = [{"ParameterKey": "Memory", "UsePreviousValue": True}]
    again = refusal(api.update_stack, StackName="orders", UsePreviousTemplate=True, Parameters=kept, Capabilities=IAM)
    assert again == (400, "ValidationError", "No updates are to be performed.")

    identity = described["StackId"]
    assert stack.delete() == "DELETE_COMPLETE"
    api.get_waiter("stack_delete_complete").wait(StackName="orders")
    assert refusal(functions.get_function, FunctionName=found["Name"])[0] == 404
    assert "orders" not in [one["StackName"] for one in api.describe_stacks()["Stacks"]]
    assert refusal(stack.described)[2] == "Stack with id orders does not exist"
    assert api.list_stacks(StackStatusFilter=["DELETE_COMPLETE"])["StackSummaries"][0]["StackId"] == identity
    assert not [one for one in client(url, "iam").list_roles()["Roles"] if one["RoleName"].startswith("orders-")]


def test_what_fails_is_rolled_back_with_the_service_s_own_message(url: str, api: Any) -> None:
    stack = Stack(api, "failing")
    broken = {"Role": ROLE, "Queue": {"Type": "AWS::SQS::Queue"}, "Bad": function(MemorySize=64)}
    assert stack.create(body(broken)) == "ROLLBACK_COMPLETE"
    reasons = {name: reason for name, status, reason in stack.events() if status == "CREATE_FAILED"}
    assert "'64' at 'memorySize' failed to satisfy constraint" in reasons["Bad"]
    assert (
        "Service: Lambda, Status Code: 400" in reasons["Bad"] and "HandlerErrorCode: InvalidRequest" in reasons["Bad"]
    )
    ended = [reason for _, status, reason in stack.events() if status == "ROLLBACK_IN_PROGRESS"]
    assert ended == ["The following resource(s) failed to create: [Bad]. Rollback requested by user."]
    assert not client(url).list_functions()["Functions"]
    assert "QueueUrls" not in client(url, "sqs").list_queues(QueueNamePrefix="failing-")
    status, code, message = refusal(api.update_stack, StackName="failing", TemplateBody=body(broken), Capabilities=IAM)
    assert (status, code) == (400, "ValidationError") and "ROLLBACK_COMPLETE state and can not be updated" in message
    assert stack.delete() == "DELETE_COMPLETE"

    kept = Stack(api, "kept")
    assert kept.create(body(broken), OnFailure="DO_NOTHING") == "CREATE_FAILED"
    assert kept.physical()["Queue"] and not kept.physical()["Bad"]
    mended = {**broken, "Bad": function(MemorySize=128)}
    assert kept.update(body(mended)) == "UPDATE_COMPLETE" and kept.physical()["Bad"]
    assert kept.update(body(broken), DisableRollback=True) == "UPDATE_FAILED"
    assert kept.update(body({**mended, "Bad": function(MemorySize=256)})) == "UPDATE_COMPLETE"
    found = client(url).get_function_configuration(FunctionName=kept.physical()["Bad"])
    assert found["MemorySize"] == 256
    assert kept.delete() == "DELETE_COMPLETE"
    assert "QueueUrls" not in client(url, "sqs").list_queues(QueueNamePrefix="kept-")


def test_an_update_that_fails_brings_back_what_was(url: str, api: Any) -> None:
    stack, functions, queues = Stack(api, "back"), client(url), client(url, "sqs")
    before = {
        "Role": ROLE,
        "F": function(Timeout=5, Description="before"),
        "Old": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "back-old"}},
        "Named": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "back-first"}},
    }
    assert stack.create(body(before)) == "CREATE_COMPLETE"
    physical = stack.physical()
    after = {
        "Role": {**ROLE, "Properties": {**ROLE["Properties"], "Description": "new"}},
        "F": function(Timeout=6, Environment={"Variables": {"STAGE": "new"}}),
        "New": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "back-new"}},
        "Named": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "back-second"}},
        "Bad": {
            "Type": "AWS::Lambda::Alias",
            "Properties": {"FunctionName": {"Ref": "F"}, "Name": "live", "FunctionVersion": "77"},
            "DependsOn": ["New", "Named"],
        },
    }
    assert stack.update(body(after)) == "UPDATE_ROLLBACK_COMPLETE"
    found = functions.get_function_configuration(FunctionName=physical["F"])
    assert (found["Timeout"], found["Description"], found.get("Environment")) == (5, "before", None)
    assert stack.physical() == physical
    assert sorted(
        address.rpartition("/")[2] for address in queues.list_queues(QueueNamePrefix="back-")["QueueUrls"]
    ) == ["back-first", "back-old"]
    assert client(url, "iam").get_role(RoleName=physical["Role"])["Role"].get("Description", "") == ""
    failed = [reason for name, status, reason in stack.events() if (name, status) == ("Bad", "CREATE_FAILED")]
    assert "Function not found" in failed[0] and "HandlerErrorCode: NotFound" in failed[0]
    del after["Bad"]
    assert stack.update(body(after)) == "UPDATE_COMPLETE"
    assert sorted(
        address.rpartition("/")[2] for address in queues.list_queues(QueueNamePrefix="back-")["QueueUrls"]
    ) == ["back-new", "back-second"]
    assert stack.delete() == "DELETE_COMPLETE"


def test_lambda_s_types_and_their_neighbours(url: str, api: Any) -> None:
    """Each made, changed in place or replaced, and deleted."""
    stack, functions = Stack(api, "types"), client(url)
    publishers = f"arn:aws:signer:{REGION}:000000000000:/signing-profiles/mine/abcdefghij"

    def resources(batch: int, retries: int, layer: str) -> dict[str, Any]:
        managed = ["arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole"]
        return {
            "Role": {**ROLE, "Properties": {**ROLE["Properties"], "ManagedPolicyArns": managed}},
            "Layer": {
                "Type": "AWS::Lambda::LayerVersion",
                "Properties": {"Content": {"S3Bucket": "stack-packages", "S3Key": "layer.zip"}, "Description": layer},
            },
            "Shared": {
                "Type": "AWS::Lambda::LayerVersionPermission",
                "Properties": {"LayerVersionArn": {"Ref": "Layer"}, "Action": "lambda:GetLayerVersion", "Principal": "*"},
            },
            "F": function(
                Code={"S3Bucket": "stack-packages", "S3Key": "app.zip"}, Handler="app.handler", Layers=[{"Ref": "Layer"}],
                ReservedConcurrentExecutions="3",
            ),
            "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": 60}},
            "Source": {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {
                    "EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]}, "FunctionName": {"Ref": "F"}, "BatchSize": batch,
                },
            },
            "Retries": {
                "Type": "AWS::Lambda::EventInvokeConfig",
                "Properties": {"FunctionName": {"Ref": "F"}, "Qualifier": "$LATEST", "MaximumRetryAttempts": retries},
            },
            "Signing": {
                "Type": "AWS::Lambda::CodeSigningConfig",
                "Properties": {"AllowedPublishers": {"SigningProfileVersionArns": [publishers]}, "Description": layer},
            },
        }  # fmt: skip

    assert stack.create(body(resources(5, 0, "one"))) == "CREATE_COMPLETE"
    first = stack.physical()
    assert stack.update(body(resources(6, 1, "two"))) == "UPDATE_COMPLETE"
    second = stack.physical()
    replaced = {name for name in first if first[name] != second[name]}
    assert replaced == {"Layer", "Shared"}
    assert functions.get_event_source_mapping(UUID=second["Source"])["BatchSize"] == 6
    config = functions.get_function_event_invoke_config(FunctionName=second["F"])
    assert config["MaximumRetryAttempts"] == 1
    found = functions.get_function(FunctionName=second["F"])
    assert [layer["Arn"] for layer in found["Configuration"]["Layers"]] == [second["Layer"]]
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 3}
    assert refusal(functions.get_layer_version_by_arn, Arn=first["Layer"])[0] == 404
    assert (
        functions.get_code_signing_config(CodeSigningConfigArn=second["Signing"])["CodeSigningConfig"]["Description"]
        == "two"
    )
    assert stack.delete() == "DELETE_COMPLETE"
    assert not functions.list_event_source_mappings()["EventSourceMappings"] and not functions.list_layers()["Layers"]


def test_a_change_set_is_looked_at_and_executed(url: str, api: Any) -> None:
    text = body({"Role": ROLE, "F": function()})
    given = {"StackName": "sets", "ChangeSetName": "one", "TemplateBody": text}
    assert refusal(api.create_change_set, ChangeSetType="UPDATE", **given)[2] == "Stack [sets] does not exist"
    missing = refusal(api.create_change_set, ChangeSetType="CREATE", **given)
    assert missing[1:] == ("InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_IAM]")
    made = api.create_change_set(ChangeSetType="CREATE", Capabilities=IAM, **given)
    api.get_waiter("change_set_create_complete").wait(ChangeSetName=made["Id"])
    described = api.describe_change_set(ChangeSetName=made["Id"])
    assert [one["ResourceChange"]["Action"] for one in described["Changes"]] == ["Add", "Add"]
    stack = Stack(api, "sets")
    assert stack.described()["StackStatus"] == "REVIEW_IN_PROGRESS"
    api.execute_change_set(ChangeSetName=made["Id"])
    assert stack.settled("sets") == "CREATE_COMPLETE"

    given["TemplateBody"] = body({"Role": ROLE, "F": function(FunctionName="named"), "Q": {"Type": "AWS::SQS::Queue"}})
    made = api.create_change_set(**{**given, "ChangeSetName": "two"}, Capabilities=IAM)
    changes = [one["ResourceChange"] for one in api.describe_change_set(ChangeSetName=made["Id"])["Changes"]]
    assert [(one["Action"], one["LogicalResourceId"], one.get("Replacement")) for one in changes] == [
        ("Add", "Q", None),
        ("Modify", "F", "True"),
    ]
    api.execute_change_set(ChangeSetName="two", StackName="sets")
    assert stack.settled("sets") == "UPDATE_COMPLETE" and stack.physical()["F"] == "named"
    assert len(client(url).list_functions()["Functions"]) == 1

    same = api.create_change_set(**{**given, "ChangeSetName": "three"}, Capabilities=IAM)
    described = api.describe_change_set(ChangeSetName=same["Id"])
    assert described["Status"] == "FAILED" and "didn't contain changes" in described["StatusReason"]
    assert refusal(api.execute_change_set, ChangeSetName=same["Id"])[1] == "InvalidChangeSetStatus"
    assert stack.delete() == "DELETE_COMPLETE"


def test_exports_hold_what_others_import(api: Any) -> None:
    exporting, importing = Stack(api, "exporting"), Stack(api, "importing")
    queue = {"Queue": {"Type": "AWS::SQS::Queue"}}
    assert (
        exporting.create(body(queue, Outputs={"Q": {"Value": {"Ref": "Queue"}, "Export": {"Name": "q"}}}))
        == "CREATE_COMPLETE"
    )
    uses = {"T": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Fn::ImportValue": "q"}}}}
    assert importing.create(body(uses)) == "CREATE_COMPLETE"
    assert api.list_imports(ExportName="q")["Imports"] == ["importing"]
    assert exporting.delete() == "DELETE_FAILED"
    assert "in use by importing" in exporting.described()["StackStatusReason"]
    assert [importing.delete(), exporting.delete()] == ["DELETE_COMPLETE", "DELETE_COMPLETE"]


ANSWER = """
import cfnresponse
def handler(event, context):
    wanted = event["ResourceProperties"]
    if wanted.get("Fail") == event["RequestType"]:
        raise ValueError("as wanted")
    data = {"Seen": event["RequestType"], "Number": wanted["Number"], "Old": event.get("OldResourceProperties", {}).get("Number")}
    cfnresponse.send(event, context, "SUCCESS", data, "thing-" + wanted["Name"])
"""


def test_custom_resources_are_functions_that_answer(url: str, api: Any) -> None:
    def resources(**wanted: Any) -> str:
        token = {"ServiceToken": {"Fn::GetAtt": ["F", "Arn"]}}
        thing = {"Type": "Custom::Thing", "Properties": {**token, **wanted}}
        outputs = {
            "Number": {"Value": {"Fn::GetAtt": ["Thing", "Number"]}},
            "Seen": {"Value": {"Fn::GetAtt": "Thing.Seen"}},
        }
        return body(
            {"Role": ROLE, "F": function(Code={"ZipFile": ANSWER}, Timeout=30), "Thing": thing}, Outputs=outputs
        )

    stack = Stack(api, "custom")
    assert stack.create(resources(Number=1, Name="a")) == "CREATE_COMPLETE", stack.events()
    assert stack.outputs() == {"Number": "1", "Seen": "Create"} and stack.physical()["Thing"] == "thing-a"
    assert stack.update(resources(Number=2, Name="b")) == "UPDATE_COMPLETE"
    assert stack.outputs() == {"Number": "2", "Seen": "Update"} and stack.physical()["Thing"] == "thing-b"
    assert "Thing DELETE_COMPLETE" in shortened(stack.events())  # thing-a
    assert stack.update(resources(Number=3, Name="b", Fail="Update")) == "UPDATE_ROLLBACK_COMPLETE"
    failed = [reason for name, status, reason in stack.events() if status == "UPDATE_FAILED"]
    assert "did not receive a response" in failed[0] and "as wanted" in failed[0]
    assert stack.delete() == "DELETE_COMPLETE"


def test_stacks_within_stacks(url: str, api: Any) -> None:
    def put(key: str, text: str) -> str:
        client(url, "s3").put_object(Bucket="stack-packages", Key=key, Body=text.encode())
        return f"{url}/stack-packages/{key}"

    queue = {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"DelaySeconds": {"Ref": "Delay"}}}}
    outputs = {"Url": {"Value": {"Ref": "Queue"}}}
    inner = put("inner.json", body(queue, Parameters={"Delay": {"Type": "Number", "MaxValue": 900}}, Outputs=outputs))

    def outer(delay: int) -> str:
        properties = {"TemplateURL": inner, "Parameters": {"Delay": delay}}
        inside = {"Inside": {"Type": "AWS::CloudFormation::Stack", "Properties": properties}}
        return body(inside, Outputs={"Queue": {"Value": {"Fn::GetAtt": ["Inside", "Outputs.Url"]}}})

    stack, queues = Stack(api, "outer"), client(url, "sqs")

    def delay() -> str:
        found = queues.get_queue_attributes(QueueUrl=stack.outputs()["Queue"], AttributeNames=["DelaySeconds"])
        return str(found["Attributes"]["DelaySeconds"])

    assert stack.create(outer(5)) == "CREATE_COMPLETE" and delay() == "5"
    address = stack.outputs()["Queue"]
    assert stack.update(outer(6)) == "UPDATE_COMPLETE" and stack.outputs()["Queue"] == address and delay() == "6"
    within = stack.described(stack.physical()["Inside"])
    assert within["ParentId"] == stack.described()["StackId"] and within["StackStatus"] == "UPDATE_COMPLETE"
    assert stack.update(outer(901)) == "UPDATE_ROLLBACK_COMPLETE" and delay() == "6"
    assert stack.delete() == "DELETE_COMPLETE" and "QueueUrls" not in queues.list_queues(QueueNamePrefix="outer-")

    endless = {
        "Again": {
            "Type": "AWS::CloudFormation::Stack",
            "Properties": {"TemplateURL": f"{url}/stack-packages/endless.json"},
        }
    }
    put("endless.json", body(endless))
    assert Stack(api, "endless").create(body(endless)) == "ROLLBACK_COMPLETE"
    assert Stack(api, "endless").delete() == "DELETE_COMPLETE"
    assert not [one for one in api.describe_stacks()["Stacks"] if one["StackName"].startswith("endless")]


def test_what_is_not_here_is_said(url: str, api: Any) -> None:
    status, code, message = refusal(
        api.create_stack, StackName="x", TemplateBody=body({"M": {"Type": "AWS::EC2::Instance"}})
    )
    assert (status, code) == (400, "ValidationError") and "Unrecognized resource types: [AWS::EC2::Instance]" in message
    assert refusal(api.list_stack_sets)[:2] == (501, "NotImplementedException")
    assert "at 'stackName' failed" in refusal(api.create_stack, StackName="a/b", TemplateBody=body({"Role": ROLE}))[2]
    told = {
        "StackName": "x",
        "TemplateBody": body({"Role": ROLE}),
        "NotificationARNs": ["arn:aws:sns:eu-west-1:000000000000:t"],
    }
    assert refusal(api.create_stack, **told)[:2] == (501, "NotImplementedException")
    assert refusal(Stack(api, "x").described)[2] == "Stack with id x does not exist"
    stack = Stack(api, "written-down")
    api_gateway = {"Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "n"}}}
    assert stack.create(body(api_gateway)) == "CREATE_COMPLETE"
    reasons = [reason for name, status, reason in stack.events() if (name, status) == ("Api", "CREATE_COMPLETE")]
    assert "no API Gateway" in reasons[0]
    api.update_termination_protection(StackName="written-down", EnableTerminationProtection=True)
    assert "TerminationProtection is enabled" in refusal(api.delete_stack, StackName="written-down")[2]
    api.update_termination_protection(StackName="written-down", EnableTerminationProtection=False)
    assert stack.delete() == "DELETE_COMPLETE"
    misspelt = Stack(api, "misspelt")
    assert misspelt.create(body({"Role": ROLE, "F": function(Memory=1)})) == "ROLLBACK_COMPLETE"
    failed = [reason for _, status, reason in misspelt.events() if status == "CREATE_FAILED"]
    assert failed[0].endswith("#: extraneous key [Memory] is not permitted")
