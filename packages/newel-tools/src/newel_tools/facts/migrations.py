"""What a project's migrations say to PostgreSQL: `load_migrations`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from newel_tools.facts.files import project_files, read_text
from newel_tools.facts.process import run_probe
from newel_tools.facts.project import Project
from newel_tools.facts.shapes import Fact

__all__ = ["Migrations", "Statement", "load_migrations", "migration_settings"]

_SECONDS: Final = 30.0


class Statement(Fact):
    """One statement, and the line of its revision that prints it; 0 if that is not known.

    ``types`` are a column's before and after. ``is_new``: the revision is not published yet.
    """

    sql: str
    file: str
    line: int
    types: tuple[str, str] | None = None
    is_new: bool


class Migrations(Fact):
    """The statements of the newest revisions, in the order in which they run.

    ``older`` counts the revisions left out. ``failure`` says what could not be printed, and why.
    """

    statements: tuple[Statement, ...] = ()
    older: int = 0
    failure: str | None = None


def migration_settings(project: Project) -> Path | None:
    """Return the project's alembic.ini, or its folder of revisions where newel runs them."""
    inside = [folder for folder in project.around if folder.is_relative_to(project.root)]
    for folder in inside:
        if (folder / "alembic.ini").is_file():
            return folder / "alembic.ini"
        if _has_revisions(folder / "migrations"):
            return folder / "migrations"
    found = [path for path, names in project_files(project.root) if "alembic.ini" in names]
    return found[0] / "alembic.ini" if len(found) == 1 else None


def _revisions(project: Project) -> set[str]:
    texts = ((path, read_text(path)) for path in project.files)
    return {project.relative(path) for path, text in texts if text and "down_revision" in text}


def _has_revisions(folder: Path) -> bool:
    return any("down_revision" in (read_text(path) or "") for path in folder.glob("*.py"))


def load_migrations(
    project: Project, settings: Path, *, published: Iterable[str] | None
) -> Migrations:
    """Print what migrations would send, in the project's own interpreter and behind the guard.

    Revisions that are not among the ``published`` files are new; `None`: nothing is known, and the
    newest is. That one is printed in any case. It raises for nothing that the project does.
    """
    wanted = {
        "settings": project.relative(settings),
        "new": None if published is None else sorted(_revisions(project) - {*published}),
    }
    document = run_probe(project, timeout_seconds=_SECONDS, migrations=wanted)
    for failure in document["failures"]:
        said = f"{failure['class']}: {failure['message']}"
        return Migrations(failure=f"{project.relative(settings)}: {said}")
    told = document["migrations"]
    return Migrations(statements=told["statements"], older=told["older"], failure=told["unread"])
