"""The features of a service as files: users, and one feature for each resource of the plan.

Templates (templates/feature) place what ``view`` and ``cases`` have decided; ``imports`` puts the
import statements on top.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from newel_tools.generator.cases import cases_of
from newel_tools.generator.chat import ChatView, view_chat
from newel_tools.generator.files import File
from newel_tools.generator.imports import with_imports
from newel_tools.generator.jobs import JobView
from newel_tools.generator.layout import Feature, Layout, Places, Role
from newel_tools.generator.naming import camel
from newel_tools.generator.view import ResourceView, UsersView, view_resource, view_users
from newel_tools.generator.visibility import visibility
from newel_tools.plan.names import snake
from newel_tools.plan.plan import Plan

__all__ = ["render_features"]

_USERS: Final = Feature("users", "user")


def render_features(plan: Plan, layout: Layout) -> list[File]:
    """Return the files of users and of every resource, tests included, in an order that is stable.

    The Python is valid and its imports are sorted; lines are as long as they come: ``ruff format``
    makes them short. Raises ``PlanError`` for what cannot be generated.
    """
    places = Places(plan.service, layout)
    views = {resource.name: view_resource(plan, resource) for resource in plan.resources}
    writing = _Writing(places, views, view_chat(plan, views))
    files = [*writing.users(view_users(plan))]
    for view in views.values():
        files += writing.resource(view)
    if plan.webhooks:
        files += writing.webhooks()
    if plan.chat is not None:
        files += writing.chats()
    if plan.files:
        files.append(writing.test("files", {}))
    return [*files, writing.guards(plan), *_packages(files, plan.service)]


@dataclass(frozen=True, slots=True)
class _Writing:
    """Renders the files of one service."""

    places: Places
    views: Mapping[str, ResourceView]
    chat: ChatView | None

    def users(self, view: UsersView) -> Iterator[File]:
        listed: dict[str, Any] = {"u": view, "cls": "User", "words": "users", "is_listed": False}
        listed |= {"jobs": view.jobs}
        choices = tuple(f.plain for f in view.fields if f.choices)
        own = self._names(_USERS, "User", choices, jobs=view.jobs)
        for role in ("models", "roles", "schemas", "service", "router", "tests"):
            yield from self._file(role, _USERS, f"users_{role}", listed, own)
        yield from self._file("repository", _USERS, "repository", listed, own)
        yield from self._jobs(_USERS, listed, own)
        package = {"r": {"words": "users"}, "router": self.places.module("router", _USERS)}
        yield from self._file("package", _USERS, "package", package, own)

    def resource(self, view: ResourceView) -> Iterator[File]:
        feature = view.feature
        choices = tuple(f.plain for f in view.fields if f.choices)
        if view.states:
            choices = (*choices, view.states.alias)
        own = self._names(feature, view.cls, choices, jobs=view.jobs)
        for target, cls in view.repositories:
            own |= self._names(self._feature(target), cls, ())
        chat = self.chat if self.chat and self.chat.kept is view else None
        values: dict[str, Any] = {
            "r": view,
            "t": cases_of(view, self.views),
            "cls": view.cls,
            "words": view.words,
            "is_listed": self._is_listed(view.name),
            "linked": bool(view.links or view.sets),
            "visible": visibility(view),
            "jobs": view.jobs,
            "status_changed": f"{view.states.field}_changed" if view.states else None,
            "router": self.places.module("router", feature),
            "chat": chat,
        }
        if chat is not None:
            own["ChatMessage"] = "newel.chat"
        roles: tuple[Role, ...] = ("models", "schemas", "repository", "service", "router", "tests")
        for role in roles:
            yield from self._file(role, feature, role, values, own)
        if view.events:
            # nothing else: a resource may be called event, and Event is newel's here
            types = dict.fromkeys(choices, own[view.cls])
            yield from self._file("events", feature, "events", values, types)
        yield from self._jobs(feature, values, own)
        yield from self._file("package", feature, "package", values, own)

    def _jobs(
        self, feature: Feature, values: Mapping[str, Any], own: Mapping[str, str]
    ) -> Iterator[File]:
        if values["jobs"]:
            yield from self._file("jobs", feature, "jobs", values, own)
            tested = {**own, "module": self.places.module("router", feature)}
            yield from self._file("jobs_tests", feature, "jobs_tests", values, tested)

    def webhooks(self) -> Iterator[File]:
        """Yield what tells users' systems of their own rows, and its tests."""
        owned = [view for view in self.views.values() if view.owned]
        told = [(view.cls, [f.cls for f in view.facts if f.word != "deleted"]) for view in owned]
        own: dict[str, str] = {}
        for view in owned:
            own |= self._names(view.feature, view.cls, ())
        yield self._beside("webhooks", {"told": told}, own)
        for view in [view for view in owned if _is_made_alone(view)][:1]:
            yield self.test("webhooks", {"r": view, "type": f"{snake(view.cls)}.created"})

    def chats(self) -> Iterator[File]:
        """Yield what keeps the words of chats, if something does, and the tests of chats."""
        values: dict[str, Any] = {"kept": None}
        if self.chat is not None:
            kept, place = self.chat.kept, self.chat.place
            values = {name: getattr(self.chat, name) for name in ("kept", "place", "link", "text")}
            values["t"] = cases_of(kept, self.views)
            own = {"chat": "newel", "ChatMessage": "newel.chat", "Visit": "newel.rooms"}
            for view in (kept, place):
                names = self._names(view.feature, view.cls, ())
                own |= {cls: names[cls] for cls in (f"{view.cls}Create", f"{view.cls}Service")}
            yield self._beside("chat", values, own)
        yield self.test("chat", values, {"json": ""})

    def guards(self, plan: Plan) -> File:
        """Return the tests of what every operation refuses."""
        public = [
            f"GET /api/v1/{view.name}{end}"
            for view in self.views.values()
            if view.public
            for end in ("", f"/{{{view.var}_id}}")
        ]
        public += ["GET /api/v1/files/shared/{signed}"] if plan.files else []
        return self.test("guards", {"public": public, "chat": plan.chat})

    def test(
        self, name: str, values: Mapping[str, Any], own: Mapping[str, str] | None = None
    ) -> File:
        """Return the tests of what is of no resource."""
        text = _templates().get_template(f"{name}_tests.py.j2").render(values)
        code = with_imports(text, own=own or {}, package=self.places.package)
        return File(f"tests/test_{name}.py", code)

    def _beside(self, name: str, values: Mapping[str, Any], own: Mapping[str, str]) -> File:
        """Return a module that is of no feature."""
        text = _templates().get_template(f"{name}.py.j2").render(values)
        path = f"src/{self.places.root.replace('.', '/')}/{name}.py"
        return File(path, with_imports(text, own=own, package=self.places.package))

    def _file(
        self,
        role: Role,
        feature: Feature,
        template: str,
        values: Mapping[str, Any],
        own: Mapping[str, str],
    ) -> Iterator[File]:
        path = self.places.path(role, feature)
        if path is None:
            return
        text = _templates().get_template(f"{template}.py.j2").render(values)
        names = dict(own)
        if role == "models":
            names["Text"] = "sqlalchemy"
        yield File(path, with_imports(text, own=names, package=self.places.package))

    def _names(
        self, feature: Feature, cls: str, choices: Iterable[str], *, jobs: Iterable[JobView] = ()
    ) -> dict[str, str]:
        """Return where the names of a feature are defined."""
        module = self.places.module
        models, schemas = module("models", feature), module("schemas", feature)
        names = {cls: models, **dict.fromkeys(choices, models)}
        bodies = ("Base", "Create", "Query", "Read", "Update")
        names |= {f"{cls}{body}": schemas for body in bodies}
        names |= {f"{cls}Repository": module("repository", feature)}
        names |= {f"{cls}Service": module("service", feature)}
        names |= {job.name: module("jobs", feature) for job in jobs}
        view = self.views.get(feature.plural)
        if view is not None:
            names |= {fact.cls: module("events", feature) for fact in view.facts}
        return names

    def _feature(self, name: str) -> Feature:
        return _USERS if name == "users" else self.views[name].feature

    def _is_listed(self, name: str) -> bool:
        """Tell whether another resource looks rows of this one up by a list of ids."""
        return any(found.target == name for view in self.views.values() for found in view.sets)


def _is_made_alone(view: ResourceView) -> bool:
    """Tell whether users make a row without another, and that is told."""
    needs = any(not link.optional for link in view.links)
    return view.users_write and "created" in view.events and not needs


def _packages(files: Iterable[File], package: str) -> Iterator[File]:
    """Yield the empty files that make folders importable, but for the service's own."""
    root = PurePosixPath("src", package)
    taken = {PurePosixPath(file.path) for file in files}
    folders = {folder for path in taken for folder in path.parents if root in folder.parents}
    for folder in sorted(folders):
        if folder / "__init__.py" not in taken:
            yield File(str(folder / "__init__.py"), "")


def _list(values: Iterable[str]) -> str:
    return json.dumps(list(values))


def _tuple(values: Iterable[str]) -> str:
    items = [json.dumps(value) for value in values]
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("newel_tools.generator", "templates/feature"),
        autoescape=False,  # noqa: S701 - no HTML; what reaches a template are names and literals
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"camel": camel, "list_of": _list, "tuple_of": _tuple}
    return environment
