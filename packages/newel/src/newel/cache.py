"""What services keep for a while: a decorator, and the cache of a unit of work.

    class ReportService:
        def __init__(self, work: CurrentWork) -> None:
            self.work = work

        @cached(expire=300, tags=["agents"])
        async def busiest(self, caller: Principal) -> list[AgentRead]: ...

A value is kept for one caller, unless it is public, and until one of its tags is forgotten: those
of a ``Cached`` entity are, by every commit that changes one. ``cache_levels`` is what keeps it.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from datetime import date, datetime
from functools import partial, wraps
from types import NoneType, SimpleNamespace
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast, get_args, get_type_hints
from uuid import UUID

from pydantic import PydanticSchemaGenerationError, TypeAdapter

from newel.principal import Principal

__all__ = ["MISSING_SECONDS", "Cache", "Kept", "PassedBy", "Tags", "Unit", "cached"]

_VALUES: Final = frozenset(
    {UUID, str, int, bool, float, bytes, NoneType, datetime, date, Principal}
)
"""What has no unit of work, known by its type: asking each would take longer than the rest."""

T = TypeVar("T")
P = ParamSpec("P")

Tags = Sequence[str] | Callable[[], Sequence[str]]
"""Names that a value is forgotten by, or what returns them: asked when it is loaded."""

MISSING_SECONDS: Final = 30.0
"""How long it is remembered that there is nothing (``None``, ``NotFound``), unless said."""


class Kept(Protocol):
    """What is kept under a key."""

    def answer(self) -> Any:
        """Return the value; raises ``NotFound`` when that is what was found."""
        ...


class Cache(Protocol):
    """What a unit of work has at ``work.cache``."""

    def peek(self, key: Hashable) -> Kept | None:
        """Return what is at hand, without a load and without waiting.

        Raises ``TypeError`` for a key that cannot be hashed; ``get_or_set`` takes it.
        """
        ...

    async def get_or_set(
        self,
        key: Hashable,
        load: Callable[[], Awaitable[T]],
        *,
        kind: type[T] | TypeAdapter[T],
        expire: float,
        expire_missing: float = MISSING_SECONDS,
        tags: Tags = (),
    ) -> T:
        """Return what is kept under ``key``; else what ``load`` returns, and keep it.

        ``kind`` is the value's type, which pydantic writes and reads. It is kept for ``expire``
        seconds, ``None`` and a ``NotFound`` for at most ``expire_missing`` (0: not at all), and no
        longer than until one of ``tags`` is forgotten. Who asks while it is loaded gets the same
        value. Do not change it. Raises what ``load`` raises, and ``TypeError`` for a key that
        holds more than values.
        """
        ...

    async def forget(self, *tags: str) -> None:
        """Forget what is kept under any of ``tags``, in every process.

        ``agents:*`` forgets each tag that begins with ``agents:``, ``*`` everything.
        """
        ...


class Unit:
    """What ``cached`` finds the cache by: a unit of work, ``newel.db.Work``."""

    @property
    def cache(self) -> Cache:
        """The cache, as this unit may use it."""
        raise NotImplementedError

    @property
    def seen_by(self) -> Hashable:
        """Whose rows it sees: part of every key that is not public."""
        raise NotImplementedError


class PassedBy:
    """The cache of a unit that writes: it loads anew, and notes what to forget."""

    def __init__(self, forget: Callable[..., None]) -> None:
        self._forget = forget

    def peek(self, key: Hashable) -> None:  # noqa: ARG002 - the interface
        """Know of nothing."""
        return

    async def get_or_set(
        self,
        key: Hashable,  # noqa: ARG002 - the interface
        load: Callable[[], Awaitable[T]],
        **_: Any,
    ) -> T:
        """Return what ``load`` returns."""
        return await load()

    async def forget(self, *tags: str) -> None:
        """Note the tags."""
        self._forget(*tags)


def cached(
    *,
    expire: float,
    tags: Sequence[str] = (),
    expire_missing: float = MISSING_SECONDS,
    public: bool = False,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Keep what an async function or method returns for ``expire`` seconds; see ``Cache``.

    It takes the cache of its unit of work: ``self.work``, or a parameter ``work``. One caller's
    value is never another's, unless it is ``public``: then all share one. ``tags`` may name
    parameters: ``"agents:{agent_id}"``. What it returns is written and read as its return
    annotation says. A unit that writes passes the cache by.

    Raises ``ValueError`` for an ``expire`` that is not positive, and ``TypeError`` for a function
    that cannot be cached: a mistake in the code.
    """
    if not expire > 0:
        raise ValueError("what expires at once is not cached: expire is in seconds, above 0")

    def decorate(
        function: Callable[P, Coroutine[Any, Any, T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        target = _Target(function, tags, public=public)
        adapter: TypeAdapter[Any] | None = None

        @wraps(function)
        async def through_cache(*args: P.args, **kwargs: P.kwargs) -> T:
            nonlocal adapter
            if adapter is None:  # with the first call, when all names are defined
                adapter = target.adapter()
            unit, key = target.key(args, kwargs)
            cache = unit.cache
            try:
                kept = cache.peek(key)
            except TypeError:  # unhashable: a list, a model
                kept = None
            if kept is not None:
                value: T = kept.answer()
                return value
            return await cache.get_or_set(
                key,
                partial(function, *args, **kwargs),
                kind=adapter,
                expire=expire,
                expire_missing=expire_missing,
                tags=partial(target.tags, args, kwargs) if tags else (),
            )

        return through_cache

    return decorate


class _Target:
    """A function that is cached."""

    def __init__(self, function: Callable[..., Any], tags: Sequence[str], *, public: bool) -> None:
        qualname: str = getattr(function, "__qualname__", repr(function))
        self.name: str = f"{function.__module__}.{qualname}"
        self._function = function
        self._tags = tags
        self._public = public
        self._signature = inspect.signature(function)
        self._names = tuple(self._signature.parameters)
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{self.name} is not async: what is cheap need not be cached")
        kinds = {parameter.kind for parameter in self._signature.parameters.values()}
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            raise TypeError(f"{self.name} takes *arguments, which no key can name: take a list")
        for tag in tags:
            for _, named, _, _ in string.Formatter().parse(tag):
                if named is not None and named.partition(".")[0] not in self._names:
                    raise TypeError(f"{self.name} has no parameter {named}, which a tag names")

    def adapter(self) -> TypeAdapter[Any]:
        """Return what writes and reads the result; raises ``TypeError``."""
        function: Any = inspect.unwrap(self._function)
        # That of the result alone: names of parameters' types may be missing at run time.
        result = SimpleNamespace(__annotations__={"return": function.__annotations__.get("return")})
        hints = get_type_hints(result, function.__globals__, include_extras=True)
        kind = hints["return"]
        if kind is NoneType or _has_entity(kind):
            raise TypeError(
                f"{self.name} has to return a value, as its annotation says: a schema or a "
                "number, not an entity, which belongs to its session"
            )
        try:
            return TypeAdapter(kind)
        except PydanticSchemaGenerationError as error:
            raise TypeError(f"{self.name} returns what pydantic cannot write: {error}") from error

    def key(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Unit, Hashable]:
        """Return the unit of work, and the key: what the value depends on, by name."""
        unit: Unit | None = None
        seen_by: Hashable = None
        parts: list[Any] = [self.name]
        for name, value in (*zip(self._names, args, strict=False), *kwargs.items()):
            if type(value) is Principal:
                if value is seen_by or self._public:
                    continue  # it is there already, or not to be
            elif type(value) not in _VALUES:
                found = value if name == "work" else getattr(value, "work", None)
                if isinstance(found, Unit):  # the unit, or what works in it: a service
                    if unit is None:
                        unit, seen_by = found, found.seen_by
                    kind = type(cast("object", value))
                    parts += (name, kind.__module__, kind.__qualname__)  # who inherits a method
                    continue
            parts += (name, value)
        if unit is None:
            raise TypeError(
                f"{self.name} has no unit of work: make it a method of what has `self.work`, or "
                "give it a parameter `work: CurrentWork`"
            )
        if not self._public:
            parts.append(seen_by)
        return unit, tuple(parts)

    def tags(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[str]:
        """Return the tags of a call."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return [tag.format_map(bound.arguments) for tag in self._tags]


def _has_entity(kind: Any) -> bool:
    """Tell whether a mapped class is part of a type."""
    return hasattr(kind, "__mapper__") or any(_has_entity(part) for part in get_args(kind))
