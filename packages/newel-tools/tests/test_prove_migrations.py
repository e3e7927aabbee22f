"""Models and migrations that part are told; what belongs beside the models is not."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from newel_tools.check.rule import files_of
from newel_tools.facts.project import find_project
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Result, load_probes
from newel_tools.prove.sandbox import Sandbox, sandbox
from newel_tools.prove.settings import Settings

Files = dict[str, str]

PROBE = load_probes()["DATA007"]
IN_STEP = files_of(PROBE.good)
MODELS, REVISION = "models.py", "migrations/versions/0001_notes.py"
MISSING = "in the models, not in the migrated schema"
TAG = """

class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
"""


def changed(name: str, old: str, new: str, files: Files = IN_STEP) -> Files:
    assert old in files[name]
    return {**files, name: files[name].replace(old, new)}


def added(name: str, text: str, files: Files = IN_STEP) -> Files:
    return {**files, name: files[name] + text}


def with_column(line: str) -> Files:
    return changed(
        MODELS, "    title: Mapped[str | None]", f"    title: Mapped[str | None]\n{line}"
    )


@pytest.fixture
def results(laboratory: Callable[..., Lab]) -> Callable[[Files], list[Result]]:
    return lambda files: list(PROBE.run(laboratory(files)))


def told(results: list[Result]) -> list[tuple[str, str]]:
    findings = [result.finding for result in results if result.finding is not None]
    return [(finding.severity, finding.what) for finding in findings]


@pytest.mark.parametrize(
    ("files", "severity", "what"),
    [
        (with_column("    stars: Mapped[int]"), "block", f"column notes.stars: {MISSING}"),
        (added(MODELS, TAG), "block", f"table tags: {MISSING}"),
        (
            changed("main.py", "app = ", "from database import Base, engine\n"
                    "Base.metadata.create_all(engine)\napp = ", added(MODELS, TAG)),
            "note",
            f"table tags: {MISSING}",
        ),
        (
            changed(MODELS, "    title: Mapped[str | None]\n", ""),
            "note",
            "column notes.title: in the migrated schema, not in the models",
        ),
        (
            changed(MODELS, "title: Mapped[str | None]", "title: Mapped[str]"),
            "note",
            "column notes.title: may be null in the migrated schema only",
        ),
        (
            changed(MODELS, "text: Mapped[str]", "text: Mapped[str | None]"),
            "note",
            "column notes.text: may be null in the models only",
        ),
    ],
    ids=["column", "table", "table-of-the-start-up", "old-column", "null", "no-null"],
)  # fmt: skip
def test_what_parts_is_told(
    files: Files, severity: str, what: str, results: Callable[[Files], list[Result]]
) -> None:
    assert told(results(files)) == [(severity, what)]


def test_what_is_missing_is_told_first(results: Callable[[Files], list[Result]]) -> None:
    files = changed(MODELS, "text: Mapped[str]", "text: Mapped[str | None]")
    [broken] = results(added(MODELS, TAG, files))

    assert told([broken]) == [("block", f"table tags: {MISSING}, and 1 more")]
    assert broken.evidence.details == ("column notes.text: may be null in the models only",)
    assert broken.evidence.curl == ("alembic upgrade head && alembic check",)


VIEW = """

class Titled(Base):
    __tablename__ = "titled"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
"""
BESIDE = """    op.execute("CREATE VIEW titled AS SELECT id, title FROM notes WHERE title > ''")
    op.create_table("newel_jobs", sa.Column("id", sa.Integer(), primary_key=True))
    op.create_index("ix_notes_text", "notes", ["text"])
"""


@pytest.mark.parametrize(
    "files",
    [
        IN_STEP,
        added(MODELS, VIEW, added(REVISION, BESIDE)),
        changed(MODELS, "text: Mapped[str]", "text: Mapped[str] = mapped_column(index=True)"),
        changed(REVISION, 'sa.Column("text", sa.String()', 'sa.Column("text", sa.Text()'),
        added(MODELS, "\n\nBase.metadata.tables['notes'].comment = 'what was noted'\n"),
    ],
    ids=["in-step", "view-and-kernel-table", "index", "affinity", "comment"],
)
def test_what_belongs_beside_the_models_is_not_told(
    files: Files, results: Callable[[Files], list[Result]]
) -> None:
    assert [result.state for result in results(files)] == ["kept"]


def test_what_env_py_leaves_out_is_not_told(results: Callable[[Files], list[Result]]) -> None:
    options = "target_metadata=Base.metadata, include_object=lambda *said: said[1] != 'tags'"
    files = changed("migrations/env.py", "target_metadata=Base.metadata", options)

    assert [result.state for result in results(added(MODELS, TAG, files))] == ["kept"]


def test_a_project_without_alembic_is_not_asked(
    results: Callable[[Files], list[Result]],
) -> None:
    files = {name: text for name, text in IN_STEP.items() if name.endswith(".py")}

    assert results(files) == []


def set_up(folder: Path, files: Files, **settings: object) -> Sandbox:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    found = find_project(folder, python=Path(sys.executable))
    with sandbox(found, Settings.model_validate(settings)) as place:
        place.set_up(lambda _: None)
    return place


@pytest.mark.parametrize(
    ("files", "note"),
    [
        (
            changed(REVISION, "def upgrade() -> None:", "def upgrade() -> None:\n    1 / 0"),
            "failed",
        ),
        (
            changed("migrations/env.py", "target_metadata=Base.metadata", "target_metadata=None"),
            "the models were not compared with the migrations: alembic check failed",
        ),
        (
            {name: text for name, text in IN_STEP.items() if name != REVISION},
            "there is no revision",
        ),
        (
            changed("database.py", "sqlite:///./example.db", "sqlite://"),
            "the migrations have left the database that env.py opens as it was",
        ),
    ],
    ids=["failed", "no-models", "no-revision", "in-memory"],
)
def test_what_could_not_be_compared_is_a_note(files: Files, note: str, tmp_path: Path) -> None:
    place = set_up(tmp_path, files)

    assert place.differences is None
    assert any(note in said for said in place.notes), place.notes


ON_POSTGRESQL = {
    "database.py": """
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase

engine = create_async_engine("postgresql+asyncpg://notes@127.0.0.1/notes")


class Base(DeclarativeBase):
    pass
""",
    "migrations/env.py": """
import asyncio

from alembic import context

from database import Base, engine
import models


def run(connection):
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    async with engine.begin() as connection:
        await connection.run_sync(run)


asyncio.run(main())
""",
    "main.py": "from fastapi import FastAPI\n\nimport models\n\napp = FastAPI()\n",
}


@pytest.mark.timeout(120)
def test_types_are_compared_on_postgresql(tmp_path: Path) -> None:
    beside = added(MODELS, VIEW, added(REVISION, BESIDE))
    files = changed(REVISION, '"text", sa.String()', '"text", sa.Integer()', beside)

    place = set_up(tmp_path, {**files, **ON_POSTGRESQL}, database="postgresql")

    assert place.differences is not None, place.notes
    assert [one.said for one in place.differences] == [
        "column notes.text: INTEGER() in the migrated schema, String() in the models"
    ]
