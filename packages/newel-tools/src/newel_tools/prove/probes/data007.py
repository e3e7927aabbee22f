"""The migrations make what the models have."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    if lab.differences is None:
        return
    if not lab.differences:
        yield PROBE.kept("")
        return
    created = lab.service.created
    missing = [
        one
        for one in lab.differences
        if one.kind == "add_column" or (one.kind == "add_table" and one.table in created)
    ]
    first, *others = [*missing, *(one for one in lab.differences if one not in missing)]
    more = f", and {len(others)} more" if others else ""
    yield PROBE.broke(
        "",
        f"{first.said}{more}",
        severity="block" if missing else "note",
        details=[one.said for one in others],
        commands=["alembic upgrade head && alembic check"],
    )


_BAD = f"""{DATABASE}
# file: models.py
from sqlalchemy.orm import Mapped, mapped_column

from database import Base


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    title: Mapped[str | None]

# file: alembic.ini
[alembic]
script_location = migrations

# file: migrations/env.py
from alembic import context

from database import Base, engine
import models

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()

# file: migrations/versions/0001_notes.py
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("text", sa.String(), nullable=False),
    )

# file: main.py
import sqlalchemy as sa
from fastapi import FastAPI

from database import Db
from models import Note

app = FastAPI()


@app.get("/notes")
def list_notes(session: Db) -> list[str]:
    return [note.text for note in session.scalars(sa.select(Note).limit(50))]
"""
PROBE = Probe(
    id="DATA007",
    title="The migrations make what the models have",
    severity="block",
    why="Every request on a column that no migration made ends in 500 once it is deployed.",
    fix='write what is missing: `alembic revision --autogenerate -m "..."`, read it, and commit it',
    seed='"Models/Database agent"',
    expected="views; tables without a model; indexes, comments and defaults; types on SQLite; "
    "models that env.py does not import. It is a note where no table or column is missing, or only "
    "tables that the start-up makes",
    bad=_BAD,
    good=_BAD.replace(
        "nullable=False),\n",
        'nullable=False),\n        sa.Column("title", sa.String()),\n',
    ),
    run=_run,
)
