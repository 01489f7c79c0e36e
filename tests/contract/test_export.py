"""Exported files, read by the parsers of the tools they are for: cfn-lint, SAM's own translator, python-hcl2."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from boto3.session import Session
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from lading.config import load
from lading.deploy.export import cdk, cloudformation, sam, terraform
from lading.deploy.export.hcl import quote
from lading.deploy.export.portable import ACCOUNT, Exported, ExportError, Portable, make_portable
from lading.deploy.unit import Package
from lading.model.project import FunctionConfig, Project

ROOT = Path(__file__).parents[2]

QUEUE = "arn:aws:sqs:eu-west-1:111122223333:orders"
STREAM = "arn:aws:kinesis:eu-west-1:111122223333:stream/clicks"
FULL = f"""
[tool.lading]
tags = {{ team = "shop" }}
logging = {{ retention = 30, format = "JSON" }}
[tool.lading.deploy]
project = "shop"
[tool.lading.layers.common]
description = "What functions share"
requirements = []
content = "layer"
[tool.lading.functions.orders]
alias = "live"
memory = 256
timeout = 20
ephemeral-storage = 1024
layers = ["common", "arn:aws:lambda:eu-west-1:111122223333:layer:other:3"]
reserved-concurrency = 20
provisioned-concurrency = 2
async = {{ retries = 1, on-failure = "{QUEUE}" }}
url = {{ auth = "none", cors = {{ origins = ["*"], max-age = 60 }} }}
vpc = {{ subnets = ["subnet-12345678"], security-groups = ["sg-12345678"] }}
tracing = "active"
rollout = {{ strategy = "canary", step = 10, interval = 300 }}
dead-letter = "{QUEUE}"
[tool.lading.functions.orders.environment]
TABLE = "orders ${{x}} %{{y}} \\"z\\""
API_TOKEN = "t0p"
DB = {{ ssm = "/shop/db" }}
KEY = {{ secret = "shop/key", field = "api" }}
[tool.lading.functions.orders.role]
policies = ["AmazonSSMReadOnlyAccess"]
statements = [{{ actions = ["s3:GetObject"], resources = ["arn:aws:s3:::b/*"] }}]
[tool.lading.functions.orders.events.queue]
type = "sqs"
source = "{QUEUE}"
batch-size = 5
filters = [{{ body = {{ kind = ["new"] }} }}]
[tool.lading.functions.orders.events.nightly]
type = "schedule"
schedule = "cron(0 3 * * ? *)"
input = {{ full = true }}
[tool.lading.functions.orders.events.early]
type = "scheduler"
schedule = "cron(0 6 * * ? *)"
time-zone = "Europe/Berlin"
flexible-window = 15
start = "2027-01-31T08:00:00+01:00"
on-failure = "{QUEUE}"
input = {{ full = false }}
[tool.lading.functions.orders.events.once]
type = "scheduler"
schedule = "at(2027-01-31T08:00:00)"
role = "arn:aws:iam::111122223333:role/scheduler"
[tool.lading.functions.orders.events.made]
type = "rule"
pattern = {{ source = ["shop"] }}
[tool.lading.functions.orders.events.uploads]
type = "s3"
bucket = "uploads-of-the-shop"
prefix = "in/"
[tool.lading.functions.clicks]
role = "arn:aws:iam::111122223333:role/worker"
[tool.lading.functions.clicks.events.stream]
type = "kinesis"
source = "{STREAM}"
bisect-on-error = true
"""
PLAIN = '[tool.lading.functions.plain]\n[tool.lading.deploy]\nproject = "one"\n'


def portable(root: Path, text: str) -> Portable:
    """A project with packages that look built."""
    (root / ".git").mkdir()
    (root / "layer" / "bin").mkdir(parents=True)
    (root / "layer" / "bin" / "tool").write_text("#!/bin/sh\n")
    (root / "pyproject.toml").write_text(text, "utf-8")
    (root / "lambda_function.py").write_text("def lambda_handler(event, context):\n    return event\n")
    return packed(load(root), root / "dist")


def packed(project: Project, folder: Path) -> Portable:
    """With packages that look built: a zip each, or the layout of an image."""
    packages = {}
    folder.mkdir(exist_ok=True)
    for one in (*project.functions, *project.layers):
        image = isinstance(one, FunctionConfig) and one.package == "image"
        path = folder / f"{one.name}.{'oci' if image else 'zip'}"
        path.write_bytes(one.name.encode())
        digest = hashlib.sha256(path.read_bytes())
        told = digest.hexdigest() if image else base64.b64encode(digest.digest()).decode()
        packages[one.name] = Package(path, told, 10, 20, image)
    return make_portable(project, packages)


@pytest.fixture
def full(tmp_path: Path) -> Portable:
    return portable(tmp_path, FULL)


def written(exported: Exported, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, text in exported.files.items():
        (folder / name).write_text(text, "utf-8")
    return folder


def lint(*templates: Path) -> str:
    """What cfn-lint has to say of templates."""
    command = [Path(sys.executable).with_name("cfn-lint"), "--regions", "eu-west-1", "--", *map(str, templates)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 2, 4, 6, 8, 10, 12, 14), done.stderr
    return done.stdout


def translated(text: str) -> dict[str, Any]:
    """As SAM's translator has it, local artifacts uploaded first as `sam deploy` does."""
    document = yaml.safe_load(text)
    for resource in document["Resources"].values():
        for key in ("CodeUri", "ContentUri"):
            if key in resource["Properties"]:
                resource["Properties"][key] = f"s3://bucket/{Path(resource['Properties'][key]).name}"
    managed = {
        name: f"arn:aws:iam::aws:policy/service-role/{name}" for name in ("AWSLambdaBasicExecutionRole", "AWSXray")
    }
    translator = Translator(managed, Parser(), boto_session=Session(region_name="eu-west-1"))
    return dict(translator.translate(document, {"ArtifactBucket": "bucket"}))


@pytest.mark.parametrize("text", [FULL, PLAIN], ids=["full", "plain"])
def test_cloudformation_is_a_template_for_its_linter(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "dist" / "cloudformation"
    exported = cloudformation.export(portable(tmp_path, text), folder)
    assert lint(written(exported, folder) / "template.yaml") == ""


@pytest.mark.parametrize("text", [FULL, PLAIN], ids=["full", "plain"])
def test_sam_is_a_template_for_its_linter_and_its_translator(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "dist" / "sam"
    exported = sam.export(portable(tmp_path, text), folder)
    assert lint(written(exported, folder) / "template.yaml") == ""
    kinds = {resource["Type"] for resource in translated(exported.files["template.yaml"])["Resources"].values()}
    assert "AWS::Lambda::Function" in kinds
    if text is FULL:
        assert {"AWS::Lambda::Alias", "AWS::Lambda::Url", "AWS::CodeDeploy::DeploymentGroup"} <= kinds


PICTURES = """
[tool.lading]
package = "image"
base = "python:3.13"
alias = "live"
[tool.lading.deploy]
project = "pictures"
[tool.lading.functions.draw]
url = true
[tool.lading.functions.mixed]
package = "zip"
"""


def test_every_example_and_images_are_taken_by_every_tool(tmp_path: Path) -> None:
    """Exported in each format, and read by the parsers of all four tools."""
    (tmp_path / "pictures").mkdir()
    made = {"pictures": portable(tmp_path / "pictures", PICTURES)}
    for place in ("pandas-report", "layers", "script/workdays.py", "sam", "deployed"):
        name = place.partition("/")[0]
        (tmp_path / name).mkdir()
        made[name] = packed(load(ROOT / "examples" / place), tmp_path / name / "dist")
    assert set(made) == {path.name for path in (ROOT / "examples").iterdir() if path.is_dir()} | {"pictures"}
    templates = []
    for name, one in made.items():
        folder, functions = tmp_path / name / "dist", len(one.units)
        for module in (cloudformation, sam):
            where = folder / module.__name__.rpartition(".")[2]
            exported = module.export(one, where)
            templates.append(written(exported, where) / "template.yaml")
        resources = translated(exported.files["template.yaml"])["Resources"].values()
        assert sum(resource["Type"] == "AWS::Lambda::Function" for resource in resources) == functions
        blocks = resources_of(terraform.export(one, folder / "terraform").files["main.tf"])
        assert sum(kind == "aws_lambda_function" for kind, _ in blocks) == functions
        app = cdk.export(one, folder / "cdk").files["app.py"]
        compile(app, "app.py", "exec")
        assert app.count(".zip'") == sum(not package.image for package in one.packages.values())
    assert lint(*templates) == ""


def test_cloudformation_says_what_a_deployment_would_do(full: Portable, tmp_path: Path) -> None:
    document = yaml.safe_load(cloudformation.export(full, tmp_path / "dist" / "out").files["template.yaml"])
    resources = document["Resources"]
    function = resources["OrdersFunction"]["Properties"]
    assert (function["MemorySize"], function["Timeout"], function["EphemeralStorage"]) == (256, 20, {"Size": 1024})
    assert function["Layers"] == [{"Ref": "CommonLayer"}, "arn:aws:lambda:eu-west-1:111122223333:layer:other:3"]
    variables = function["Environment"]["Variables"]
    assert variables["TABLE"] == 'orders ${x} %{y} "z"'
    assert variables["API_TOKEN"] == {"Ref": "OrdersAPITOKEN"}
    assert document["Parameters"]["OrdersAPITOKEN"]["NoEcho"] is True
    assert variables["KEY"] == "{{resolve:secretsmanager:shop/key:SecretString:api}}"
    assert resources["ClicksFunction"]["Properties"]["Role"] == "arn:aws:iam::111122223333:role/worker"
    assert resources["OrdersAlias"]["Properties"]["ProvisionedConcurrencyConfig"] == {
        "ProvisionedConcurrentExecutions": 2
    }
    rules = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::Events::Rule"]
    assert {json.dumps(one["Targets"][0]["Arn"]) for one in rules} == {'{"Ref": "OrdersAlias"}'}
    early, once = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::Scheduler::Schedule"]
    assert early["Target"]["RoleArn"] == {"Fn::GetAtt": ["OrdersSchedulerRole", "Arn"]}
    assert early["Target"]["Arn"] == {"Ref": "OrdersAlias"}
    assert (early["StartDate"], early["FlexibleTimeWindow"]["MaximumWindowInMinutes"]) == ("2027-01-31T07:00:00Z", 15)
    assert once["Target"]["RoleArn"] == "arn:aws:iam::111122223333:role/scheduler"
    assert "t0p" not in json.dumps(document)
    package = full.packages["orders"]
    digest = hashlib.sha256(package.path.read_bytes()).hexdigest()
    assert document["Metadata"]["lading"]["orders"] == {"path": "../orders.zip", "sha256": digest, "size": 10}
    assert document["Parameters"]["OrdersKey"]["Default"] == f"orders-{digest[:32]}.zip"


def test_other_code_is_another_version(full: Portable, tmp_path: Path) -> None:
    def version(of: Portable) -> str:
        document = yaml.safe_load(cloudformation.export(of, tmp_path).files["template.yaml"])
        [name] = [name for name, one in document["Resources"].items() if one["Type"] == "AWS::Lambda::Version"]
        return str(name)

    other = dict(full.packages)
    changed = Package(other["orders"].path, base64.b64encode(b"x" * 32).decode(), 10, 20)
    again = make_portable(full.project, {**other, "orders": changed})
    assert version(full) == version(full)
    assert version(again) != version(full)


def resources_of(text: str) -> dict[tuple[str, str], Any]:
    """Terraform's resources by kind and name, as python-hcl2 reads them."""
    found = {}
    for entry in hcl2.loads(text).get("resource", []):
        for kind, named in entry.items():
            for name, body in named.items():
                found[kind.strip('"'), name.strip('"')] = body
    return found


def test_terraform_is_read_by_a_parser_of_its_language(full: Portable, tmp_path: Path) -> None:
    exported = terraform.export(full, tmp_path / "dist" / "terraform")
    resources = resources_of(exported.files["main.tf"])
    kinds = {kind for kind, _ in resources}
    assert kinds == {
        "aws_lambda_layer_version", "aws_cloudwatch_log_group", "aws_iam_role", "aws_iam_role_policy_attachment",
        "aws_iam_role_policy", "aws_lambda_function", "aws_lambda_alias", "aws_lambda_function_url",
        "aws_lambda_permission", "aws_lambda_function_event_invoke_config",
        "aws_lambda_provisioned_concurrency_config", "aws_lambda_event_source_mapping", "aws_cloudwatch_event_rule",
        "aws_cloudwatch_event_target", "aws_s3_bucket_notification", "aws_scheduler_schedule",
    }  # fmt: skip
    function = resources["aws_lambda_function", "orders"]
    assert full.packages["orders"].digest in function["source_code_hash"]
    assert "path.module}/../orders.zip" in function["filename"]
    assert function["memory_size"] == 256
    assert "t0p" not in exported.files["main.tf"]
    assert '"orders $${x} %%{y} \\"z\\""' in exported.files["main.tf"]
    assert re.search(
        r'policy_arn\s+= "arn:\$\{data\.aws_partition\.current\.partition\}:iam', exported.files["main.tf"]
    )


def test_terraform_s_own_formatter_has_nothing_to_do(full: Portable, tmp_path: Path) -> None:
    """With the real Terraform where it is installed; its rule is that of the text below."""
    (tmp_path / "main.tf").write_text(terraform.export(full, tmp_path / "dist").files["main.tf"], "utf-8")
    role = """
  name_prefix = "orders-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Principal = {
          Service = "lambda.amazonaws.com"
        }
        Action = "sts:AssumeRole"
      },
    ]
  })
"""
    assert role in (tmp_path / "main.tf").read_text("utf-8")
    if shutil.which("terraform") is None:
        pytest.skip("terraform isn't installed: only the text was compared")
    checked = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "main.tf"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_terraform_refers_only_to_what_it_declares(full: Portable, tmp_path: Path) -> None:
    text = terraform.export(full, tmp_path).files["main.tf"]
    declared = set(re.findall(r'^resource "(\w+)" "(\w+)"', text, re.M))
    used = set(re.findall(r"(?<![.\w])(aws_\w+)\.(\w+)\.\w+", re.sub(r'"[^"\n]*"', '""', text)))
    assert used
    assert used <= declared


def test_what_is_too_large_for_a_request_goes_through_a_bucket_with_terraform_too(
    full: Portable, tmp_path: Path
) -> None:
    """As CloudFormation, SAM and the CDK have it anyway."""
    large = {name: replace(one, size=52_428_801) for name, one in full.packages.items() if name != "clicks"}
    exported = terraform.export(make_portable(full.project, {**full.packages, **large}), tmp_path)
    resources = resources_of(exported.files["main.tf"])
    function = resources["aws_lambda_function", "orders"]
    assert "filename" not in function and "aws_s3_object.orders_zip.key" in function["s3_key"]
    assert full.packages["orders"].digest in function["source_code_hash"]
    assert "aws_s3_object.common_zip.key" in resources["aws_lambda_layer_version", "common_layer"]["s3_key"]
    assert "orders.zip" in resources["aws_s3_object", "orders_zip"]["source"]
    assert "filename" in resources["aws_lambda_function", "clicks"]
    variables = [name.strip('"') for one in hcl2.loads(exported.files["main.tf"])["variable"] for name in one]
    assert variables.count("artifact_bucket") == 1


def test_names_that_differ_in_signs_only_stay_apart(tmp_path: Path) -> None:
    text = '[tool.lading.functions.a-b]\n[tool.lading.functions.a_b]\n[tool.lading.deploy]\nproject = "one"\n'
    made = portable(tmp_path, text)
    resources = resources_of(terraform.export(made, tmp_path).files["main.tf"])
    functions = [name for kind, name in resources if kind == "aws_lambda_function"]
    assert sorted(functions) == ["a_b", "a_b2"]
    document = yaml.safe_load(cloudformation.export(made, tmp_path).files["template.yaml"])
    assert {"ABFunction", "ABFunction2"} <= set(document["Resources"])


def test_the_cdk_app_synthesizes(full: Portable, tmp_path: Path) -> None:
    """With the real CDK where it is installed (it needs Node.js); else that its Python is Python."""
    folder = written(cdk.export(full, tmp_path / "dist" / "cdk"), tmp_path / "dist" / "cdk")
    compile((folder / "app.py").read_text(), "app.py", "exec")
    assert json.loads((folder / "cdk.json").read_text())["app"] == "python3 app.py"
    pytest.importorskip("aws_cdk", reason="aws-cdk-lib is not installed: the app was only compiled")
    out = tmp_path / "cdk.out"
    environment: Mapping[str, str] = {"CDK_OUTDIR": str(out), "PATH": "/usr/bin:/bin:/usr/local/bin"}
    subprocess.run([sys.executable, "app.py"], cwd=folder, check=True, timeout=300, env=dict(environment))
    [template] = out.glob("*.template.json")
    kinds = {one["Type"] for one in json.loads(template.read_text())["Resources"].values()}
    assert {"AWS::Lambda::Function", "AWS::Lambda::Alias"} <= kinds


def test_marks_in_a_text_are_refused(tmp_path: Path) -> None:
    text = (
        f'[tool.lading.functions.a]\nenvironment = {{ PLACE = "{ACCOUNT}" }}\n[tool.lading.deploy]\nproject = "one"\n'
    )
    with pytest.raises(ExportError, match="U\\+E000"):
        portable(tmp_path, text)


@pytest.mark.parametrize("text", ['a"b', "a\\b", "${a}", "%{if}", "a\nb", "ü😀", "\x01\x7f"])
def test_strings_are_read_back_as_they_were(text: str) -> None:
    read = hcl2.loads(f"a = {quote(text)}\n")["a"]
    assert json.loads(read.replace("$${", "${").replace("%%{", "%{")) == text
