"""Statements that are built once: the same SELECT for every caller, with the caller's values.

Building a SELECT and finding its compiled form costs more than running it. What changes between
two calls of a repository's method is values: of its arguments, and of the caller in the predicates
of the scope. An entity is asked for these once for each caller: they depend on nothing else.

What is built once is compiled once, too: ``Prepared`` is a statement as the driver takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from sqlalchemy import BindParameter, ColumnElement, Connection, Dialect, Insert, Select, Update
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import await_

from newel.entity import Entity
from newel.scope import Scope, visible

__all__ = ["Constant", "Prepared", "Statements"]

_KEPT = 10_000
"""Bounds what is remembered of callers, and of statements, whose shapes are far fewer."""

T = TypeVar("T")
Values = Mapping[str, Any]
_Built = Select[*tuple[Any, ...]]
Constant = _Built | Insert | Update
"""A statement that is built once."""

_Rows = Sequence[Sequence[Any]]
_Build = Callable[[Sequence[ColumnElement[bool]]], _Built]


class Prepared:
    """A SELECT of columns, an INSERT or an UPDATE as SQLAlchemy has compiled it, for the driver.

    It sends and returns the same as SQLAlchemy would, without what that does at each call besides.
    Rows are the driver's sequences, and errors the driver's, too.
    """

    def __init__(
        self,
        compiled: SQLCompiler,
        statement: Constant,
        dialect: Dialect,
        of_callers: Sequence[str],
    ) -> None:
        self._dialect = dialect
        self._is_for_asyncpg = dialect.driver == "asyncpg"
        self._text = compiled.string
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self._keys = {name: bind.key for name, bind in binds.items()}
        order = compiled.positiontup
        self._order = None if order is None else [self._keys[name] for name in order]
        # Never a value of the caller for whom it was built: who gives none gets a KeyError.
        self._constants = {
            bind.key: bind.effective_value
            for bind in binds.values()
            if not bind.required and bind.key not in of_callers
        }
        impls = {bind.key: bind.type.dialect_impl(dialect) for bind in binds.values()}
        encoders = {key: impl.bind_processor(dialect) for key, impl in impls.items()}
        self._encoders = [(key, encode) for key, encode in encoders.items() if encode]
        columns = statement.selected_columns if isinstance(statement, Select) else ()
        self._types = [column.type.dialect_impl(dialect) for column in columns]
        # What its values are is known when the first rows come.
        self._decoders: Sequence[Callable[[Any], Any] | None] | None = None if columns else []

    @classmethod
    def of(
        cls, statement: Constant, dialect: Dialect, of_callers: Sequence[str] = ()
    ) -> Prepared | None:
        """Prepare a statement; ``None`` when its text depends on its values, as ``IN`` does.

        ``of_callers`` are the parameters whose values are another caller's each time; of an INSERT
        or UPDATE all, and ``None`` when a column that they leave out has a default.
        """
        compiled = statement.compile(dialect=dialect, column_keys=of_callers)
        varies = compiled.post_compile_params or compiled.literal_execute_params
        is_known = not varies and not compiled.prefetch
        return cls(compiled, statement, dialect, of_callers) if is_known else None

    def parameters(self, values: Mapping[str, Any]) -> Any:
        """Return ``values`` as the driver takes them, with those that the statement has itself."""
        given = {**self._constants, **values}
        for key, encode in self._encoders:
            given[key] = encode(given[key])
        if self._order is None:
            return {name: given[key] for name, key in self._keys.items()}
        return [given[key] for key in self._order]

    def fetch(self, connection: PoolProxiedConnection, parameters: Any) -> tuple[_Rows, Any]:
        """Return the driver's rows and what it says of them; in a greenlet of SQLAlchemy's."""
        rows, _, kinds = self._sent(connection, parameters)
        return rows, kinds

    def run(self, connection: Connection, values: Values) -> tuple[_Rows, int]:
        """Run it in the transaction of ``connection``; return its rows, and how many they were.

        In a greenlet of SQLAlchemy's, whose errors it raises.
        """
        is_sent = False
        try:
            parameters = self.parameters(values)
            is_sent = True
            rows, count, kinds = self._sent(connection.connection, parameters)
            return self.decoded(rows, kinds) if self._types else (), count
        except BaseException as error:
            is_ours = is_sent and not isinstance(error, self._dialect.loaded_dbapi.Error)
            told = None if is_ours else self._text
            # What SQLAlchemy does itself; test_statements.py fails when it is renamed.
            cast("Any", connection)._handle_dbapi_exception(error, told, values, None, None)  # noqa: SLF001 - see above
            raise

    def _sent(self, connection: PoolProxiedConnection, parameters: Any) -> tuple[_Rows, int, Any]:
        """Return the driver's rows, how many they were, and what it says of their columns."""
        if self._is_for_asyncpg and self._decoders is not None:
            rows, count = await_(_send(connection.dbapi_connection, self._text, parameters))
            return rows, count, ()
        cursor = connection.cursor()
        cursor.execute(self._text, parameters)
        rows = cursor.fetchall() if self._types else ()
        told = rows, cursor.rowcount, cursor.description  # psycopg forgets both when it is closed
        cursor.close()
        return told

    def decoded(self, rows: _Rows, kinds: Any) -> _Rows:
        """Return what ``fetch`` did, with values as SQLAlchemy gives them."""
        if self._decoders is None:
            typed = zip(self._types, kinds, strict=True)
            found = [impl.result_processor(self._dialect, kind[1]) for impl, kind in typed]
            self._decoders = found if any(found) else []
        return [self._decoded(row) for row in rows] if self._decoders else rows

    def _decoded(self, row: Sequence[Any]) -> Sequence[Any]:
        decoded = zip(row, self._decoders or (), strict=True)
        return [value if decode is None else decode(value) for value, decode in decoded]


async def _send(connection: Any, text: str, parameters: Any) -> tuple[_Rows, int]:
    """Do what SQLAlchemy's cursor does, but for its lock, its description and its copy of rows."""
    # The names are not public: test_statements.py fails when one of them is renamed.
    try:
        if connection._transaction is None:  # noqa: SLF001 - see above
            await connection._start_transaction()  # noqa: SLF001 - see above
        prepared, _ = await connection._prepare(text, 0)  # noqa: SLF001 - see above
        rows: _Rows = await prepared.fetch(*parameters)
    except Exception as error:
        connection._handle_exception(error)  # noqa: SLF001 - see above
        raise
    return rows, int(prepared.get_statusmsg().rpartition(" ")[2])


class _Known(NamedTuple):
    statement: _Built
    names: Sequence[str]


class _CacheKey(Protocol):
    key: Hashable
    bindparams: Sequence[BindParameter[Any]]


class Statements:
    """Remembers statements by entity, by the name of their shape, and by the shape of the scope.

    With a ``dialect`` it prepares them.
    """

    def __init__(self, dialect: Dialect | None = None) -> None:
        self._dialect = dialect
        self._known: dict[Hashable, _Known] = {}
        self._of_callers: dict[Hashable, tuple[_Built, Values]] = {}
        self._prepared: dict[Hashable, Prepared | None] = {}

    @property
    def count(self) -> int:
        """How many statements are remembered; at most 10,000."""
        return len(self._known)

    def scoped(
        self, entity: type[Entity], scope: Scope | None, shape: Hashable, build: _Build
    ) -> tuple[_Built, Values]:
        """Return the statement that ``build`` makes with the scope's predicates, and their values.

        ``shape`` names everything else that the statement depends on. Raises ``UnscopedQuery``.
        """
        asked = (entity, scope, shape)
        found = self._of_callers.get(asked)
        if found is None:
            found = self._find(entity, scope, shape, build)
            _keep(self._of_callers, asked, found)
        return found

    def prepared(self, statement: _Built) -> Prepared | None:
        """Return ``statement`` for the driver; ``None`` when it was not built here, or varies."""
        return self._prepared.get(statement)

    def _find(
        self, entity: type[Entity], scope: Scope | None, shape: Hashable, build: _Build
    ) -> tuple[_Built, Values]:
        predicates = visible(entity, scope)
        keys = [key for each in predicates if (key := _cache_key(each)) is not None]
        if len(keys) < len(predicates):  # one has a type that SQLAlchemy cannot cache
            return build(predicates), {}
        binds = [bind for key in keys for bind in key.bindparams]
        where = (entity, shape, *(key.key for key in keys))
        known = self._known.get(where)
        if known is None:
            known = _Known(build(predicates), [bind.key for bind in binds])
            if not _takes(known):
                return known.statement, {}  # it has this caller's values: for nobody else
            _keep(self._known, where, known)
            if self._dialect is not None:
                prepared = Prepared.of(known.statement, self._dialect, known.names)
                _keep(self._prepared, known.statement, prepared)
        values = {name: bind.effective_value for name, bind in zip(known.names, binds, strict=True)}
        return known.statement, values


def _takes(known: _Known) -> bool:
    """Tell whether all values of a caller can be given to a statement.

    Some mappings, concrete inheritance for one, put copies of parameters in place of them.
    """
    keys = {bind.key for bind in known.statement.compile().bind_names}
    return keys.issuperset(known.names)


def _keep(kept: dict[Hashable, T], key: Hashable, value: T) -> None:
    if len(kept) >= _KEPT:
        kept.clear()
    kept[key] = value


def _cache_key(predicate: ColumnElement[bool]) -> _CacheKey | None:
    # What SQLAlchemy finds compiled statements by; test_statements.py fails when it is renamed.
    return cast("Any", predicate)._generate_cache_key()  # noqa: SLF001 - see above
