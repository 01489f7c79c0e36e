"""Templates as text, their functions and parameters: pure parts of the service's stacks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.service.contract.errors import ApiError
from lading.service.stacks.deployment import properties_of
from lading.service.stacks.expressions import Evaluator, text_of
from lading.service.stacks.parameters import read_given, resolve, shown, summary
from lading.service.stacks.plans import required_capabilities
from lading.service.stacks.template import check_template, in_order, policy, read_template


class Fixed:
    """A Lookup that knows one resource, one export and one secret."""

    def identity(self, resource: str) -> Any:
        return {"Queue": "http://here/queue"}[resource]

    def attribute(self, resource: str, name: str) -> Any:
        return {"Arn": "arn:queue", "Outputs.Url": "nested"}[name]

    def imported(self, name: str) -> str:
        return {"shared": "value"}[name]

    def dynamic(self, service: str, reference: str) -> str:
        return f"<{service} {reference}>"


def evaluator(conditions: Mapping[str, Any] | None = None, **values: Any) -> Evaluator:
    known = {"AWS::Region": "eu-west-1", "Stage": "prod", "Names": ["a", "b"], **values}
    mappings = {"ByStage": {"prod": {"memory": 512}}}
    return Evaluator({"Queue": {}}, mappings, conditions or {}, known, Fixed())


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"Ref": "Queue"}, "http://here/queue"),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:queue"),
        ({"Fn::GetAtt": "Queue.Outputs.Url"}, "nested"),
        ({"Fn::Sub": "${AWS::Region}:${Queue}:${Queue.Arn}:${!Kept}"}, "eu-west-1:http://here/queue:arn:queue:${Kept}"),
        ({"Fn::Sub": ["${A}-${Stage}", {"A": {"Ref": "Queue"}}]}, "http://here/queue-prod"),
        ({"Fn::Join": [",", {"Ref": "Names"}]}, "a,b"),
        ({"Fn::Join": ["-", ["x", 1, True]]}, "x-1-true"),
        ({"Fn::Select": ["1", {"Fn::Split": ["/", "a/b/c"]}]}, "b"),
        ({"Fn::FindInMap": ["ByStage", {"Ref": "Stage"}, "memory"]}, 512),
        ({"Fn::FindInMap": ["ByStage", "dev", "memory", {"DefaultValue": 128}]}, 128),
        ({"Fn::GetAZs": ""}, ["eu-west-1a", "eu-west-1b", "eu-west-1c"]),
        ({"Fn::ImportValue": {"Fn::Sub": "shared"}}, "value"),
        ({"Fn::Base64": "text"}, "dGV4dA=="),
        ({"Fn::Cidr": ["10.0.0.0/24", 2, 5]}, ["10.0.0.0/27", "10.0.0.32/27"]),
        ({"Fn::Length": {"Ref": "Names"}}, 2),
        ({"Fn::ToJsonString": {"a": {"Ref": "Stage"}}}, '{"a":"prod"}'),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [{"Ref": "AWS::NoValue"}, 1]}, {"b": [1]}),
        ("{{resolve:ssm:/a/b:3}} and more", "<ssm /a/b:3> and more"),
    ],
)
def test_functions(wanted: Any, found: Any) -> None:
    assert evaluator().evaluate(wanted) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Ref": "Other"}, "Unresolved resource dependencies"),
        ({"Fn::GetAtt": ["Other", "Arn"]}, "Fn::GetAtt references undefined resource Other"),
        ({"Fn::Select": [5, ["a"]]}, "cannot select nonexistent value at index 5"),
        ({"Fn::FindInMap": ["ByStage", "dev", "memory"]}, "Unable to get mapping for ByStage::dev::memory"),
        ({"Fn::Join": "x"}, "Fn::Join is malformed"),
        ({"Fn::Cidr": ["10.0.0.0/30", 200, 5]}, "Fn::Cidr is malformed"),
        ({"Fn::Sub": ["${A}", {"A": [1]}]}, "a string was expected"),
        ({"Fn::Unheard": 1}, "does not evaluate Fn::Unheard"),
    ],
)
def test_functions_that_say_what_is_wrong(given: Any, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        evaluator().evaluate(given)
    assert caught.value.code == "ValidationError"


def test_conditions() -> None:
    conditions = {
        "IsProd": {"Fn::Equals": [{"Ref": "Stage"}, "prod"]},
        "Not": {"Fn::Not": [{"Condition": "IsProd"}]},
        "Both": {
            "Fn::And": [{"Condition": "IsProd"}, {"Fn::Or": [{"Condition": "Not"}, {"Fn::Equals": ["true", True]}]}]
        },
        "Round": {"Condition": "About"},
        "About": {"Condition": "Round"},
    }
    found = evaluator(conditions)
    assert [found.holds(name) for name in ("IsProd", "Not", "Both")] == [True, False, True]
    assert found.evaluate({"Fn::If": ["Not", 1, {"Ref": "Stage"}]}) == "prod"
    with pytest.raises(ApiError, match="Circular dependency between conditions"):
        found.holds("Round")


def test_rules_about_parameters() -> None:
    rule = {
        "Assertions": [
            {"Assert": {"Fn::Contains": [["dev", "test"], {"Ref": "Stage"}]}, "AssertDescription": "not there"}
        ]
    }
    evaluator(Stage="dev").check_rules({"R": rule})
    with pytest.raises(ApiError, match="Rule 'R' failed: not there"):
        evaluator().check_rules({"R": rule})
    evaluator().check_rules({"R": {**rule, "RuleCondition": {"Fn::Equals": [{"Ref": "Stage"}, "test"]}}})
    with pytest.raises(ApiError, match="Rule R is malformed"):
        evaluator().check_rules({"R": {"Assertions": [{}]}})


def template(resources: Any, **more: Any) -> Any:
    made = read_template(json.dumps({"Resources": resources, **more}))
    check_template(made)
    return made


def test_order_is_that_of_the_template_after_what_is_needed() -> None:
    made = template(
        {
            "A": {"Type": "T", "Properties": {"x": {"Fn::Sub": "${C.Arn} ${!B}"}}},
            "B": {"Type": "T", "DependsOn": ["A"]},
            "C": {"Type": "T", "Properties": {"x": {"Fn::If": ["No", {"Ref": "D"}, 1]}}},
            "D": {"Type": "T"},
        },
        Conditions={"No": {"Fn::Equals": ["a", "b"]}},
    )
    assert in_order(made) == ["D", "C", "A", "B"]


@pytest.mark.parametrize(
    ("resources", "more", "message"),
    [
        ({}, {}, "At least one Resources member must be defined"),
        (
            {"A": {"Type": "T", "Properties": {"x": {"Ref": "B"}}}, "B": {"Type": "T", "DependsOn": "A"}},
            {},
            "Circular dependency",
        ),
        ({"A": {"Type": "T", "Properties": {"x": {"Ref": "Gone"}}}}, {}, r"Unresolved resource dependencies \[Gone\]"),
        ({"A-1": {"Type": "T"}}, {}, "Resource name A-1 is non alphanumeric"),
        ({"A": {"Properties": {}}}, {}, "must contain a Type member"),
        ({"A": {"Type": "T", "Propertys": {}}}, {}, "Invalid template resource property 'Propertys'"),
        ({"A": {"Type": "T", "Condition": "C"}}, {}, "Unresolved condition dependency C"),
        ({"A": {"Type": "T"}}, {"Resourcess": {}}, "Invalid template property or properties"),
        ({"A": {"Type": "T"}}, {"Outputs": {"O": {}}}, "Output O is malformed"),
        ({f"A{n}": {"Type": "T"} for n in range(501)}, {}, "greater than maximum allowed, 500"),
    ],
)
def test_templates_that_are_none(resources: Any, more: Any, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        template(resources, **more)


def test_yaml_with_short_tags_and_dates() -> None:
    made = read_template(
        "AWSTemplateFormatVersion: 2010-09-09\nResources: {A: {Type: T, Properties: {v: 2012-10-17, r: !Ref B}}}"
    )
    assert made.document["AWSTemplateFormatVersion"] == "2010-09-09"
    assert made.resources["A"]["Properties"] == {"v": "2012-10-17", "r": {"Ref": "B"}}


@pytest.mark.parametrize("text", ["[1]", "a: !!python/object/apply:os.getcwd []", "{", "a: &a [*a]", "x" * 1_048_577])
def test_texts_that_are_no_templates(text: str) -> None:
    with pytest.raises(ApiError):
        read_template(text)


DECLARED = {
    "Stage": {"Type": "String", "AllowedValues": ["dev", "prod"], "Default": "dev"},
    "Memory": {"Type": "Number", "MinValue": 128},
    "Names": {"Type": "CommaDelimitedList", "Default": "a, b"},
    "Secret": {"Type": "String", "NoEcho": True, "Default": "s", "AllowedPattern": "[a-z]+"},
    "Image": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/image"},
}


def test_parameters_are_given_defaulted_and_looked_up() -> None:
    texts, values = resolve(DECLARED, {"Memory": "256"}, lambda name: f"value of {name}")
    assert values == {"Stage": "dev", "Memory": "256", "Names": ["a", "b"], "Secret": "s", "Image": "value of /image"}
    assert {one["ParameterKey"]: one["ParameterValue"] for one in shown(DECLARED, texts)}["Secret"] == "****"
    assert read_given([{"ParameterKey": "Memory", "UsePreviousValue": True}], texts) == {"Memory": "256"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"Parameters: \[Memory\] must have values"),
        ({"Memory": "1", "Other": "x"}, r"Parameters: \[Other\] do not exist in the template"),
        ({"Memory": "64"}, "must be a number not less than 128"),
        ({"Memory": "much"}, "must be a number"),
        ({"Memory": "128", "Stage": "test"}, "must be one of AllowedValues"),
        ({"Memory": "128", "Secret": "UPPER"}, "must match pattern"),
        ({"Memory": "128", "Secret": "x" * 5000}, "at most 4096 characters"),
    ],
)
def test_parameters_that_do_not_fit(given: dict[str, str], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        resolve(DECLARED, given, lambda name: "")


def test_a_pattern_that_never_ends_is_given_up() -> None:
    with pytest.raises(ApiError, match="AllowedPattern of parameter P takes longer"):
        resolve({"P": {"Type": "String", "AllowedPattern": "(a|aa)+$b"}}, {"P": "a" * 4_096}, str)


WHOLE = {
    "Parameters": {"Stage": {"Type": "String", "Default": "dev", "AllowedPattern": "[a-z]+", "MinLength": 1}},
    "Mappings": {"ByStage": {"dev": {"memory": 512}}},
    "Conditions": {"IsDev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]}},
    "Rules": {"R": {"Assertions": [{"Assert": {"Fn::Contains": [["dev"], {"Ref": "Stage"}]}}]}},
    "Resources": {
        "Queue": {"Type": "T", "Condition": "IsDev", "DependsOn": ["Other"], "DeletionPolicy": "Retain"},
        "Other": {
            "Type": "T",
            "Properties": {
                "a": {"Fn::Sub": ["${A}${Stage}", {"A": {"Fn::FindInMap": ["ByStage", {"Ref": "Stage"}, "memory"]}}]},
                "b": {"Fn::If": ["IsDev", {"Fn::Select": [0, {"Fn::Split": [",", "a,b"]}]}, {"Ref": "AWS::NoValue"}]},
                "c": {"Fn::Join": ["-", ["a", {"Fn::Cidr": ["10.0.0.0/24", 2, 5]}]]},
            },
        },
    },
    "Outputs": {"O": {"Value": {"Fn::GetAtt": ["Queue", "Arn"]}, "Condition": "IsDev"}},
}
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "dev", "Queue", "${", "${Queue.Arn}", "IsDev"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Ref", "Fn::Sub", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of patterns
@given(st.sampled_from(places(WHOLE)[1:]), ANY)
@settings(max_examples=200)
def test_whatever_stands_in_a_template_only_api_errors_come_of_it(place: tuple[Any, ...], value: Any) -> None:
    document = json.loads(json.dumps(WHOLE))
    target = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with contextlib.suppress(ApiError):
        made = read_template(json.dumps(document))
        required_capabilities(made)
        declared = made.section("Parameters")
        summary(declared)
        texts, values = resolve(declared, {}, lambda name: "")
        shown(declared, texts)
        check_template(made)
        mappings, conditions = made.section("Mappings"), made.section("Conditions")
        found = Evaluator(made.resources, mappings, conditions, {**values, "AWS::Region": "eu-west-1"}, Fixed())
        found.check_rules(made.section("Rules"))
        for resource in made.resources.values():
            policy(resource, "DeletionPolicy")
            if resource.get("Condition") is None or found.holds(resource["Condition"]):
                properties_of(found, resource)
        for output in made.section("Outputs").values():
            text_of(found.evaluate(output["Value"]))


def test_a_long_text_referred_to_many_times_is_refused() -> None:
    many = [{"Ref": "Stage"}] * 40
    for long in (many, {"Fn::Join": ["", many]}, {"Fn::Sub": "${Stage}" * 40}):
        with pytest.raises(ApiError, match="characters"):
            evaluator(Stage="x" * 500_000).evaluate(long)
