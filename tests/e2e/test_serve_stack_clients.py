"""Stacks through the tools that make them: the `aws` command itself, and what `sam deploy` sends, as recorded of samcli 1.170."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_support import ACCOUNT, client, refusal, service, until, zipped
from stack_support import IAM, TRUST, Stack

AWS = Path(sys.executable).with_name("aws")
REGION = "us-east-1"
TEMPLATE = """
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Timeout: 10, MemorySize: 256, Runtime: python3.13}
Parameters:
  Stage: {Type: String, Default: dev}
Resources:
  Table: {Type: AWS::Serverless::SimpleTable}
  Queue: {Type: AWS::SQS::Queue}
  Common:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layer, CompatibleRuntimes: [python3.13]}
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: code
      Handler: app.handler
      Layers: [!Ref Common]
      AutoPublishAlias: live
      FunctionUrlConfig: {AuthType: NONE}
      Policies: [AWSLambdaBasicExecutionRole, AmazonS3ReadOnlyAccess, DynamoDBCrudPolicy: {TableName: !Ref Table}]
      Environment: {Variables: {STAGE: !Ref Stage}}
      Events:
        Api: {Type: Api, Properties: {Path: /hello, Method: get}}
        Queue: {Type: SQS, Properties: {Queue: !GetAtt Queue.Arn}}
        Cron: {Type: Schedule, Properties: {Schedule: rate(1 day)}}
Outputs:
  Name: {Value: !Ref Hello}
  Url: {Value: !GetAtt HelloUrl.FunctionUrl}
  Api: {Value: !Sub 'https://${ServerlessRestApi}.execute-api.${AWS::Region}.amazonaws.com/Prod/hello'}
"""
APP = "import os, common\ndef handler(event, context):\n    return [os.environ['STAGE'], common.X, context.function_version]\n"
MANAGED = """
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Resources:
  SamCliSourceBucket:
    Type: AWS::S3::Bucket
    Properties:
      VersioningConfiguration: {Status: Enabled}
      PublicAccessBlockConfiguration: {BlockPublicPolicy: "true", BlockPublicAcls: "true"}
      BucketEncryption: {ServerSideEncryptionConfiguration: [{ServerSideEncryptionByDefault: {SSEAlgorithm: 'aws:kms'}}]}
      Tags: [{Key: ManagedStackSource, Value: AwsSamCli}]
  SamCliSourceBucketBucketPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref SamCliSourceBucket
      PolicyDocument:
        Statement:
          - {Action: ['s3:GetObject'], Effect: Allow, Resource: !Sub '${SamCliSourceBucket.Arn}/*', Principal: {Service: serverlessrepo.amazonaws.com}, Condition: {StringEquals: {'aws:SourceAccount': !Ref 'AWS::AccountId'}}}
          - {Action: ['s3:*'], Effect: Deny, Resource: [!GetAtt SamCliSourceBucket.Arn, !Sub '${SamCliSourceBucket.Arn}/*'], Principal: '*', Condition: {Bool: {'aws:SecureTransport': 'false'}}}
Outputs:
  SourceBucket: {Value: !Ref SamCliSourceBucket}
"""  # noqa: E501 - as SAM writes it


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(neighbours={}) as url:
        yield url


def here(url: str, name: str) -> Any:
    return client(url, name, patience=120, region_name=REGION)


def change(api: Any, name: str, kind: str, **parameters: Any) -> list[dict[str, Any]]:
    """A change set as SAM makes it, waits for it, looks at it and carries it out."""
    label = f"samcli-deploy-{kind.lower()}"
    made = api.create_change_set(
        StackName=name, ChangeSetName=label, ChangeSetType=kind, Capabilities=IAM, **parameters
    )
    api.get_waiter("change_set_create_complete").wait(ChangeSetName=made["Id"], StackName=name)
    pages = api.get_paginator("describe_change_set").paginate(ChangeSetName=made["Id"], StackName=name)
    changes = [one["ResourceChange"] for page in pages for one in page["Changes"]]
    api.execute_change_set(ChangeSetName=made["Id"], StackName=name, DisableRollback=False)
    return changes


def test_what_sam_deploy_sends(url: str) -> None:
    api, s3, functions = here(url, "cloudformation"), here(url, "s3"), here(url, "lambda")
    tags = [{"Key": "ManagedStackSource", "Value": "AwsSamCli"}]
    managed = Stack(api, "aws-sam-cli-managed-default")
    assert refusal(managed.described)[2] == "Stack with id aws-sam-cli-managed-default does not exist"
    change(api, managed.name, "CREATE", TemplateBody=MANAGED, Tags=tags, Parameters=[])
    assert managed.settled(managed.name) == "CREATE_COMPLETE" and managed.described()["Tags"] == tags
    bucket = managed.outputs()["SourceBucket"]
    assert "aws:SecureTransport" in s3.get_bucket_policy(Bucket=bucket)["Policy"]

    def packaged(source: str) -> str:
        """SAM's uploads; the template's URL."""
        s3.put_object(Bucket=bucket, Key=f"code-{len(source)}", Body=zipped({"app.py": source}))
        s3.put_object(Bucket=bucket, Key="layer", Body=zipped({"python/common.py": "X = 1\n"}))
        text = TEMPLATE.replace("CodeUri: code", f"CodeUri: s3://{bucket}/code-{len(source)}")
        text = text.replace("ContentUri: layer", f"ContentUri: s3://{bucket}/layer")
        s3.put_object(Bucket=bucket, Key="made.template", Body=text.encode())
        return f"https://s3.{REGION}.amazonaws.com/{bucket}/made.template"

    address = packaged(APP)
    types = api.get_template_summary(TemplateURL=address)["ResourceTypes"]
    assert "AWS::Serverless::Function" in types
    added = change(api, "hello", "CREATE", TemplateURL=address, Parameters=[], NotificationARNs=[], Tags=[])
    assert {one["Action"] for one in added} == {"Add"} and len(added) == 17
    stack = Stack(api, "hello")
    assert stack.settled("hello") == "CREATE_COMPLETE"
    name = stack.outputs()["Name"]
    answer = functions.invoke(FunctionName=f"{name}:live", Payload=b"{}")
    assert json.load(answer["Payload"]) == ["dev", 1, "1"]
    noted = {name for name, status, reason in stack.events() if "no API Gateway" in reason}
    assert "ServerlessRestApi" in noted and ".execute-api." in stack.outputs()["Api"]
    role = stack.physical()["HelloRole"]
    attached = {
        one["PolicyName"] for one in here(url, "iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    }
    assert attached == {"AWSLambdaBasicExecutionRole", "AmazonS3ReadOnlyAccess", "AWSLambdaSQSQueueExecutionRole"}

    parameters = [{"ParameterKey": "Stage", "ParameterValue": "prod"}]
    changed = change(api, "hello", "UPDATE", TemplateURL=packaged(APP + "# more\n"), Parameters=parameters)
    assert {(one["Action"], one["ResourceType"]) for one in changed} == {
        ("Add", "AWS::Lambda::Version"), ("Modify", "AWS::Lambda::Function"), ("Modify", "AWS::Lambda::Alias"),
        ("Remove", "AWS::Lambda::Version"),
    }  # fmt: skip
    assert stack.settled("hello") == "UPDATE_COMPLETE"
    answer = functions.invoke(FunctionName=f"{name}:live", Payload=b"{}")
    assert json.load(answer["Payload"]) == ["prod", 1, "2"]
    assert "Transform: AWS::Serverless" in api.get_template(StackName="hello")["TemplateBody"]
    assert stack.delete() == "DELETE_COMPLETE" and not functions.list_functions()["Functions"]


def test_a_transform_that_fails_says_why(url: str) -> None:
    api = here(url, "cloudformation")
    broken = "Transform: AWS::Serverless-2016-10-31\nResources: {F: {Type: AWS::Serverless::Function, Properties: {Runtime: x}}}"
    for parameters, message in (
        ({"TemplateBody": broken}, "Transform AWS::Serverless-2016-10-31 failed with: Invalid Serverless Application"),
        ({"TemplateBody": broken.replace("AWS::Serverless-2016-10-31", "Mine")}, "No transform named Mine found."),
        ({"TemplateURL": "https://s3.amazonaws.com/no-bucket-of-ours/key"}, "S3 error"),
    ):
        status, code, said = refusal(api.create_stack, StackName="broken", **parameters)
        assert (status, code) == (400, "ValidationError") and message in said


def test_the_aws_command_packages_and_deploys(url: str, tmp_path: Path) -> None:
    environment = {
        **os.environ, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip

    def aws(*words: str) -> str:
        done = subprocess.run(
            [AWS, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text("def handler(event, context):\n    return 'deployed'\n")
    role = f"arn:aws:iam::{ACCOUNT}:role/cli"
    here(url, "iam").create_role(RoleName="cli", AssumeRolePolicyDocument=json.dumps(TRUST))
    properties = {
        "Runtime": "python3.13",
        "Handler": "app.handler",
        "Role": role,
        "Code": "code",
        "FunctionName": "cli",
    }
    template = {"Resources": {"F": {"Type": "AWS::Lambda::Function", "Properties": properties}}}
    (tmp_path / "template.yaml").write_text(json.dumps(template))
    here(url, "s3").create_bucket(Bucket="cli-packages")
    files = (
        "--template-file",
        "template.yaml",
        "--s3-bucket",
        "cli-packages",
        "--output-template-file",
        "packaged.yaml",
    )
    aws("cloudformation", "package", *files)
    said = aws("cloudformation", "deploy", "--template-file", "packaged.yaml", "--stack-name", "cli")
    assert "Successfully created/updated stack - cli" in said
    assert json.load(here(url, "lambda").invoke(FunctionName="cli")["Payload"]) == "deployed"
    assert Stack(here(url, "cloudformation"), "cli").delete() == "DELETE_COMPLETE"
    assert refusal(here(url, "lambda").get_function, FunctionName="cli")[0] == 404


def test_what_the_cdk_sends(url: str) -> None:
    """The parts of `cdk bootstrap`'s template that differ from others', and a stack as `cdk deploy` (2.1148) makes it."""
    api, s3 = here(url, "cloudformation"), here(url, "s3")
    version, assets = (
        "/cdk-bootstrap/hnb659fds/version",
        {"Fn::Sub": "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"},
    )
    lifecycle = [
        {"Id": "CleanupOldVersions", "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
    ]
    plain_http = {"Bool": {"aws:SecureTransport": "false"}}
    secure = {"Effect": "Deny", "Action": "s3:*", "Principal": "*", "Condition": plain_http}
    objects = {"Fn::Sub": "${StagingBucket.Arn}/*"}
    bootstrap = {
        "StagingBucket": {
            "Type": "AWS::S3::Bucket",
            "Properties": {"BucketName": assets, "LifecycleConfiguration": {"Rules": lifecycle}},
        },
        "StagingBucketPolicy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {
                "Bucket": {"Ref": "StagingBucket"},
                "PolicyDocument": {"Version": "2012-10-17", "Statement": [{**secure, "Resource": objects}]},
            },
        },
        "ContainerAssetsRepository": {
            "Type": "AWS::ECR::Repository",
            "Properties": {"ImageTagMutability": "IMMUTABLE", "RepositoryName": "cdk-hnb659fds-container-assets"},
        },
        "CdkBootstrapVersion": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Name": version, "Value": "31"}},
    }  # fmt: skip
    toolkit = Stack(api, "CDKToolkit")
    assert refusal(toolkit.described)[1] == "ValidationError"
    change(api, "CDKToolkit", "CREATE", TemplateBody=json.dumps({"Resources": bootstrap}))
    assert toolkit.settled("CDKToolkit") == "CREATE_COMPLETE"

    bucket = toolkit.physical()["StagingBucket"]
    s3.put_object(
        Bucket=bucket, Key="asset.zip", Body=zipped({"app.py": "def handler(event, context):\n    return 'cdk'\n"})
    )
    known = {"Fn::Contains": [["1", "2", "3", "4", "5"], {"Ref": "BootstrapVersion"}]}
    assertion = {"Assert": {"Fn::Not": [known]}, "AssertDescription": "bootstrap again"}
    app = {
        "Resources": {
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}},
            "Fn": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Code": {"S3Bucket": assets, "S3Key": "asset.zip"}, "Handler": "app.handler", "Runtime": "python3.13",
                    "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                },
                "DependsOn": ["Role"],
            },
            "CDKMetadata": {"Type": "AWS::CDK::Metadata", "Properties": {"Analytics": "v2:x"}, "Condition": "Available"},
        },
        "Conditions": {"Available": {"Fn::Or": [{"Fn::Equals": [{"Ref": "AWS::Region"}, REGION]}, {"Fn::Equals": ["a", "b"]}]}},
        "Parameters": {"BootstrapVersion": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": version}},
        "Rules": {"CheckBootstrapVersion": {"Assertions": [assertion]}},
    }  # fmt: skip
    s3.put_object(Bucket=bucket, Key="template.json", Body=json.dumps(app).encode())
    change(api, "Shop", "CREATE", TemplateURL=f"https://s3.{REGION}.amazonaws.com/{bucket}/template.json")
    stack = Stack(api, "Shop")
    assert stack.settled("Shop") == "CREATE_COMPLETE", stack.events()
    invoked = here(url, "lambda").invoke(FunctionName=stack.physical()["Fn"])
    assert json.load(invoked["Payload"]) == "cdk"
    assert stack.delete() == "DELETE_COMPLETE"


TRIGGERED = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Files: {Type: AWS::S3::Bucket}
  Topic: {Type: AWS::SNS::Topic}
  Group: {Type: AWS::Logs::LogGroup}
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: index.handler
      InlineCode: |
        def handler(event, context):
            print("GOT", *event, *event.get("Records", [{}])[0], event.get("source"))
      Events:
        Up: {Type: S3, Properties: {Bucket: !Ref Files, Events: 's3:ObjectCreated:*'}}
        Told: {Type: SNS, Properties: {Topic: !Ref Topic}}
        Rule: {Type: EventBridgeRule, Properties: {Pattern: {source: [mine]}}}
        Logs: {Type: CloudWatchLogs, Properties: {LogGroupName: !Ref Group, FilterPattern: ''}}
"""


def test_sam_s_events_invoke_the_function(url: str) -> None:
    stack, logs = Stack(here(url, "cloudformation"), "triggered"), here(url, "logs")
    stack.api.create_stack(
        StackName=stack.name, TemplateBody=TRIGGERED, Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    )
    assert stack.settled(stack.name) == "CREATE_COMPLETE", stack.events()
    made = stack.physical()
    s3 = here(url, "s3")
    s3.put_object(Bucket=made["Files"], Key="a", Body=b"x")
    here(url, "sns").publish(TopicArn=made["Topic"], Message="hi")
    here(url, "events").put_events(Entries=[{"Source": "mine", "DetailType": "t", "Detail": "{}"}])
    logs.create_log_stream(logGroupName=made["Group"], logStreamName="s")
    event = {"timestamp": int(time.time() * 1000), "message": "m"}
    logs.put_log_events(logGroupName=made["Group"], logStreamName="s", logEvents=[event])

    def said() -> str | None:
        try:
            found = logs.filter_log_events(logGroupName=f"/aws/lambda/{made['F']}", filterPattern="GOT")["events"]
        except logs.exceptions.ResourceNotFoundException:  # it hasn't run yet
            return None
        return " ".join(one["message"] for one in found) if len(found) >= 4 else None

    heard = until(said)
    assert all(word in heard for word in ("s3", "Sns", "mine", "awslogs"))
    assert stack.delete() == "DELETE_FAILED"
    failed = [reason for name, status, reason in stack.events() if (name, status) == ("Files", "DELETE_FAILED")]
    assert "not empty" in failed[0]
    s3.delete_object(Bucket=made["Files"], Key="a")
    assert stack.delete() == "DELETE_COMPLETE"
