"""Rooms as a service declares them: their names, who may join, and what may be said.

    chat = room("chat:{id}", Said | Typing, may_join=is_member, on_message=say, exclude_sender=True)
    module = Module("chat", rooms=[chat])

A client that has joined hears what is said; what it says itself is checked, handed to
``on_message``, and what that returns is said in the room once its unit of work is committed.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_origin
from uuid import UUID

import structlog
from fastapi import FastAPI
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from newel.db import Database, Work
from newel.depends import resolve
from newel.errors import (
    AppError,
    ConfigurationError,
    Forbidden,
    GatewayTimeout,
    Invalid,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from newel.principal import Principal
from newel.room_connections import Turn
from newel.room_delivery import Rooms, is_room_name
from newel.validation import field_errors

__all__ = ["MAX_CONNECTIONS", "Room", "RoomKinds", "Visit", "anyone", "room"]

T = TypeVar("T")

_log = structlog.get_logger("newel.rooms")

_PART: Final = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
MAX_CONNECTIONS: Final = 20
"""How many connections a user may have with one process."""

_ASK_SECONDS: Final = 5.0
_VALUE: Final = "[A-Za-z0-9_.~-]{1,64}"


class Visit:
    """A room while it is joined or spoken in: its name, the values in it, a unit of work."""

    def __init__(
        self, app: FastAPI, name: str, values: Mapping[str, str], work: Work, stack: AsyncExitStack
    ) -> None:
        self.app = app
        self.name = name
        self.values = values
        self.work = work
        self._stack = stack

    async def resolve(self, dependency: Callable[..., T]) -> T:
        """Return ``dependency`` as a route would get it, on ``work``."""
        return await self._stack.enter_async_context(resolve(self.app, dependency, work=self.work))


MayJoin = Callable[[Principal, Visit], Awaitable[bool]]
OnMessage = Callable[[Principal, Visit, Any], Awaitable[BaseModel | None]]
OnMember = Callable[[Principal, Visit], Awaitable[BaseModel | None]]


async def anyone(caller: Principal, visit: Visit) -> bool:  # noqa: ARG001 - the signature
    """Let everybody join who is logged in: ``may_join=anyone``."""
    return True


@dataclass(frozen=True, kw_only=True, eq=False)
class Room:
    """A kind of rooms; made by ``room``."""

    pattern: str
    may_join: MayJoin | str
    messages: TypeAdapter[Any] | None
    on_message: OnMessage | None
    exclude_sender: bool
    on_join: OnMember | None
    on_leave: OnMember | None

    def values_of(self, name: str) -> dict[str, str] | None:
        """Return what ``name`` has in the places of the pattern; ``None``: another kind of room."""
        found = _regex(self.pattern).fullmatch(name)
        return None if found is None else found.groupdict()

    async def admits(self, caller: Principal, visit: Visit) -> bool:
        """Tell whether ``caller`` may join."""
        if isinstance(self.may_join, str):
            return caller.can(self.may_join)
        return await self.may_join(caller, visit)

    def parse(self, kind: str, data: Mapping[str, Any]) -> Any:
        """Return a client's message as its model; raises ``Invalid``."""
        if self.messages is None:
            raise Invalid("Nobody speaks in this room but the service.")
        try:
            return self.messages.validate_json(to_json({**data, "type": kind}))
        except ValidationError as error:
            found = [
                {**one, "loc": ("body", *one["loc"])}
                for one in error.errors(include_url=False, include_input=False)
            ]
            raise Invalid(errors=field_errors(found, body={**data, "type": kind})) from None


def room(
    pattern: str,
    messages: Any = None,
    *,
    may_join: MayJoin | str,
    on_message: OnMessage | None = None,
    exclude_sender: bool = False,
    on_join: OnMember | None = None,
    on_leave: OnMember | None = None,
) -> Room:
    """Declare a kind of rooms: ``"chat:{id}"``, each value of letters, digits and ``_ . ~ -``.

    ``messages`` is what clients may send: a pydantic model, or a union of several, each with
    ``type: Literal["..."]``; ``on_message`` gets it and returns what is said in the room, or
    ``None``. Without both, clients only listen. ``may_join`` is asked for each join, or it is a
    permission. What ``on_join`` and ``on_leave`` return is said when a user comes, to the others,
    and when the last connection of a user is gone, over all processes. Raises ``ValueError`` for a
    pattern that cannot be the name of a room.
    """
    if not is_room_name(_PART.sub("x", pattern)):
        raise ValueError(f"{pattern!r} is no name of rooms: write it like 'chat:{{id}}'")
    if (messages is None) != (on_message is None):
        raise ValueError("messages and on_message belong together: what is sent, and what is done")
    return Room(
        pattern=pattern,
        may_join=may_join,
        messages=None if messages is None else TypeAdapter(_by_type(messages)),
        on_message=on_message,
        exclude_sender=exclude_sender,
        on_join=on_join,
        on_leave=on_leave,
    )


def _by_type(messages: Any) -> Any:
    """Tell the models of a union apart by their type alone: an error is about the one meant."""
    if get_origin(messages) in {Union, UnionType}:
        return Annotated[messages, Field(discriminator="type")]
    return messages


@cache  # as many as a service declares; asked for each room of each connection every 4 s
def _regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern."""
    literal = re.split(r"\{[a-z_][a-z0-9_]*\}", pattern)
    names = _PART.findall(pattern)
    parts = [re.escape(literal[0])]
    for name, text in zip(names, literal[1:], strict=True):
        parts.append(f"(?P<{name}>{_VALUE}){re.escape(text)}")
    return re.compile("".join(parts))


def _openness(pattern: str) -> list[tuple[bool, int]]:
    """Order patterns that share names: what is said literally, from the left, goes first."""
    return [
        (_PART.search(part) is not None, -len(_PART.sub("", part))) for part in pattern.split(":")
    ]


class RoomKinds:
    """The kinds of rooms of a service, and how its clients visit them."""

    def __init__(self, app: FastAPI, kinds: Iterable[Room]) -> None:
        self._app = app
        self.turn: Turn = Turn()
        self._kinds = sorted(kinds, key=lambda kind: _openness(kind.pattern))
        self._connected: Counter[UUID] = Counter()
        names = Counter(_PART.sub("{}", kind.pattern) for kind in self._kinds)
        for kind in self._kinds:
            if names[_PART.sub("{}", kind.pattern)] > 1:
                raise ConfigurationError(
                    f"There are two kinds of rooms that are called {kind.pattern}",
                    fix="give one of them another name",
                )
            if any(":" not in text for text in _PART.split(kind.pattern)[2:-1:2]):
                raise ConfigurationError(
                    f"It is not certain where a value ends in rooms called {kind.pattern}",
                    fix="put a ':' between two places, like 'dm:{a}:{b}'",
                )

    def find(self, name: str) -> tuple[Room, dict[str, str]]:
        """Return the kind of the room ``name``, and the values in it; raises ``NotFound``."""
        for kind in self._kinds:
            if (values := kind.values_of(name)) is not None:
                return kind, values
        raise NotFound("room")

    @contextmanager
    def connecting(self, user_id: UUID) -> Generator[None]:
        """Count a connection of a user inside the block; raises ``TooManyRequests`` above 20."""
        if self._connected[user_id] >= MAX_CONNECTIONS:
            raise TooManyRequests(
                f"A user has at most {MAX_CONNECTIONS} connections.", retry_after_seconds=60
            )
        self._connected[user_id] += 1
        try:
            yield
        finally:
            self._connected[user_id] -= 1
            if not self._connected[user_id]:
                del self._connected[user_id]

    async def check(self, caller: Principal, name: str) -> None:
        """Raise ``NotFound`` unless ``caller`` may join ``name``: in the same words as if none.

        Raises ``GatewayTimeout`` when ``may_join`` takes five seconds, and what it raises.
        """
        database: Database = self._app.state.database
        async with database.read(caller) as work:
            await work.admit(caller)
            if not await self._admits(caller, name, work):
                raise NotFound("room")

    async def refused(self, caller: Principal, names: Iterable[str]) -> dict[str, AppError]:
        """Return those of ``names`` that ``caller`` may not join, and why; all in one read unit.

        A ``may_join`` that fails has not said yes. Raises ``Unavailable``: nobody can tell.
        """
        left, refused = deque(names), dict[str, AppError]()
        while left:
            refused |= await self._ask(caller, left)
        return refused

    async def _ask(self, caller: Principal, left: deque[str]) -> dict[str, AppError]:
        """Ask for those that are left, until it fails: what it leaves of the unit is of no use."""
        database: Database = self._app.state.database
        refused: dict[str, AppError] = {}
        async with database.read(caller) as work:
            await work.admit(caller)
            while left:
                name = left.popleft()
                try:
                    if not await self._admits(caller, name, work):
                        refused[name] = NotFound("room")
                except Unavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - of one room, not of all the others
                    _log.error("room_check_failed", room=name, exc_info=error)
                    refused[name] = error if isinstance(error, AppError) else AppError()
                    break
        return refused

    async def _admits(self, caller: Principal, name: str, work: Work) -> bool:
        try:
            kind, values = self.find(name)
            async with asyncio.timeout(_ASK_SECONDS), AsyncExitStack() as stack:
                return await kind.admits(caller, Visit(self._app, name, values, work, stack))
        except (NotFound, Forbidden):  # what the room is about, such as a deleted chat
            return False
        except TimeoutError:
            raise GatewayTimeout("may_join") from None

    async def receive(
        self, caller: Principal, name: str, kind: str, data: Mapping[str, Any], *, sender: str
    ) -> Any:
        """Hand a message of ``caller`` to the room's ``on_message``; what it returns is said.

        ``sender`` names the connection. Returns the number of what was said, ``None`` without one.
        """
        declared, values = self.find(name)
        message = declared.parse(kind, data)
        assert declared.on_message is not None  # noqa: S101 - `parse` refuses it else
        async with self._visit(caller, name, values) as visit:
            said = await declared.on_message(caller, visit, message)
            if said is not None:
                but = sender if declared.exclude_sender else ""
                visit.work.broadcast(name, said, but=but)
        return visit.work.said_at if said is not None else None

    async def greets(self, caller: Principal, name: str) -> bool:
        """Tell whether the others hear of it when ``caller`` joins: by no other connection yet."""
        kind, _ = self.find(name)
        return kind.on_join is not None and not await self._is_in(caller, name)

    async def tell_joined(self, caller: Principal, name: str, *, but: str) -> None:
        """Say what ``on_join`` returns, to all but the connection ``but``."""
        kind, values = self.find(name)
        if kind.on_join is not None:
            await self._tell(kind.on_join, caller, name, values, but=but)

    async def tell_left(self, caller: Principal, name: str) -> None:
        """Say what ``on_leave`` returns, unless ``caller`` is there by another connection."""
        kind, values = self.find(name)
        if kind.on_leave is not None and not await self._is_in(caller, name):
            await self._tell(kind.on_leave, caller, name, values)

    async def _is_in(self, caller: Principal, name: str) -> bool:
        rooms: Rooms = self._app.state.rooms
        return str(caller.user_id) in await rooms.members(name, tenant_id=caller.tenant_id)

    async def _tell(
        self,
        on_member: OnMember,
        caller: Principal,
        name: str,
        values: Mapping[str, str],
        *,
        but: str = "",
    ) -> None:
        """Say something of a member; that it failed is logged."""
        try:
            async with self._visit(caller, name, values) as visit:
                said = await on_member(caller, visit)
                if said is not None:
                    visit.work.broadcast(name, said, but=but)
        except Exception as error:  # noqa: BLE001 - they are in the room, or gone, all the same
            _log.error("room_notice_failed", room=name, exc_info=error)

    @asynccontextmanager
    async def _visit(
        self, caller: Principal, name: str, values: Mapping[str, str]
    ) -> AsyncGenerator[Visit]:
        database: Database = self._app.state.database
        async with database.write(caller) as work:
            await work.admit(caller)
            async with AsyncExitStack() as stack:
                yield Visit(self._app, name, values, work, stack)
