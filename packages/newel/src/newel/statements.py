"""Statements that are built once: the same SELECT for every caller, with the caller's values.

Building a SELECT and finding its compiled form costs more than running it. What changes between
two calls of a repository's method is values: of its arguments, and of the caller in the predicates
of the scope. An entity is asked for these once for each caller: they depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from sqlalchemy import BindParameter, ColumnElement, Select

from newel.entity import Entity
from newel.scope import Scope, visible

__all__ = ["Statements"]

_KEPT = 10_000
"""Bounds what is remembered of callers, and of statements, whose shapes are far fewer."""

T = TypeVar("T")
Values = Mapping[str, Any]
_Build = Callable[[Sequence[ColumnElement[bool]]], Select[*tuple[Any, ...]]]


class _Known(NamedTuple):
    statement: Select[*tuple[Any, ...]]
    names: Sequence[str]


class _CacheKey(Protocol):
    key: Hashable
    bindparams: Sequence[BindParameter[Any]]


class Statements:
    """Remembers statements by entity, by the name of their shape, and by the shape of the scope."""

    def __init__(self) -> None:
        self._known: dict[Hashable, _Known] = {}
        self._of_callers: dict[Hashable, tuple[Select[*tuple[Any, ...]], Values]] = {}

    @property
    def count(self) -> int:
        """How many statements are remembered; at most 10,000."""
        return len(self._known)

    def scoped(
        self,
        entity: type[Entity],
        scope: Scope | None,
        shape: Hashable,
        build: _Build,
    ) -> tuple[Select[*tuple[Any, ...]], Values]:
        """Return the statement that ``build`` makes with the scope's predicates, and their values.

        ``shape`` names everything else that the statement depends on. Raises ``UnscopedQuery``.
        """
        asked = (entity, scope, shape)
        found = self._of_callers.get(asked)
        if found is None:
            found = self._find(entity, scope, shape, build)
            _keep(self._of_callers, asked, found)
        return found

    def _find(
        self, entity: type[Entity], scope: Scope | None, shape: Hashable, build: _Build
    ) -> tuple[Select[*tuple[Any, ...]], Values]:
        predicates = visible(entity, scope)
        keys = [_cache_key(predicate) for predicate in predicates]
        binds = [bind for key in keys for bind in key.bindparams]
        where = (entity, shape, *(key.key for key in keys))
        known = self._known.get(where)
        if known is None:
            known = _Known(build(predicates), [bind.key for bind in binds])
            _keep(self._known, where, known)
        values = {name: bind.effective_value for name, bind in zip(known.names, binds, strict=True)}
        return known.statement, values


def _keep(kept: dict[Hashable, T], key: Hashable, value: T) -> None:
    if len(kept) >= _KEPT:
        kept.clear()
    kept[key] = value


def _cache_key(predicate: ColumnElement[bool]) -> _CacheKey:
    # What SQLAlchemy finds compiled statements by; test_statements.py fails when it is renamed.
    return cast("Any", predicate)._generate_cache_key()  # noqa: SLF001 - see above
