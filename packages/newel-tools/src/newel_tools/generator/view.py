"""A plan as the templates need it: every name, annotation and permission already decided.

Templates only place what they find here. What is decided here and why: docs/decisions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from newel_tools.generator.attributes import RENAMED, FieldView, literal, view_field
from newel_tools.generator.facts import FactView, view_facts
from newel_tools.generator.imports import KNOWN
from newel_tools.generator.jobs import JobView, listed, view_jobs
from newel_tools.generator.layout import Feature
from newel_tools.generator.links import LinkView, SetView, view_links, view_sets
from newel_tools.generator.moves import MoveView, view_moves
from newel_tools.generator.naming import (
    actor,
    camel,
    class_name,
    dependency,
    variable,
    with_article,
    words,
)
from newel_tools.plan.plan import Field, Plan, Resource, Role, States

__all__ = ["ResourceView", "StatesView", "UsersView", "view_resource", "view_users"]

_REGISTERED: Final = FactView(cls="UserRegistered", word="registered", usual=True)
_USER_ROUTES: Final = frozenset(
    {"router", "list_users", *(f"{v}_user" for v in ("get", "update", "activate", "deactivate"))}
    | {"delete_user"}
)
_QUERY: Final = frozenset({"cursor", "filters", "offset", "order", "page", "page_size", "sort"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StatesView:
    """The state column; ``alias`` is its type, ``visible`` what others may see (empty: all)."""

    field: str
    alias: str
    choices: str
    initial: str
    visible: tuple[str, ...]
    moves: tuple[MoveView, ...]
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceView:
    """One resource: names, columns, links, who sees and who changes it, and test values."""

    name: str
    singular: str
    var: str
    cls: str
    dependency: str
    words: str
    word: str
    a_word: str
    bases: str
    owned: bool
    private: bool
    public: bool
    soft: bool
    fields: tuple[FieldView, ...]
    links: tuple[LinkView, ...]
    sets: tuple[SetView, ...]
    states: StatesView | None
    actions: tuple[str, ...]
    facts: tuple[FactView, ...]
    jobs: tuple[JobView, ...]
    renamed: tuple[tuple[str, str], ...]
    table_arguments: tuple[str, ...]
    column_uniques: frozenset[str]
    indexed: frozenset[str]
    users_write: bool

    @property
    def feature(self) -> Feature:
        return Feature(self.name, self.singular)

    @property
    def events(self) -> tuple[str, ...]:
        return tuple(fact.word for fact in self.facts)

    @property
    def said(self) -> tuple[FactView, ...]:
        """The events that somebody asked for."""
        return tuple(fact for fact in self.facts if not fact.usual)

    def fact_of(self, *, state: str = "", action: str = "") -> FactView | None:
        """Return the event that a move into ``state``, or an action, makes true."""
        wanted = {state, action} - {""}
        return next((f for f in self.facts if {f.state, f.action} & wanted), None)

    @property
    def background(self) -> str:
        """What its module does in the background, as arguments."""
        return listed(self.jobs)

    @property
    def id(self) -> str:
        return f"{self.singular}_id"

    @property
    def repositories(self) -> tuple[tuple[str, str], ...]:
        """The other repositories that the service needs: attribute and entity."""
        targets = [(part.target, part.target_class) for part in (*self.links, *self.sets)]
        return tuple(dict.fromkeys(t for t in targets if t[0] != self.name))

    @property
    def aliases(self) -> tuple[FieldView, ...]:
        return tuple(field for field in self.fields if field.alias)

    def column(self, field: FieldView) -> str:
        """Return the line of a column in the entity."""
        flags = ["unique=True"] if field.name in self.column_uniques else []
        flags += ["index=True"] if field.name in self.indexed else []
        return field.line(field.mapped, flags, field.column_default)

    @property
    def sorts(self) -> str:
        names = ["created_at", *(field.name for field in self.fields if field.sortable)]
        return literal([sort for name in names for sort in (name, f"-{name}")])

    @property
    def filters(self) -> tuple[tuple[str, str], ...]:
        """What a list can be filtered by: name and annotation."""
        found = [("owner_id", "UUID")] if self.owned and not self.private else []
        found += [(link.column, "UUID") for link in self.links]
        found += [(self.states.field, self.states.alias)] if self.states else []
        # Optional fields are filtered by a value, never by null.
        found += [
            (f.name, f.annotation.removesuffix(" | None")) for f in self.fields if f.filterable
        ]
        return tuple(pair for pair in found if pair[0] not in _QUERY)

    @property
    def sets_among_values(self) -> str:
        """The source of the question whether values change a link to many."""
        names = [json.dumps(found.name) for found in self.sets]
        if len(names) == 1:
            return f"{names[0]} in values"
        return f"values.keys() & {{{', '.join(names)}}}"

    @property
    def moderators(self) -> str | None:
        """The source of the question whether the caller may show rows to others."""
        states = self.states
        if states is None or not self.hides or self.private or not states.permissions:
            return None
        return " or ".join(f'caller.can("{p}")' for p in states.permissions)

    @property
    def moves(self) -> tuple[MoveView, ...]:
        return self.states.moves if self.states else ()

    @property
    def movers(self) -> tuple[tuple[str, str], ...]:
        """Permissions that moves need besides writing, each with the alias of its dependency."""
        write = f"{self.name}:write"
        wanted = dict.fromkeys(m.permission for m in self.moves if m.permission != write)
        return tuple((permission, actor(permission, self.name)) for permission in wanted)

    def mover(self, move: MoveView) -> str:
        """Return the alias of the dependency that a move needs."""
        return dict(self.movers).get(move.permission, "Writer")

    @property
    def is_bare(self) -> bool:
        """Whether an answer shows nothing but what every entity has."""
        return not (self.owned or self.fields or self.links or self.sets or self.states)

    @property
    def says(self) -> str:
        """One sentence for the API docs: whose rows these are and who reads them."""
        who = {True: "anyone", False: "everybody who is logged in"}[self.public]
        if self.private:
            return f"{self.words.capitalize()} of the user who made them."
        whose = "of the users who made them" if self.owned else "shared by all"
        return f"{self.words.capitalize()} {whose}; {who} may read them."

    @property
    def hides(self) -> bool:
        """Whether a new row is hidden from users other than its owner."""
        states = self.states
        return self.private or bool(
            states and states.visible and states.initial not in states.visible
        )

    @property
    def writer(self) -> str:
        """The fixture of who writes in tests."""
        return "owner" if self.users_write else "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersView:
    """The users' own columns, and the roles."""

    fields: tuple[FieldView, ...]
    roles: tuple[Role, ...]
    renamed: tuple[tuple[str, str], ...]
    jobs: tuple[JobView, ...]

    @property
    def background(self) -> str:
        """What its module does in the background, as arguments."""
        return listed(self.jobs)

    @property
    def aliases(self) -> tuple[FieldView, ...]:
        return tuple(field for field in self.fields if field.alias)

    def column(self, field: FieldView) -> str:
        """Return the line of a column in the entity, which may be null unless it has a default."""
        flags = ["unique=True"] if field.unique else []
        mapped = f"{field.plain} | None" if self.may_be_null(field) else field.plain
        return field.line(mapped, flags, field.column_default or "None")

    def may_be_null(self, field: FieldView) -> bool:
        """Tell whether there are accounts without it: those that nobody registered."""
        return field.optional or field.column_default is None

    @property
    def not_null(self) -> tuple[str, ...]:
        """What can be changed and cannot be cleared."""
        return (*(field.name for field in self.fields if not field.optional), "roles", "is_active")

    @property
    def other_role(self) -> str:
        """A role that tests give to a user instead of the usual one."""
        names = [role.name for role in self.roles if role.name != "user"]
        return names[0] if names else "user"

    @property
    def role_literal(self) -> str:
        return literal([role.name for role in self.roles])


def view_users(plan: Plan) -> UsersView:
    """Return the view of the users.

    A column that has no default may be null, because ``newel admin create`` knows the e-mail
    address and nothing else; who registers has to say it.
    """
    fields = _fields(plan.users.fields, owner="User")
    return UsersView(
        fields=tuple(fields),
        roles=plan.roles,
        renamed=tuple(_renamed(plan.users.fields)),
        jobs=tuple(view_jobs(plan.users.jobs, lambda _: _REGISTERED, taken=_USER_ROUTES)),
    )


def view_resource(plan: Plan, resource: Resource) -> ResourceView:
    """Return the view of one resource; raises ``PlanError`` for what cannot be written."""
    owned = resource.owner is not None
    private = resource.read == "owner"
    cls = class_name(resource.singular)
    fields = tuple(_fields(resource.fields, owner=cls))
    states = _states(resource, resource.states, cls) if resource.states else None
    alias = states.alias if states else None
    facts = {f.word: f for f in view_facts(resource, cls, fields=fields, state_alias=alias)}
    view = ResourceView(
        name=resource.name,
        singular=resource.singular,
        var=variable(resource.name, resource.singular),
        cls=cls,
        dependency=dependency(resource.name, resource.singular),
        words=words(resource.name),
        word=words(resource.singular),
        a_word=with_article(resource.singular),
        bases=_bases(resource),
        owned=owned,
        private=private,
        public=resource.read == "public",
        soft=resource.soft_delete,
        fields=fields,
        links=tuple(view_links(plan, resource)),
        sets=tuple(view_sets(plan, resource)),
        states=states,
        actions=tuple(action.name for action in resource.actions),
        facts=tuple(facts.values()),
        jobs=tuple(view_jobs(resource.jobs, facts.__getitem__, taken=_routes(resource, states))),
        renamed=tuple(_renamed(resource.fields)),
        table_arguments=(),
        column_uniques=frozenset(),
        indexed=frozenset(f.name for f in resource.fields if f.indexed and not f.unique),
        users_write=_grants(plan, "user", f"{resource.name}:write"),
    )
    return _with_uniques(view)


def _routes(resource: Resource, states: StatesView | None) -> set[str]:
    """Return the names that the router of a resource defines."""
    verbs = ["create", "get", "replace", "update", "delete", *(a.name for a in resource.actions)]
    verbs += [move.verb for move in states.moves] if states else []
    return {f"list_{resource.name}", "router", *(f"{verb}_{resource.singular}" for verb in verbs)}


def _fields(fields: Sequence[Field], *, owner: str) -> Iterator[FieldView]:
    hidden = {field.name for field in fields}
    seen: set[str] = set()
    for field in fields:
        # What holds for every field of a type is tested once.
        kind = "str" if field.type == "text" else field.type
        taken = {*KNOWN, owner, "Date", "DateTime", "Ids", "Role"}
        yield view_field(field, owner=owner, taken=taken, hidden=hidden, thorough=kind not in seen)
        seen.add(kind)


def _renamed(fields: Sequence[Field]) -> Iterator[tuple[str, str]]:
    names = {field.name for field in fields}
    kinds = {field.type for field in fields}
    for plain, other in RENAMED.items():
        if plain in names and plain in kinds:
            yield plain, other


def _bases(resource: Resource) -> str:
    bases = ["Owned"] if resource.owner else []
    bases += ["SoftDeleted"] if resource.soft_delete else []
    return ", ".join(bases or ["Entity"])


def _states(resource: Resource, states: States, cls: str) -> StatesView:
    alias = camel(states.field)
    taken = {*KNOWN, cls, *(camel(f.name) for f in resource.fields)}
    moves = view_moves(states, resource, taken={a.name for a in resource.actions})
    return StatesView(
        field=states.field,
        alias=f"{cls}{alias}" if alias in taken else alias,
        choices=literal(states.values),
        initial=states.initial,
        visible=states.visible,
        moves=moves,
        permissions=tuple(dict.fromkeys(m.permission for m in moves if m.elevated)),
    )


def _with_uniques(view: ResourceView) -> ResourceView:
    """Decide where uniqueness is declared.

    Rows that only their owner sees are unique for the owner, so that nobody learns of another's by
    a 409; deleted rows that are kept do not count.
    """
    names = [field.name for field in view.fields if field.unique]
    links = [link.column for link in view.links if link.unique]
    if not view.soft and not view.private:
        return replace(view, column_uniques=frozenset({*names, *links}))
    scope = ["owner_id"] if view.private else []
    groups = [[*scope, name] for name in names]
    if view.soft:
        groups += [[link] for link in links]
        links = []
    live = ", live=True" if view.soft else ""
    arguments = [
        f"unique({', '.join(json.dumps(part) for part in (view.name, *group))}{live})"
        for group in groups
    ]
    return replace(view, table_arguments=tuple(arguments), column_uniques=frozenset(links))


def _grants(plan: Plan, role: str, permission: str) -> bool:
    wanted = {permission, "*", permission.partition(":")[0] + ":*"}
    return any(r.name == role and wanted & set(r.permissions) for r in plan.roles)
