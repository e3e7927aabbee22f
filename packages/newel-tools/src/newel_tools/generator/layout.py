"""Where the files of a service lie: one table from what a file is for to its path and its module.

``features`` keeps all files of a feature together; ``layered`` sorts the same files by layer. The
imports between them are written from the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from keyword import iskeyword
from typing import Final, Literal

__all__ = ["LAYOUTS", "Feature", "Layout", "Places", "Role"]

Layout = Literal["features", "layered"]
"""How the files of a service are sorted."""

LAYOUTS: Final[tuple[Layout, ...]] = ("features", "layered")

Role = Literal[
    "events", "jobs", "jobs_tests", "models", "package", "repository", "roles", "router", "schemas",
    "service", "tests",
]  # fmt: skip
"""What a file of a feature is for; ``package`` makes its folder importable."""

_TABLE: Final[dict[Layout, dict[Role, str]]] = {
    "features": {
        "events": "src/{package}/{plural}/events.py",
        "jobs": "src/{package}/{plural}/jobs.py",
        "jobs_tests": "tests/{plural}/test_jobs.py",
        "models": "src/{package}/{plural}/models.py",
        "package": "src/{package}/{plural}/__init__.py",
        "repository": "src/{package}/{plural}/repository.py",
        "roles": "src/{package}/{plural}/roles.py",
        "router": "src/{package}/{plural}/router.py",
        "schemas": "src/{package}/{plural}/schemas.py",
        "service": "src/{package}/{plural}/service.py",
        "tests": "tests/{plural}/test_{plural}.py",
    },
    "layered": {
        "events": "src/{package}/events/{singular}.py",
        "jobs": "src/{package}/jobs/{singular}.py",
        "jobs_tests": "tests/{plural}/test_jobs.py",
        "models": "src/{package}/models/{singular}.py",
        "repository": "src/{package}/repositories/{singular}.py",
        "roles": "src/{package}/core/roles.py",
        "router": "src/{package}/api/v1/endpoints/{plural}.py",
        "schemas": "src/{package}/schemas/{singular}.py",
        "service": "src/{package}/services/{singular}.py",
        "tests": "tests/{plural}/test_{plural}.py",
    },
}


@dataclass(frozen=True, slots=True)
class Feature:
    """The names that paths are made of, in snake_case."""

    plural: str
    singular: str


@dataclass(frozen=True, slots=True)
class Places:
    """The table for one service: ``package`` is the name it is imported by."""

    package: str
    layout: Layout

    @property
    def settings(self) -> str:
        """The dotted name of the module with the service's settings."""
        inside = "core.config" if self.layout == "layered" else "settings"
        return f"{self.package}.{inside}"

    @property
    def root(self) -> str:
        """The dotted name of the package of what is of no feature, such as webhooks and chats."""
        return f"{self.package}.core" if self.layout == "layered" else self.package

    @property
    def application(self) -> str:
        """The dotted name of the composition root, whose ``build`` makes the application."""
        return f"{self.package}.application"

    def path(self, role: Role, feature: Feature) -> str | None:
        """Return the path below the service's root; ``None`` if the layout has no such file."""
        pattern = _TABLE[self.layout].get(role)
        if pattern is None:
            return None
        # `import service.models.class` is no Python
        singular = feature.plural if iskeyword(feature.singular) else feature.singular
        return pattern.format(package=self.package, plural=feature.plural, singular=singular)

    def module(self, role: Role, feature: Feature) -> str:
        """Return the dotted name that imports the file; ``KeyError`` if there is none."""
        path = self.path(role, feature)
        if path is None:
            raise KeyError(role)
        inside = path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
        return inside.replace("/", ".")
