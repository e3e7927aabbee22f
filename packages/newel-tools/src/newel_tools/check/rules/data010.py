"""DATA010: a default that was computed once, when the program started."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import libcst

from newel_tools.check.finding import Finding
from newel_tools.check.mend import LineTransformer
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.entities import Column, Entity

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find columns whose default is a date or time, and not what computes one."""
    for entity in review.facts.entities:
        for column in entity.columns:
            if (column.default or {}).get("moment"):
                file, line = _place(review, entity, column)
                yield RULE.found(
                    f"every row gets the `{column.attribute}` at which the process started",
                    file=file,
                    line=line,
                )


def _place(review: Review, entity: Entity, column: Column) -> tuple[str | None, int]:
    """Return where `default=` stands; the whole statement may have several lines."""
    cls = review.class_(entity)
    for owner in review.source.bases(cls) if cls is not None else ():
        for node in owner.node.body:
            match node:
                case (
                    ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                    | ast.Assign(targets=[ast.Name(id=name)], value=value)
                ) if name == column.attribute:
                    return owner.module.file, _default_line(value)
                case _:
                    pass
    return entity.file, review.line_of(entity)


def _default_line(value: ast.expr) -> int:
    if isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg == "default":
                return keyword.value.lineno
    return value.lineno


class _PassTheFunction(LineTransformer):
    """`default=utcnow()` becomes `default=utcnow`; with arguments it becomes a lambda."""

    def leave_Arg(  # noqa: N802 - the name that libcst calls it by
        self, original_node: libcst.Arg, updated_node: libcst.Arg
    ) -> libcst.Arg:
        call = updated_node.value
        is_default = updated_node.keyword is not None and updated_node.keyword.value == "default"
        if not (
            is_default and isinstance(call, libcst.Call) and self.is_marked(original_node.value)
        ):
            return updated_node
        self.note(original_node.value)
        if call.args:
            return updated_node.with_changes(value=libcst.Lambda(libcst.Parameters(), call))
        return updated_node.with_changes(value=call.func)


RULE = Rule(
    id="DATA010",
    title="A column's default was computed when the program started",
    severity="block",
    how="import",
    why="`default=now()` calls `now` once, on import: every row until the next start gets "
    "the same time.",
    fix="pass the function, not its result: `default=now`, or `server_default=func.now()`",
    seed='"created_at" in every example',
    expected="functions, SQL expressions, and fixed dates: a default counts if it is the time of"
    " the import.",
    bad="""
from datetime import UTC, datetime

from fastapi import FastAPI
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=datetime.now(UTC))  # finding
""",
    good="""
from datetime import UTC, datetime

from fastapi import FastAPI
from sqlalchemy import func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))
    seen_at: Mapped[datetime] = mapped_column(default=datetime.now)
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    archived_at: Mapped[datetime] = mapped_column(default=datetime(9999, 12, 31, tzinfo=UTC))
""",
    find=find,
    mend=_PassTheFunction,
)
