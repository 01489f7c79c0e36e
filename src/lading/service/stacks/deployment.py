"""Makes a stack what its plan says: creates, changes, replaces and deletes resources in order, and goes back where one fails.

Runs on a thread of its own, one at a time for a stack; everything it does is an event of the stack.
Source: CloudFormation User Guide, "Stack status codes" and "Update behaviors of stack resources".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.stacks.dynamic import resolve_dynamic
from lading.service.stacks.expressions import Evaluator, text_of
from lading.service.stacks.kinds.kind import Kind, Properties, ResourceError, Wanted, check_properties
from lading.service.stacks.kinds.known import find_kind
from lading.service.stacks.reasons import reason_of
from lading.service.stacks.records import Made, Plan, Resource, Shelf, Stack, now
from lading.service.stacks.refusal import invalid, template_error
from lading.service.stacks.site import Services, Site, StoppedError
from lading.service.stacks.template import in_order, policy

INITIATED = "User Initiated"
MOST_SHOWN = 10_000
"""Characters of a resource's properties in its events."""


@dataclass(frozen=True)
class Undo:
    """How a resource was before this operation touched it; None: it wasn't."""

    name: str
    before: Resource | None


class FailedError(Exception):
    """A resource could not be made or changed; its event says why."""


class Deployment:
    """One operation on one stack."""

    def __init__(self, services: Services, shelf: Shelf, stack: Stack) -> None:
        self._services = services
        self._shelf = shelf
        self._stack = stack
        self._undo: list[Undo] = []
        self._imports: set[str] = set()
        self._retagged = False
        """Whether the stack's own tags changed, which all resources with tags have."""

    # Operations

    def create(self, plan: Plan, *, on_failure: str = "ROLLBACK") -> None:
        stack = self._stack
        try:
            self._reach(plan)
            self._publish(plan)
        except (FailedError, ApiError) as error:
            if on_failure == "DO_NOTHING":
                stack.tell("CREATE_FAILED", str(error))
                return
            reason = (
                f"{str(error).rstrip('. ')}. {'Rollback' if on_failure == 'ROLLBACK' else 'Delete'} requested by user."
            )
            stack.tell("ROLLBACK_IN_PROGRESS" if on_failure == "ROLLBACK" else "DELETE_IN_PROGRESS", reason)
            failed = self._delete(list(stack.resources.values()), plan, created=True)
            ended = "ROLLBACK" if on_failure == "ROLLBACK" else "DELETE"
            if ended == "DELETE" and not failed:
                self._gone()
                return
            stack.tell(f"{ended}_FAILED" if failed else f"{ended}_COMPLETE", _not_deleted(failed))
            return
        stack.tell("CREATE_COMPLETE")

    def update(self, plan: Plan) -> None:
        stack, before = self._stack, self._stack.plan
        assert before is not None, f"{stack.name} has no plan to go back to"
        stack.plan = plan
        stack.updated = now()
        self._retagged = before.tags != plan.tags
        kept = (stack.outputs, dict(stack.exports), set(stack.imports))
        try:
            self._reach(plan)
            removed = [one for name, one in stack.resources.items() if not self._exists(plan, name)]
            self._publish(plan)
        except (FailedError, ApiError) as error:
            if not plan.rollback:
                self._leave_failed()
                stack.tell("UPDATE_FAILED", str(error))
                return
            stack.tell("UPDATE_ROLLBACK_IN_PROGRESS", str(error))
            stack.plan = before
            stack.outputs, stack.exports, stack.imports = kept
            self._go_back(before)
            return
        stack.tell("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        for one in removed:
            del stack.resources[one.name]
        self._clean([*stack.leftovers, *removed], plan)
        stack.tell("UPDATE_COMPLETE")

    def delete(self, retained: frozenset[str]) -> None:
        stack = self._stack
        plan = stack.plan
        for export in stack.exports:
            if users := [user.name for user in self._shelf.importers(stack.scope, export) if user is not stack]:
                stack.tell("DELETE_FAILED", f"Cannot delete export {export} as it is in use by {', '.join(users)}")
                return
        resources = list(stack.resources.values())
        for resource in resources:
            if resource.name in retained:
                stack.tell_of(resource, "DELETE_SKIPPED")
                del stack.resources[resource.name]
        failed = self._delete([one for one in resources if one.name not in retained], plan)
        if plan is not None:
            self._clean(stack.leftovers, plan)
        if failed:
            stack.tell("DELETE_FAILED", _not_deleted(failed))
        else:
            self._gone()

    def _gone(self) -> None:
        stack = self._stack
        stack.exports, stack.imports, stack.outputs, stack.change_sets = {}, set(), [], {}
        stack.deleted = now()
        stack.tell("DELETE_COMPLETE")

    # Forward

    def _reach(self, plan: Plan) -> None:
        """Raises FailedError with the stack's reason, or ApiError."""
        evaluator = self._evaluator(plan)
        for name in in_order(plan.template):
            definition = plan.template.resources[name]
            if evaluator.applies(definition):
                self._bring(plan, evaluator, name, definition)
        for output in plan.template.section("Outputs").values():
            if evaluator.applies(output):
                evaluator.evaluate(output["Value"])

    def _exists(self, plan: Plan, name: str) -> bool:
        definition = plan.template.resources.get(name)
        if definition is None:
            return False
        return self._evaluator(plan).applies(definition)

    def _bring(self, plan: Plan, evaluator: Evaluator, name: str, definition: Mapping[str, Any]) -> None:
        self._check_stopping()
        stack, present = self._stack, self._stack.resources.get(name)
        type_name = str(definition["Type"])
        kind = find_kind(type_name)
        if kind is None:
            raise FailedError(f"{type_name} is not there")
        if present is not None and present.status == "CREATE_FAILED" and present.made is not None:
            self._delete_one(present, plan, created=True)  # half made by an operation that wasn't rolled back
            present = None
        if present is None or present.made is None:
            resource = Resource(name, type_name, {}, definition)
            self._undo.append(Undo(name, None))
            stack.resources[name] = resource
            self._make(plan, evaluator, kind, resource, "CREATE")
            return
        try:
            properties = properties_of(evaluator, definition)
        except (ApiError, ResourceError) as error:
            stack.tell_of(present, "UPDATE_FAILED", str(error))
            raise FailedError(f"The following resource(s) failed to update: [{name}]. ") from None
        replaced = needs_replacement(kind, present, type_name, properties)
        retagged = self._retagged and "Tags" in kind.known
        if not replaced and properties == present.properties and not retagged:
            present.definition = definition
            return
        self._undo.append(Undo(name, _copy(present)))
        if replaced:
            self._replace(plan, evaluator, kind, present, definition)
        else:
            self._change(plan, kind, present, definition, properties)

    def _make(self, plan: Plan, evaluator: Evaluator, kind: Kind, resource: Resource, verb: str) -> None:
        stack = self._stack

        def begun(made: Made) -> None:
            resource.made = made

        try:
            resource.properties = properties_of(evaluator, resource.definition)
            shown = _shown(resource.properties)
            stack.tell_of(resource, f"{verb}_IN_PROGRESS", None if verb == "CREATE" else _REPLACING, shown)
            wanted = Wanted(stack.name, resource.name, resource.type, resource.properties, begun)
            check_properties(kind, wanted)
            resource.made = kind.create(self._site(plan), wanted)
        except StoppedError:
            raise
        except Exception as error:
            stack.tell_of(resource, f"{verb}_FAILED", reason_of(error), _shown(resource.properties))
            what = "create" if verb == "CREATE" else "update"
            raise FailedError(f"The following resource(s) failed to {what}: [{resource.name}]. ") from None
        note = getattr(kind, "note", None)
        stack.tell_of(resource, f"{verb}_COMPLETE", note, shown)

    def _replace(
        self, plan: Plan, evaluator: Evaluator, kind: Kind, present: Resource, definition: Mapping[str, Any]
    ) -> None:
        old = _copy(present)
        fresh = Resource(present.name, str(definition["Type"]), {}, definition, status=present.status)
        self._stack.resources[present.name] = fresh
        self._stack.leftovers.append(old)
        self._make(plan, evaluator, kind, fresh, "UPDATE")

    def _change(
        self, plan: Plan, kind: Kind, present: Resource, definition: Mapping[str, Any], properties: Properties
    ) -> None:
        stack, shown = self._stack, _shown(properties)
        stack.tell_of(present, "UPDATE_IN_PROGRESS", None, shown)
        wanted = Wanted(stack.name, present.name, present.type, properties, lambda made: None)
        assert present.made is not None
        old, present.properties = present.properties, properties
        try:
            check_properties(kind, wanted)
            before = _copy(present, old)
            present.made = kind.update(self._site(plan), present.made, old, wanted)
        except StoppedError:
            raise
        except Exception as error:
            stack.tell_of(present, "UPDATE_FAILED", reason_of(error), shown)
            raise FailedError(f"The following resource(s) failed to update: [{present.name}]. ") from None
        if present.made.identity != before.identity:  # a custom resource's function made another one
            stack.leftovers.append(before)
        present.definition = definition
        stack.tell_of(present, "UPDATE_COMPLETE", getattr(kind, "note", None), shown)

    # Back

    def _leave_failed(self) -> None:
        """What failed is to be tried again by the next operation: its properties are the old ones still."""
        for undo in self._undo:
            present = self._stack.resources.get(undo.name)
            if present is not None and undo.before is not None and present.status == "UPDATE_FAILED":
                present.properties, present.definition = undo.before.properties, undo.before.definition

    def _go_back(self, plan: Plan) -> None:
        """What this operation did is undone, the last first."""
        stack, failed = self._stack, []
        cleanup: list[Resource] = []
        for undo in reversed(self._undo):
            present = stack.resources.get(undo.name)
            if present is None:
                continue
            if undo.before is None:
                cleanup.append(present)
                del stack.resources[undo.name]
            elif undo.before.identity != present.identity:
                if present.made is not None:
                    cleanup.append(present)
                stack.resources[undo.name] = undo.before
                stack.leftovers = [one for one in stack.leftovers if one.identity != undo.before.identity]
                stack.tell_of(undo.before, "UPDATE_COMPLETE")
            elif not self._restore(plan, present, undo.before):
                failed.append(undo.name)
        if failed:
            stack.tell("UPDATE_ROLLBACK_FAILED", f"The following resource(s) failed to update: [{', '.join(failed)}]. ")
            return
        stack.tell("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        self._clean(cleanup, plan)
        stack.tell("UPDATE_ROLLBACK_COMPLETE")

    def _restore(self, plan: Plan, present: Resource, before: Resource) -> bool:
        kind = find_kind(present.type)
        assert kind is not None and present.made is not None
        self._stack.tell_of(present, "UPDATE_IN_PROGRESS")
        wanted = Wanted(self._stack.name, present.name, present.type, before.properties, lambda made: None)
        try:
            # An update that failed half way may have set any of what it was to set: all of that is set back.
            present.made = kind.update(self._site(plan), present.made, present.properties, wanted)
        except StoppedError:
            raise
        except Exception as error:
            self._stack.tell_of(present, "UPDATE_FAILED", reason_of(error))
            return False
        present.properties, present.definition = before.properties, before.definition
        self._stack.tell_of(present, "UPDATE_COMPLETE")
        return True

    def _delete(self, resources: list[Resource], plan: Plan | None, *, created: bool = False) -> list[str]:
        """Of the stack, the last made first; names of those that stayed."""
        failed = []
        order = {name: number for number, name in enumerate(in_order(plan.template))} if plan is not None else {}
        for resource in sorted(resources, key=lambda one: order.get(one.name, -1), reverse=True):
            if self._delete_one(resource, plan, created=created):
                self._stack.resources.pop(resource.name, None)
            else:
                failed.append(resource.name)
        return failed

    def _clean(self, resources: list[Resource], plan: Plan) -> None:
        """What the stack has no more. What can't be deleted stays, as on AWS, and is told."""
        for resource in reversed(resources):
            self._delete_one(resource, plan, replaced=True)
        self._stack.leftovers = []

    def _delete_one(
        self, resource: Resource, plan: Plan | None, *, created: bool = False, replaced: bool = False
    ) -> bool:
        self._check_stopping()
        stack, kind = self._stack, find_kind(resource.type)
        name = "UpdateReplacePolicy" if replaced and resource.name in stack.resources else "DeletionPolicy"
        kept = policy(resource.definition, name)
        if kept in ("Retain", "Snapshot") or (kept == "RetainExceptOnCreate" and not created):
            stack.tell_of(resource, "DELETE_SKIPPED")
            return True
        if resource.made is None or kind is None:  # it never came to be
            stack.tell_of(resource, "DELETE_COMPLETE")
            return True
        stack.tell_of(resource, "DELETE_IN_PROGRESS")
        try:
            kind.delete(self._site(plan), resource.made, resource.properties)
        except StoppedError:
            raise
        except Exception as error:
            stack.tell_of(resource, "DELETE_FAILED", reason_of(error))
            return False
        stack.tell_of(resource, "DELETE_COMPLETE")
        return True

    # What they have in common

    def _check_stopping(self) -> None:
        if self._services.stopping.is_set():
            raise StoppedError

    def _publish(self, plan: Plan) -> None:
        """Outputs and exports. Raises ApiError for an export that another stack has, or one that is used and would go."""
        stack, evaluator = self._stack, self._evaluator(plan)
        outputs, exports = [], {}
        for name, output in plan.template.section("Outputs").items():
            if not evaluator.applies(output):
                continue
            one: dict[str, Any] = {"OutputKey": name, "OutputValue": text_of(evaluator.evaluate(output["Value"]))}
            if output.get("Description"):
                one["Description"] = str(output["Description"])
            if isinstance(output.get("Export"), dict):
                export = one["ExportName"] = text_of(evaluator.evaluate(output["Export"].get("Name")))
                other = self._shelf.exporter(stack.scope, export)
                if other is not None and other is not stack:
                    raise invalid(f"Export with name {export} is already exported by stack {other.name}")
                exports[export] = one["OutputValue"]
            outputs.append(one)
        for export, value in stack.exports.items():
            users = [user for user in self._shelf.importers(stack.scope, export) if user is not stack]
            if users and exports.get(export) != value:
                what = "update" if export in exports else "delete"
                raise invalid(
                    f"Cannot {what} export {export} as it is in use by {', '.join(user.name for user in users)}"
                )
        stack.outputs, stack.exports, stack.imports = outputs, exports, self._imports

    def _evaluator(self, plan: Plan) -> Evaluator:
        template = plan.template
        return Evaluator(
            template.resources, template.section("Mappings"), template.section("Conditions"), plan.values, self
        )

    def _site(self, plan: Plan | None) -> Site:
        plan = plan or self._stack.plan
        assert plan is not None
        return Site(self._services, self._stack.scope, plan.endpoint, dict(plan.tags), self._stack.arn)

    # Lookup

    def identity(self, resource: str) -> Any:
        return self._stack.made(resource).ref

    def attribute(self, resource: str, name: str) -> Any:
        return self._stack.attribute(resource, name)

    def imported(self, name: str) -> str:
        value = self._shelf.exported(self._stack.scope, name)
        self._imports.add(name)
        return value

    def dynamic(self, service: str, reference: str) -> str:
        return resolve_dynamic(self._site(None), service, reference)


_REPLACING = "Requested update requires the creation of a new physical resource; hence creating one."


def properties_of(evaluator: Evaluator, definition: Mapping[str, Any]) -> Properties:
    """A resource's, evaluated. Raises ApiError."""
    found = evaluator.evaluate(definition.get("Properties") or {})
    if not isinstance(found, dict):
        raise template_error("Properties must be an object")
    return found


def needs_replacement(kind: Kind, present: Resource, type_name: str, properties: Properties) -> bool:
    """Whether these properties make another resource of it."""
    fixed = (present.properties.get(name) != properties.get(name) for name in kind.fixed)
    return present.type != type_name or any(fixed)


def _copy(resource: Resource, properties: Properties | None = None) -> Resource:
    return replace(resource, properties=resource.properties if properties is None else properties)


def _shown(properties: Properties) -> str:
    text = json.dumps(properties, default=str)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"


def _not_deleted(failed: list[str]) -> str | None:
    return f"The following resource(s) failed to delete: [{', '.join(failed)}]. " if failed else None
