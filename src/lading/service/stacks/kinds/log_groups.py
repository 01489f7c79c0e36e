"""AWS::Logs::LogGroup, LogStream and SubscriptionFilter, in this service's CloudWatch Logs.

Source: CloudFormation Template Reference, the types of AWS::Logs.
"""

from __future__ import annotations

from lading.service.stacks.kinds.beside_functions import Fixed
from lading.service.stacks.kinds.kind import (
    Properties,
    ResourceError,
    Wanted,
    arguments,
    changed,
    gone_is_well,
    tag_map,
)
from lading.service.stacks.records import Made
from lading.service.stacks.site import Site


class LogGroups:
    """Identity: the group's name."""

    known = frozenset({"LogGroupName", "RetentionInDays", "Tags", "KmsKeyId", "LogGroupClass"})
    fixed = frozenset({"LogGroupName"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        self._check(wanted)
        name = wanted.name("LogGroupName", 512)
        site.call("logs", "create_log_group", logGroupName=name, tags=tag_map(site, wanted) or None)
        made = Made(name, {"Arn": site.arn("logs", f"log-group:{name}:*")})
        wanted.begun(made)
        self._retain(site, name, {}, wanted)
        return made

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        self._check(wanted)
        self._retain(site, made.identity, old, wanted)
        arn = site.arn("logs", f"log-group:{made.identity}")
        tags, there = tag_map(site, wanted), site.call("logs", "list_tags_for_resource", resourceArn=arn)["tags"]
        if over := sorted(set(there) - set(tags)):
            site.call("logs", "untag_resource", resourceArn=arn, tagKeys=over)
        if tags:
            site.call("logs", "tag_resource", resourceArn=arn, tags=tags)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call("logs", "delete_log_group", logGroupName=made.identity))

    def _check(self, wanted: Wanted) -> None:
        if wanted.properties.get("LogGroupClass", "STANDARD") != "STANDARD":
            raise ResourceError("lading's local service has log groups of the class STANDARD alone")
        if "KmsKeyId" in wanted.properties:
            raise ResourceError("lading's local service does not encrypt log groups: KmsKeyId")

    def _retain(self, site: Site, name: str, old: Properties, wanted: Wanted) -> None:
        if not changed(old, wanted.properties, "RetentionInDays"):
            return
        if "RetentionInDays" not in wanted.properties:
            site.call("logs", "delete_retention_policy", logGroupName=name)
            return
        api = Wanted(
            wanted.stack,
            wanted.logical,
            wanted.type,
            {"retentionInDays": wanted.properties["RetentionInDays"]},
            wanted.begun,
        )
        given = arguments(site, "logs", "PutRetentionPolicy", api, ["retentionInDays"])
        site.call("logs", "put_retention_policy", logGroupName=name, **given)


class LogStreams(Fixed):
    """Identity: the stream's name."""

    known = frozenset({"LogGroupName", "LogStreamName"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        group, name = wanted.properties.get("LogGroupName"), wanted.name("LogStreamName", 512)
        site.call("logs", "create_log_stream", logGroupName=group, logStreamName=name)
        return Made(name)

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        group = properties.get("LogGroupName")
        gone_is_well(lambda: site.call("logs", "delete_log_stream", logGroupName=group, logStreamName=made.identity))


_FILTER = {
    "DestinationArn": "destinationArn",
    "Distribution": "distribution",
    "FilterPattern": "filterPattern",
    "RoleArn": "roleArn",
}


class SubscriptionFilters:
    """Identity: the filter's name."""

    known = frozenset({*_FILTER, "FilterName", "LogGroupName"})
    fixed = frozenset({"FilterName", "LogGroupName"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        name = wanted.name("FilterName", 512)
        self._put(site, name, wanted)
        return Made(name)

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        self._put(site, made.identity, wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        group = properties.get("LogGroupName")
        gone_is_well(
            lambda: site.call("logs", "delete_subscription_filter", logGroupName=group, filterName=made.identity)
        )

    def _put(self, site: Site, name: str, wanted: Wanted) -> None:
        given = {_FILTER[key]: value for key, value in wanted.properties.items() if key in _FILTER}
        parameters = arguments(site, "logs", "PutSubscriptionFilter", wanted.with_properties(given), given)
        group = wanted.properties.get("LogGroupName")
        site.call("logs", "put_subscription_filter", logGroupName=group, filterName=name, **parameters)
