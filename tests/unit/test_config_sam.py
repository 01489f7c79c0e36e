"""SAM templates: what is taken, what is left to others, and what can't be told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lading.config import load
from lading.config.problems import BrokenFileError, InvalidConfigError, MissingConfigError
from lading.model.project import LayerReference
from lading.model.requirements import RequirementKind

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String, Default: dev}
  Memory: {Type: Number, Default: "512"}
Mappings:
  Levels: {dev: {log: debug}}
Globals:
  Function:
    Runtime: python3.12
    Timeout: 10
    Architectures: [x86_64]
    Layers: ["arn:aws:lambda:eu-west-1:123456789012:layer:tools:7"]
    Environment:
      Variables: {STAGE: !Ref Stage, LEVEL: info}
Resources:
  Table: {Type: AWS::DynamoDB::Table}
  Orders:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: orders/
      Handler: app.run
      MemorySize: !Ref Memory
      Architectures: [arm64]
      EphemeralStorage: {Size: 1024}
      SnapStart: {ApplyOn: None}
      Description: !Sub "orders of ${Stage}"
      Layers: [!Ref Shared, !Sub "arn:aws:lambda:${AWS::Region}:017000801446:layer:Powertools:3"]
      Environment:
        Variables:
          LEVEL: !FindInMap [Levels, !Ref Stage, log]
          PATHS: !Join [":", [a, !Sub "${Stage}-b"]]
          DEBUG: true
          TABLE: !Ref Table
          TABLE_ARN: !GetAtt Table.Arn
  Plain:
    Type: AWS::Lambda::Function
    Properties: {Code: orders, Handler: app.run, Runtime: python3.13, SnapStart: {ApplyOn: PublishedVersions}}
  Site:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: site, Handler: index.handler, Runtime: nodejs22.x}
  Inline:
    Type: AWS::Serverless::Function
    Properties: {InlineCode: "x", Handler: index.handler}
  Image:
    Type: AWS::Serverless::Function
    Properties: {PackageType: Image}
  Stored:
    Type: AWS::Lambda::Function
    Properties: {Code: {S3Bucket: b, S3Key: k}, Handler: a.b, Runtime: python3.13}
  Shared:
    Type: AWS::Serverless::LayerVersion
    Metadata: {BuildMethod: python3.12}
    Properties: {ContentUri: shared}
  Tools:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: tools, CompatibleRuntimes: [python3.12]}
"""


def make(root: Path, template: str, name: str = "template.yaml") -> Path:
    (root / ".git").mkdir(exist_ok=True)
    for folder in ("orders", "shared", "tools"):
        (root / folder).mkdir(exist_ok=True)
    (root / "orders/app.py").write_text("def run(event, context): ...\n")
    (root / "orders/requirements.txt").write_text("six\n")
    (root / "shared/requirements.txt").write_text("jinja2\n")
    (root / name).write_text(template, "utf-8")
    return root


def test_a_template(tmp_path: Path) -> None:
    project = load(make(tmp_path, TEMPLATE))
    orders, plain = project.functions
    assert (orders.name, orders.handler, str(orders.target)) == ("Orders", "app.run", "python3.12 on arm64")
    assert (orders.memory, orders.timeout, orders.ephemeral_storage) == (512, 10, 1024)
    assert not orders.snap_start
    assert plain.snap_start
    assert orders.description == "orders of dev"
    assert orders.environment == {"STAGE": "dev", "LEVEL": "debug", "PATHS": "a:dev-b", "DEBUG": "true"}
    assert orders.requirements.path == tmp_path / "orders/requirements.txt"
    assert [layer.name for layer in orders.layers] == ["", "Shared", ""]
    assert orders.layers[0] == LayerReference(arn="arn:aws:lambda:eu-west-1:123456789012:layer:tools:7")
    assert orders.layers[2].arn.endswith(":017000801446:layer:Powertools:3")
    # Globals are SAM's own and don't reach AWS::Lambda::Function.
    assert (plain.name, plain.timeout, plain.environment, plain.layers) == ("Plain", 3, {}, ())
    shared, tools = project.layers
    assert shared.requirements.kind is RequirementKind.FILE
    assert shared.content is None
    assert tools.content is not None
    assert tools.content.root == tmp_path / "tools"
    assert str(tools.target) == "python3.12 on x86_64"


def test_what_is_left_to_others_is_listed(tmp_path: Path) -> None:
    skipped = "\n".join(load(make(tmp_path, TEMPLATE)).skipped)
    for said in ("Site: its runtime is nodejs22.x", "Inline: its code", "Image: a container image", "Stored: its Code"):
        assert said in skipped
    assert "Orders: variable TABLE " in skipped
    assert "Orders: variable TABLE_ARN " in skipped


def test_json(tmp_path: Path) -> None:
    function = {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "orders", "Handler": "app.run"}}
    template = {
        "Parameters": {"Runtime": {"Default": "python3.11"}},
        "Globals": {"Function": {"Runtime": {"Ref": "Runtime"}}},
        "Resources": {"Orders": function},
    }
    make(tmp_path, json.dumps(template), "template.json")
    assert load(tmp_path).functions[0].target.runtime.name == "python3.11"
    assert load(tmp_path / "template.json") == load(tmp_path)


def one(properties: str, more: str = "") -> str:
    return f"Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties: {properties}\n{more}"


GOOD = "CodeUri: orders, Handler: app.run, Runtime: python3.13"


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (
            "{CodeUri: orders, Handler: !Ref Nowhere, Runtime: python3.13}",
            r"F\.Properties\.Handler: only a deployment knows !Ref Nowhere",
        ),
        ("{CodeUri: orders, Handler: !GetAtt a.b, Runtime: python3.13}", r"F\.Properties\.Handler: .*!GetAtt"),
        ("{CodeUri: orders, Runtime: python3.13}", r"F\.Properties\.Handler: is missing"),
        ("{CodeUri: orders, Handler: app.run}", r"F\.Properties\.Runtime: is missing"),
        (f"{{{GOOD}, Timeout: 901}}", r"Resources\.F\.timeout: 901"),
        (f"{{{GOOD}, MemorySize: many}}", r"Resources\.F\.memory: must be an integer"),
        (f"{{{GOOD}, Layers: [!Ref Nowhere]}}", r"F\.Properties\.Layers: only a deployment knows"),
        (f"{{{GOOD}, Layers: x}}", r"F\.Properties\.Layers: must be a list"),
        ("{CodeUri: nowhere, Handler: app.run, Runtime: python3.13}", "source 'nowhere' does not exist"),
        ("{CodeUri: ../.., Handler: app.run, Runtime: python3.13}", "leads out of"),
        ("{}", "2 problems"),
        ("[1]", r"F\.Properties: must be a map"),
        ("3", r"F\.Properties: must be a map"),
    ],
)
def test_errors_name_resource_and_field(tmp_path: Path, properties: str, expected: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        load(make(tmp_path, one(properties)))
    assert re.search(expected, caught.value.message)
    assert caught.value.hint


def test_nothing_for_lading_names_every_reason(tmp_path: Path) -> None:
    with pytest.raises(MissingConfigError) as caught:
        load(make(tmp_path, one("{CodeUri: orders, Handler: a.b, Runtime: java21}")))
    assert caught.value.details == ("F: its runtime is java21",)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Resources:\n  a: [\n", "line "),
        ("Resources:\n  F: {}\n  F: {}\n", "line 3: 'F' stands there twice"),
        ("a: 1\n", "has no Resources"),
        ("", "has no Resources"),
        (f"{BOMB}Resources: {{}}\n", "more than 200,000 values"),
        ("Resources: &a {x: *a}\n", "an alias to what it stands in"),
        ("Resources: " + "[" * 3000, "valid|nested"),
        ("Resources: !!python/object/apply:os.getcwd []\n", "line 1"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BrokenFileError, match=expected):
        load(make(tmp_path, text))


def test_broken_json(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match="stands there twice"):
        load(make(tmp_path, '{"Resources": {"F": {}, "F": {}}}', "template.json"))


def test_a_layer_without_requirements(tmp_path: Path) -> None:
    more = (
        "  L:\n    Type: AWS::Serverless::LayerVersion\n"
        "    Metadata: {BuildMethod: python3.13}\n    Properties: {ContentUri: tools}\n"
    )
    with pytest.raises(InvalidConfigError, match=r"Resources\.L: no requirements in 'tools'"):
        load(make(tmp_path, one(f"{{{GOOD}}}", more)))


def test_a_plain_cloudformation_layer(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "code" / "app.py").write_text("def handler(event, context): ...\n")
    (tmp_path / "template.yaml").write_text(
        "Resources:\n"
        "  Shared:\n    Type: AWS::Lambda::LayerVersion\n"
        "    Properties: {Content: shared, CompatibleRuntimes: [python3.13]}\n"
        "  Elsewhere:\n    Type: AWS::Lambda::LayerVersion\n"
        "    Properties: {Content: {S3Bucket: b, S3Key: k}}\n"
        "  F:\n    Type: AWS::Serverless::Function\n    Condition: Wanted\n"
        "    Properties: {CodeUri: code, Handler: app.handler, Runtime: python3.13, Layers: [!Ref Shared]}\n"
    )
    project = load(tmp_path)
    (layer,) = project.layers
    assert layer.name == "Shared" and layer.content and layer.content.root == tmp_path / "shared"
    assert [reference.name for reference in project.functions[0].layers] == ["Shared"]
    assert any("Elsewhere" in line for line in project.skipped)


DEPLOYED = """
Parameters: {Queue: {Type: String, Default: "arn:aws:sqs:eu-west-1:111122223333:orders"}}
Resources:
  Made: {Type: AWS::SQS::Queue}
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: orders
      Handler: app.run
      Runtime: python3.13
      AutoPublishAlias: live
      FunctionUrlConfig: {AuthType: NONE, InvokeMode: RESPONSE_STREAM, Cors: {AllowOrigins: ["*"], MaxAge: 60}}
      Policies:
        - AmazonS3ReadOnlyAccess
        - Statement: {Effect: Allow, Action: "s3:GetObject", Resource: ["arn:aws:s3:::b/*"]}
        - Statement: [{Effect: Allow, NotAction: "s3:*", Resource: "*"}]
        - DynamoDBReadPolicy: {TableName: t}
        - !Ref Unknown
      DeploymentPreference: {Type: Canary10Percent5Minutes, Hooks: {PreTraffic: !Ref Check}}
      Role: !GetAtt Own.Arn
      Events:
        Nightly: {Type: Schedule, Properties: {Schedule: rate(1 day), Input: '{"a": 1}', State: DISABLED, Name: n}}
        Zoned:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: cron(0 9 * * ? *)
            ScheduleExpressionTimezone: Europe/Berlin
            FlexibleTimeWindow: {Mode: FLEXIBLE, MaximumWindowInMinutes: 15}
            RetryPolicy: {MaximumRetryAttempts: 3}
            StartDate: 2027-01-31T08:00:00Z
            EndDate: "2028-01-31T08:00:00"
            DeadLetterConfig: {Arn: "arn:aws:sqs:eu-west-1:111122223333:letters"}
            Input: '{"b": 2}'
        Lettered: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 day), DeadLetterConfig: {Type: SQS}}}
        Queue: {Type: SQS, Properties: {Queue: !Ref Queue, BatchSize: 5, FunctionResponseTypes: [ReportBatchItemFailures]}}
        Own: {Type: SQS, Properties: {Queue: !GetAtt Made.Arn}}
        Stream:
          Type: Kinesis
          Properties:
            Stream: arn:aws:kinesis:eu-west-1:111122223333:stream/s
            StartingPosition: TRIM_HORIZON
            FilterCriteria: {Filters: [{Pattern: '{"data": {"a": [1]}}'}]}
        Table: {Type: DynamoDB, Properties: {Stream: "arn:aws:dynamodb:eu-west-1:111122223333:table/t/stream/1", BatchSize: 7}}
        Upload:
          Type: S3
          Properties:
            Bucket: uploads
            Events: "s3:ObjectCreated:*"
            Filter: {S3Key: {Rules: [{Name: prefix, Value: in/}]}}
        Late: {Type: Schedule, Properties: {Schedule: rate(1 day), RetryPolicy: {MaximumRetryAttempts: 1}}}
        Api: {Type: HttpApi}
"""


def test_what_a_template_says_of_deploying(tmp_path: Path) -> None:
    project = load(make(tmp_path, DEPLOYED))
    wish = project.functions[0].deployment
    assert wish.alias == "live"
    assert wish.url is not None and (wish.url.auth, wish.url.invoke_mode) == ("none", "stream")
    assert wish.url.cors is not None and (wish.url.cors.origins, wish.url.cors.max_age) == (("*",), 60)
    assert wish.role.policies == ("AmazonS3ReadOnlyAccess",)
    [statement] = wish.role.statements
    assert (statement.actions, statement.resources) == (("s3:GetObject",), ("arn:aws:s3:::b/*",))
    assert {one.name: (one.kind, one.settings) for one in wish.triggers} == {
        "Nightly": ("schedule", {"schedule": "rate(1 day)", "input": {"a": 1}, "enabled": False}),
        "Zoned": (
            "scheduler",
            {
                "schedule": "cron(0 9 * * ? *)",
                "time-zone": "Europe/Berlin",
                "flexible-window": 15,
                "retries": 3,
                "start": "2027-01-31T08:00:00+00:00",
                "end": "2028-01-31T08:00:00Z",
                "on-failure": "arn:aws:sqs:eu-west-1:111122223333:letters",
                "input": {"b": 2},
            },
        ),
        "Queue": (
            "sqs",
            {
                "source": "arn:aws:sqs:eu-west-1:111122223333:orders",
                "batch-size": 5,
                "report-batch-item-failures": True,
            },
        ),
        "Stream": (
            "kinesis",
            {
                "source": "arn:aws:kinesis:eu-west-1:111122223333:stream/s",
                "starting-position": "TRIM_HORIZON",
                "filters": [{"data": {"a": [1]}}],
            },
        ),
        "Table": ("dynamodb", {"source": "arn:aws:dynamodb:eu-west-1:111122223333:table/t/stream/1", "batch-size": 7}),
        "Upload": ("s3", {"bucket": "uploads", "events": ["s3:ObjectCreated:*"], "prefix": "in/"}),
    }
    said = "\n".join(project.skipped)
    for part in (
        "F: a statement with more than",
        "F: the policy template DynamoDBReadPolicy",
        "F: a policy is known when deployed only (!Ref Unknown)",
        "F: DeploymentPreference is known when deployed only (!Ref Check)",
        "F: Role is known when deployed only (!GetAtt)",
        "F: event Own is known when deployed only",
        "F: event Late: lading doesn't take RetryPolicy",
        "F: event Lettered: the queue that SAM would make",
        "F: event Api: lading has none of type HttpApi",
    ):
        assert part in said


SETTINGS = """
Globals:
  Function:
    VpcConfig: {SubnetIds: [subnet-1, subnet-2], SecurityGroupIds: [sg-1]}
    Tags: {team: shop}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: orders
      Handler: app.run
      Runtime: python3.13
      AutoPublishAlias: live
      Role: arn:aws:iam::111122223333:role/orders
      Policies: AmazonS3ReadOnlyAccess
      DeploymentPreference: {Type: Linear20PercentEvery3Minutes, Alarms: [too-slow]}
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        MaximumEventAgeInSeconds: "300"
        DestinationConfig: {OnFailure: {Type: SQS, Destination: "arn:aws:sqs:eu-west-1:111122223333:failed"}}
      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 2}
      ReservedConcurrentExecutions: 5
      DeadLetterQueue: {Type: SQS, TargetArn: "arn:aws:sqs:eu-west-1:111122223333:dead"}
      Tracing: Active
      KmsKeyArn: arn:aws:kms:eu-west-1:111122223333:key/1
      CodeSigningConfigArn: arn:aws:lambda:eu-west-1:111122223333:code-signing-config:csc-1
      FileSystemConfigs: [{Arn: "arn:aws:elasticfilesystem:eu-west-1:111122223333:access-point/fsap-1", LocalMountPath: /mnt/d}]
      LoggingConfig: {LogFormat: JSON, ApplicationLogLevel: WARN}
  Plain:
    Type: AWS::Lambda::Function
    Properties:
      Code: orders
      Handler: app.run
      Runtime: python3.13
      Role: arn:aws:iam::111122223333:role/plain
      TracingConfig: {Mode: PassThrough}
      Tags: [{Key: a, Value: 1}]
"""


def test_settings_of_a_template_are_deployed(tmp_path: Path) -> None:
    project = load(make(tmp_path, SETTINGS))
    wish, plain = (one.deployment for one in project.functions)
    assert project.skipped == ()
    assert (wish.role.arn, wish.role.policies) == ("arn:aws:iam::111122223333:role/orders", ())
    assert wish.vpc is not None and (wish.vpc.subnets, wish.vpc.security_groups) == (
        ("subnet-1", "subnet-2"),
        ("sg-1",),
    )
    assert (wish.rollout.strategy, wish.rollout.step, wish.rollout.interval) == ("linear", 20, 180)
    assert wish.rollout.alarms == ("too-slow",)
    assert wish.asynchronous is not None and (wish.asynchronous.retries, wish.asynchronous.max_age) == (1, 300)
    assert wish.asynchronous.on_failure == "arn:aws:sqs:eu-west-1:111122223333:failed"
    assert (wish.provisioned_concurrency, wish.reserved_concurrency) == (2, 5)
    assert wish.dead_letter.endswith(":dead") and wish.kms_key.endswith("key/1") and wish.code_signing.endswith("csc-1")
    assert [one.path for one in wish.file_systems] == ["/mnt/d"]
    assert (wish.tracing, wish.tags, wish.logging.application_level) == ("active", {"team": "shop"}, "WARN")
    assert (plain.role.arn, plain.tracing, plain.tags) == (
        "arn:aws:iam::111122223333:role/plain", "pass-through", {"a": "1"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("DeploymentPreference: {Type: MyOwnSteps}", "DeploymentPreference: there is no type 'MyOwnSteps' here"),
        ("DeploymentPreference: {Type: AllAtOnce, Hooks: {PreTraffic: x}}", "lading doesn't take Hooks"),
        ("DeploymentPreference: {Type: Canary10Percent5Minutes}", "rollout without AutoPublishAlias"),
        ("ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 2}", "without AutoPublishAlias"),
        ("ProvisionedConcurrencyConfig: {}", "None is no number"),
        ("EventInvokeConfig: {DestinationConfig: {OnSuccess: {Type: SQS}}}", "the OnSuccess that SAM would make"),
        ("VpcConfig: {SubnetIds: [], SecurityGroupIds: [sg-1]}", "VpcConfig: no subnets are stated"),
        ("Role: orders-role", "Role: 'orders-role' is no ARN"),
        ("ReservedConcurrentExecutions: many", "'many' is no number"),
        ("Tracing: Sometimes", "there is no mode 'Sometimes'"),
        ("FunctionName: orders", "FunctionName: functions are named by `names`"),
        ("PermissionsBoundary: !Ref Limits", "PermissionsBoundary is known when deployed only"),
    ],
)
def test_a_setting_that_lading_has_no_equal_for_is_told(tmp_path: Path, line: str, reason: str) -> None:
    text = (
        "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: orders\n"
        f"      Handler: app.run\n      Runtime: python3.13\n      {line}\n"
    )
    project = load(make(tmp_path, text))
    assert any(reason in said for said in project.skipped), project.skipped
