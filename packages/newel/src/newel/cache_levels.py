"""The levels of the cache: in the process, then Redis, then the source.

A value is good as long as none of its tags was forgotten since *before* it was loaded. Each process
counts what is forgotten (``_now``); Redis keeps a token for each tag, which changes with it. Both
are read before the load, so that what was read meanwhile is never taken for new.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from typing import Any, Final, Literal, Protocol, TypeVar, cast

from cachebox import LRUCache
from pydantic import (
    BaseModel,
    PydanticUserError,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError, to_json

from newel.cache import MISSING_SECONDS, Tags
from newel.errors import NotFound, Unavailable
from newel.tasks import beside

__all__ = ["LevelCache", "Store"]

T = TypeVar("T")

_EVERYTHING: Final = "*"
_MAX_VALUE_BYTES: Final = 1_048_576
_MAX_FORGOTTEN: Final = 10_000
_MAX_TAGS: Final = 500
_TURN_SECONDS: Final = 5.0
_PAY_SECONDS: Final = 1.0
_VALUE, _NOTHING = b"=", b"!"


class Store(Protocol):
    """The second level, which processes share: ``newel.drivers.redis``.

    Each method raises ``Unavailable`` in bounded time when it cannot do its work.
    """

    @property
    def is_listening(self) -> bool:
        """Whether this process hears now what others forget."""
        ...

    async def look(
        self, key: str, tags: Sequence[str], *, turn: str, turn_seconds: float
    ) -> tuple[Literal["hit", "load", "wait"], bytes, bytes, float]:
        """Return what to do, the tags' tokens, the value, and how many seconds it is good.

        ``load``: nobody loads it, and ``turn`` now does, for so long; ``wait``: somebody does.
        """
        ...

    async def keep(
        self,
        key: str,
        value: bytes,
        *,
        tags: Sequence[str],
        tokens: bytes,
        expire_seconds: float,
        turn: str,
    ) -> None:
        """Keep a value unless a tag has another token by now, and end the turn.

        0 seconds: only that.
        """
        ...

    async def forget(self, tags: Sequence[str]) -> None:
        """Give each tag another token, and tell every process that listens."""
        ...

    async def listen(self, heard: Callable[[Sequence[str] | None], None]) -> None:
        """Until cancelled, tell what others forget; ``None``: some of it may have been missed."""
        ...


@dataclass(slots=True, eq=False)
class _Entry:
    """A value, or that there is none: until when (monotonic), and as of which count."""

    value: Any
    missing: str | None
    data: bytes
    until: float
    tags: tuple[str, ...]
    as_of: int

    def answer(self) -> Any:
        """Return the value; raise ``NotFound`` when that is what is known."""
        if self.missing is None:
            return self.value
        raise NotFound(self.missing or None)


@dataclass(slots=True, eq=False)
class _Flight:
    """One load, which others wait for; ``None`` when it was cancelled."""

    tags: tuple[str, ...]
    as_of: int
    landed: asyncio.Future[_Entry | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """How to get a value, and how to keep it."""

    load: Callable[[], Awaitable[Any]]
    adapter: TypeAdapter[Any]
    expire: float
    expire_missing: float

    def seconds(self, data: bytes) -> float:
        """Return how long ``data`` may be kept; 0: not at all."""
        if len(data) > _MAX_VALUE_BYTES:
            return 0.0
        is_missing = data.startswith(_NOTHING) or data == _VALUE + b"null"
        return min(self.expire, self.expire_missing) if is_missing else self.expire


class LevelCache:
    """The cache of a process; with a ``store``, processes share what they load and forget.

    ``max_bytes`` bounds what is kept in the process, as JSON; the value unused for longest goes
    first. While it does not hear what others forget, nothing is taken from the process; while
    Redis is away, everything is loaded. ``monotonic`` returns seconds.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        max_bytes: int = 32 * 1_048_576,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._entries: LRUCache[Hashable, _Entry] = LRUCache(max_bytes, getsizeof=_size)
        self._flights: dict[Hashable, _Flight] = {}
        # When each tag was forgotten, by a count of such moments; before `_horizon`: all of them.
        self._now = 0
        self._horizon = 0
        self._forgotten: dict[str, int] = {}
        self._owed: dict[str, int] = {}  # what Redis does not know yet
        self._listeners: list[Callable[[Collection[str]], None]] = []

    @property
    def is_current(self) -> bool:
        """Whether this process knows of all that others forget (or there are no others)."""
        return self._store is None or self._store.is_listening

    def watch(self, forget: Callable[[Collection[str]], None]) -> None:
        """Call ``forget`` with the tags that are forgotten, here or elsewhere, as they are."""
        self._listeners.append(forget)

    def clear(self) -> None:
        """Forget all that this process keeps; Redis and the others keep what they have."""
        self._forget_here([_EVERYTHING])

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Hear what other processes forget, inside the block."""
        if self._store is None:
            yield
            return
        async with beside(self._store.listen(self._heard), self._pay_in_time()):
            yield

    def peek(self, key: Hashable) -> _Entry | None:
        """See ``Cache.peek``."""
        entry = cast("_Entry | None", self._entries.get(key))
        if entry is None or self._monotonic() >= entry.until:
            return None
        if self._store is not None and not self._store.is_listening:
            return None
        if entry.as_of != self._now:
            if not self._is_untouched(entry.tags, entry.as_of):
                return None
            entry.as_of = self._now  # so the next look is cheap
        return entry

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
        """See ``Cache.get_or_set``."""
        try:
            found = self.peek(key)
        except TypeError:  # unhashable: a list, a model
            key = _text(key)
            found = self.peek(key)
        if found is None:
            adapter = kind if isinstance(kind, TypeAdapter) else _adapter(kind)
            how = _Load(load=load, adapter=adapter, expire=expire, expire_missing=expire_missing)
            found = await self._missed(key, how, _lineage(tags))
        return found.answer()

    async def forget(self, *tags: str) -> None:
        """See ``Cache.forget``. Never raises: what Redis cannot be told now, it is told later."""
        tags = _few(tags)
        self._forget_here(tags)
        if self._store is not None and tags:
            self._owed.update(dict.fromkeys(tags, self._now))
            if len(self._owed) > _MAX_FORGOTTEN:
                self._owed = {_EVERYTHING: self._now}
            with suppress(Unavailable):
                await self._pay(self._store)

    # ------------------------------------------------------------------------------- what is good

    def _is_untouched(self, tags: Sequence[str], as_of: int) -> bool:
        """Tell whether no tag was forgotten after the moment ``as_of``."""
        forgotten = self._forgotten
        return as_of >= self._horizon and all(forgotten.get(tag, 0) <= as_of for tag in tags)

    def _forget_here(self, tags: Sequence[str]) -> None:
        self._now += 1
        if len(self._forgotten) + len(tags) > _MAX_FORGOTTEN or _EVERYTHING in tags:
            self._horizon = self._now
            self._forgotten.clear()
            self._entries.clear()
        else:
            self._forgotten.update(dict.fromkeys(tags, self._now))
        for tell in self._listeners:
            tell(tags)

    def _heard(self, tags: Sequence[str] | None) -> None:
        if tags is None:
            self.clear()
        else:
            self._forget_here(tags)

    # -------------------------------------------------------------------------------- one loads it

    async def _missed(self, key: Hashable, how: _Load, tags: tuple[str, ...]) -> _Entry:
        while True:
            flight = self._flights.get(key)
            # Who asks after a change must not be given what was read before it.
            if flight is None or not self._is_untouched(flight.tags, flight.as_of):
                return await self._fly(key, how, _Flight(tags, self._now))
            entry = await asyncio.shield(flight.landed)
            if entry is None:
                entry = self.peek(key)  # another of those who waited may have loaded it
            if entry is not None:
                return entry

    async def _fly(self, key: Hashable, how: _Load, flight: _Flight) -> _Entry:
        self._flights[key] = flight
        try:
            entry = await (self._load_here if self._store is None else self._load_for_all)(
                key, how, flight
            )
            flight.landed.set_result(entry)
        except Exception as error:
            flight.landed.set_exception(error)
            flight.landed.exception()  # seen, also when nobody else waits
            raise
        finally:
            if not flight.landed.done():
                flight.landed.set_result(None)  # cancelled: one of those who wait loads it
            if self._flights.get(key) is flight:
                del self._flights[key]
        return entry

    async def _load_here(self, key: Hashable, how: _Load, flight: _Flight) -> _Entry:
        _text(key)  # a key that another process could not make fails in this one, too
        value, data = await _loaded(how)
        self._remember(key, data, how, flight, seconds=how.seconds(data))
        return _entry(value, data, flight)

    async def _load_for_all(self, key: Hashable, how: _Load, flight: _Flight) -> _Entry:
        store, turn = self._store, secrets.token_hex(8)
        assert store is not None  # noqa: S101 - `_fly` comes here with a store only
        name = f"{_text(key)}:{_shape(how.adapter)}"
        try:
            state, tokens, data, seconds = await self._await_turn(store, name, flight.tags, turn)
        except Unavailable:
            value, data = await _loaded(how)
            return _entry(value, data, flight)
        except BaseException:  # cancelled: Redis may have given us the turn in this moment
            with suppress(Unavailable):
                await store.keep(
                    name, b"", tags=flight.tags, tokens=b"", expire_seconds=0.0, turn=turn
                )
            raise
        if state == "hit":
            with suppress(ValidationError):  # else it is of another release, and loaded again
                return self._remember(key, data, how, flight, seconds=seconds)
        data, seconds = b"", 0.0
        try:
            value, data = await _loaded(how)
            seconds = how.seconds(data)
            self._remember(key, data, how, flight, seconds=seconds)
        finally:
            with suppress(Unavailable):
                await store.keep(
                    name, data, tags=flight.tags, tokens=tokens, expire_seconds=seconds, turn=turn
                )
        return _entry(value, data, flight)

    async def _await_turn(
        self, store: Store, name: str, tags: Sequence[str], turn: str
    ) -> tuple[Literal["hit", "load", "wait"], bytes, bytes, float]:
        """Look until the value is there, or it is for us to load it, or it takes too long."""
        end, pause = self._monotonic() + _TURN_SECONDS, 0.002
        while True:
            await self._pay(store)
            found = await store.look(name, tags, turn=turn, turn_seconds=_TURN_SECONDS)
            if found[0] != "wait" or self._monotonic() >= end:
                return found
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.05)

    def _remember(
        self, key: Hashable, data: bytes, how: _Load, flight: _Flight, *, seconds: float
    ) -> _Entry:
        """Keep it as it was read from JSON: what every process gets, and nobody else holds."""
        entry = _entry(_read(how.adapter, data), data, flight)
        entry.until = self._monotonic() + seconds
        if seconds > 0 and self._is_untouched(flight.tags, flight.as_of):
            self._entries.insert(key, entry)
        return entry

    # ------------------------------------------------------------------------------ what is owed

    async def _pay(self, store: Store) -> None:
        """Tell Redis what was forgotten and could not be told; raises ``Unavailable``."""
        owed = dict(self._owed)
        if owed:
            await store.forget(list(owed))
            for tag, moment in owed.items():
                if self._owed.get(tag) == moment:  # not forgotten once more meanwhile
                    del self._owed[tag]

    async def _pay_in_time(self) -> None:
        while True:
            await asyncio.sleep(_PAY_SECONDS)
            if self._store is not None:
                with suppress(Unavailable):
                    await self._pay(self._store)


# ------------------------------------------------------------------------------- values and keys


async def _loaded(how: _Load) -> tuple[Any, bytes]:
    """Load the value; return it, and what is kept of it."""
    try:
        value = await how.load()
    except NotFound as error:
        if type(error) is not NotFound:  # it could not be raised again as what it is
            raise
        return None, _NOTHING + str(error.extra.get("resource", "")).encode()
    try:
        # Without computed fields, which no model reads.
        return value, _VALUE + how.adapter.dump_json(value, round_trip=True, warnings="error")
    except PydanticSerializationError as error:
        raise TypeError(f"what is cached is not of its declared type: {error}") from error


def _read(adapter: TypeAdapter[Any], data: bytes) -> Any:
    """Return the value in ``data``; raises ``ValidationError``."""
    if data.startswith(_NOTHING):
        return None
    return adapter.validate_json(data[len(_VALUE) :], by_alias=False, by_name=True)


def _entry(value: Any, data: bytes, flight: _Flight) -> _Entry:
    missing = data[len(_NOTHING) :].decode() if data.startswith(_NOTHING) else None
    return _Entry(value, missing, data, 0.0, flight.tags, flight.as_of)


def _size(key: Hashable, entry: _Entry) -> int:
    return len(entry.data) + len(repr(key)) + 256


@lru_cache(maxsize=1024)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@lru_cache(maxsize=1024)
def _shape(adapter: TypeAdapter[Any]) -> str:
    """Return a digest of the value's form: releases that differ in it share no values."""
    try:
        schema = to_json(adapter.json_schema(mode="serialization"))
    except PydanticUserError:  # not every type has one
        return ""
    return hashlib.sha256(schema).hexdigest()[:8]


def _text(key: Hashable) -> str:
    """Return ``key`` as every process writes it, as a digest: it may hold what is secret, or long.

    Raises ``TypeError`` when it holds more than values.
    """
    try:
        text = to_json(_plain(key), bytes_mode="base64")
    except PydanticSerializationError as error:
        raise TypeError(
            f"the key of a cached value holds what is no value ({error}): pass ids and models, and "
            "no requests, answers or connections"
        ) from None
    return hashlib.sha256(text).hexdigest()


def _plain(value: Any) -> Any:
    """Return ``value`` with what JSON would leave out: secrets, fields that a model excludes.

    Sets are put in order: JSON writes them as they come.
    """
    if isinstance(value, Secret | SecretStr | SecretBytes):
        value = cast("Any", value).get_secret_value()
    if isinstance(value, BaseModel):
        # Each field's name, and its value; a model may iterate over something else.
        value = type(value).__name__, *BaseModel.__iter__(value)
    elif is_dataclass(value) and not isinstance(value, type):
        value = type(value).__name__, *(getattr(value, part.name) for part in fields(value))
    if isinstance(value, set | frozenset):
        members = cast("Collection[Any]", value)
        return sorted(to_json(_plain(member), bytes_mode="base64").decode() for member in members)
    if isinstance(value, list | tuple | deque):
        return [_plain(part) for part in cast("Sequence[Any]", value)]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in cast("dict[Any, Any]", value).items()}
    return value


def _lineage(tags: Tags) -> tuple[str, ...]:
    """Return ``tags`` and what stands for them: ``agents:*`` for ``agents:7``, and everything."""
    named = cast("Sequence[str]", tags) if isinstance(tags, Sequence) else tags()
    groups = [_group(tag) for tag in named if ":" in tag]
    return tuple(dict.fromkeys((_EVERYTHING, *named, *groups)))


def _group(tag: str) -> str:
    return f"{tag.partition(':')[0]}:*"


def _few(tags: Sequence[str]) -> tuple[str, ...]:
    """Return ``tags``, or if they are too many to tell, what stands for them."""
    if len(tags) <= _MAX_TAGS:
        return tuple(tags)
    groups = tuple(dict.fromkeys(_group(tag) if ":" in tag else tag for tag in tags))
    return groups if len(groups) <= _MAX_TAGS else (_EVERYTHING,)
