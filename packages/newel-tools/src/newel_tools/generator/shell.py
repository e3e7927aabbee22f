"""Everything of a service around its features: project files, composition root, settings, docs.

The texts are in templates/shell; here is what they need to know.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined

from newel_tools.errors import PlanError
from newel_tools.generator.brokers import BROKERS
from newel_tools.generator.files import File
from newel_tools.generator.layout import Feature, Layout, Places, Role
from newel_tools.generator.variables import VARIABLES
from newel_tools.plan.chat import LIVE, kept_in
from newel_tools.plan.plan import Plan, Resource, Users, Visibility

__all__ = ["ROUTES", "Kernel", "render_shell", "with_routes"]

ROUTES: Final = "<!-- routes -->"
"""Where the table of endpoints goes in README.md."""

_PLACES: Final = (
    ("pyproject.toml", "pyproject.toml"),
    ("README.md", "README.md"),
    ("AGENTS.md", "AGENTS.md"),
    ("Dockerfile", "Dockerfile"),
    ("compose.yaml", "compose.yaml"),
    ("haproxy.cfg", "deploy/haproxy.cfg"),
    ("kubernetes/settings.yaml", "deploy/kubernetes/settings.yaml"),
    ("kubernetes/migrate.yaml", "deploy/kubernetes/migrate.yaml"),
    ("kubernetes/web.yaml", "deploy/kubernetes/web.yaml"),
    ("kubernetes/worker.yaml", "deploy/kubernetes/worker.yaml"),
    ("env.example", ".env.example"),
    ("gitignore", ".gitignore"),
    ("dockerignore", ".dockerignore"),
    ("ci.yml", ".github/workflows/ci.yml"),
    ("decision.md", "docs/decisions/0001-one-sentence.md"),
    ("conftest.py", "tests/conftest.py"),
)
"""Templates and where their texts lie in every layout."""

_ROLES: Final = {
    "user": "which everybody has who registers",
    "reader": "which the tests ask for what only a writer may do",
    "admin": "which `newel admin create` gives",
}
_EXAMPLES: Final = {"user": "things:read, things:write", "reader": "things:read", "admin": "'*'"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The newel that the service will run on: ``checkout`` is its folder if it is run from one."""

    version: str
    checkout: Path | None

    @classmethod
    def installed(cls) -> Kernel:
        """Return the one beside this interpreter; raises ``PackageNotFoundError`` without one."""
        found = distribution("newel")
        origin: dict[str, Any] = json.loads(found.read_text("direct_url.json") or "{}")
        editable = origin.get("dir_info", {}).get("editable", False)
        path = Path(unquote(urlsplit(str(origin["url"])).path)) if editable else None
        return cls(version=found.version, checkout=path)

    @property
    def next_breaking(self) -> str:
        """The first version that may break a service: the next minor below 1.0, else major."""
        major, minor = (int(part) for part in self.version.split(".")[:2])
        return f"0.{minor + 1}" if major == 0 else str(major + 1)

    def path_from(self, directory: Path) -> str | None:
        """Return the checkout as pyproject.toml says it: relative for a service inside of it."""
        if self.checkout is None:
            return None
        house = self.checkout.parents[1]
        if directory.is_relative_to(house):
            return os.path.relpath(self.checkout, directory)
        return str(self.checkout)


def render_shell(plan: Plan, layout: Layout, *, directory: Path, kernel: Kernel) -> list[File]:
    """Return the files around the features; ``directory`` is where the service will lie.

    Each call makes new secrets, which are in ``.env`` alone. README.md has the line ``ROUTES`` in
    place of its table, for ``with_routes``. Raises ``PlanError`` without the roles that accounts
    and tests need.
    """
    _refuse_missing_roles(plan)
    environment = _templates()
    values = _values(plan, layout, directory=directory, kernel=kernel)

    def file(template: str, path: str, mode: int = 0o644) -> File:
        return File(path, environment.get_template(f"{template}.j2").render(values), mode)

    where, places = _Where(plan.service, layout), Places(plan.service, layout)
    return [
        *(file(template, path) for template, path in _PLACES),
        file("env", ".env", 0o600),
        file("main.py", where.path(f"{plan.service}.main")),
        file("application.py", where.path(places.application)),
        file("settings.py", where.path(places.settings)),
        File(f"src/{plan.service}/__init__.py", f'"""{_shortened(plan.title, 80)}."""\n'),
    ]


def with_routes(readme: str, routes: Sequence[Mapping[str, str]]) -> str:
    """Return README.md with the table of ``newel routes --json`` in its place."""
    shown = [route for route in routes if route["path"].startswith("/api/v1/")]
    rows = ["| endpoint | who may | name |", "|---|---|---|"]
    for route in shown:
        path = route["path"].removeprefix("/api/v1")
        rows.append(f"| `{route['method']} {path}` | {route['access']} | {route['name']} |")
    return readme.replace(ROUTES, "\n".join(rows))


def _refuse_missing_roles(plan: Plan) -> None:
    names = {role.name for role in plan.roles}
    for name, what in _ROLES.items():
        if name not in names:
            raise PlanError(
                f"the plan has no role '{name}', {what}",
                fix=f"add it below roles, as in '{name}: [{_EXAMPLES[name]}]'",
                word=name,
            )


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("newel_tools.generator", "templates/shell"),
        autoescape=False,  # noqa: S701 - no HTML; every text of the user's passes a filter below
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {
        "line": _line,
        "quoted": _quoted,
        "shortened": _shortened,
        "flow": _flow,
    }
    environment.filters.update(filters)
    return environment


def _values(plan: Plan, layout: Layout, *, directory: Path, kernel: Kernel) -> dict[str, Any]:
    where, places = _Where(plan.service, layout), Places(plan.service, layout)
    return {
        "package": plan.service,
        "distribution": plan.service.replace("_", "-"),
        "title": plan.title,
        "sentence": plan.sentence,
        "layout": layout,
        "newel_version": kernel.version,
        "newel_next": kernel.next_breaking,
        "checkout": kernel.path_from(directory),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "secret_key": secrets.token_hex(32),  # hex: no shell, URL or YAML reads it differently
        "postgres_password": secrets.token_hex(24),
        "broker_password": secrets.token_hex(24),
        "broker": None if plan.broker is None else BROKERS[plan.broker],
        "extras": _extras(plan),
        "root": places.root,
        "chat": plan.chat,
        "chat_of": _chat_of(plan),
        "chat_module": f"{places.root.replace('.', '/')}/chat.py",
        "files": plan.files,
        "webhooks": plan.webhooks,
        "background": list(_background(plan)),
        "unwritten": [
            f"`POST /{resource.name}/{{{resource.singular}_id}}/{action.name}`"
            for resource in plan.resources
            for action in resource.actions
        ],
        "variables": VARIABLES,
        "roles": [
            (role.name, ", ".join(f"`{p}`" for p in role.permissions)) for role in plan.roles
        ],
        "kept": [_kept(resource) for resource in plan.resources],
        "assumed": plan.assumed,
        "not_understood": plan.not_understood,
        "features": where.features,
        "settings_module": places.settings,
        "users": where.users,
        "modules": ["users", *(resource.name for resource in plan.resources)],
        "place": where.examples,
    }


def _kept(resource: Resource) -> str:
    """Say in one line what a resource is: ``posts (title, body), of their owner``."""
    names = [field.name for field in resource.fields]
    names += [relation.name for relation in resource.relations]
    names += [resource.states.field] if resource.states else []
    whose = "of the user who makes them" if resource.owner else "shared"
    return f"{resource.name} ({', '.join(names)}), {whose}, read by {_READERS[resource.read]}"


_READERS: Final[dict[Visibility, str]] = {
    "owner": "their owner only",
    "signed_in": "every signed-in user",
    "public": "anyone",
}


def _extras(plan: Plan) -> list[str]:
    """Return the extras of newel that the service needs, a cache and a bucket where it runs."""
    broker = [] if plan.broker is None else [BROKERS[plan.broker].extra]
    files = ["files", "objects"] if plan.files else []
    return ["redis", *broker, *files, *(["outgoing"] if plan.webhooks else [])]


def _chat_of(plan: Plan) -> str | None:
    """Return the resource whose rows have chats, if there are chats that keep their words."""
    if plan.chat in {None, LIVE}:
        return None
    return kept_in(str(plan.chat), plan.resources)[1].target


def _background(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the jobs of a plan, each with when it runs."""
    for part in (plan.users, *plan.resources):
        of = "users" if isinstance(part, Users) else part.name
        for job in part.jobs:
            if job.cron is not None:
                yield job.name, f"`{job.cron}`, in UTC"
            elif job.event is not None:
                yield job.name, f"{of}: {job.event}"
            else:
                yield job.name, "when the service enqueues it"


def _flow(values: Sequence[str]) -> str:
    """Return a list as YAML has it in one line."""
    return json.dumps(list(values))


def _line(text: str) -> str:
    """Return text in one line, without what Markdown or a docstring would read as more."""
    plain = re.sub(r"[\x00-\x1f\x7f\s]+", " ", text).strip()
    return plain.replace("\\", "/").replace('"', "'").replace("`", "'").replace("<", "(")


def _shortened(text: str, width: int) -> str:
    """Return text in one line of at most ``width`` characters."""
    line = _line(text).rstrip(".")
    return line if len(line) <= width else f"{line[: width - 3]}..."


def _quoted(text: str) -> str:
    """Return text as a string of TOML, YAML and Python alike, in double quotes."""
    return json.dumps(re.sub(r"[\x00-\x1f\x7f]+", " ", text), ensure_ascii=False)


class _Where:
    """Where the shell's own modules lie; those of features are in the layout's table."""

    def __init__(self, package: str, layout: Layout) -> None:
        self._package = package
        self._layered = layout == "layered"
        self._places = Places(package, layout)

    @property
    def features(self) -> str:
        """The package whose modules are the features: each has the name ``module``."""
        return f"{self._package}.api.v1.endpoints" if self._layered else self._package

    @property
    def users(self) -> dict[str, str]:
        """The modules that the composition root needs of the users."""
        users = Feature("users", "user")
        roles: tuple[Role, ...] = ("models", "roles", "schemas")
        return {role: self._places.module(role, users) for role in roles}

    @property
    def examples(self) -> dict[str, str]:
        """Where the files of a feature called invoices would lie, for the texts."""
        invoices = Feature("invoices", "invoice")
        wanted: tuple[Role, ...] = (
            *("models", "schemas", "repository", "service", "router", "events", "jobs", "roles"),
            "tests",
        )
        return {role: f"`{self._places.path(role, invoices)}`" for role in wanted} | {
            "roles": f"`{self._places.path('roles', Feature('users', 'user'))}`"
        }

    @staticmethod
    def path(module: str) -> str:
        return f"src/{module.replace('.', '/')}.py"
