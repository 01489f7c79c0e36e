"""From a wish and what is on AWS to a plan. Reads, never writes; every problem that can be known comes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lading.aws.account import Account
from lading.aws.functions import FunctionFound, find_function, find_signing
from lading.aws.refusal import DeniedError
from lading.aws.roles import list_roles
from lading.aws.tagging import Tagged, find_tagged
from lading.deploy import checks
from lading.deploy.image_prune import plan_pruning
from lading.deploy.instruction import Instruction, Plan, Problem, Verb, make_order
from lading.deploy.kinds import function, log_group
from lading.deploy.kinds.kind import Step, kind_of, rest_of, taken
from lading.deploy.kinds.registry import (
    BEFORE_FUNCTION,
    FUNCTION_KINDS,
    GONE_WITH_FUNCTION,
    MARKED_BY_FUNCTION,
    PROJECT_KINDS,
)
from lading.deploy.layers import Layers, plan_layers
from lading.deploy.parts import read_parts
from lading.deploy.permitted import check_permissions
from lading.deploy.place import FUNCTION_TAG, Place
from lading.deploy.secrets import Hidden, read_hidden
from lading.deploy.transport import Load, Transport, find_transport, sending
from lading.deploy.unit import Subject, Unit
from lading.deploy.wish import Wish
from lading.errors import DeployError
from lading.model.quotas import quotas

THREADS = 16
T = TypeVar("T")
_NOTHING: Mapping[str, Any] = {}


class PlanError(DeployError):
    """A project can't be deployed as it is; one line of details for each problem."""


@dataclass(frozen=True)
class Planned:
    """A plan, and the values that it only names."""

    plan: Plan
    hidden: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True)
class _Job:
    """One function: `unit` is None when it has to go. `kept` are the keys that its tags tell of."""

    subject: Subject
    unit: Unit | None
    seen: FunctionFound | None
    wanted: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def kept(self) -> frozenset[str]:
        return read_parts(self.seen.tags) if self.seen is not None else frozenset()


def make_plan(wish: Wish, account: Account) -> Planned:
    """Raises PlanError with every problem, AwsError where AWS can't be read."""
    identity = account.identity
    place = Place(identity.account, account.region, identity.partition, wish.project.deployment)
    with ThreadPoolExecutor(THREADS) as threads:
        return _Planning(wish, account, place, threads).run()


class _Planning:
    """One plan in the making: the steps and problems so far."""

    def __init__(self, wish: Wish, account: Account, place: Place, threads: ThreadPoolExecutor) -> None:
        self.wish = wish
        self.account = account
        self.place = place
        self.threads = threads
        self.steps: list[Step] = []
        self.notes: list[str] = []

    def run(self) -> Planned:
        wish, place = self.wish, self.place
        subjects = [Subject(one.name, place.name(one.name), place, wish.adopt) for one in wish.functions]
        self.steps += checks.check_names(subjects)
        tagged = self._begin(Tagged(), find_tagged, self.account, place.marks())
        roles = self._begin(list[dict[str, Any]](), list_roles, self.account, place.role_path)
        values = self._begin(Hidden(), read_hidden, self.account, wish.functions)
        seen = dict(zip(subjects, self.threads.map(self._find, subjects), strict=True))
        gone = self._gone(subjects, tagged.result().functions)
        unread = Layers(dict.fromkeys((one.name for one in wish.layers), ""), wish.packages)
        found = [*seen.values(), *gone.values()]
        layers = self._allowed(unread, plan_layers, wish, self.account, place, found)
        images = any(one.package == "image" for one in wish.project.functions)
        images = images or any(found.configuration.get("PackageType") == "Image" for found in gone.values())
        load = replace(self._load(seen, layers), images=images)
        transport = self._allowed(Transport(), find_transport, wish, self.account, place, load)
        self.steps += [*layers.steps, *values.result().problems, *transport.steps]
        units = self._units(seen, layers, values.result(), transport.repository)
        jobs = [_Job(unit.subject, unit, seen[unit.subject], _parts_of(unit)) for unit in units]
        jobs += [_Job(subject, None, found) for subject, found in gone.items()]
        for planned in [self._begin(list[Step](), self._function, job) for job in jobs]:
            self.steps += planned.result()
        self._share(jobs)
        self._prune_images(units, seen)
        self._strange_groups(jobs, tagged.result().log_groups)
        self._strange_roles(jobs, [role["RoleName"] for role in roles.result()])
        self._check(units, seen, layers)
        return self._finish(values.result())

    def _allowed(self, instead: T, read: Callable[..., T], /, *given: Any, **more: Any) -> T:
        """What a read tells. Where the caller may not read, that joins the problems, and the plan goes on to find others."""
        try:
            return read(*given, **more)
        except DeniedError as error:
            self.steps.append(Problem(error.message, error.hint))
            return instead

    def _begin(self, instead: T, read: Callable[..., T], /, *given: Any) -> Future[T]:
        """The same on another thread."""
        return self.threads.submit(self._allowed, instead, read, *given)

    def _find(self, subject: Subject) -> FunctionFound | None:
        return self._allowed(None, find_function, self.account, subject.name)

    def _load(self, seen: Mapping[Subject, FunctionFound | None], layers: Layers) -> Load:
        """What has to be sent."""
        packages = self.wish.packages
        sent = [packages[name] for name, arn in layers.arns.items() if isinstance(arn, Mapping)]
        for subject, found in seen.items():
            package = packages[subject.scope]
            if found is None or found.configuration.get("CodeSha256") != package.digest:
                sent.append(package)
        large = any(not package.image and package.size > quotas().direct_upload for package in sent)
        return Load(large, pushes=any(package.image for package in sent))

    def _units(
        self, seen: Mapping[Subject, FunctionFound | None], layers: Layers, hidden: Hidden, repository: Any
    ) -> list[Unit]:
        configs = {one.name: one for one in self.wish.functions}
        units = []
        for subject, found in seen.items():
            config = configs[subject.scope]
            arns = tuple(layers.arns[one.name] if one.name else one.arn for one in config.layers)
            package, labels = self.wish.packages[subject.scope], hidden.of(subject.scope)
            unit = Unit(subject, config, package, arns, hidden.values, labels, repository)
            units.append(unit)
            self.steps += sending(unit, found)
        return units

    def _gone(self, subjects: list[Subject], names: Iterable[str]) -> dict[Subject, FunctionFound]:
        """Functions that carry the project's tags and are no longer in it."""
        if self.wish.names:
            return {}
        wanted = {subject.name for subject in subjects}
        strange = [Subject("", name, self.place) for name in names if name not in wanted]
        found = zip(strange, self.threads.map(self._find, strange), strict=True)
        return {
            replace(subject, scope=seen.tags.get(FUNCTION_TAG, subject.name)): seen
            for subject, seen in found
            if seen is not None and self.place.owns(seen.tags)
        }

    def _function(self, job: _Job) -> list[Step]:
        """A function and what belongs to it alone."""
        own = self._belongings(job)
        if job.unit is None:
            stopped = [f"/{kind}" for kind in BEFORE_FUNCTION]
            before = tuple(
                one.id for one in own if isinstance(one, Instruction) and kind_of(one.key) in BEFORE_FUNCTION
            )
            return [*own, function.remove(job.subject, (*before, *stopped))]
        parts = frozenset(job.wanted) | function.own_keys(job.unit)
        seen = job.seen
        if seen is not None and function.SIGNING in parts | job.kept:
            seen = replace(seen, signing=find_signing(self.account, job.subject.name))
        steps = [*function.instructions(job.unit, seen, parts, job.kept), *own]
        if job.seen is not None and not any(isinstance(one, Problem) for one in steps):
            removed = tuple(one.id for one in steps if isinstance(one, Instruction) and one.verb is Verb.DELETE)
            steps += function.settle_tags(job.unit, parts, job.kept, removed)
        return steps

    def _belongings(self, job: _Job) -> list[Step]:
        steps: list[Step] = []
        for kind, names in FUNCTION_KINDS:
            keys = {key: key in job.wanted for key in sorted({*job.wanted, *job.kept}) if kind_of(key) in names}
            if job.unit is None:
                keys = {key: False for key in keys if kind_of(key) not in GONE_WITH_FUNCTION}
            # What a function has can't be there before it is; roles are made before.
            there = job.seen is not None or names & {"role", "rule", "schedule"}
            found = kind.observe(self.account, job.subject, keys) if keys and there else {}
            for key in keys:
                strange = kind_of(key) in MARKED_BY_FUNCTION and key in found and key not in job.kept
                if strange and not job.subject.adopt:
                    steps.append(taken(key.replace(":", " ", 1)))
                else:
                    steps += kind.diff(job.subject, key, job.wanted.get(key), found.get(key))
        return steps

    def _share(self, jobs: list[_Job]) -> None:
        """What functions may have in common."""
        project = Subject("", self.place.project, self.place, self.wish.adopt)
        for kind, name in PROJECT_KINDS:
            users: dict[str, list[tuple[str, Any]]] = {}
            for job in jobs:
                for key, want in job.wanted.items():
                    if kind_of(key) == name:
                        users.setdefault(key, []).append((job.subject.scope, want))
            kept = {key for job in jobs for key in job.kept if kind_of(key) == name}
            reads = [
                (key, self._begin(None, kind.observe, self.account, project, {key: key in users}))
                for key in sorted({*users, *kept})
            ]
            for key, read in reads:
                want, found = kind.join(users[key]) if key in users else None, read.result()
                if found is not None:
                    self.steps += kind.diff(project, key, want, found.get(key))

    def _prune_images(self, units: list[Unit], seen: Mapping[Subject, FunctionFound | None]) -> None:
        there = [unit.name for unit in units if unit.package.image and seen[unit.subject] is not None]
        project = Subject("", self.place.project, self.place)
        self.steps += self._allowed(
            list[Step](), lambda: list(plan_pruning(self.wish, self.account, project, there, self.steps))
        )

    def _strange_groups(self, jobs: list[_Job], names: Iterable[str]) -> None:
        """Log groups of the project that no function tells of: they go after their function, and a run ended between."""
        if self.wish.names:
            return
        known = {key for job in jobs for key in (*job.wanted, *job.kept)}
        project = Subject("", self.place.project, self.place)
        keys = [key for key in (f"log-group:{name}" for name in names) if key not in known]
        reads = [(key, self._begin(_NOTHING, log_group.observe, self.account, project, {key: False})) for key in keys]
        for key, read in reads:
            self.steps += log_group.diff(project, key, None, read.result().get(key))

    def _strange_roles(self, jobs: list[_Job], names: Iterable[str]) -> None:
        """Roles of the project that no function tells of: an interrupted run made them."""
        if self.wish.names:
            return
        known = {rest_of(key) for job in jobs for key in (*job.wanted, *job.kept) if kind_of(key) == "role"}
        kind, kinds = FUNCTION_KINDS[0]
        project = Subject("", self.place.project, self.place)
        for name in names:
            if name in known:
                continue
            keys = {f"{one}:{name}": False for one in sorted(kinds)}
            found = self._allowed(_NOTHING, kind.observe, self.account, project, keys)
            for key in keys:
                self.steps += kind.diff(project, key, None, found.get(key))

    def _check(self, units: list[Unit], seen: Mapping[Subject, FunctionFound | None], layers: Layers) -> None:
        self.steps += checks.check_units(units, layers)
        planned = [one for one in self.steps if isinstance(one, Instruction)]
        self.steps += checks.check_parameters(self.account, planned)
        growth = checks.growth_of(self.wish, units, seen, planned)
        found = list[Problem | str]()
        found += self._allowed([], lambda: list(checks.check_account(self.account, growth)))
        found += checks.check_roles(self.account, units)
        found += checks.check_queues(self.account, units, planned)
        found += check_permissions(self.account, self.place, planned)
        self.notes += [one for one in found if isinstance(one, str)]
        self.steps += [one for one in found if isinstance(one, Problem)]

    def _finish(self, hidden: Hidden) -> Planned:
        problems = list(dict.fromkeys(step for step in self.steps if isinstance(step, Problem)))
        if problems:
            raise problem_error(problems)
        instructions = make_order(step for step in self.steps if isinstance(step, Instruction))
        place = self.place
        plan = Plan(place.account, place.region, place.project, place.stage, instructions, tuple(self.notes))
        return Planned(plan, hidden.values)


def _parts_of(unit: Unit) -> dict[str, Any]:
    """Key → wish, of everything that a function has beside itself."""
    found: dict[str, Any] = {}
    for kind in (*(kind for kind, _ in FUNCTION_KINDS), *(kind for kind, _ in PROJECT_KINDS)):
        found.update(kind.wanted(unit))
    return found


def problem_error(problems: list[Problem]) -> PlanError:
    if len(problems) == 1:
        return PlanError(problems[0].text, hint=problems[0].hint)
    details = [one.text + (f" ({one.hint})" if one.hint else "") for one in problems]
    return PlanError(
        f"{len(problems)} problems, nothing was changed", details=details, hint="correct them and run it again"
    )
