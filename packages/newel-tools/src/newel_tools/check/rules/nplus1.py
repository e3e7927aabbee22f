"""NPLUS1: a query in a loop."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from newel_tools.check.database import is_query
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.calls import Call
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_Loop: TypeAlias = ast.For | ast.AsyncFor | ast.ListComp | ast.SetComp | ast.DictComp
_FEW: Final = re.compile(r"\b(range|attempt|retr|chunk|batch|page)|^[\[({]", re.IGNORECASE)
_SENDS: Final = frozenset(
    {"execute", "exec", "scalar", "scalars", "get", "get_one", "refresh", "query", "fetch"}
    | {"fetch_one", "fetch_all", "fetchrow", "find", "stream", "stream_scalars"}
)


def find(review: Review) -> Iterator[Finding]:
    """Find statements, and calls of functions that send some, in the bodies of loops."""
    for function, reach in review.reached.items():
        asking = [call for call in review.calls.of(function) if _queries(review, call)]
        loops = _loops(function) if asking else ()
        looped = {id(node) for loop in loops for node in _body(loop)}
        for call in asking:
            if id(call.node) in looped:
                yield RULE.found(
                    f"`{ast.unparse(call.node.func)}` asks the database once for each row",
                    file=function.file,
                    line=call.line,
                    route=reach.route,
                )


def _loops(function: Function) -> Iterator[_Loop]:
    """Yield the loops over something that may be long; repeats and chunks are none."""
    for node in function.nodes:
        if isinstance(node, ast.For | ast.AsyncFor):
            said = f"{ast.unparse(_walked(node.iter, function))} {ast.unparse(node.target)}"
            if not _FEW.search(said):
                yield node
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp) and not _FEW.search(
            ast.unparse(_walked(node.generators[0].iter, function))
        ):
            yield node


def _walked(iterable: ast.expr, function: Function) -> ast.expr:
    """Return what is looped over: inside of `sorted(...)`, and what stands for a local name."""
    match iterable:
        case ast.Call(func=ast.Name(id="sorted" | "reversed" | "enumerate"), args=[inner, *_]):
            return _walked(inner, function)
        case ast.Name(id=name):
            given = [_value(node, name) for node in function.nodes]
            values = [value for value in given if value is not None]
            return values[0] if len(values) == 1 and _is_full(values[0]) else iterable
        case _:
            return iterable


def _is_full(value: ast.expr) -> bool:
    """Tell whether a literal has its elements already: an empty list may become long."""
    return isinstance(value, ast.List | ast.Tuple | ast.Set) and bool(value.elts)


def _value(node: ast.AST, name: str) -> ast.expr | None:
    match node:
        case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
            return value
        case _:
            return None


def _body(loop: _Loop) -> Iterator[ast.AST]:
    """Yield what runs for each element; what is looped over is asked for once."""
    if isinstance(loop, ast.For | ast.AsyncFor):
        parts: list[ast.AST] = list(loop.body)
    elif isinstance(loop, ast.DictComp):
        parts = [loop.key, loop.value]
    else:
        parts = [loop.elt]
    for part in parts:
        yield from ast.walk(part)


def _queries(review: Review, call: Call) -> bool:
    if call.function is not None:
        return any(_sends(inner) for inner in review.calls.of(call.function))
    return _sends(call)


def _sends(call: Call) -> bool:
    """Tell whether a call sends a statement; `.all()` only reads what one has brought."""
    method = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
    return method in _SENDS and is_query(call)


RULE = Rule(
    id="NPLUS1",
    title="A loop asks the database for each row",
    severity="note",
    how="source",
    why="A page of 100 rows becomes 101 statements: the time grows with the rows, and nobody "
    "notices with ten of them.",
    fix="ask once: `where(Note.id.in_(ids))`, `selectinload(...)`, or one INSERT with many rows; "
    "`newel prove` counts the statements",
    seed='"Ignore N+1 queries"',
    expected="loops over literals and ranges, retries, chunks and batches, what is looped over, "
    "code that no request reaches.",
    bad="""
from fastapi import FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def load(session: Session, note_id: int) -> Note | None:
    return session.get(Note, note_id)


@app.post("/notes/loop")
def loop(ids: list[int]) -> int:
    found = 0
    with Session(engine) as session:
        for note_id in ids:
            found += session.scalar(select(Note.id).where(Note.id == note_id)) or 0  # finding
    return found


@app.post("/notes/listed")
def listed(ids: list[int]) -> int:
    with Session(engine) as session:
        notes = [load(session, note_id) for note_id in ids]  # finding
        names = {note_id: load(session, note_id) for note_id in ids}  # finding
    return len(notes) + len(names)
""",
    good="""
from fastapi import FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def batched(ids: list[int], size: int) -> list[list[int]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


@app.post("/notes/once")
def once(ids: list[int]) -> list[int]:
    with Session(engine) as session:
        found = [note.id for note in session.scalars(select(Note).where(Note.id.in_(ids)))]
        for note in session.scalars(select(Note).where(Note.id.in_(ids))):
            found.append(note.id)
        pair = [1, 2]
        for note_id in sorted(pair):
            session.get(Note, note_id)
        for attempt in range(3):
            session.scalar(select(Note.id))
        for chunk in batched(ids, 100):
            session.scalars(select(Note).where(Note.id.in_(chunk))).all()
    for note_id in ids:
        found.append({1: 2}.get(note_id, 0))
    return found


def never_called(ids: list[int]) -> None:
    with Session(engine) as session:
        for note_id in ids:
            session.get(Note, note_id)
""",
    find=find,
    is_habit=True,
)
