"""One list of calls against this service and against moto's server: status, error code and the members of answers are alike.

Where they aren't the list says so, and what AWS documents, or answered where that was recorded, that one of them doesn't do.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError
from serve_support import ACCOUNT, REGION, ROLE, client, make_role, service, settle, zipped

CODE, OTHER = zipped(), zipped({"app.py": "changed = True\n"})
MOTO_S_ACCOUNT = "123456789012"
HERE_ALONE = frozenset({
    "LoggingConfig", "LoggingConfig.LogFormat", "LoggingConfig.LogGroup", "RevisionId", "RuntimeVersionConfig",
    "RuntimeVersionConfig.RuntimeVersionArn", "LastUpdateStatusReason", "LastUpdateStatusReasonCode",
})  # fmt: skip
"""Of a function's configuration: documented (API reference, FunctionConfiguration), and not in moto's."""
LISTED = frozenset({"State", "LastUpdateStatus"})
"""Left out of lists by AWS (API reference, ListFunctions), given by moto."""
NO_LAYERS = frozenset({"Layers"})
"""moto answers with an empty list where AWS leaves the member out."""


@dataclass(frozen=True)
class Step:
    """A call, and what is expected to differ: `here` and `there` are members that only one answers with."""

    operation: str
    parameters: dict[str, Any]
    here: frozenset[str] = frozenset()
    there: frozenset[str] = frozenset()
    answers: tuple[str, str] | None = None
    """(here, there): status and error code."""

    def of(self, account: str) -> dict[str, Any]:
        found: dict[str, Any] = _replace(self.parameters, account)
        return found


def _replace(value: Any, account: str) -> Any:
    if isinstance(value, dict):
        return {name: _replace(inner, account) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replace(inner, account) for inner in value]
    return value.replace("ACCOUNT", account) if isinstance(value, str) else value


def call(operation: str, /, **parameters: Any) -> Step:
    return Step(operation, parameters)


def configured(
    operation: str, /, *, below: str = "", listed: bool = False, layered: bool = False, **parameters: Any
) -> Step:
    """Answered with a function's configuration. `layered`: it has layers."""
    there = (frozenset() if layered else NO_LAYERS) | (LISTED if listed else frozenset())
    return Step(
        operation, parameters, frozenset(below + name for name in HERE_ALONE), frozenset(below + name for name in there)
    )


def differing(operation: str, here: str, there: str, /, **parameters: Any) -> Step:
    return Step(operation, parameters, answers=(here, there))


F: dict[str, Any] = {"FunctionName": "f"}
NONE: dict[str, Any] = {"FunctionName": "none"}
ARN = f"arn:aws:lambda:{REGION}:ACCOUNT:"
NEW = {
    "Runtime": "python3.13",
    "Role": ROLE.replace(ACCOUNT, "ACCOUNT"),
    "Handler": "app.handler",
    "Code": {"ZipFile": CODE},
}
LIVE, NOPE = {"FunctionName": "f", "Name": "live"}, {"FunctionName": "f", "Name": "nope"}
ANYBODY = {"Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
LAYER, LAYER_SHARE = {"LayerName": "l", "VersionNumber": 1}, {"Action": "lambda:GetLayerVersion", "Principal": "*"}
DESTINATIONS = frozenset({"DestinationConfig", "DestinationConfig.OnFailure", "DestinationConfig.OnSuccess"})
"""AWS answers with empty ones where none was said."""
NOT_FOUND, CONFLICT = "404 ResourceNotFoundException", "409 ResourceConflictException"
INVALID = "400 InvalidParameterValueException"
CHANGES = ("create_function", "update_function_code", "update_function_configuration", "publish_version")
UUID = "00000000-0000-0000-0000-000000000000"
QUEUE = f"arn:aws:sqs:{REGION}:ACCOUNT:q"

STEPS = [
    call("list_functions"),
    *(call(name, **NONE) for name in (
        "get_function", "get_function_configuration", "delete_function", "invoke", "get_policy", "publish_version",
        "get_function_event_invoke_config", "delete_function_event_invoke_config", "get_function_url_config",
    )),
    differing("list_versions_by_function", NOT_FOUND, "200", **NONE),  # the error is among those of its reference
    call("update_function_code", **NONE, ZipFile=CODE),
    call("update_function_configuration", **NONE, Timeout=4),
    call("add_permission", **NONE, StatementId="s", **ANYBODY),
    call("remove_permission", **NONE, StatementId="s"),
    call("create_alias", **NONE, Name="live", FunctionVersion="1"),
    call("put_function_concurrency", **NONE, ReservedConcurrentExecutions=5),
    call("put_function_event_invoke_config", **NONE, MaximumRetryAttempts=1),
    call("create_function_url_config", **NONE, AuthType="NONE"),
    # Functions
    Step("create_function", {
        **F, **NEW, "Description": "d", "Timeout": 3, "MemorySize": 128, "Environment": {"Variables": {"KEY": "1"}},
        "Tags": {"a": "b"}, "TracingConfig": {"Mode": "PassThrough"}, "EphemeralStorage": {"Size": 512},
    }, HERE_ALONE | {"StateReason", "StateReasonCode"}, NO_LAYERS),  # Pending, as AWS documents; moto's is Active at once
    call("create_function", **F, **NEW),
    call("create_function", **(NEW | {"Role": "arn:aws:iam::ACCOUNT:role/nobody"}), FunctionName="g"),
    call("create_function", **(NEW | {"Code": {"S3Bucket": "none", "S3Key": "k"}}), FunctionName="g"),
    configured("get_function", **F, below="Configuration."),
    configured("get_function", **F, Qualifier="$LATEST", below="Configuration."),
    call("get_function", **F, Qualifier="7"),
    configured("get_function_configuration", **F),
    configured("update_function_configuration", **F, Timeout=9, MemorySize=256, Description="n"),
    configured("update_function_code", **F, ZipFile=OTHER),
    configured("update_function_code", **F, ZipFile=OTHER, DryRun=True),
    call("list_tags", Resource=f"{ARN}function:f"),
    differing("tag_resource", "204", "200", Resource=f"{ARN}function:f", Tags={"c": "d"}),  # 204 in the model
    call("untag_resource", Resource=f"{ARN}function:f", TagKeys=["a"]),
    call("list_tags", Resource=f"{ARN}function:none"),
    call("tag_resource", Resource=f"{ARN}function:none", Tags={"c": "d"}),
    # Versions and aliases
    configured("publish_version", **F),
    configured("list_versions_by_function", **F, below="Versions.", listed=True),
    configured("list_functions", below="Functions.", listed=True),
    configured("list_functions", FunctionVersion="ALL", below="Functions.", listed=True),
    configured("get_function", **F, Qualifier="1", below="Configuration."),
    configured("get_function_configuration", **F, Qualifier="1"),
    call("create_alias", **LIVE, FunctionVersion="1"),
    differing("create_alias", CONFLICT, "409 ConflictException", **LIVE, FunctionVersion="1"),  # the model has no such error
    call("create_alias", **F, Name="other", FunctionVersion="9"),
    call("list_aliases", **F),
    differing("get_alias", "200", "201", **LIVE),  # 200 in the model, here and below
    call("get_alias", **NOPE),
    differing("update_alias", "200", "201", **LIVE, FunctionVersion="$LATEST", Description="z"),
    call("update_alias", **NOPE, FunctionVersion="1"),
    configured("get_function", **F, Qualifier="live", below="Configuration."),
    differing("delete_alias", "204", "201", **NOPE),
    # Policies
    differing("add_permission", "201", "200", **F, StatementId="s", **ANYBODY, SourceArn="arn:aws:s3:::b"),
    call("get_policy", **F),
    call("remove_permission", **F, StatementId="nope"),
    call("remove_permission", **F, StatementId="s"),
    call("get_policy", **F),
    # Concurrency
    call("put_function_concurrency", **F, ReservedConcurrentExecutions=5),
    call("get_function_concurrency", **F),
    differing("put_function_concurrency", INVALID, "200", **F, ReservedConcurrentExecutions=5000),  # more than the account's
    call("delete_function_concurrency", **F),
    call("get_function_concurrency", **F),
    # Asynchronous invokes
    Step("put_function_event_invoke_config", {**F, "MaximumRetryAttempts": 1}, DESTINATIONS),
    Step("get_function_event_invoke_config", F, DESTINATIONS),
    Step("update_function_event_invoke_config", {**F, "MaximumEventAgeInSeconds": 100},
         DESTINATIONS | {"MaximumRetryAttempts"}),  # what isn't given stays; moto drops one of the two
    Step("list_function_event_invoke_configs", F,
         frozenset(f"FunctionEventInvokeConfigs.{name}" for name in DESTINATIONS | {"MaximumEventAgeInSeconds"})),
    call("delete_function_event_invoke_config", **F),
    call("get_function_event_invoke_config", **F),
    call("delete_function_event_invoke_config", **F),
    differing("update_function_event_invoke_config", NOT_FOUND, "200", **F, MaximumRetryAttempts=0),  # there is none
    # URLs: changes are answered without the invoke mode where they don't set it
    Step("create_function_url_config", {**F, "AuthType": "NONE"}, there=frozenset({"InvokeMode"})),
    differing("get_function_url_config", "200", "201", **F),
    Step("update_function_url_config", {**F, "AuthType": "AWS_IAM"}, there=frozenset({"InvokeMode"})),
    call("delete_function_url_config", **F),
    call("get_function_url_config", **F),
    # Layers
    call("publish_layer_version", LayerName="l", Content={"ZipFile": CODE}, CompatibleRuntimes=["python3.13"],
         Description="d", LicenseInfo="MIT"),
    call("get_layer_version", **LAYER),
    call("get_layer_version", LayerName="l", VersionNumber=7),
    call("list_layers"),
    call("list_layer_versions", LayerName="l"),
    call("list_layer_versions", LayerName="none"),
    differing("add_layer_version_permission", "201", "200", **LAYER, StatementId="s", **LAYER_SHARE),  # 201 in the model
    call("get_layer_version_policy", **LAYER),
    call("remove_layer_version_permission", **LAYER, StatementId="s"),
    configured("update_function_configuration", **F, Layers=[f"{ARN}layer:l:1"], layered=True),
    configured("get_function_configuration", **F, layered=True),
    differing("update_function_configuration", INVALID, NOT_FOUND, **F, Layers=[f"{ARN}layer:l:9"]),  # as recorded
    differing("delete_layer_version", "204", "200", **LAYER),  # 204 in the model
    call("list_layer_versions", LayerName="l"),
    # Event source mappings
    call("list_event_source_mappings"),
    call("get_event_source_mapping", UUID=UUID),
    differing("delete_event_source_mapping", NOT_FOUND, "200", UUID=UUID),
    differing("update_event_source_mapping", NOT_FOUND, "200", UUID=UUID, BatchSize=1),
    # The end
    differing("delete_alias", "204", "201", **LIVE),
    call("delete_function", **F, Qualifier="1"),
    call("get_function", **F, Qualifier="1"),
    call("delete_function", **F),
    call("get_function", **F),
    call("list_functions"),
]  # fmt: skip


def members(value: Any, path: str = "") -> Iterator[str]:
    """Every member's path; of lists what their elements have."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name != "ResponseMetadata":
                yield f"{path}{name}"
                yield from members(inner, f"{path}{name}.")
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner, path)


def outcome(api: Any, operation: str, parameters: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """(status and error code, members of the answer)."""
    try:
        answer = getattr(api, operation)(**parameters)
    except ClientError as error:
        return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}", frozenset()
    return str(answer["ResponseMetadata"]["HTTPStatusCode"]), frozenset(members(answer))


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """moto's server, a process of its own."""
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = next(m for line in process.stderr if (m := re.search(r"http://127\.0\.0\.1:\d+", line)))
            reader = threading.Thread(target=process.stderr.read)
            reader.start()
            yield found[0]
        finally:
            process.terminate()
        reader.join()


def test_the_same_calls_have_the_same_outcomes() -> None:
    with moto() as there, service(neighbours={}, walls=None) as here:
        differences = []
        for url in (here, there):
            make_role(url)
        mine, theirs = client(here), client(there)
        for number, step in enumerate(STEPS):
            status, found = outcome(mine, step.operation, step.of(ACCOUNT))
            other_status, other = outcome(theirs, step.operation, step.of(MOTO_S_ACCOUNT))
            if step.operation in CHANGES and status[0] == "2":
                settle(mine, "f")
            if (status, other_status) != (step.answers or (status, status)):
                differences.append(f"{number} {step.operation}: {status} here, {other_status} there")
            elif status == other_status and (found - other != step.here & found or other - found != step.there & other):
                more, less = sorted(found - other - step.here), sorted(other - found - step.there)
                differences.append(f"{number} {step.operation}: {more} here alone, {less} there alone")
        assert not differences, "\n".join(differences)


@pytest.mark.parametrize("step", [step for step in STEPS if step.answers], ids=lambda step: step.operation)
def test_a_status_that_differs_from_motos_is_the_models(step: Step) -> None:
    """botocore's model of the operation has the status, or the error, that this service answers with."""
    from lading.service.contract.service import load_service

    assert step.answers is not None
    name = "".join(part.capitalize() for part in step.operation.split("_"))
    operation = load_service("lambda").operation(name)
    status, _, code = step.answers[0].partition(" ")
    if code:
        shapes = {shape.name: shape for shape in operation.error_shapes}
        assert code == "ValidationException" or shapes[code].metadata["error"]["httpStatusCode"] == int(status)
    else:
        assert operation.http["responseCode"] == int(status)
