"""CACHE001: what was read once is answered for ever."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.database import is_query, receiver
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.calls import Call
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_FOREVER: Final = re.compile(r"^(functools\.)?(lru_cache|cache)$|(^|\.)alru_cache$")
_STORES: Final = re.compile(r"(^|_)(redis|cache|valkey|memcached?)(_client|_pool)?$", re.IGNORECASE)
_ENDS: Final = frozenset({"ex", "px", "exat", "pxat", "ttl", "expire", "timeout", "expires_in"})
_DROPS: Final = frozenset(
    {"delete", "unlink", "invalidate", "clear", "expire", "flushdb", "delete_many", "pop", "evict"}
)


def find(review: Review) -> Iterator[Finding]:
    """Find rows that are kept without an end while other routes write, and nothing drops them."""
    if not any(route.writes for route in review.http_routes):
        return
    drops = {
        call.node.func.attr for call in _drops(review) if isinstance(call.node.func, ast.Attribute)
    }
    for function, reach in review.reached.items():
        if not _reads_rows(review, function):
            continue
        if "cache_clear" not in drops and _is_kept(review, function):
            yield RULE.found(
                f"`{function.node.name}` reads rows once and keeps them while the process lives",
                file=function.file,
                line=function.line,
                route=reach.route,
            )
        for call in review.calls.of(function) if not drops else ():
            if _keeps(call):
                yield RULE.found(
                    "what was read is stored without an end, and nothing takes it out again",
                    file=function.file,
                    line=call.line,
                    route=reach.route,
                )


def _drops(review: Review) -> Iterator[Call]:
    """Yield the calls that take something out of a cache, in the whole project."""
    for function in review.source.functions.values():
        for call in review.calls.of(function):
            name = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
            if name == "cache_clear" or (name in _DROPS and _STORES.search(receiver(call))):
                yield call


def _reads_rows(review: Review, function: Function) -> bool:
    reached = review.calls.reached(function)
    return any(is_query(call) for inner in reached for call in review.calls.of(inner))


def _is_kept(review: Review, function: Function) -> bool:
    """Tell whether a decorator keeps what the function returned, without a time to live."""
    for node in function.node.decorator_list:
        called = node.func if isinstance(node, ast.Call) else node
        name = review.source.name_of(function.module, called) or ""
        given = (
            {item.arg for item in node.keywords}
            if isinstance(node, ast.Call)
            else set[str | None]()
        )
        if _FOREVER.search(name) and not given & _ENDS:
            return True
    return False


def _keeps(call: Call) -> bool:
    """Tell whether a call stores a value under a key, without a time to live."""
    name = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
    plain = len(call.node.args) == 2 and not {item.arg for item in call.node.keywords} & {
        *_ENDS,
        None,
    }
    return name == "set" and plain and _STORES.search(receiver(call)) is not None


RULE = Rule(
    id="CACHE001",
    title="Rows are kept in a cache that nothing empties",
    severity="note",
    how="source",
    why="After a change readers get what was there before, until somebody restarts the process or "
    "empties the cache by hand; each process has its own truth.",
    fix="drop the key where the rows are written, after the commit, and give it a time to live: "
    "`await redis.set(key, value, ex=300)`",
    seed='003 "Cache invalidation: On UPDATE/DELETE operations", "TTL: 5-15 minutes"',
    expected="a time to live, any call that empties a cache, settings and other values that are no "
    "rows, applications that only read.",
    bad="""
from functools import lru_cache

from fastapi import FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()
redis: dict[str, str] = {}


class Base(DeclarativeBase):
    pass


class Rate(Base):
    __tablename__ = "rates"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


@lru_cache
def rates() -> list[int]:  # finding
    with Session(engine) as session:
        return [rate.value for rate in session.scalars(select(Rate))]


class Client:
    def set(self, key: str, value: str, ex: int | None = None) -> None:
        redis[key] = value


redis_client = Client()


@app.get("/rates")
def read_rates() -> list[int]:
    return rates()


@app.get("/first")
def read_first() -> int:
    with Session(engine) as session:
        rate = session.get(Rate, 1)
    redis_client.set("first", str(rate))  # finding
    return rate.value if rate else 0


@app.post("/rates", status_code=201)
def add_rate(value: int) -> None:
    with Session(engine) as session:
        session.add(Rate(value=value))
        session.commit()
""",
    good="""
from functools import lru_cache

from fastapi import FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

app = FastAPI()
redis: dict[str, str] = {}


@lru_cache
def get_engine() -> object:
    return create_engine("sqlite://")


class Base(DeclarativeBase):
    pass


class Rate(Base):
    __tablename__ = "rates"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


@lru_cache
def rates() -> list[int]:
    with Session(get_engine()) as session:
        return [rate.value for rate in session.scalars(select(Rate))]


class Client:
    def set(self, key: str, value: str, ex: int | None = None) -> None:
        redis[key] = value


redis_client = Client()


@app.get("/rates")
def read_rates() -> list[int]:
    return rates()


@app.get("/first")
def read_first() -> int:
    with Session(get_engine()) as session:
        rate = session.get(Rate, 1)
    redis_client.set("first", str(rate), ex=300)
    return rate.value if rate else 0


@app.post("/rates", status_code=201)
def add_rate(value: int) -> None:
    with Session(get_engine()) as session:
        session.add(Rate(value=value))
        session.commit()
    rates.cache_clear()
""",
    find=find,
)
