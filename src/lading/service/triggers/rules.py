"""EventBridge's rules: to functions, with Input, InputPath and InputTransformer, and to topics, which moto doesn't serve either.

Sources: EventBridge user guide, "Targets", "Amazon EventBridge input transformation", "Using dead-letter queues".
"""

from __future__ import annotations

import copy
import datetime as dt
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lading.model.schedule import schedule_problem
from lading.service.lineage import write_lineage
from lading.service.queue.event import Delivery
from lading.service.triggers.handover import hand_over, is_ours, trace_at_work
from lading.service.triggers.input import RuleNames, target_input
from lading.service.triggers.trigger import Trigger

PRINCIPAL = "events.amazonaws.com"
MEMBERS = ("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail")
log = logging.getLogger("lading.service")
_MOTO_S: list[Any] = []
"""How moto sends to the targets of a rule."""
_BY_MOTO = ("sqs", "events")
"""Services of targets that moto delivers to."""


def replace() -> None:
    from moto.events.exceptions import ValidationException
    from moto.events.models import EventsBackend, Rule

    send = Rule.send_to_targets
    _MOTO_S.append(send)
    put = EventsBackend.put_rule

    def put_rule(backend: Any, name: str, **named: Any) -> Any:
        """moto lets most expressions through that never come."""
        if (expression := named.get("scheduled_expression")) and schedule_problem(expression):
            raise ValidationException("Parameter ScheduleExpression is not valid.")
        return put(backend, name, **named)

    def send_to_targets(rule: Any, original_event: Any, **named: Any) -> None:
        """Of a rule that is on and has a pattern; one with a schedule alone is no event's."""
        if not is_ours():
            send(rule, original_event, **named)
            return
        pattern = rule.event_pattern
        if rule.state != "DISABLED" and pattern.get_pattern() and pattern.matches_event(original_event):
            deliver(rule, original_event, transform=named.get("transform_input", True))

    kind: Any = Rule
    kind.send_to_targets = send_to_targets
    backends: Any = EventsBackend
    backends.put_rule = put_rule


def deliver(rule: Any, event: dict[str, Any], *, transform: bool) -> None:
    """To each of a rule's targets, whatever its pattern. transform: what moto delivers takes the form that the target asks for.
    Raises NotImplementedError for a target of a service that isn't reached."""
    for target in list(rule.targets):
        service = service_of(target["Arn"])
        if service not in (*_BY_MOTO, "lambda", "sns"):
            reached = "functions, queues, topics and event buses"
            raise NotImplementedError(
                f"PutEvents: {target['Arn']}, a target of the rule {rule.name}; here are {reached}"
            )
        try:
            if service in _BY_MOTO:
                alone = copy.copy(rule)
                alone.targets = [target]
                _MOTO_S[0](alone, event, transform_input=transform)
                continue
            names = RuleNames(rule.arn, rule.name, _moment(event.get("ingestion-time", event["time"])))
            payload = target_input(target, make_event(event), names)
            if service == "lambda":
                hand_over(_trigger(rule, target, payload))
            else:
                send_plain(target["Arn"], payload)
        except Exception as error:  # no queue of that name, an input of no form: the publisher of an event isn't told
            log.warning("an event for %s, a target of the rule %s, is lost: %s", target["Arn"], rule.name, error)


def service_of(arn: str) -> str:
    """ "" for what isn't an ARN."""
    return ([*arn.split(":", 3), "", ""])[2]


def make_event(event: dict[str, Any]) -> dict[str, Any]:
    """As targets get it: EventBridge's members in their order, the time in seconds and UTC."""
    whole = {name: event[name] for name in MEMBERS if name in event}
    return whole | {"time": _moment(event["time"])}


def _moment(value: Any) -> str:
    try:
        return f"{dt.datetime.fromtimestamp(float(value), dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (TypeError, ValueError, OverflowError, OSError):
        return str(value)


def _trigger(rule: Any, target: dict[str, Any], payload: str) -> Trigger:
    """A target with a role of its own is invoked as that role."""
    queue = (target.get("DeadLetterConfig") or {}).get("Arn")
    attributes = {"RULE_ARN": rule.arn, "TARGET_ARN": target["Arn"]}
    letter = Delivery(queue, "event", payload, attributes) if queue else None
    trace = write_lineage(trace_at_work(), {})  # AWS doesn't follow chains through EventBridge
    principal = "" if target.get("RoleArn") else PRINCIPAL
    return Trigger(target["Arn"], principal, rule.arn, rule.account_id, payload.encode(), trace, letter)


def send_plain(arn: str, message: str, parameters: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Into a queue or a topic that moto has; one that isn't there is a failure that nobody is told of but the log."""
    from moto.sns.models import sns_backends
    from moto.sqs.models import sqs_backends

    try:
        _, _, service, region, account, name = arn.split(":", 5)
        if service == "sns":
            sns_backends[account][region].publish(message, arn)
        else:
            sqs_backends[account][region].send_message(name, message, group_id=parameters.get("MessageGroupId"))
    except Exception as error:
        log.warning("a message for %s is lost: %s", arn, error)
