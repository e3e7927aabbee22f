"""DATA003: money is stored as a float."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

_FLOATS: Final = frozenset({"Float", "FLOAT", "Double", "DOUBLE", "DOUBLE_PRECISION", "REAL"})
_MONEY: Final = re.compile(
    r"(^|_)(price|prices|salary|wage|wages|balance|fee|fees|subtotal|revenue|refund|deposit|payout|invoice_?total"
    r"|(total|unit|list|sale|net|gross)_(price|cost|amount)|(discount|tax|payment|order|paid|due)_amount"
    r"|amount_(paid|due|total)|money|cents)(_?(usd|eur|gbp|net|gross|total))?$",
    re.IGNORECASE,
)
_DEALINGS: Final = re.compile(
    r"payment|invoice|order|transaction|transfer|expense|wallet|donation|purchase|bill|account|payout|refund",
    re.IGNORECASE,
)


def find(review: Review) -> Iterator[Finding]:
    """Find columns of floating-point numbers that are named as money."""
    for entity in review.facts.entities:
        cls = review.class_(entity)
        for column in entity.columns:
            if cls is None or column.type not in _FLOATS:
                continue
            is_amount = column.attribute in ("amount", "total", "cost")
            in_dealing = is_amount and _DEALINGS.search(entity.name)
            if _MONEY.search(column.attribute) or in_dealing:
                file, line = review.attribute_place(cls, column.attribute)
                yield RULE.found(
                    f"`{entity.table}.{column.name}` is money in a `{column.type}`",
                    file=file,
                    line=line,
                )


RULE = Rule(
    id="DATA003",
    title="Money is stored as a float",
    severity="change",
    how="import",
    why="Binary fractions cannot hold 0.10: sums are off by cents, and comparisons of equal "
    "amounts fail.",
    fix="use `Numeric(12, 2)` and `Decimal`, or whole cents in an integer",
    seed="data modelling",
    expected="scores, weights and other measured values; amounts of things that are no dealings.",
    bad="""
from fastapi import FastAPI
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    unit_price: Mapped[float]  # finding


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[float]  # finding
""",
    good="""
from decimal import Decimal

from fastapi import FastAPI
from sqlalchemy import Numeric
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    price_cents: Mapped[int]
    weight: Mapped[float]


class Ingredient(Base):
    __tablename__ = "ingredients"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[float]
""",
    find=find,
)
