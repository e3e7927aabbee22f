"""What the tests of a resource need beside its view: rows to refer to, wrong values, ways to go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from newel_tools.generator.attributes import FieldView
from newel_tools.generator.links import LinkView, SetView
from newel_tools.generator.moves import MoveView
from newel_tools.generator.view import ResourceView

__all__ = ["Cases", "Deletion", "cases_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What a test of deleting a linked row needs."""

    name: str
    column: str
    target: str
    on_delete: str | None
    writer: str
    fixtures: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """Source and lists for the tests of a resource; ``many`` makes several rows, if that works."""

    id: str
    link_fixtures: str
    link_lines: tuple[str, ...]
    link_values: str
    required: tuple[str, ...]
    defaults: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    not_null: str
    server_owned: tuple[str, ...]
    optional: tuple[str, ...]
    sets: tuple[SetView, ...]
    events: tuple[str, ...]
    told: str
    many: str | None
    numbered: bool
    unique: tuple[FieldView, ...]
    sort: str | None
    filters: tuple[str, ...]
    link_filters: tuple[str, ...]
    private_links: tuple[LinkView, ...]
    unseen: str
    deletions: tuple[Deletion, ...]
    changeable: bool
    moves: tuple[MoveView, ...]
    no_moves: tuple[MoveView, ...]
    elevated: tuple[str, ...]
    shown: MoveView | None
    status_changed: str | None

    @property
    def links(self) -> bool:
        """Whether a body refers to rows that have to be made first."""
        return bool(self.link_values)


def cases_of(view: ResourceView, views: Mapping[str, ResourceView]) -> Cases:
    """Return what the tests of ``view`` need; ``views`` are all resources by name."""
    links = [link for link in view.links if not link.optional]
    sets = tuple(found for found in view.sets if not found.to_itself)
    rows = _Rows(views)
    rows.refer(view, sets)
    many, numbered = _many(view, has_links=bool(links or sets))
    alone = not any(link.unique for link in links)
    hidden = [
        link for link in links if not link.to_users and _hides_from_others(views[link.target])
    ]
    hidden_sets = [found for found in sets if _hides_from_others(views[found.target])]
    differing = [f for f in view.fields if f.samples.differ]
    return Cases(
        id=f"{{{view.var}['id']}}",
        link_fixtures=", ".join(f"{name}: AsyncClient" for name in rows.clients),
        link_lines=tuple(rows.lines),
        link_values=rows.values_of(view, sets),
        required=(*(link.column for link in links), *(f.name for f in view.fields if f.required)),
        defaults=tuple((f.name, f.sent_default) for f in view.fields if f.sent_default),
        refused=tuple(_refused(view)),
        not_null=_not_null(view),
        server_owned=tuple(_server_owned(view)),
        optional=tuple(f.name for f in view.fields if f.optional),
        sets=sets,
        events=tuple(_events(view)),
        told=_told(view),
        many=many,
        numbered=numbered,
        unique=tuple(f for f in view.fields if f.unique and f.samples.differ) if alone else (),
        sort=next((f.name for f in differing if f.sortable), None),
        filters=tuple(f.name for f in differing if f.filterable and _is_filter(view, f.name)),
        link_filters=tuple(link.column for link in links if not link.to_users),
        private_links=tuple(hidden) if view.owned and view.users_write else (),
        unseen="".join(f' | {{"{found.ids}": []}}' for found in hidden_sets),
        deletions=tuple(_deletions(view, links, views)),
        changeable=bool(differing),
        moves=tuple(move for move in view.moves if move.way is not None),
        no_moves=tuple(move for move in view.moves if move.no_way is not None),
        elevated=tuple(m.verb for m in view.moves if m.elevated) if view.users_write else (),
        shown=_shown(view),
        status_changed=_status_changed(view),
    )


@dataclass(slots=True)
class _Rows:
    """The rows that have to exist first, as lines of a fixture that makes them by HTTP."""

    views: Mapping[str, ResourceView]
    lines: list[str] = field(default_factory=list[str])
    clients: list[str] = field(default_factory=list[str])
    _made: set[str] = field(default_factory=set[str])

    def refer(self, view: ResourceView, sets: tuple[SetView, ...] = ()) -> None:
        """Make what a row of ``view`` needs, and what the rows it needs need."""
        targets = [link.target for link in view.links if not link.optional]
        for target in (*targets, *(found.target for found in sets)):
            if target not in self._made:
                self._made.add(target)
                self._make(target)

    def values_of(self, view: ResourceView, sets: tuple[SetView, ...] = ()) -> str:
        """Return the members of a body that refer to the rows."""
        values = [
            f'"{link.column}": {self._row(link.target)}["id"]'
            for link in view.links
            if not link.optional
        ]
        values += [f'"{found.ids}": [{self._row(found.target)}["id"]]' for found in sets]
        return ", ".join(values)

    def _make(self, target: str) -> None:
        if target == "users":
            self._use("owner")
            self.lines.append(f'{self._row(target)} = (await owner.get("/api/v1/auth/me")).json()')
            return
        view = self.views[target]
        self.refer(view)
        self._use(view.writer)
        members = [f'"{f.name}": {f.samples.valid}' for f in view.fields if f.required]
        body = ", ".join([*members, *filter(None, [self.values_of(view)])])
        url = f'"/api/v1/{target}"'
        self.lines.append(f"{self._row(target)} = await create({view.writer}, {{{body}}}, {url})")
        shown = _shown(view)
        if shown is not None and not view.owned:  # else nobody but who made it could refer to it
            self._show(view, shown)

    def _show(self, view: ResourceView, shown: MoveView) -> None:
        self._use("admin")
        for verb in (*(shown.way or ()), shown.verb):
            row = f"{{{self._row(view.name)}['id']}}"
            self.lines.append(f'await admin.post(f"/api/v1/{view.name}/{row}/{verb}")')

    def _row(self, target: str) -> str:
        return "user" if target == "users" else self.views[target].var

    def _use(self, client: str) -> None:
        if client not in self.clients:
            self.clients.append(client)


def _many(view: ResourceView, *, has_links: bool) -> tuple[str | None, bool]:
    """Return the source of a body for each of several rows, and whether it is numbered."""
    unique = [f for f in view.fields if f.unique]
    if any(link.unique and not link.optional for link in view.links):
        return None, False
    if any(f.samples.numbered is None for f in unique):
        return None, False
    body = "numbered(n)" if unique else "VALID"
    return (f"{body} | links" if has_links else body), bool(unique)


def _refused(view: ResourceView) -> Iterator[tuple[str, str]]:
    for found in view.fields:
        yield from ((f"{found.name} {label}", value) for label, value in found.refused)
    for link in view.links:
        yield f"{link.column} of nobody", "str(uuid4())"
    for found in view.sets:
        yield f"{found.ids} of nobody", "[str(uuid4())]"


def _not_null(view: ResourceView) -> str:
    """Return the source of a list of what may be left out of a PATCH and may not be null."""
    usual = [field.name for field in view.fields if not field.optional and not field.required]
    names = [json.dumps(name) for name in (*usual, *(found.ids for found in view.sets))]
    required = any(field.required for field in view.fields)
    required = required or any(not link.optional for link in view.links)
    parts = ["*REQUIRED", *names] if required else names
    return "REQUIRED" if parts == ["*REQUIRED"] else f"[{', '.join(parts)}]" if parts else ""


def _server_owned(view: ResourceView) -> Iterator[str]:
    yield from ("id", "owner_id", "created_at", "updated_at", "version")
    if view.soft:
        yield "deleted_at"
    if view.states:
        yield view.states.field


def _events(view: ResourceView) -> Iterator[str]:
    """Yield what is published when a row is made, changed in every field, and deleted."""
    told = {fact.word: fact for fact in view.facts}
    for word in ("created", "updated"):
        if word in told:
            yield told[word].cls
    yield from (f.cls for f in view.facts if f.field is not None and f.field.samples.differ)
    if "deleted" in told:
        yield told["deleted"].cls


def _told(view: ResourceView) -> str:
    """Return the source of the moves that have an event of their own: pairs of verb and name."""
    pairs = [(m.verb, view.fact_of(state=m.after)) for m in view.moves if m.way is not None]
    told = [f'("{verb}", "{fact.cls}")' for verb, fact in pairs if fact is not None]
    return f"[{', '.join(told)}]" if told else ""


def _is_filter(view: ResourceView, name: str) -> bool:
    return any(name == found for found, _ in view.filters)


def _hides_from_others(view: ResourceView) -> bool:
    return view.owned and view.hides


def _deletions(
    view: ResourceView, links: list[LinkView], views: Mapping[str, ResourceView]
) -> Iterator[Deletion]:
    for link in links:
        if link.to_users or views[link.target].soft or link.target == view.name:
            continue
        writer = views[link.target].writer
        clients = dict.fromkeys([view.writer, writer])
        yield Deletion(
            name=link.name,
            column=link.column,
            target=link.target,
            on_delete=link.on_delete,
            writer=writer,
            fixtures=", ".join(f"{client}: AsyncClient" for client in clients),
        )


def _shown(view: ResourceView) -> MoveView | None:
    """Return the shortest way to a state that others see, when a new row is in none."""
    if view.states is None or view.private or not view.hides:
        return None
    ways = [m for m in view.moves if m.after in view.states.visible and m.way is not None]
    return min(ways, key=lambda move: len(move.way or ()), default=None)


def _status_changed(view: ResourceView) -> str | None:
    if view.states is None or f"{view.states.field}_changed" not in view.events:
        return None
    return f"{view.cls}{''.join(p.capitalize() for p in view.states.field.split('_'))}Changed"
