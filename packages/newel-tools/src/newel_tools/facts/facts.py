"""All facts of a project, and how they are got: `load_facts`."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Final

from pydantic import ConfigDict
from pydantic import Field as Default

from newel_tools.facts.entities import Engine, Entity
from newel_tools.facts.environment import dummies_for, installed_packages, uses_async_engine
from newel_tools.facts.files import read_text
from newel_tools.facts.process import run_probe
from newel_tools.facts.project import Project
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Fact, Model, Place

__all__ = ["Facts", "Failure", "Handler", "Limiter", "Middleware", "load_facts"]

_NAMED: Final = re.compile(
    r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b"
    r"|\b[A-Z]{3,}\b(?= (?:is|was|must be) (?:not set|missing|required|set)\b)"
    r"|(?<=error parsing value for field \")\w+"  # of pydantic-settings: it wants JSON
)
_TRIES: Final = 4  # each names the next setting that is missing


class Failure(Fact):
    """What went wrong while the application was imported or described.

    ``stage`` is `import` or the part of the facts that is missing therefore.
    """

    stage: str
    class_: str = Default(alias="class")
    message: str
    file: str | None = None
    line: int = 0
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" at {self.file}:{self.line}" if self.file else ""
        message = f": {self.message}" if self.message else ""
        return f"{self.stage}{where}: {self.class_}{message}"


class Middleware(Place):
    """One middleware with its options; ``dispatch`` is the function of `@app.middleware`."""

    class_: str = Default("", alias="class")
    options: dict[str, Any] = Default(default_factory=dict[str, Any])
    positional: tuple[Any, ...] = ()
    dispatch: Place | None = None


class Handler(Fact):
    """What answers for an exception class (with its ``bases``) or a ``status``."""

    exception: str | None = None
    bases: tuple[str, ...] = ()
    status: int | None = None
    handler: Place


class Limiter(Fact):
    """A rate limiter that lives in the process, and how many default limits it has."""

    kind: str
    default_limits: int = 0
    application_limits: int = 0
    in_state: bool = False
    limited: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()


class Facts(Fact):
    """What is true of an application, as it was imported.

    ``is_imported`` is false if the import failed; then there are no routes and ``failures`` says
    why. A part that alone could not be described is missing and has its failure.
    ``models`` are all pydantic models that routes lead to, by the name that `Shape.models` uses;
    ``settings`` names those among them that are settings classes.
    ``versions`` maps installed packages (normalised names) to versions.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ignored_types=(cached_property,))

    python: str = ""
    failures: tuple[Failure, ...] = ()
    application: dict[str, Any] | None = None
    routes: tuple[Route, ...] = ()
    models: dict[str, Model] = Default(default_factory=dict[str, Model])
    middleware: tuple[Middleware, ...] = ()
    handlers: tuple[Handler, ...] = ()
    entities: tuple[Entity, ...] = ()
    engines: tuple[Engine, ...] = ()
    settings: tuple[str, ...] = ()
    limiters: tuple[Limiter, ...] = ()
    versions: dict[str, str] = Default(default_factory=dict[str, str])
    modules: dict[str, str] = Default(default_factory=dict[str, str])
    openapi: dict[str, Any] | None = None

    @property
    def is_imported(self) -> bool:
        """Tell whether the application could be imported."""
        return self.application is not None

    @cached_property
    def http_routes(self) -> tuple[Route, ...]:
        """FastAPI's routes that answer requests: no websockets, mounts, documentation."""
        return tuple(route for route in self.routes if route.kind == "http")

    @cached_property
    def by_table(self) -> dict[str, Entity]:
        """The entities by table name."""
        return {entity.table: entity for entity in self.entities}


def load_facts(project: Project, *, timeout_seconds: float = 30.0) -> Facts:
    """Import the application in its own interpreter and return what is true of it.

    It never raises for what the project does: an import that fails, hangs, exits or asks for
    input gives facts without routes and a failure that says so. Settings that the import says
    are missing get dummies, and the import is tried again.
    """
    document = run_probe(project, timeout_seconds=timeout_seconds)
    for _ in range(_TRIES - 1):
        missing = [name for failure in document["failures"] for name in _missing(failure)]
        allowed = {
            k: v for item in document["failures"] for k, v in item.get("allowed", {}).items()
        }
        named = [*missing, *allowed]
        dummies = _dummies(project, named, allowed) if "application" not in document else {}
        if dummies.items() <= project.environment.items():
            break
        project = project.using(environment=dummies)
        document = run_probe(project, timeout_seconds=timeout_seconds)
    return Facts.model_validate(document)


def _missing(failure: dict[str, Any]) -> list[str]:
    """Return the settings that a failed import names: as a list, or in capitals in its message."""
    return [*failure.get("missing", ()), *_NAMED.findall(failure["message"])]


def _dummies(project: Project, missing: list[str], allowed: dict[str, str]) -> dict[str, str]:
    if not missing:
        return {}
    texts = [text for path in project.files if (text := read_text(path)) is not None]
    return dummies_for(
        missing,
        texts,
        packages=installed_packages(project.python),
        asynchronous=any(uses_async_engine(text) for text in texts),
        allowed=allowed,
    )
