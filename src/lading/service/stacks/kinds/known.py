"""All types that a stack may have here; those that are only written down; and the names of what there is not."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from lading.service.stacks.kinds import buckets, custom, data, events, messages, nested
from lading.service.stacks.kinds.beside_functions import lambda_kinds
from lading.service.stacks.kinds.functions import Functions
from lading.service.stacks.kinds.identities import ManagedPolicies, Policies, Roles
from lading.service.stacks.kinds.kind import Kind
from lading.service.stacks.kinds.log_groups import LogGroups, LogStreams, SubscriptionFilters
from lading.service.stacks.kinds.noted import find_noted

_CUSTOM = custom.CustomResources()


@functools.cache
def kinds() -> Mapping[str, Kind]:
    return {
        nested.TYPE: nested.NestedStacks(),
        "AWS::Lambda::Function": Functions(),
        **lambda_kinds(),
        "AWS::Logs::LogGroup": LogGroups(),
        "AWS::Logs::LogStream": LogStreams(),
        "AWS::Logs::SubscriptionFilter": SubscriptionFilters(),
        "AWS::IAM::Role": Roles(),
        "AWS::IAM::Policy": Policies(),
        "AWS::IAM::ManagedPolicy": ManagedPolicies(),
        "AWS::S3::Bucket": buckets.Buckets(),
        "AWS::S3::BucketPolicy": buckets.BucketPolicies(),
        "AWS::SQS::Queue": messages.Queues(),
        "AWS::SQS::QueuePolicy": messages.QueuePolicies(),
        "AWS::SNS::Topic": messages.Topics(),
        "AWS::SNS::Subscription": messages.Subscriptions(),
        "AWS::SNS::TopicPolicy": messages.TopicPolicies(),
        "AWS::Events::Rule": events.Rules(),
        "AWS::Events::EventBus": events.Buses(),
        "AWS::Scheduler::Schedule": events.Schedules(),
        "AWS::DynamoDB::Table": data.Tables(),
        "AWS::Kinesis::Stream": data.Streams(),
        "AWS::SSM::Parameter": data.Parameters(),
        "AWS::SecretsManager::Secret": data.Secrets(),
        "AWS::KMS::Key": data.Keys(),
        "AWS::KMS::Alias": data.KeyAliases(),
        "AWS::ECR::Repository": data.Repositories(),
    }


def find_kind(name: str) -> Kind | None:
    if name == custom.TYPE or name.startswith(custom.PREFIX):
        return _CUSTOM
    return kinds().get(name) or find_noted(name)


def unknown(types: Iterable[str]) -> list[str]:
    """Those of the types that there are not, once each, in order."""
    return list(dict.fromkeys(name for name in types if find_kind(name) is None))
