"""Entities: mapped dataclasses with an id, times and a version, and the mix-ins they are made of.

    class Agent(Owned, SoftDeleted):
        __tablename__ = "agents"
        name: Mapped[str] = mapped_column(String(64))

``MappedAsDataclass`` so that a type checker sees a misspelt column in ``Agent(nmae=...)``.
Relationships load nothing by themselves (write ``lazy="raise_on_sql"`` or an eager strategy).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    String,
    Uuid,
    and_,
    false,
    text,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    PassiveFlag,
    declared_attr,
    mapped_column,
)
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.sql.elements import conv
from sqlalchemy.types import TypeDecorator, TypeEngine

from newel.clock import utc_now
from newel.ids import uuid7
from newel.principal import Principal

__all__ = ["Cached", "Entity", "Owned", "SoftDeleted", "Tenanted", "UTCDateTime", "unique"]


class UTCDateTime(TypeDecorator[datetime]):
    """An aware time: refuses naive ones, stores and returns UTC on every database."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = DateTime(timezone=True)
    cache_ok: bool | None = True

    @property
    def python_type(self) -> type[datetime]:
        return datetime

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - the interface
    ) -> datetime | None:
        """Refuse a naive time with a ``ValueError``, convert the rest to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored: use clock.now()")
        return value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Leave asyncpg's times as they are: they are in UTC, and there are many."""
        if dialect.driver == "asyncpg":
            return None
        return super().result_processor(dialect, coltype)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - the interface
    ) -> datetime | None:
        """Give SQLite's naive times their zone back; psycopg's have the server's."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Entity(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """The base of every mapped class: ``id``, ``created_at``, ``updated_at`` and ``version``.

    ``version`` counts the updates and guards each one: a row that somebody else changed since it
    was read raises SQLAlchemy's ``StaleDataError``, answered as ``StaleVersion``.
    """

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UTCDateTime,
        UUID: Uuid,
        str: String(255),
    }

    __guarding_columns__: ClassVar[frozenset[str]] = frozenset()
    """Columns that say whose a row is: an UPDATE statement must not set them."""

    id: Mapped[UUID] = mapped_column(
        primary_key=True, default_factory=uuid7, init=False, sort_order=-100
    )
    created_at: Mapped[datetime] = mapped_column(
        default_factory=utc_now, init=False, sort_order=100
    )
    updated_at: Mapped[datetime] = mapped_column(
        default_factory=utc_now, onupdate=utc_now, init=False, sort_order=100
    )
    version: Mapped[int] = mapped_column(default=None, init=False, nullable=False, sort_order=100)

    if not TYPE_CHECKING:  # a checker would take the descriptor for a field

        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - a declared_attr receives the class
            return {"version_id_col": cls.version}

    @classmethod
    def resource_name(cls) -> str:
        """The word for one of these in messages and problems: ``agent`` for ``Agent``."""
        return "".join(f" {c}" if c.isupper() else c for c in cls.__name__).strip().lower()

    @classmethod
    def visible_to(cls, caller: Principal) -> ColumnElement[bool] | None:  # noqa: ARG003 - for overrides
        """Which rows ``caller`` may read: a predicate, or ``None`` when everyone may read all.

        Override it for a policy; ``super().visible_to(caller)`` is the mix-ins' answer. ``scope``
        adds it to every SELECT, so it may only use columns of this table and values of ``caller``.
        """
        return None

    @classmethod
    def changeable_by(cls, caller: Principal) -> ColumnElement[bool] | None:  # noqa: ARG003 - as above
        """Which of the rows that ``caller`` sees they may change; ``None``: each that they see.

        UPDATE and DELETE statements get it beside ``visible_to``.
        """
        return None

    def is_changeable_by(self, caller: Principal) -> bool:  # noqa: ARG002 - as above
        """Tell whether ``caller`` may write this row: ``changeable_by`` in memory.

        It is all that is asked about a new row, which nobody has seen yet.
        """
        return True


class Owned(Entity):
    """Rows that belong to a user: only their owner sees and changes them.

    A caller with the permission ``<table>:all`` (administrators) sees and changes everyone's.
    """

    __abstract__ = True

    __guarding_columns__: ClassVar[frozenset[str]] = frozenset({"owner_id", "tenant_id"})

    owner_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True, sort_order=-90
    )

    @classmethod
    def visible_to(cls, caller: Principal) -> ColumnElement[bool] | None:
        return _both(cls._owned_by(caller), super().visible_to(caller))

    @classmethod
    def changeable_by(cls, caller: Principal) -> ColumnElement[bool] | None:
        return _both(cls._owned_by(caller), super().changeable_by(caller))

    def is_changeable_by(self, caller: Principal) -> bool:
        if not super().is_changeable_by(caller):
            return False
        return caller.can(f"{self.__tablename__}:all") or _was(self, "owner_id", caller.id)

    @classmethod
    def _owned_by(cls, caller: Principal) -> ColumnElement[bool] | None:
        if caller.can(f"{cls.__tablename__}:all"):
            return None
        return false() if caller.id is None else cls.owner_id == caller.id


class Tenanted(Entity):
    """Rows that belong to a tenant: nobody sees another tenant's, administrators included."""

    __abstract__ = True

    __guarding_columns__: ClassVar[frozenset[str]] = frozenset({"owner_id", "tenant_id"})

    tenant_id: Mapped[UUID] = mapped_column(index=True, sort_order=-95)

    @classmethod
    def visible_to(cls, caller: Principal) -> ColumnElement[bool] | None:
        return _both(cls._of_tenant(caller), super().visible_to(caller))

    @classmethod
    def changeable_by(cls, caller: Principal) -> ColumnElement[bool] | None:
        return _both(cls._of_tenant(caller), super().changeable_by(caller))

    def is_changeable_by(self, caller: Principal) -> bool:
        return _was(self, "tenant_id", caller.tenant_id) and super().is_changeable_by(caller)

    @classmethod
    def _of_tenant(cls, caller: Principal) -> ColumnElement[bool]:
        return false() if caller.tenant_id is None else cls.tenant_id == caller.tenant_id


class SoftDeleted(Entity):
    """Rows that are kept when they are deleted: ``deleted_at`` hides them from every query.

    ``select(...).execution_options(include_deleted=True)`` shows them. Unique values are freed by a
    deletion when the index is made by ``unique``.
    """

    __abstract__ = True

    deleted_at: Mapped[datetime | None] = mapped_column(default=None, init=False, sort_order=101)


class Cached(Entity):
    """Rows that are kept in the cache: a commit that changes one forgets what was made of it.

    Its tags are ``<table>`` (of lists, counts) and ``<table>:<id>``; an UPDATE or DELETE statement,
    whose rows nobody knows, forgets ``<table>`` and ``<table>:*``.
    """

    __abstract__ = True


def unique(table: str, *columns: str, live: bool = False) -> Index:
    """Return a unique index for ``__table_args__``; ``live=True`` leaves deleted rows out of it.

    A violation becomes ``Duplicate`` naming the last of ``columns``, so put scopes such as
    ``owner_id`` first: ``unique("agents", "owner_id", "name", live=True)``. A name that is too long
    for a database is cut there and ends in a digest of the whole, the same every time.
    """
    where = text("deleted_at IS NULL") if live else None
    return Index(
        conv(f"uq_{table}_{'_'.join(columns)}"),  # a database with shorter names gets a shorter one
        *columns,
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )


def _both(
    first: ColumnElement[bool] | None, second: ColumnElement[bool] | None
) -> ColumnElement[bool] | None:
    if first is None or second is None:
        return second if first is None else first
    return and_(first, second)


def _was(entity: Entity, column: str, wanted: UUID | None) -> bool:
    """Tell whether a guarding column is ``wanted`` and was so before this unit of work touched it.

    Without the second half, a caller could take over a row that is merely visible by writing their
    own id into it.
    """
    history = get_history(entity, column, passive=PassiveFlag.PASSIVE_NO_INITIALIZE)
    return wanted is not None and {*history.deleted, getattr(entity, column)} == {wanted}
