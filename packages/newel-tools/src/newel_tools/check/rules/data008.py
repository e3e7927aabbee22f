"""DATA008: a migration that stops or breaks what runs while it is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.git import NoAnswer, Published, published
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.unsafe_migrations import DROPS, Danger, unsafe
from newel_tools.facts.files import read_text
from newel_tools.facts.migrations import load_migrations, migration_settings

__all__ = ["RULE"]

_SQL_CHARACTERS: Final = 160


def find(review: Review) -> Iterator[Finding]:
    """Find dangerous statements of the migrations that git does not have on the default branch.

    The newest one is looked at in any case; it is a note where it is on that branch, for then it
    may have run. What could not be looked at is said at the end.
    """
    settings = migration_settings(review.project)
    if settings is None:
        return
    if not _is_for_postgres(review, settings):
        known = ", ".join(sorted(review.dialects)) or "no database that is known"
        raise NoAnswer(f"the migrations are for {known}, and squawk knows PostgreSQL alone")
    branch = published(review.project.root)
    told = load_migrations(
        review.project, settings, published=None if branch is None else branch.files
    )
    by_cause: dict[tuple[str, str], list[Danger]] = {}
    for danger in unsafe(told.statements):
        if danger.kind is not DROPS or _is_early(danger, branch):
            key = (danger.statement.file, danger.kind.what)
            by_cause.setdefault(key, []).append(danger)
    for same in by_cause.values():
        yield _finding(same, can_tell=branch is not None)
    left = [f"{told.failure}; nothing behind it was looked at"] if told.failure else []
    if told.older:
        left.append(f"{told.older} older migrations are left out: they have run, or soon will have")
    if left:
        raise NoAnswer("; ".join(left))


def _is_for_postgres(review: Review, settings: Path) -> bool:
    """Tell whether it runs on PostgreSQL: an engine that is made later has only an address yet."""
    if review.dialects:
        return "postgresql" in review.dialects
    said = [*review.project.environment.values(), read_text(settings) or ""]
    return any("postgres" in text for text in said)


def _is_early(danger: Danger, branch: Published | None) -> bool:
    """Tell whether running code may name what is dropped: the published code is what runs.

    Of a migration that is published itself, what ran before it is not known.
    """
    if branch is None:
        return True
    if not danger.statement.is_new:
        return False
    words = [danger.table.rpartition(".")[2], danger.column]
    return branch.names(*filter(None, words))


def _finding(same: Sequence[Danger], *, can_tell: bool) -> Finding:
    first, *others = same
    statement = first.statement
    is_note = not statement.is_new or (first.kind is DROPS and not can_tell)
    return RULE.found(
        f"{first.kind.what.format(table=first.table)}: `{_short(statement.sql)}`",
        file=statement.file,
        line=statement.line,
        severity="note" if is_note else "change",
        fix=first.kind.fix,
        also=[
            f"{one.statement.file}:{one.statement.line} {_short(one.statement.sql)}"
            for one in others
        ],
    )


def _short(sql: str) -> str:
    text = " ".join(sql.split()).rstrip(";")
    return text if len(text) <= _SQL_CHARACTERS else f"{text[:_SQL_CHARACTERS]}..."


_PROJECT: Final = """
# file: main.py
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://user@localhost/app")
app = FastAPI()
# file: alembic.ini
[alembic]
script_location = migrations
# file: migrations/versions/0001_users.py
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table("teams", sa.Column("id", sa.Integer(), primary_key=True))
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("email", sa.String(100), nullable=False),
        sa.Column("age", sa.Integer(), nullable=True),
    )
    op.create_index("ix_users_age", "users", ["age"])
# file: migrations/versions/0002_teams.py
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
"""
RULE = Rule(
    id="DATA008",
    title="A migration is not safe while the service runs",
    severity="change",
    how="migrations",
    why="On a table with rows it fails, or makes requests wait for as long as it reads or writes "
    "them all; or it takes away what the old code still asks for.",
    fix="in steps that each leave the running code right: add, fill, switch, and remove in a later "
    "deployment",
    seed='DevOps, "squawk on alembic upgrade --sql"',
    expected="databases other than PostgreSQL; tables that the same migrations make; changes for "
    "which PostgreSQL touches no row; drops of what the default branch no longer names; migrations "
    "that are on the default branch (of these the newest is a note). How many rows a table has is "
    "not known.",
    bad=f"""{_PROJECT}\
    op.add_column("users", sa.Column("name", sa.Text(), nullable=False))  # finding
    op.add_column("users", sa.Column("team_id", sa.Integer(), nullable=True))
    op.create_index("ix_users_email", "users", ["email"])  # finding
    op.create_foreign_key("fk_team", "users", "teams", ["team_id"], ["id"])  # finding
    op.create_unique_constraint("uq_users_email", "users", ["email"])  # finding
    op.alter_column("users", "age", type_=sa.Text(), existing_type=sa.Integer())  # finding
    op.alter_column("users", "email", new_column_name="mail")  # finding
""",
    good=f"""{_PROJECT}    op.add_column(
        "users", sa.Column("name", sa.String(), server_default="", nullable=False)
    )
    op.add_column("users", sa.Column("team_id", sa.Integer(), nullable=True))
    op.create_foreign_key(
        "fk_team", "users", "teams", ["team_id"], ["id"], postgresql_not_valid=True
    )
    op.alter_column("users", "email", type_=sa.String(320), existing_type=sa.String(100))
    op.create_table("notes", sa.Column("id", sa.Integer(), primary_key=True))
    op.add_column("notes", sa.Column("text", sa.String(), nullable=False))
    op.create_index("ix_notes_text", "notes", ["text"])
    with op.get_context().autocommit_block():
        op.create_index("ix_users_email", "users", ["email"], postgresql_concurrently=True)
""",
    find=find,
)
