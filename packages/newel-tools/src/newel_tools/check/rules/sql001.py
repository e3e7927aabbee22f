"""SQL001: a statement made of texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.database import is_session_call
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.taint import Kind, Taint, own_text
from newel_tools.facts.calls import Call
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_TEXTS: Final = re.compile(r"(sqlalchemy|sqlmodel)\.(\w+\.)*(text|literal_column)")
_METHODS: Final = frozenset(
    {"execute", "executemany", "executescript", "exec", "exec_driver_sql", "execute_query", "raw"}
    | {"fetch", "fetchrow", "fetchval", "fetch_one", "fetch_all", "fetch_val"}
)
_STATEMENT: Final = re.compile(
    r"^\s*(select|insert|update|delete|with|alter|drop|create|truncate|set|order by|where)\b",
    re.IGNORECASE,
)
_ORDER: Final = frozenset({"__tablename__", "name", "schema", "fullname", "table_name"})


def find(review: Review) -> Iterator[Finding]:
    """Find statements with a client's text in them, and those made of other texts as notes."""
    taint = Taint(
        review, Kind(held=own_text, cleaners=re.compile(r"^(quote|quoted_name|bindparam)"))
    )
    blocked: set[tuple[str, int]] = set()
    for call, route in taint.calls():
        if _is_sink(call) and taint.decides(_statement(call), call.caller):
            blocked.add((call.caller.file, call.line))
            yield RULE.found(
                "text from the client becomes part of a statement",
                file=call.caller.file,
                line=call.line,
                route=route.label,
            )
    for call, reach in review.reached_calls():
        place = (call.caller.file, call.line)
        if place not in blocked and _is_sink(call) and _is_built(call):
            yield RULE.found(
                "a statement is made of texts that are not all constant",
                file=place[0],
                line=place[1],
                route=reach.route,
                severity="note",
            )


def _is_sink(call: Call) -> bool:
    if call.target is not None and _TEXTS.fullmatch(call.target):
        return True
    name = getattr(call.node.func, "attr", "")
    return name in _METHODS and is_session_call(call)


def _statement(call: Call) -> ast.expr | None:
    """Return the text of the statement; what `text()` wraps is its own call's."""
    given = call.node.args[0] if call.node.args else None
    return None if isinstance(given, ast.Call) and _name(given) == "text" else given


def _is_built(call: Call) -> bool:
    statement = _statement(call)
    if isinstance(statement, ast.Name):
        values = [
            node.value
            for node in call.caller.nodes
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == statement.id for t in node.targets)
        ]
        return any(_is_mixed(value, call.caller) for value in values)
    return _is_mixed(statement, call.caller)


def _is_mixed(value: ast.expr | None, function: Function) -> bool:
    """Tell whether a statement is put together from a constant and something that is none."""
    match value:
        case ast.JoinedStr(values=parts):
            inner = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
        case ast.BinOp(left=left, op=ast.Add() | ast.Mod(), right=right):
            parts, inner = [left, right], [left, right]
        case ast.Call(func=ast.Attribute(value=ast.Constant() as left, attr="format"), args=args):
            parts, inner = [left], list(args)
        case _:
            return False
    words = (part.value for part in parts if isinstance(part, ast.Constant))
    says_so = any(isinstance(word, str) and _STATEMENT.match(word) for word in words)
    return says_so and not all(_is_constant(part, function) for part in inner)


def _is_constant(part: ast.expr, function: Function) -> bool:
    match part:
        case ast.Constant():
            return True
        case ast.Attribute(attr=name):
            return name.isupper() or name in _ORDER
        case ast.Subscript(value=inner):
            return _is_constant(inner, function)
        case ast.Name(id=name):
            known = function.module.values.get(name)
            return name.isupper() or isinstance(known, ast.Constant)
        case ast.Call():
            return _name(part) in (
                "int",
                "len",
                "float",
                "join",
                "quote",
                "quoted_name",
                "format_ident",
            )
        case _:
            return False


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


RULE = Rule(
    id="SQL001",
    title="A statement is made of texts",
    severity="block",
    how="source",
    why="A text that ends the statement and begins another reads, changes or drops any table.",
    fix="bind values, `text('... = :name')` with `{'name': name}`, or use `select()`; choose "
    "columns and orders from a dictionary",
    seed='003 "SQL injection prevention via ORM", "Use raw SQL"',
    expected="bound parameters, numbers, choices and patterns that FastAPI has validated, texts "
    "that are compared or checked on the way, constants. Other mixed texts are notes.",
    bad="""
from fastapi import FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

engine = create_engine("sqlite://")
app = FastAPI()


def search(session: Session, term: str, order: str) -> list[str]:
    query = "SELECT name FROM users WHERE name LIKE '%" + term + "%'"
    query += f" ORDER BY {order}"
    return list(session.scalars(text(query)))  # finding


@app.get("/users")
def users(term: str, order: str = "name") -> list[str]:
    with Session(engine) as session:
        return search(session, term, order)


@app.get("/tables/{table}")
def rows(table: str) -> int:
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT count(*) FROM {table}")  # finding
        return found.scalar_one()


@app.get("/years")
def years() -> list[str]:
    with engine.connect() as connection:
        suffix = engine.dialect.name
        return list(connection.execute(text(f"SELECT y FROM t_{suffix}")).scalars())  # finding
""",
    good="""
from typing import Literal

from fastapi import FastAPI
from sqlalchemy import Column, MetaData, String, Table, create_engine, text
from sqlalchemy.orm import Session

engine = create_engine("sqlite://")
app = FastAPI()
TABLE = "users"
members = Table("members", MetaData(), Column("name", String))
ORDERS = {"name": "name", "age": "age DESC"}


@app.get("/users")
def users(term: str, order: Literal["name", "age"] = "name") -> list[str]:
    statement = text(f"SELECT name FROM {TABLE} WHERE name LIKE :term")
    with Session(engine) as session:
        return list(session.scalars(statement, {"term": f"%{term}%"}))


@app.post("/members")
def join(name: str) -> None:
    statement = members.insert().values(name=name)
    with Session(engine) as session:
        session.execute(statement)
        session.commit()


@app.get("/sorted")
def sorted_users(order: str = "name") -> list[str]:
    if order not in ORDERS:
        order = "name"
    with Session(engine) as session:
        return list(session.scalars(text("SELECT name FROM users ORDER BY " + ORDERS[order])))


@app.get("/users/{user_id}")
def user(user_id: int) -> list[str]:
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT name FROM users WHERE id = ?", (user_id,))
        return list(found.scalars())
""",
    find=find,
)
