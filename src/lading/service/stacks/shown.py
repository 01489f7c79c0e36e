"""Stacks and what belongs to them, as CloudFormation's answers have them. Pure."""

from __future__ import annotations

from typing import Any

from lading.service.control.call import Result
from lading.service.stacks.parameters import shown
from lading.service.stacks.records import ChangeSet, Event, Plan, Resource, Stack

_UNCHECKED = {"StackDriftStatus": "NOT_CHECKED"}


def shown_stack(stack: Stack) -> Result:
    plan = stack.plan
    return {
        "StackId": stack.arn,
        "StackName": stack.name,
        "CreationTime": stack.created,
        "LastUpdatedTime": stack.updated,
        "DeletionTime": stack.deleted,
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason,
        "DisableRollback": not plan.rollback if plan is not None else False,
        "RollbackConfiguration": {},
        "NotificationARNs": list(plan.notifications) if plan is not None else [],
        "Outputs": stack.outputs or None,
        "EnableTerminationProtection": stack.protected,
        "DriftInformation": _UNCHECKED,
        "ParentId": stack.parent,
        **_planned(plan),
    }


def _planned(plan: Plan | None) -> dict[str, Any]:
    if plan is None:
        return {"Tags": []}
    return {
        "Description": plan.template.description,
        "Parameters": shown(plan.sent.section("Parameters"), dict(plan.parameters)) or None,
        "Capabilities": list(plan.capabilities) or None,
        "RoleARN": plan.role,
        "Tags": [{"Key": key, "Value": value} for key, value in plan.tags.items()],
    }


def shown_summary(stack: Stack) -> Result:
    return {
        "StackId": stack.arn,
        "StackName": stack.name,
        "TemplateDescription": stack.plan.template.description if stack.plan is not None else None,
        "CreationTime": stack.created,
        "LastUpdatedTime": stack.updated,
        "DeletionTime": stack.deleted,
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason,
        "ParentId": stack.parent,
        "DriftInformation": _UNCHECKED,
    }


def shown_event(stack: Stack, event: Event) -> Result:
    return {
        "StackId": stack.arn,
        "EventId": event.id,
        "StackName": stack.name,
        "LogicalResourceId": event.name,
        "PhysicalResourceId": event.identity,
        "ResourceType": event.type,
        "Timestamp": event.time,
        "ResourceStatus": event.status,
        "ResourceStatusReason": event.reason,
        "ResourceProperties": event.properties,
        "ClientRequestToken": event.token,
    }


def shown_resource(stack: Stack, resource: Resource, time: str) -> Result:
    """time: what the operation calls the moment of its last change."""
    return {
        "StackName": stack.name,
        "StackId": stack.arn,
        "LogicalResourceId": resource.name,
        "PhysicalResourceId": resource.identity or None,
        "ResourceType": resource.type,
        time: resource.changed,
        "ResourceStatus": resource.status,
        "ResourceStatusReason": resource.reason,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }


def summarized_change_set(stack: Stack, change_set: ChangeSet) -> Result:
    return {
        "StackId": stack.arn,
        "StackName": stack.name,
        "ChangeSetId": change_set.arn,
        "ChangeSetName": change_set.name,
        "ExecutionStatus": change_set.execution,
        "Status": change_set.status,
        "StatusReason": change_set.reason,
        "CreationTime": change_set.created,
        "Description": change_set.description,
        "IncludeNestedStacks": False,
    }


def shown_change_set(stack: Stack, change_set: ChangeSet) -> Result:
    plan = change_set.plan
    return {
        **summarized_change_set(stack, change_set),
        "Parameters": shown(plan.sent.section("Parameters"), dict(plan.parameters)) or None,
        "NotificationARNs": list(plan.notifications),
        "RollbackConfiguration": {},
        "Capabilities": list(plan.capabilities) or None,
        "Tags": [{"Key": key, "Value": value} for key, value in plan.tags.items()],
        "Changes": change_set.changes,
    }
