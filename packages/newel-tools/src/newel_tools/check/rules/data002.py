"""DATA002: the schema accepts what the column cannot hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding, Severity
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.sizes import is_compared, reads_rows
from newel_tools.check.stores import Store
from newel_tools.facts.entities import Column
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Field

__all__ = ["RULE"]

_LISTED: Final = 20
_BITS: Final = {"SmallInteger": 15, "Integer": 31, "INTEGER": 31, "BigInteger": 63}
_ENDLESS: Final = re.compile(r"(?<!\\)[*+]|\{\d+,\}")  # outside of a class: it bounds no length
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
_TEXTS: Final = frozenset({"String", "VARCHAR", "Unicode", "CHAR", "AutoString", "NVARCHAR"})


def find(review: Review) -> Iterator[Finding]:
    """Find fields that are wider than the columns that they are written to.

    SQLite has no widths, so an application that only knows SQLite has no finding.
    """
    if review.dialects == frozenset({"sqlite"}):
        return
    if "postgresql" in review.dialects:
        yield from _ids(review)
        yield from _nul(review)
    for store in review.stores:
        for field, column in store.pairs if not store.model.checked_whole else ():
            said = _wider(store, field, column)
            if said and not field.shape.validated and not _is_checked(review, store, field):
                file, line = review.field_place(store.model, field.name)
                yield RULE.found(
                    f"`{field.name}` {said[0]}, `{store.entity.table}.{column.name}` {said[1]}",
                    file=file,
                    line=line,
                    route=store.labels[0],
                    severity=said[2],
                )


def _wider(store: Store, field: Field, column: Column) -> tuple[str, str, Severity] | None:
    limits = field.shape.limits
    if column.is_converted or field.shape.values is not None:
        return None
    if column.type in _TEXTS and column.length and "str" in field.shape.types:
        allowed = limits.max_length or store.model.config.get("str_max_length")
        if not _bounds(limits.pattern) and (allowed is None or allowed > column.length):
            said = f"may have {allowed} characters" if allowed else "may have any length"
            return said, f"holds {column.length}", "change"
    if column.type in ("Numeric", "DECIMAL", "NUMERIC") and "Decimal" in field.shape.types:
        return _decimal(field, column)
    bits = _BITS.get(column.type)
    if bits and "int" in field.shape.types and limits.le is None and limits.lt is None:
        references = column.references or column.primary_key
        return None if references else ("has no upper bound", f"holds {bits + 1} bits", "note")
    return None


def _bounds(pattern: str | None) -> bool:
    """Tell whether a pattern may bound the length: nothing in it repeats for ever."""
    return pattern is not None and not _ENDLESS.search(_CLASS.sub("x", pattern))


def _ids(review: Review) -> Iterator[Finding]:
    """Find integers in paths that may be larger than the keys they stand for; one finding."""
    keys = (c for entity in review.facts.entities for c in entity.columns if c.primary_key)
    if not any(column.type in ("Integer", "INTEGER", "SmallInteger") for column in keys):
        return
    found: dict[str, tuple[Route, str]] = {}
    for route in review.http_routes:
        for param in route.params if reads_rows(review, route) else ():
            limits = param.shape.limits
            free = limits.le is None and limits.lt is None and not param.shape.validated
            named = param.name == "id" or param.name.endswith("_id")
            if param.source == "path" and param.shape.types == ("int",) and named and free:
                found.setdefault(route.label, (route, param.name))
    for route, name in list(found.values())[:1]:
        file, line = review.at(route)
        yield RULE.found(
            f"`{name}` of {len(found)} routes may be larger than any key: the driver refuses "
            "2147483648, and the answer is 500",
            file=file,
            line=line,
            route=route.label,
            also=list(found)[1:_LISTED],
            severity="note",
            fix="`Annotated[int, Path(ge=1, le=2**31 - 1)]`, or a handler that answers 404",
        )


def _nul(review: Review) -> Iterator[Finding]:
    """Find texts that may hold NUL, which PostgreSQL has not; one finding."""
    found: dict[tuple[str, str], Store] = {}
    for store in review.stores:
        for field, _ in store.pairs if not store.model.checked_whole else ():
            shape = field.shape
            plain = "str" in shape.types and shape.limits.pattern is None and shape.values is None
            if plain and not shape.validated:
                found.setdefault((store.model.full_name, field.name), store)
    for (_, name), store in list(found.items())[:1]:
        file, line = review.field_place(store.model, name)
        yield RULE.found(
            f"`{name}` and {len(found) - 1} more texts may hold NUL, which PostgreSQL refuses: 500",
            file=file,
            line=line,
            route=store.labels[0],
            severity="note",
            fix='refuse it: `Field(pattern=r"^[^\\x00]*$")`',
        )


def _decimal(field: Field, column: Column) -> tuple[str, str, Severity] | None:
    limits = field.shape.limits
    if column.precision is None or limits.le is not None or limits.lt is not None:
        return None
    whole = column.precision - (column.scale or 0)
    if limits.max_digits is not None and limits.max_digits - (limits.decimal_places or 0) <= whole:
        return None
    return "may have any number of digits", f"holds {whole} before the point", "change"


def _is_checked(review: Review, store: Store, field: Field) -> bool:
    """Tell whether code that the request runs compares the value after all."""
    return any(
        is_compared(function, field.name)
        for start in review.starts(store.routes[0])
        for function in review.calls.reached(start)
    )


RULE = Rule(
    id="DATA002",
    title="The schema accepts what the column cannot hold",
    severity="change",
    how="import",
    why="A value that is too long or too large passes validation and fails in the database: "
    "500 instead of 422.",
    fix="give the field the column's limit: `Field(max_length=...)`, `max_digits=...`, `le=...`",
    seed='003 "Pydantic validation on inputs"',
    expected="enums, patterns, validators, values that the code compares, applications that only "
    "know SQLite (it has no widths). Integers without an upper bound, ids in paths and NUL "
    "in texts are notes.",
    bad="""
from decimal import Decimal

from fastapi import FastAPI
from pydantic import BaseModel, Field
from sqlalchemy import Numeric, String
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine("postgresql+asyncpg://user@localhost/app")
sessions = async_sessionmaker(engine)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    code: Mapped[str] = mapped_column(String(10))
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    stock: Mapped[int]


class ProductCreate(BaseModel):
    name: str  # finding
    code: str = Field(max_length=20)  # finding
    price: Decimal  # finding
    stock: int  # finding


@app.post("/products", status_code=201)
async def create(body: ProductCreate) -> None:
    async with sessions() as session:
        session.add(Product(**body.model_dump()))
        await session.commit()


@app.get("/products/{product_id}")
async def read(product_id: int) -> bool:  # finding
    async with sessions() as session:
        return await session.get(Product, product_id) is not None
""",
    good="""
from decimal import Decimal
from enum import Enum
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import Numeric, String, Text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine("postgresql+asyncpg://user@localhost/app")
sessions = async_sessionmaker(engine)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    code: Mapped[str] = mapped_column(String(10))
    colour: Mapped[str] = mapped_column(String(10))
    size: Mapped[str] = mapped_column(String(10))
    label: Mapped[str] = mapped_column(String(10))
    text: Mapped[str] = mapped_column(Text)
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    weight: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    stock: Mapped[int]


class Colour(str, Enum):
    RED = "red"


def short(value: str) -> str:
    return value[:10]


class ProductCreate(BaseModel):
    name: str = Field(max_length=50, pattern=r"^[^\\x00]*$")
    code: str = Field(pattern="^[A-Z]{3}$")
    colour: Colour
    size: Annotated[str, AfterValidator(short)]
    label: str = Field(pattern=r"^[a-z]*$")
    text: str = Field(pattern=r"^[^\\x00]*$")
    price: Decimal = Field(max_digits=8, decimal_places=2)
    weight: Decimal = Field(le=1000)
    stock: int = Field(le=1_000_000)


@app.post("/products", status_code=201)
async def create(body: ProductCreate) -> None:
    if len(body.label) > 10:
        raise HTTPException(422)
    async with sessions() as session:
        session.add(Product(**body.model_dump()))
        await session.commit()


@app.get("/products/{product_id}")
async def read(product_id: Annotated[int, Path(ge=1, le=2**31 - 1)]) -> bool:
    async with sessions() as session:
        return await session.get(Product, product_id) is not None
""",
    find=find,
    is_habit=True,
)
