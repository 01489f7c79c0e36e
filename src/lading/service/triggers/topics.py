"""SNS messages to functions that are subscribed to a topic.

Source: Lambda developer guide, "Invoking Lambda functions with Amazon SNS notifications" (the event's form).
"""

from __future__ import annotations

import json
from typing import Any

from lading.service.queue.event import Delivery
from lading.service.triggers.handover import hand_over, is_ours, trace_at_work
from lading.service.triggers.trigger import Trigger

PRINCIPAL = "sns.amazonaws.com"


def replace() -> None:
    from moto.sns.models import Subscription

    publish = Subscription.publish

    def publish_to(subscription: Any, message: str, message_id: str, **named: Any) -> None:
        if subscription.protocol == "lambda" and is_ours():
            _publish(subscription, message, message_id, named)
        else:
            publish(subscription, message, message_id, **named)

    kind: Any = Subscription
    kind.publish = publish_to


def _publish(subscription: Any, message: str, message_id: str, named: dict[str, Any]) -> None:
    attributes = named.get("message_attributes")
    matcher = subscription._filter_policy_matcher
    if matcher is not None and not matcher.matches(attributes, message):
        return
    if named.get("message_structure") == "json":
        message = subscription._parse_message_structure(message, subscription.protocol)
    post = subscription.get_post_data(message, message_id, named.get("subject"), message_attributes=attributes)
    record = {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription.arn,
        "Sns": make_message(post),
    }
    payload = json.dumps({"Records": [record]}).encode()
    source = subscription.topic.arn
    letter = _dead_letter(subscription, json.dumps(post))
    hand_over(
        Trigger(subscription.endpoint, PRINCIPAL, source, subscription.account_id, payload, trace_at_work(), letter)
    )


def make_message(post: dict[str, Any]) -> dict[str, Any]:
    """What is posted to HTTP endpoints, as functions get it."""
    return {
        "Type": post["Type"],
        "MessageId": post["MessageId"],
        "TopicArn": post["TopicArn"],
        "Subject": post.get("Subject"),
        "Message": post["Message"],
        "Timestamp": post["Timestamp"],
        "SignatureVersion": post["SignatureVersion"],
        "Signature": post["Signature"],
        "SigningCertUrl": post["SigningCertURL"],
        "UnsubscribeUrl": post["UnsubscribeURL"],
        "MessageAttributes": post.get("MessageAttributes") or {},
    }


def _dead_letter(subscription: Any, message: str) -> Delivery | None:
    """To the subscription's redrive policy's queue."""
    policy = subscription.attributes.get("RedrivePolicy")
    try:
        arn = json.loads(policy)["deadLetterTargetArn"] if policy else None
    except (ValueError, KeyError, TypeError):
        return None
    return Delivery(str(arn), "event", message) if arn else None
