"""EventBridge and its Scheduler: rules, buses, schedules.

Source: CloudFormation Template Reference, the types of AWS::Events and AWS::Scheduler.
"""

from __future__ import annotations

import json

from lading.service.stacks.kinds.kind import Properties, ResourceError, Wanted, arguments, gone_is_well, tag_list
from lading.service.stacks.records import Made
from lading.service.stacks.site import Site

_RULE = ("Description", "EventBusName", "RoleArn", "ScheduleExpression", "State")


class Rules:
    """Identity: the rule's name, after its bus's where that isn't the default one."""

    known = frozenset({*_RULE, "EventPattern", "Name", "Targets", "Tags"})
    fixed = frozenset({"EventBusName", "Name"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        name, bus = wanted.name("Name"), wanted.properties.get("EventBusName")
        arn = self._put(site, name, wanted)
        plain = str(bus).rpartition("/")[2] if bus else "default"
        made = Made(name if plain == "default" else f"{plain}|{name}", {"Arn": arn})
        wanted.begun(made)
        self._target(site, name, {}, wanted)
        return made

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        name = made.identity.rpartition("|")[2]
        self._put(site, name, wanted)
        self._target(site, name, old, wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        name, bus = made.identity.rpartition("|")[2], properties.get("EventBusName")

        def delete() -> None:
            if identities := _targets(properties):
                site.call("events", "remove_targets", Rule=name, EventBusName=bus, Ids=identities)
            site.call("events", "delete_rule", Name=name, EventBusName=bus)

        gone_is_well(delete)

    def _put(self, site: Site, name: str, wanted: Wanted) -> str:
        given = arguments(site, "events", "PutRule", wanted, _RULE)
        pattern = wanted.properties.get("EventPattern")
        text = json.dumps(pattern) if isinstance(pattern, dict) else pattern
        answer = site.call(
            "events", "put_rule", Name=name, EventPattern=text, Tags=tag_list(site, wanted) or None, **given
        )
        return str(answer["RuleArn"])

    def _target(self, site: Site, name: str, old: Properties, wanted: Wanted) -> None:
        bus = wanted.properties.get("EventBusName")
        after = _targets(wanted.properties)
        if gone := [identity for identity in _targets(old) if identity not in after]:
            site.call("events", "remove_targets", Rule=name, EventBusName=bus, Ids=gone)
        given = arguments(site, "events", "PutTargets", wanted, ["Targets"])
        if given.get("Targets"):
            answer = site.call("events", "put_targets", Rule=name, EventBusName=bus, **given)
            if failed := answer.get("FailedEntries"):
                raise ResourceError(f"target {failed[0].get('TargetId')}: {failed[0].get('ErrorMessage')}")


def _targets(properties: Properties) -> list[str]:
    return [str(one.get("Id")) for one in properties.get("Targets") or [] if isinstance(one, dict)]


class Buses:
    """Identity: the bus's name."""

    known = frozenset({"Description", "EventSourceName", "Name", "Tags"})
    fixed = frozenset({"EventSourceName", "Name"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = arguments(site, "events", "CreateEventBus", wanted, ("Description", "EventSourceName", "Name"))
        arn = site.call("events", "create_event_bus", Tags=tag_list(site, wanted) or None, **given)["EventBusArn"]
        name = str(wanted.properties.get("Name"))
        return Made(name, {"Arn": arn, "Name": name})

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        given = arguments(site, "events", "UpdateEventBus", wanted, ["Description"])
        site.call("events", "update_event_bus", Name=made.identity, **given)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call("events", "delete_event_bus", Name=made.identity))


_SCHEDULE = (
    "Description", "EndDate", "FlexibleTimeWindow", "GroupName", "KmsKeyArn", "ScheduleExpression",
    "ScheduleExpressionTimezone", "StartDate", "State", "Target",
)  # fmt: skip


class Schedules:
    """Identity: the schedule's name."""

    known = frozenset({*_SCHEDULE, "Name"})
    fixed = frozenset({"GroupName", "Name"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        name = wanted.name("Name")
        given = arguments(site, "scheduler", "CreateSchedule", wanted, _SCHEDULE)
        return Made(name, {"Arn": site.call("scheduler", "create_schedule", Name=name, **given)["ScheduleArn"]})

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        given = arguments(site, "scheduler", "UpdateSchedule", wanted, _SCHEDULE)
        site.call("scheduler", "update_schedule", Name=made.identity, **given)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        group = properties.get("GroupName")
        gone_is_well(lambda: site.call("scheduler", "delete_schedule", Name=made.identity, GroupName=group))
