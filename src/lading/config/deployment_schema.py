"""The keys that say how a project is deployed. A part of `schema`'s table."""

from __future__ import annotations

from lading.config.keys import FUNCTION, PROJECT, Key, Kind
from lading.model.limits import bounds, number, retention_days

_F = (FUNCTION,)
_PF = (PROJECT, FUNCTION)
_P = (PROJECT,)
_ARN = r"arn:[\w-]+:[\w-]+:[\w-]*:\d*:[\x21-\x7e]+"
_ROLE_ARN = r"arn:[\w-]+:iam::\d{12}:role/[\x21-\x7e]+"
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_STREAMS = ("kinesis", "dynamodb")
_MAPPINGS = ("sqs", *_STREAMS, "kafka")
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)"
_SOME_TIME = '"2027-01-31T08:00:00Z"'
_QUEUE_ARN = '"arn:aws:sqs:eu-west-1:111122223333:orders"'

STATEMENT_KEYS = (
    Key("actions", Kind.STRINGS, (), "", "Such as `s3:GetObject`.", required=True, example='["s3:GetObject"]'),
    Key("resources", Kind.STRINGS, (), "", "ARNs.", required=True, example='["arn:aws:s3:::my-bucket/*"]'),
    Key("effect", Kind.STRING, (), '"Allow"', "Allow or deny.", choices=("Allow", "Deny")),
    Key("conditions", Kind.FREE, (), "none", "As IAM writes them."),
)
ROLE_KEYS = (
    Key(
        "name",
        Kind.STRING,
        (),
        "named after the function",
        "Of the role.",
        pattern=rf"[\w+=,.@-]{{1,{number('roles', 'name')}}}",
        example='"orders-role"',
    ),
    Key("policies", Kind.STRINGS, (), "[]", "Managed policies, by ARN or by the name of one of AWS's."),
    Key("statements", Kind.LIST, (), "[]", "What the function may do.", keys=STATEMENT_KEYS),
    Key(
        "boundary",
        Kind.STRING,
        (),
        "none",
        "ARN of a permissions boundary.",
        pattern=_ARN,
        example='"arn:aws:iam::111122223333:policy/limits"',
    ),
)
LOGGING_KEYS = (
    Key("retention", Kind.INTEGER, (), "for ever", f"Days: {', '.join(map(str, retention_days()))}."),
    Key(
        "group", Kind.STRING, (), "/aws/lambda/NAME", "Log group.", pattern=r"[\w./#-]{1,512}", example='"/shop/orders"'
    ),
    Key("format", Kind.STRING, (), '"Text"', "Of log lines.", choices=("Text", "JSON")),
    Key("application-level", Kind.STRING, (), '"INFO"', "With JSON: the lowest level of the code's lines.", _LEVELS),
    Key("system-level", Kind.STRING, (), '"INFO"', "With JSON: that of Lambda's lines.", ("DEBUG", "INFO", "WARN")),
)
CORS_KEYS = (
    Key("origins", Kind.STRINGS, (), "[]", "Such as `https://example.com`, or `*`."),
    Key("methods", Kind.STRINGS, (), "[]", "Such as `GET`, or `*`."),
    Key("headers", Kind.STRINGS, (), "[]", "That requests may have."),
    Key("expose", Kind.STRINGS, (), "[]", "Headers that pages may read."),
    Key("max-age", Kind.INTEGER, (), "0", "Seconds that a browser remembers.", bounds=bounds("url", "max-age")),
    Key("credentials", Kind.BOOLEAN, (), "false", "Whether cookies may come along."),
)
URL_KEYS = (
    Key("auth", Kind.STRING, (), '"iam"', "Who may call: signed requests, or everybody.", choices=("iam", "none")),
    Key("invoke-mode", Kind.STRING, (), '"buffered"', "Whole or streamed.", choices=("buffered", "stream")),
    Key("cors", Kind.TABLE, (), "none", "Pages of other sites that may call.", keys=CORS_KEYS),
)
PERMISSION_KEYS = (
    Key("principal", Kind.STRING, (), "", "A service, account or ARN.", required=True, example='"s3.amazonaws.com"'),
    Key(
        "action",
        Kind.STRING,
        (),
        '"lambda:InvokeFunction"',
        "What it may do.",
        pattern=r"lambda:(\w+|\*)",
        example='"lambda:InvokeFunction"',
    ),
    Key("source-arn", Kind.STRING, (), "none", "For this resource only."),
    Key(
        "source-account", Kind.STRING, (), "none", "Of that account only.", pattern=r"\d{12}", example='"111122223333"'
    ),
    Key(
        "organization",
        Kind.STRING,
        (),
        "none",
        "Of that organization only.",
        pattern=r"o-[a-z0-9]{10,32}",
        example='"o-a1b2c3d4e5"',
    ),
)
ASYNC_KEYS = (
    Key("retries", Kind.INTEGER, (), "2", "After an error.", bounds=bounds("async", "retries")),
    Key("max-age", Kind.INTEGER, (), "21600", "Seconds that an event may wait.", bounds=bounds("async", "max-age")),
    Key(
        "on-success", Kind.STRING, (), "none", "ARN of a queue, topic, bus, function.", pattern=_ARN, example=_QUEUE_ARN
    ),
    Key("on-failure", Kind.STRING, (), "none", "The same; a bucket too.", pattern=_ARN, example=_QUEUE_ARN),
)
_CLOCKS = ("schedule", "scheduler")
KINDS = (*_MAPPINGS, *_CLOCKS, "rule", "s3")
EVENT_KEYS = (
    Key("type", Kind.STRING, (), "", "What invokes the function.", choices=KINDS, required=True, example='"sqs"'),
    Key("enabled", Kind.BOOLEAN, (*_MAPPINGS, *_CLOCKS, "rule"), "true", "False pauses it."),
    Key("source", Kind.STRING, _MAPPINGS, "", "ARN of the queue, stream or cluster.", pattern=_ARN, example=_QUEUE_ARN),
    Key(
        "batch-size",
        Kind.INTEGER,
        _MAPPINGS,
        "AWS's",
        "Most records of an event.",
        bounds=bounds("mapping", "batch-size"),
    ),
    Key("window", Kind.INTEGER, _MAPPINGS, "0", "Seconds to gather a batch.", bounds=bounds("mapping", "window")),
    Key("filters", Kind.LIST, _MAPPINGS, "[]", "Patterns of records; one has to match."),
    Key(
        "report-batch-item-failures",
        Kind.BOOLEAN,
        ("sqs", *_STREAMS),
        "false",
        "The function says which records failed.",
    ),
    Key(
        "max-concurrency",
        Kind.INTEGER,
        ("sqs",),
        "none",
        "Most invokes at once.",
        bounds=bounds("mapping", "concurrency"),
    ),
    Key(
        "starting-position",
        Kind.STRING,
        (*_STREAMS, "kafka"),
        '"LATEST"',
        "Where to begin.",
        choices=("LATEST", "TRIM_HORIZON"),
    ),
    Key(
        "parallelization",
        Kind.INTEGER,
        _STREAMS,
        "1",
        "Batches of a shard at once.",
        bounds=bounds("mapping", "parallelization"),
    ),
    Key("bisect-on-error", Kind.BOOLEAN, _STREAMS, "false", "Split a failing batch in two."),
    Key(
        "max-record-age",
        Kind.INTEGER,
        _STREAMS,
        "-1",
        "Seconds; -1 is for ever.",
        bounds=bounds("mapping", "record-age"),
    ),
    Key(
        "retries",
        Kind.INTEGER,
        _STREAMS,
        "-1",
        "-1 is until the record is too old.",
        bounds=bounds("mapping", "retries"),
    ),
    Key("tumbling-window", Kind.INTEGER, _STREAMS, "0", "Seconds.", bounds=bounds("mapping", "tumbling-window")),
    Key(
        "on-failure",
        Kind.STRING,
        (*_STREAMS, "kafka"),
        "none",
        "ARN of a queue, topic or bucket.",
        pattern=_ARN,
        example=_QUEUE_ARN,
    ),
    Key("topics", Kind.STRINGS, ("kafka",), "", "Exactly one."),
    Key("bootstrap-servers", Kind.STRINGS, ("kafka",), "none", "Of a cluster that isn't MSK's, in place of `source`."),
    Key("consumer-group", Kind.STRING, ("kafka",), "AWS's", "Can't be changed later."),
    Key("source-access", Kind.FREE, ("kafka",), "none", "Type of access, such as `BASIC_AUTH`, to URI."),
    Key(
        "schedule",
        Kind.STRING,
        _CLOCKS,
        "",
        "`rate(5 minutes)` or `cron(0 6 * * ? *)`; EventBridge Scheduler also takes `at(2027-01-31T08:00:00)`.",
        required=True,
        example='"rate(5 minutes)"',
    ),
    Key(
        "pattern",
        Kind.FREE,
        ("rule",),
        "",
        "Event pattern, as EventBridge writes it.",
        required=True,
        example='{ source = ["aws.s3"] }',
    ),
    Key(
        "bus", Kind.STRING, ("rule",), '"default"', "Event bus, by name.", pattern=r"[\w./-]{1,256}", example='"orders"'
    ),
    Key("input", Kind.FREE, (*_CLOCKS, "rule"), "the event", "A constant event in its place."),
    Key(
        "time-zone",
        Kind.STRING,
        ("scheduler",),
        '"UTC"',
        "Of the schedule, summer time included.",
        pattern=r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*",
        example='"Europe/Berlin"',
    ),
    Key(
        "flexible-window",
        Kind.INTEGER,
        ("scheduler",),
        "none",
        "Minutes within which it may be invoked.",
        bounds=bounds("schedules", "window"),
    ),
    Key("start", Kind.STRING, ("scheduler",), "none", "When it begins.", pattern=_TIME, example=_SOME_TIME),
    Key("end", Kind.STRING, ("scheduler",), "none", "When it ends.", pattern=_TIME, example=_SOME_TIME),
    Key(
        "role",
        Kind.STRING,
        ("scheduler",),
        "one is made",
        "ARN of the role that EventBridge Scheduler invokes as.",
        pattern=_ROLE_ARN,
        example='"arn:aws:iam::111122223333:role/scheduler"',
    ),
    Key(
        "retries",
        Kind.INTEGER,
        ("scheduler",),
        "185",
        "Where the function can't be invoked.",
        bounds=bounds("schedules", "retries"),
    ),
    Key(
        "max-age",
        Kind.INTEGER,
        ("scheduler",),
        "86400",
        "Seconds after which it isn't tried again.",
        bounds=bounds("schedules", "max-age"),
    ),
    Key(
        "on-failure",
        Kind.STRING,
        ("scheduler",),
        "none",
        "ARN of a queue for what couldn't be sent.",
        pattern=_ARN,
        example=_QUEUE_ARN,
    ),
    Key(
        "bucket",
        Kind.STRING,
        ("s3",),
        "",
        "Name.",
        pattern=r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        required=True,
        example='"uploads"',
    ),
    Key("events", Kind.STRINGS, ("s3",), '["s3:ObjectCreated:*"]', "What is told."),
    Key("prefix", Kind.STRING, ("s3",), "none", "Of keys."),
    Key("suffix", Kind.STRING, ("s3",), "none", "Of keys."),
)
VPC_KEYS = (
    Key("subnets", Kind.STRINGS, (), "", "Ids.", required=True, example='["subnet-0a1b2c3d"]'),
    Key("security-groups", Kind.STRINGS, (), "", "Ids.", required=True, example='["sg-0a1b2c3d"]'),
    Key("ipv6", Kind.BOOLEAN, (), "false", "Outgoing IPv6 in dual-stack subnets."),
)
FILE_SYSTEM_KEYS = (
    Key(
        "arn",
        Kind.STRING,
        (),
        "",
        "Of the access point.",
        pattern=_ARN,
        required=True,
        example='"arn:aws:elasticfilesystem:…"',
    ),
    Key(
        "path",
        Kind.STRING,
        (),
        "",
        "Where it is mounted.",
        pattern=r"/mnt/[\w.-]+",
        required=True,
        example='"/mnt/data"',
    ),
)
ROLLOUT_KEYS = (
    Key(
        "strategy",
        Kind.STRING,
        (),
        '"all-at-once"',
        "How the alias moves.",
        choices=("all-at-once", "linear", "canary"),
    ),
    Key("step", Kind.INTEGER, (), "10", "Percent that move first (canary) or each time (linear).", bounds=(1, 99)),
    Key("interval", Kind.INTEGER, (), "60", "Seconds between moves.", bounds=(1, 172_800)),
    Key("smoke-event", Kind.FREE, (), "none", "An event that the new version must take before it gets traffic."),
    Key(
        "max-errors",
        Kind.INTEGER,
        (),
        "0",
        "Errors of the new version that are suffered meanwhile.",
        bounds=(0, 1_000_000),
    ),
    Key("alarms", Kind.STRINGS, (), "[]", "CloudWatch alarms that stop it."),
)
ACCOUNT_KEYS = (
    Key("profile", Kind.STRING, (), "the project's", "Of AWS's configuration files."),
    Key(
        "assume-role",
        Kind.STRING,
        (),
        "the project's",
        "ARN of a role to deploy as.",
        pattern=_ROLE_ARN,
        example='"arn:aws:iam::111122223333:role/deployer"',
    ),
    Key("regions", Kind.STRINGS, (), "the project's", "Where to."),
)
DEPLOY_KEYS = (
    Key(
        "project",
        Kind.STRING,
        (),
        "the project's name",
        "Value of the tag that marks resources.",
        pattern=r"[\w.-]{1,64}",
        example='"shop"',
    ),
    Key("regions", Kind.STRINGS, (), "the client's", "Where to."),
    Key("profile", Kind.STRING, (), "the environment's", "Of AWS's configuration files."),
    Key(
        "assume-role",
        Kind.STRING,
        (),
        "none",
        "ARN of a role to deploy as.",
        pattern=_ROLE_ARN,
        example='"arn:aws:iam::111122223333:role/deployer"',
    ),
    Key(
        "accounts",
        Kind.LIST,
        (),
        "that of the credentials",
        "Several, deployed to one after the other.",
        keys=ACCOUNT_KEYS,
    ),
    Key(
        "endpoint-url",
        Kind.STRING,
        (),
        "AWS",
        "Another endpoint for every service.",
        pattern=r"https?://[^\s]+",
        example='"http://127.0.0.1:4566"',
    ),
    Key(
        "names",
        Kind.STRING,
        (),
        '"{function}", with a stage "{function}-{stage}"',
        "Pattern of names, with `{project}` too.",
    ),
    Key(
        "bucket",
        Kind.STRING,
        (),
        "lading's own",
        "For zips above 50 MB.",
        pattern=r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        example='"artifacts"',
    ),
    Key(
        "repository",
        Kind.STRING,
        (),
        "the project's name, and the stage's",
        "In ECR, or a registry's host and path, for images.",
    ),
    Key(
        "keep-images",
        Kind.INTEGER,
        (),
        "all",
        "Newest images in lading's own repository to keep, those in use apart.",
        bounds=(1, 1000),
    ),
    Key("keep-layers", Kind.INTEGER, (), "all", "Newest versions of each layer to keep.", bounds=(1, 1000)),
)

DEPLOYMENT_KEYS = (
    Key("deploy", Kind.TABLE, _P, "see below", "Where the project goes.", keys=DEPLOY_KEYS),
    Key("stages", Kind.TABLES, _P, "none", "What differs in a stage: the same keys as here, for `--stage NAME`."),
    Key(
        "role",
        Kind.STRING,
        _PF,
        "one is made",
        "Execution role: ARN of an existing one, or what a made one may do.",
        also=Kind.TABLE,
        keys=ROLE_KEYS,
        pattern=_ROLE_ARN,
        example='"arn:aws:iam::111122223333:role/orders"',
    ),
    Key("logging", Kind.TABLE, _PF, "AWS's", "Log group, retention, format.", keys=LOGGING_KEYS),
    Key("url", Kind.BOOLEAN, _F, "false", "A function URL.", also=Kind.TABLE, keys=URL_KEYS),
    Key("permissions", Kind.NAMED, _F, "none", "Who may invoke.", keys=PERMISSION_KEYS),
    Key(
        "alias",
        Kind.STRING,
        _PF,
        "none",
        "Publish versions, and point this alias at the newest; URL and events use it.",
        pattern=r"(?!\d+$)[\w-]{1,128}",
        example='"live"',
    ),
    Key("publish", Kind.BOOLEAN, _PF, "false", "Publish a version at every change. `alias` implies it."),
    Key(
        "keep-versions", Kind.INTEGER, _PF, "all", "Newest versions to keep, beside those of aliases.", bounds=(1, 1000)
    ),
    Key(
        "reserved-concurrency",
        Kind.INTEGER,
        _F,
        "none",
        "Reserved, and at most; 0 stops the function.",
        bounds=(0, 1_000_000),
    ),
    Key(
        "provisioned-concurrency",
        Kind.INTEGER,
        _F,
        "none",
        "Environments kept ready, at the alias.",
        bounds=(1, 1_000_000),
    ),
    Key("async", Kind.TABLE, _PF, "AWS's", "Asynchronous invokes: retries and destinations.", keys=ASYNC_KEYS),
    Key("events", Kind.NAMED, _F, "none", "What invokes the function.", keys=EVENT_KEYS),
    Key("dead-letter", Kind.STRING, _PF, "none", "ARN of a queue or topic.", pattern=_ARN, example=_QUEUE_ARN),
    Key("tracing", Kind.STRING, _PF, '"pass-through"', "X-Ray.", choices=("active", "pass-through")),
    Key("vpc", Kind.TABLE, _PF, "none", "Subnets and security groups.", keys=VPC_KEYS),
    Key("file-systems", Kind.LIST, _PF, "[]", "EFS or S3 Files access points.", keys=FILE_SYSTEM_KEYS),
    Key(
        "code-signing",
        Kind.STRING,
        _PF,
        "none",
        "ARN of a code signing configuration.",
        pattern=_ARN,
        example='"arn:aws:lambda:eu-west-1:111122223333:code-signing-config:csc-…"',
    ),
    Key(
        "kms-key",
        Kind.STRING,
        _PF,
        "AWS's",
        "ARN of the key for environment variables.",
        pattern=_ARN,
        example='"arn:aws:kms:eu-west-1:111122223333:key/…"',
    ),
    Key("tags", Kind.VARIABLES, _PF, "{}", "Tags; a function's are merged over the project's."),
    Key("rollout", Kind.TABLE, _PF, "all at once", "How the alias moves to a new version.", keys=ROLLOUT_KEYS),
)
