"""The plan of a service: what it keeps and who may do what, as nouns without logic.

Everything that generates reads this model and nothing else; its JSON schema is for whoever writes
plans by program. A plan that exists is consistent: the constructors raise ``PlanError`` (inside
pydantic's ``ValidationError``) for names that cannot be used, bounds that contradict each other,
relations and permissions that lead nowhere, and rows that could never be created first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from keyword import iskeyword
from typing import Annotated, Any, Final, Literal, Self, cast

import pydantic
from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

from newel_tools.errors import PlanError
from newel_tools.plan.bounds import Default, FieldType, Number, check_value, complete
from newel_tools.plan.chat import check_chat
from newel_tools.plan.names import (
    check_field,
    check_resource,
    check_service,
    check_user_field,
    job_conflict,
)

__all__ = [
    "ASSUMED",
    "Action",
    "Argument",
    "Broker",
    "Field",
    "Job",
    "Permission",
    "Plan",
    "Relation",
    "Resource",
    "Role",
    "States",
    "Transition",
    "Users",
    "Visibility",
    "usual_events",
    "usual_roles",
]

ASSUMED: Final = ""
"""The provenance of a line that no word of the sentence asked for."""

Visibility = Literal["owner", "signed_in", "public"]
"""Who reads the rows: their owner, everyone who is logged in, or anyone."""

Broker = Literal["kafka", "nats", "rabbit", "redis"]
"""What carries events to other services."""

Permission = Annotated[
    str, pydantic.StringConstraints(pattern=r"^(\*|[a-z][a-z0-9_]*:(\*|[a-z][a-z0-9_]*))$")
]
"""``resource:verb``, ``resource:*`` or ``*``."""

_Word = Annotated[
    str, pydantic.StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=40)
]
_Choice = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
_Line = Annotated[str, pydantic.StringConstraints(max_length=500)]


class _Part(BaseModel):
    """One part of a plan: frozen, and nothing in it that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Field(_Part):
    """One column. Bounds always exist: those that are not given are the type's usual ones."""

    name: _Word
    type: FieldType
    minimum: Number | None = None
    """Shortest length of str and text, smallest value of a number."""
    maximum: Number | None = None
    """Greatest length of str, text, email and url, greatest value of a number."""
    precision: int | None = None
    """Digits of a decimal in all."""
    scale: int | None = None
    """Digits of a decimal behind the point."""
    choices: tuple[_Choice, ...] = ()
    """The values of an enum."""
    unique: bool = False
    optional: bool = False
    """May be null, and need not be sent."""
    indexed: bool = False
    default: Default | None = None
    """The value when none is sent. Decimals, dates and times as text; also ``now``, ``today``;
    for json ``{}`` or ``[]``."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        return complete(cast("Mapping[str, Any]", values)) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_value(self)
        return self


class Relation(_Part):
    """A link to another resource or to users.

    ``many_to_one`` is a column ``<name>_id``, ``many_to_many`` a table between the two.
    """

    name: _Word
    """``post`` for ``post_id``; the plural of the target for many_to_many."""
    target: _Word
    """The plural name of a resource of this plan, or ``users``."""
    kind: Literal["many_to_one", "many_to_many"] = "many_to_one"
    optional: bool = False
    unique: bool = False
    """At most one row for each target (one to one)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "many_to_many" and (self.optional or self.unique):
            raise PlanError(
                f"'{self.name}' links many to many and can be neither optional nor unique",
                fix="remove the word, or link to one with '->'",
                word=self.name,
            )
        return self


class Transition(_Part):
    """One allowed change of state; ``by`` is the permission it needs (None: the right to write)."""

    before: _Word
    after: _Word
    by: Permission | None = None


class States(_Part):
    """A column with fixed values that changes by transitions only; new rows have the first one."""

    field: _Word = "status"
    values: tuple[_Word, ...] = pydantic.Field(min_length=2, max_length=24)
    transitions: tuple[Transition, ...] = ()
    visible: tuple[_Word, ...] = ()
    """The states in which others than the owner and those who may move it see a row; empty: all."""

    @field_validator("transitions")
    @classmethod
    def _sort(
        cls, transitions: tuple[Transition, ...], info: ValidationInfo
    ) -> tuple[Transition, ...]:
        """Put the transitions into the order of the states, so that equal ones are equal."""
        order = {state: number for number, state in enumerate(info.data.get("values", ()))}
        last = len(order)

        def place(step: Transition) -> tuple[int, str, int]:
            return order.get(step.before, last), step.by or "", order.get(step.after, last)

        return tuple(sorted(dict.fromkeys(transitions), key=place))

    @property
    def initial(self) -> str:
        """The state of a new row."""
        return self.values[0]

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_twice(self.values, "state", where=self.field)
        moves = [f"{t.before} -> {t.after}" for t in self.transitions]
        _refuse_twice(moves, "transition", where=self.field)
        named = [s for t in self.transitions for s in (t.before, t.after)]
        for state in (*named, *self.visible):
            if state not in self.values:
                raise PlanError(
                    f"'{state}' is none of the states of {self.field}",
                    fix=f"use one of {', '.join(self.values)}, or add it",
                    word=state,
                )
        return self


class Action(_Part):
    """Something one can do with a row besides changing fields; the team writes what happens."""

    name: _Word


class Argument(_Part):
    """What a job is told. It comes from the service's own code, so that a type is all it needs."""

    name: _Word
    type: FieldType
    optional: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.type == "enum":
            raise PlanError(
                f"the argument '{self.name}' cannot be an enum",
                fix=f"write '{self.name} str'",
                word=self.name,
            )
        if iskeyword(self.name):
            raise PlanError(
                f"'{self.name}' is a word of Python, so no argument can have it",
                fix=f"call it '{self.name}_argument'",
                word=self.name,
            )
        return self


class Job(_Part):
    """Work in the background: a typed function, whose body the team writes.

    It is run at the times of ``cron``, or after an ``event``, or when the service enqueues it.
    """

    name: _Word
    cron: str | None = None
    """Minute, hour, day, month, day of the week; in UTC."""
    event: _Word | None = None
    """A fact of its resource, in the past tense; ``registered`` for users."""
    arguments: tuple[Argument, ...] = pydantic.Field(default=(), max_length=20)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (reason := job_conflict(self.name)) is not None:
            fix = f"call it '{self.name}_job'"
            raise PlanError(f"{reason}, so no job can have it", fix=fix, word=self.name)
        _refuse_twice([a.name for a in self.arguments], "argument", where=self.name)
        if (self.cron is not None) + (self.event is not None) + bool(self.arguments) > 1:
            raise PlanError(
                f"the job '{self.name}' has more than one of: times, an event, arguments",
                fix="make it two jobs",
                word=self.name,
            )
        if self.cron is not None:
            try:
                CronSim(self.cron, datetime.now(UTC))
            except CronSimError as error:
                raise PlanError(
                    f"'{self.cron}' is no time for the job '{self.name}': {error}",
                    fix="write minute, hour, day, month and day of the week: cron(30 3 * * mon)",
                    word=self.name,
                ) from None
        return self


class Resource(_Part):
    """Something the service keeps: a table, its schemas, its endpoints."""

    name: _Word
    """Plural, snake_case: the table, the folder and the address."""
    singular: _Word
    """One of them, snake_case: the class and the words of messages."""
    fields: tuple[Field, ...] = pydantic.Field(default=(), max_length=60)
    relations: tuple[Relation, ...] = ()
    states: States | None = None
    owner: Literal["users"] | None = None
    """``users``: each row belongs to the user who made it and only they change it. None: shared."""
    read: Visibility = "signed_in"
    soft_delete: bool = False
    actions: tuple[Action, ...] = ()
    events: tuple[_Word, ...] = ("created", "updated", "deleted")
    """Facts published when they happen, in the past tense."""
    jobs: tuple[Job, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_resource(self.name)
        columns = [f.name for f in self.fields]
        if self.states is not None:
            columns.append(self.states.field)
        links = [r.name for r in self.relations]
        keys = [f"{r.name}_id" for r in self.relations if r.kind == "many_to_one"]
        for name in (*columns, *links):
            check_field(name, singular=self.singular)
        _refuse_twice((*columns, *links, *keys), "field", where=self.name)
        _refuse_twice([a.name for a in self.actions], "action", where=self.name)
        _refuse_twice(self.events, "event", where=self.name)
        _refuse_events(self.jobs, self.events, where=self.name)
        if self.owner is None and self.read == "owner":
            raise PlanError(
                f"{self.name} are read by their owner, and have none",
                fix="say 'owner: users', or 'read: signed_in'",
                word=self.name,
            )
        return self


class Users(_Part):
    """The users' own columns besides what accounts bring (e-mail, password, roles, active)."""

    fields: tuple[Field, ...] = pydantic.Field(default=(), max_length=60)
    jobs: tuple[Job, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field in self.fields:
            check_user_field(field.name)
        _refuse_twice([f.name for f in self.fields], "field", where="users")
        _refuse_events(self.jobs, ("registered",), where="users")
        return self


class Role(_Part):
    """A named set of permissions."""

    name: _Word
    permissions: tuple[Permission, ...]


class Plan(_Part):
    """A whole service. ``resources`` may be empty: users, accounts and their administration remain.

    ``provenance`` maps a line (``posts``, ``posts.owner``, ``posts.read``, ``posts.fields.title``,
    ``roles.user``) to the words it came from; ``ASSUMED`` when there were none. Lines written by
    hand are not in it.
    """

    service: str
    """snake_case: the package."""
    title: _Line
    sentence: str = pydantic.Field(default="", max_length=10_000)
    users: Users = pydantic.Field(default_factory=Users)
    resources: tuple[Resource, ...] = pydantic.Field(default=(), max_length=40)
    roles: tuple[Role, ...]
    broker: Broker | None = None
    """What events leave by; None: they stay in the service."""
    webhooks: bool = False
    """Whether users have webhooks, which are told what happens to their own rows."""
    chat: _Word | None = None
    """What keeps the words of chats over websockets, a resource; ``live``: nothing does."""
    files: bool = False
    """Whether users upload files."""
    assumed: tuple[_Line, ...] = ()
    """What was decided without being asked for, one sentence each."""
    not_understood: tuple[_Line, ...] = ()
    """Words of the sentence that led to nothing."""
    coverage: float = pydantic.Field(default=1.0, ge=0, le=1)
    """The share of the sentence's content words that were understood."""
    provenance: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_service(self.service)
        _refuse_twice([r.name for r in self.resources], "resource", where="the plan")
        _refuse_twice([r.singular for r in self.resources], "singular", where="the plan")
        _refuse_twice([r.name for r in self.roles], "role", where="the plan")
        parts = (self.users, *self.resources)
        _refuse_twice([job.name for part in parts for job in part.jobs], "job", where="the plan")
        names = [*(r.name for r in self.resources), "users"]
        if self.webhooks and all(resource.owner is None for resource in self.resources):
            raise PlanError(
                "webhooks tell users what happens to their rows, and they have none",
                fix="say 'owner: users' of a resource, or remove the webhooks",
                word="webhooks",
            )
        if self.chat is not None:
            check_chat(self.chat, self.resources)
        known = [*names, *_of_kernel(webhooks=self.webhooks, files=self.files)]
        for resource in self.resources:
            for relation in resource.relations:
                _refuse_unknown(relation.target, names, where=f"{resource.name}.{relation.name}")
            for transition in resource.states.transitions if resource.states else ():
                if transition.by is not None:
                    _refuse_foreign(transition.by, known, where=resource.name)
        for role in self.roles:
            for permission in role.permissions:
                _refuse_foreign(permission, known, where=f"role {role.name}")
        self.parents_first()
        return self

    def resource(self, name: str) -> Resource:
        """Return the resource with this plural name; ``KeyError`` when there is none."""
        for resource in self.resources:
            if resource.name == name:
                return resource
        raise KeyError(name)

    def parents_first(self) -> tuple[Resource, ...]:
        """Return the resources so that each comes after those its rows cannot exist without."""
        done: list[Resource] = []
        rest = list(self.resources)
        while rest:
            missing = {r.name for r in rest}
            ready = [r for r in rest if not _parents(r) & missing]
            if not ready:
                raise PlanError(
                    f"each of {', '.join(sorted(missing))} needs another one to exist first",
                    fix="make one of their relations optional",
                    word=min(missing),
                )
            done += ready
            rest = [r for r in rest if r not in ready]
        return tuple(done)


def usual_events(states: States | None) -> tuple[str, ...]:
    """Return the events of a resource that names none."""
    changed = () if states is None else (f"{states.field}_changed",)
    return ("created", "updated", "deleted", *changed)


def usual_roles(
    resources: Iterable[Resource], *, webhooks: bool = False, files: bool = False
) -> tuple[Role, ...]:
    """Return user (reads all, writes their own), reader (reads) and admin (everything).

    Transitions that need a permission of their own bring a role that has it: ``moderator`` for
    ``comments:moderate``, ``operator`` for all others.
    """
    kept = tuple(resources)
    reads = tuple(f"{r.name}:read" for r in kept)
    writes = tuple(f"{r.name}:write" for r in kept if r.owner is not None)
    for name in _of_kernel(webhooks=webhooks, files=files):
        writes += (f"{name}:read", f"{name}:write")
    special: dict[str, list[str]] = {}
    for resource in kept:
        for transition in resource.states.transitions if resource.states else ():
            if transition.by is not None:
                moderates = transition.by.endswith(":moderate")
                special.setdefault("moderator" if moderates else "operator", []).append(
                    transition.by
                )
    return (
        Role(name="user", permissions=(*reads, *writes)),
        Role(name="reader", permissions=reads),
        *(
            Role(name=name, permissions=tuple(dict.fromkeys((*reads, *writes, *given))))
            for name, given in special.items()
        ),
        Role(name="admin", permissions=("*",)),
    )


def _of_kernel(**there: bool) -> list[str]:
    """Return what users have besides resources: rows that the kernel keeps for them."""
    return [name for name, is_there in there.items() if is_there]


def _parents(resource: Resource) -> set[str]:
    return {r.target for r in resource.relations if r.kind == "many_to_one" and not r.optional}


def _refuse_twice(names: Iterable[str], kind: str, *, where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PlanError(
                f"{where} has the {kind} '{name}' twice", fix="rename or remove one", word=name
            )
        seen.add(name)


def _refuse_events(jobs: Iterable[Job], events: tuple[str, ...], *, where: str) -> None:
    for job in jobs:
        if job.event is not None and job.event not in events:
            raise PlanError(
                f"the job '{job.name}' waits for '{job.event}', which is no event of {where}",
                fix=f"use one of {', '.join(events)}, or add it to the events",
                word=job.name,
            )


def _refuse_unknown(target: str, names: list[str], *, where: str) -> None:
    if target not in names:
        raise PlanError(
            f"{where} links to '{target}', which is no resource of this plan",
            fix=f"add the resource, or link to one of {', '.join(names)}",
            word=target,
        )


def _refuse_foreign(permission: str, names: list[str], *, where: str) -> None:
    subject = permission.partition(":")[0]
    if subject not in (*names, "*"):
        raise PlanError(
            f"{where} names the permission '{permission}' of an unknown resource",
            fix=f"write <resource>:<verb> with one of {', '.join(names)}",
            word=permission,
        )
