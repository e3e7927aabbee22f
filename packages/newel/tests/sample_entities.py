"""The entities that the kernel's tests share: one of each kind."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, Numeric, String, or_
from sqlalchemy.orm import Mapped, mapped_column, relationship

from newel.entity import Entity, Owned, SoftDeleted, Tenanted, unique
from newel.identity import Account
from newel.principal import Principal


class User(Account):
    __tablename__ = "users"

    password_hash: Mapped[str] = mapped_column(String(255), default="!", repr=False)
    full_name: Mapped[str | None] = mapped_column(String(100), default=None)
    agents: Mapped[list[Agent]] = relationship(
        lazy="raise_on_sql", init=False, repr=False, viewonly=True
    )


class Agent(Owned, SoftDeleted):
    __tablename__ = "agents"
    __table_args__ = (unique("agents", "owner_id", "name", live=True),)

    name: Mapped[str] = mapped_column(String(64))
    runs: Mapped[list[Run]] = relationship(lazy="raise_on_sql", init=False, repr=False)


class Run(Owned):
    __tablename__ = "runs"

    agent_id: Mapped[UUID] = mapped_column(ForeignKey("agents.id"))
    agent: Mapped[Agent] = relationship(
        lazy="raise_on_sql", init=False, repr=False, overlaps="runs"
    )
    cost: Mapped[int] = mapped_column(default=1)


class Invoice(Tenanted):
    __tablename__ = "invoices"

    number: Mapped[int] = mapped_column(unique=True)


class Post(Owned):
    """A policy: published posts are everybody's to read and their owner's to change."""

    __tablename__ = "posts"

    title: Mapped[str]
    is_published: Mapped[bool] = mapped_column(default=False)

    @classmethod
    def visible_to(cls, caller: Principal) -> ColumnElement[bool] | None:
        own = super().visible_to(caller)
        return None if own is None else or_(own, cls.is_published)


class Tag(Entity):
    """Guarded by nothing."""

    __tablename__ = "tags"

    label: Mapped[str] = mapped_column(String(32), unique=True)


class Measure(Entity):
    """A column of each type that a list may be sorted by."""

    __tablename__ = "measures"

    label: Mapped[str] = mapped_column(String(32))
    count: Mapped[int] = mapped_column(default=0)
    amount: Mapped[Decimal] = mapped_column(Numeric(12, 2), default=Decimal(0))


class Board(Entity):
    """Everybody's, with notes that are not: however they are loaded, each sees their own."""

    __tablename__ = "boards"

    selected: Mapped[list[Note]] = relationship(
        lazy="selectin", init=False, repr=False, viewonly=True
    )
    joined: Mapped[list[Note]] = relationship(lazy="joined", init=False, repr=False, viewonly=True)


class Note(Owned, SoftDeleted):
    __tablename__ = "notes"

    board_id: Mapped[UUID] = mapped_column(ForeignKey("boards.id"))
    shelf_id: Mapped[UUID | None] = mapped_column(ForeignKey("shelves.id"), default=None)


class Shelf(Entity):
    """As a board, but without a join: its SELECT by id is remembered."""

    __tablename__ = "shelves"

    notes: Mapped[list[Note]] = relationship(lazy="selectin", init=False, repr=False, viewonly=True)
