"""SQS and SNS: queues, topics, subscriptions and the policies of both.

Source: CloudFormation Template Reference, the types of AWS::SQS and AWS::SNS.
"""

from __future__ import annotations

import json
from typing import Any

from lading.service.stacks.kinds.kind import Properties, ResourceError, Wanted, changed, gone_is_well, tag_list, tag_map
from lading.service.stacks.records import Made
from lading.service.stacks.site import Site

_QUEUE: dict[str, str] = {
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "DelaySeconds": "0",
    "FifoThroughputLimit": "perQueue",
    "KmsDataKeyReusePeriodSeconds": "300",
    "KmsMasterKeyId": "",
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "RedriveAllowPolicy": "",
    "RedrivePolicy": "",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "30",
}
"""Attributes, and what they are where a template doesn't say."""


def attribute(value: Any) -> str:
    """As SQS and SNS take attributes: text, documents as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


class Queues:
    """Identity: the queue's URL."""

    known = frozenset({*_QUEUE, "FifoQueue", "QueueName", "Tags"})
    fixed = frozenset({"FifoQueue", "QueueName"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = wanted.properties
        name = wanted.name("QueueName", 75)
        attributes = {key: attribute(given[key]) for key in _QUEUE if key in given}
        if _is_true(given.get("FifoQueue")):
            attributes["FifoQueue"] = "true"
            name = name if name.endswith(".fifo") else f"{name}.fifo"
        made = site.call("sqs", "create_queue", QueueName=name, Attributes=attributes, tags=tag_map(site, wanted))
        url = made["QueueUrl"]
        if "sqs" not in site.services.neighbours.elsewhere:  # the address that this client knows
            url = f"{site.endpoint}/{site.scope.account}/{name}"
        return Made(url, {"Arn": site.arn("sqs", name), "QueueName": name, "QueueUrl": url})

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new = wanted.properties
        wished = {key: attribute(new.get(key, default)) for key, default in _QUEUE.items() if changed(old, new, key)}
        if wished:
            site.call("sqs", "set_queue_attributes", QueueUrl=made.identity, Attributes=wished)
        tags, there = tag_map(site, wanted), site.call("sqs", "list_queue_tags", QueueUrl=made.identity).get("Tags", {})
        if over := sorted(set(there) - set(tags)):
            site.call("sqs", "untag_queue", QueueUrl=made.identity, TagKeys=over)
        if tags:
            site.call("sqs", "tag_queue", QueueUrl=made.identity, Tags=tags)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call("sqs", "delete_queue", QueueUrl=made.identity))


class QueuePolicies:
    """Identity: one of its own."""

    known = frozenset({"PolicyDocument", "Queues"})
    fixed: frozenset[str] = frozenset()

    def create(self, site: Site, wanted: Wanted) -> Made:
        self._set(site, wanted.properties, wanted.properties.get("PolicyDocument"))
        return Made(wanted.name("", 80))

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        gone = [url for url in old.get("Queues") or [] if url not in wanted.properties.get("Queues", [])]
        self._set(site, {"Queues": gone}, "")
        self._set(site, wanted.properties, wanted.properties.get("PolicyDocument"))
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        self._set(site, properties, "")

    def _set(self, site: Site, properties: Properties, document: Any) -> None:
        for url in properties.get("Queues") or []:
            attributes = {"Policy": attribute(document)}
            if document:
                site.call("sqs", "set_queue_attributes", QueueUrl=url, Attributes=attributes)
            else:
                gone_is_well(
                    lambda url=url: site.call("sqs", "set_queue_attributes", QueueUrl=url, Attributes={"Policy": ""})  # type: ignore[misc]
                )


_TOPIC = {"ContentBasedDeduplication": "false", "DisplayName": "", "KmsMasterKeyId": "", "FifoThroughputScope": "Topic"}


class Topics:
    """Identity: the topic's ARN."""

    known = frozenset({*_TOPIC, "FifoTopic", "Subscription", "Tags", "TopicName"})
    fixed = frozenset({"FifoTopic", "TopicName"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given, name = wanted.properties, wanted.name("TopicName", 250)
        attributes = {key: attribute(given[key]) for key in _TOPIC if key in given}
        if _is_true(given.get("FifoTopic")):
            attributes["FifoTopic"] = "true"
            name = name if name.endswith(".fifo") else f"{name}.fifo"
        tags = tag_list(site, wanted)
        arn = site.call("sns", "create_topic", Name=name, Attributes=attributes, Tags=tags or None)["TopicArn"]
        made = Made(arn, {"TopicArn": arn, "TopicName": name})
        wanted.begun(made)
        self._subscribe(site, arn, {}, given)
        return made

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new, arn = wanted.properties, made.identity
        for key, default in _TOPIC.items():
            if changed(old, new, key):
                value = attribute(new.get(key, default))
                site.call("sns", "set_topic_attributes", TopicArn=arn, AttributeName=key, AttributeValue=value)
        self._subscribe(site, arn, old, new)
        tags = tag_list(site, wanted)
        there = {tag["Key"] for tag in site.call("sns", "list_tags_for_resource", ResourceArn=arn)["Tags"]}
        if over := sorted(there - {tag["Key"] for tag in tags}):
            site.call("sns", "untag_resource", ResourceArn=arn, TagKeys=over)
        if tags:
            site.call("sns", "tag_resource", ResourceArn=arn, Tags=tags)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        self._unsubscribe(site, made.identity, _subscriptions(properties))
        gone_is_well(lambda: site.call("sns", "delete_topic", TopicArn=made.identity))

    def _subscribe(self, site: Site, arn: str, old: Properties, new: Properties) -> None:
        before, after = _subscriptions(old), _subscriptions(new)
        for protocol, endpoint in sorted(after - before):
            site.call("sns", "subscribe", TopicArn=arn, Protocol=protocol, Endpoint=endpoint)
        self._unsubscribe(site, arn, before - after)

    def _unsubscribe(self, site: Site, arn: str, gone: set[tuple[str, str]]) -> None:
        for one in site.call("sns", "list_subscriptions_by_topic", TopicArn=arn)["Subscriptions"] if gone else []:
            if (one["Protocol"], one["Endpoint"]) in gone:
                site.call("sns", "unsubscribe", SubscriptionArn=one["SubscriptionArn"])


def _subscriptions(properties: Properties) -> set[tuple[str, str]]:
    try:
        return {(str(one["Protocol"]), str(one["Endpoint"])) for one in properties.get("Subscription") or []}
    except (TypeError, KeyError):
        raise ResourceError("Subscription is a list of objects with Protocol and Endpoint") from None


_SUBSCRIPTION = (
    "DeliveryPolicy", "FilterPolicy", "FilterPolicyScope", "RawMessageDelivery", "RedrivePolicy", "SubscriptionRoleArn",
)  # fmt: skip


class Subscriptions:
    """Identity: the subscription's ARN."""

    known = frozenset({*_SUBSCRIPTION, "Endpoint", "Protocol", "TopicArn"})
    fixed = frozenset({"Endpoint", "Protocol", "TopicArn"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = wanted.properties
        attributes = {key: attribute(given[key]) for key in _SUBSCRIPTION if key in given}
        made = site.call(
            "sns",
            "subscribe",
            TopicArn=given.get("TopicArn"),
            Protocol=given.get("Protocol"),
            Endpoint=given.get("Endpoint"),
            Attributes=attributes or None,
            ReturnSubscriptionArn=True,
        )
        return Made(made["SubscriptionArn"], {"Arn": made["SubscriptionArn"]})

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        for key in _SUBSCRIPTION:
            if changed(old, wanted.properties, key):
                value = attribute(wanted.properties.get(key, ""))
                site.call(
                    "sns",
                    "set_subscription_attributes",
                    SubscriptionArn=made.identity,
                    AttributeName=key,
                    AttributeValue=value,
                )
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call("sns", "unsubscribe", SubscriptionArn=made.identity))


class TopicPolicies:
    """Identity: one of its own."""

    known = frozenset({"PolicyDocument", "Topics"})
    fixed: frozenset[str] = frozenset()

    def create(self, site: Site, wanted: Wanted) -> Made:
        self._set(site, wanted)
        return Made(wanted.name("", 80))

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        self._set(site, wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        """A topic always has a policy: what was set stays until the topic goes, as on AWS."""

    def _set(self, site: Site, wanted: Wanted) -> None:
        document = attribute(wanted.properties.get("PolicyDocument", ""))
        for arn in wanted.properties.get("Topics") or []:
            site.call("sns", "set_topic_attributes", TopicArn=arn, AttributeName="Policy", AttributeValue=document)
