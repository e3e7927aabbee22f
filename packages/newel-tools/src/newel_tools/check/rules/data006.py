"""DATA006: uniqueness is only looked up, and the database does not hold it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.database import writes_rows
from newel_tools.check.finding import Finding
from newel_tools.check.review import Reach, Review
from newel_tools.check.rows import Rows
from newel_tools.check.rule import Rule
from newel_tools.facts.entities import Entity
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_TAKEN: Final = re.compile(
    r"already|exists\b|duplicate|taken|in_use|in use|conflict|not_unique|409", re.IGNORECASE
)


def find(review: Review) -> Iterator[Finding]:
    """Find look-ups by columns without a unique constraint that end in "already exists"."""
    rows = review.rows
    for function, reach in review.reached.items():
        for node in function.nodes:
            if isinstance(node, ast.If) and _refuses(node) and _makes_rows(review, reach):
                yield from _unheld(review, rows, function, node, reach)


def _refuses(branch: ast.If) -> bool:
    """Tell whether a branch raises because something is there already."""
    negated = isinstance(branch.test, ast.UnaryOp) and isinstance(branch.test.op, ast.Not)
    raised = [node for node in branch.body if isinstance(node, ast.Raise)]
    return not negated and any(_TAKEN.search(ast.unparse(node)) for node in raised)


def _makes_rows(review: Review, reach: Reach) -> bool:
    """Tell whether the request that comes here writes afterwards."""
    return any(
        writes_rows(call)
        for start in reach.starts
        for inner in review.calls.reached(start)
        for call in review.calls.of(inner)
    )


def _unheld(
    review: Review, rows: Rows, function: Function, branch: ast.If, reach: Reach
) -> Iterator[Finding]:
    for entity, columns in _looked_up(review, rows, function, branch.test):
        cls = review.class_(entity)
        if cls is None or not columns or _is_unique(entity, columns):
            continue
        names = sorted(columns)
        file, line = review.attribute_place(cls, names[0])
        said = ", ".join(f"`{name}`" for name in names)
        yield RULE.found(
            f"{said} of `{entity.table}` should be unique, and only the code looks",
            file=file,
            line=line,
            route=reach.route,
        )


def _looked_up(
    review: Review, rows: Rows, function: Function, test: ast.expr
) -> Iterator[tuple[Entity, frozenset[str]]]:
    """Yield the entity, and the columns that it was looked up by, of what a condition tests."""
    tested = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    values: list[ast.AST] = [test]
    for node in function.nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in tested:
                values.append(value)
            case _:
                pass
    for value in values:
        for node in ast.walk(value):
            if not isinstance(node, ast.Call):
                continue
            target = review.calls.types.target_of(node, function)
            callee = review.source.functions.get(target or "")
            for inner in review.calls.reached(callee) if callee is not None else ():
                yield from _by_entity(rows, inner, inner.nodes)
        yield from _by_entity(rows, function, list(ast.walk(value)))


def _by_entity(
    rows: Rows, function: Function, nodes: list[ast.AST] | tuple[ast.AST, ...]
) -> Iterator[tuple[Entity, frozenset[str]]]:
    """Yield the one entity that is asked for with all its columns that have to equal a value.

    If anything else is asked, or for a certain value, what is looked for is not a duplicate.
    """
    found: dict[str, tuple[Entity, set[str]]] = {}
    for condition in _conditions(nodes):
        match condition:
            case ast.Compare(left=ast.Attribute(value=owner, attr=name), ops=[ast.Eq()]):
                entity = rows.entity(owner, function.module)
            case _:
                return
        if entity is None or entity.column(name) is None or _is_fixed(condition, function):
            return
        found.setdefault(entity.full_name, (entity, set()))[1].add(name)
    if len(found) == 1:
        for entity, columns in found.values():
            yield entity, frozenset(columns)


def _conditions(nodes: list[ast.AST] | tuple[ast.AST, ...]) -> Iterator[ast.expr]:
    """Yield what rows are asked for: the arguments of `where`, `filter` and `and_`."""
    for node in nodes:
        called = node.func if isinstance(node, ast.Call) else None
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if isinstance(node, ast.Call) and name in ("where", "filter", "and_"):
            for argument in node.args:
                is_joined = isinstance(argument, ast.Call) and ast.unparse(argument.func) == "and_"
                if not is_joined:
                    yield argument
        elif isinstance(node, ast.Call) and name in ("filter_by", "or_"):
            yield node


def _is_fixed(condition: ast.Compare, function: Function) -> bool:
    """Tell whether a column is compared with a value that is written down, or a class's."""
    value: ast.expr = condition.comparators[0]
    if isinstance(value, ast.Constant | ast.Call):
        return True
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Name) and value.id in function.module.names


def _is_unique(entity: Entity, attributes: frozenset[str]) -> bool:
    """Tell whether a constraint holds some of the columns unique, with others perhaps."""
    columns = [column for column in entity.columns if column.attribute in attributes]
    names = {column.name for column in columns} | attributes
    if any(column.unique or column.primary_key for column in columns):
        return True
    held = [*entity.unique, *(index.columns for index in entity.indexes if index.unique)]
    return any(not names.isdisjoint(unique) for unique in held)


RULE = Rule(
    id="DATA006",
    title="Uniqueness is only looked up",
    severity="change",
    how="import",
    why="Two requests at once both find nothing and both insert: duplicates that the code "
    "believes impossible.",
    fix="add a unique constraint with a migration, and answer 409 when the insert fails",
    seed='"409 Conflict (Duplicate)"',
    expected="columns that are part of a unique constraint, a unique index or the primary key; "
    "look-ups that ask for more than equal columns, or for a certain value.",
    bad="""
from fastapi import FastAPI, HTTPException
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]  # finding
    name: Mapped[str]  # finding


def find_by_email(session: Session, email: str) -> User | None:
    return session.scalar(select(User).where(User.email == email))


@app.post("/users", status_code=201)
def create(email: str, name: str) -> None:
    with Session(engine) as session:
        if find_by_email(session, email):
            raise HTTPException(409, "email already registered")
        found = session.scalar(select(User).where(User.name == name))
        if found is not None:
            raise HTTPException(409, "name is taken")
        session.add(User(email=email, name=name))
        session.commit()
""",
    good="""
from fastapi import FastAPI, HTTPException
from sqlalchemy import UniqueConstraint, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    active: Mapped[bool]


def find_by_email(session: Session, email: str) -> User | None:
    return session.scalar(select(User).where(User.email == email))


def find_by_name(session: Session, tenant_id: int, name: str) -> User | None:
    return session.scalar(select(User).where(User.tenant_id == tenant_id, User.name == name))


@app.post("/users", status_code=201)
def create(email: str, name: str, tenant_id: int) -> None:
    with Session(engine) as session:
        if find_by_email(session, email) or find_by_name(session, tenant_id, name):
            raise HTTPException(409, "already registered")
        session.add(User(email=email, name=name, tenant_id=tenant_id, active=True))
        session.commit()


@app.post("/users/{user_id}/archive", status_code=204)
def archive(user_id: int) -> None:
    with Session(engine) as session:
        user = session.scalar(select(User).where(User.id == user_id))
        if user is None:
            raise HTTPException(404, "not found")
        others = session.scalar(select(User).where(User.active, User.id != user_id))
        if others:
            raise HTTPException(409, "others are still active: conflict")
        first = session.scalar(select(User).where(User.active == True))
        if first:
            raise HTTPException(409, "one is still active: conflict")
        named = session.scalar(select(User).filter_by(active=False))
        if named:
            raise HTTPException(409, "one already sleeps")
        user.active = False
        session.commit()
""",
    find=find,
)
