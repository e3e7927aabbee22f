"""Rooms over websockets and server-sent events; ``docs/rooms.md`` is the protocol.

    app = create_app(Settings(), users, chat.module, room_routes.module())

Who is calling is proved by a ticket that is good once, by the handshake's own credentials, or by
the first message; never by a token in the address. It is looked at again while the connection
lasts, so that nobody hears a room long after log-out.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Header, Path, Query, Request, WebSocket
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from newel import room_client, room_tickets
from newel.auth import LOGGED_IN, Authenticator, OfferedToken, is_known_origin, requires
from newel.connections import WIRE
from newel.context import client_ip
from newel.errors import (
    AppError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from newel.modules import Module
from newel.principal import Principal
from newel.room_connections import Allowance, Closed, RoomConnection, RoomQueue
from newel.room_delivery import MAX_MESSAGE_BYTES, Rooms
from newel.room_log import Position
from newel.room_tickets import RoomTickets
from newel.rooms import RoomKinds
from newel.tasks import end_tasks

__all__ = ["RoomMembers", "module"]

_AUTH_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 4.0
_HANDLER_SECONDS: Final = 30.0
_UNCHECKED_SECONDS: Final = 30.0
_IDLE_SECONDS: Final = 1.0
_MAX_ROOMS: Final = 100
_MAX_NAMED: Final = 1000

_log = structlog.get_logger("newel.rooms")
_router: Final = APIRouter(prefix="/rooms", tags=["rooms"])

_Introduced = tuple[str, Principal]
_Step = Callable[[], Awaitable[None]]
RoomName = Annotated[str, Path(max_length=128)]
Caller = Annotated[Principal, requires()]


class RoomMembers(BaseModel):
    """Who is in a room: the ids of its users, at most 1,000, and how many there are."""

    members: list[str]
    member_count: int


class _Position(BaseModel):
    epoch: Annotated[str, Field(max_length=64)]
    offset: Annotated[int, Field(ge=0, le=2**53)]


class _ClientMessage(BaseModel):
    """One frame of a client."""

    type: Annotated[str, Field(min_length=1, max_length=64)]
    room: Annotated[str, Field(max_length=128)] = ""
    data: dict[str, Any] = Field(default_factory=dict[str, Any])
    id: Annotated[str, Field(max_length=64)] | None = None


# ----------------------------------------------------------------------------------- websockets


class _Handshake:
    """Lets in only this service's own pages and listed ones, and strangers not too often.

    Who is calling is found out before, and said after it is accepted: a browser sees no reason of
    a refusal. Who offers something that is not good is as much a stranger as who offers nothing.
    """

    __newel_access__ = (LOGGED_IN,)

    async def __call__(
        self,
        socket: WebSocket,
        token: OfferedToken,
        ticket: Annotated[str | None, Query(max_length=4096)] = None,
    ) -> _Introduced | Unauthorized | None:
        if not is_known_origin(socket):
            raise Forbidden("Websockets are accepted from this service's own pages only.")
        found = None
        try:
            if ticket is not None:
                token = await RoomTickets(socket.app).redeem(ticket)
            if token is not None:
                return await _introduced(socket, token)
        except Unauthorized as error:
            found = error
        state = socket.app.state
        who = f"rooms ip:{client_ip(socket.scope, state.trusted_proxies)}"
        used = await state.limiter.hit(who, state.api_rate)
        if not used.allowed:
            raise TooManyRequests(retry_after_seconds=used.retry_after_seconds)
        return found


@_router.websocket("/ws")
async def speak_and_listen(
    socket: WebSocket, found: Annotated[_Introduced | Unauthorized | None, Depends(_Handshake())]
) -> None:
    """Join rooms, speak in them and hear what is said."""
    await socket.accept()
    kinds: RoomKinds = socket.app.state.room_kinds
    try:
        if isinstance(found, Unauthorized):
            raise found  # as any error it closes with its code: `problems.CLOSE_CODES`
        token, caller = found or await _introduced(socket, await _first_message(socket))
        dialogue = _Dialogue(socket, caller, token)
        try:
            with kinds.connecting(caller.user_id):
                await dialogue.hold()
        finally:
            await dialogue.tell_left()
    except Closed as closed:
        await socket.close(closed.code, closed.reason)
    except WebSocketDisconnect:
        return


async def _introduced(socket: WebSocket, token: str) -> _Introduced:
    """Find out who is calling; raises ``Unauthorized``."""
    authenticator: Authenticator = socket.app.state.authenticator
    caller: Principal = await authenticator.authenticate(token)
    socket.state.principal = caller
    return token, caller


async def _first_message(socket: WebSocket) -> str:
    try:
        async with asyncio.timeout(_AUTH_SECONDS):
            message = _parsed(await socket.receive())
    except TimeoutError:
        raise Closed(4408, "no auth in time") from None
    if message.type != "auth":
        raise Closed(4401, "unauthorized")
    return str(message.data.get("token", ""))


def _parsed(received: Any) -> _ClientMessage:
    """Return a client's frame; raises ``Closed``, and ``WebSocketDisconnect`` at its end."""
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received["code"])
    text: str | None = received.get("text")
    if text is None:
        raise Closed(4400, "text frames only")
    if len(text) > MAX_MESSAGE_BYTES or len(text.encode()) > MAX_MESSAGE_BYTES:
        raise Closed(4009, "too big")
    try:
        return _ClientMessage.model_validate_json(text)
    except ValidationError:
        raise Closed(4400, "not a message") from None


class _Dialogue:
    """One websocket whose caller is known: what they say, and what they are told."""

    def __init__(self, socket: WebSocket, caller: Principal, token: str) -> None:
        self._socket = socket
        self._caller = caller
        self._token = token
        self._rooms: Rooms = socket.app.state.rooms
        self._kinds: RoomKinds = socket.app.state.room_kinds
        self._authenticator: Authenticator = socket.app.state.authenticator
        self._allowance = Allowance()
        self._joined: set[str] = set()
        self._moving = asyncio.Lock()  # a room is looked at before it is joined, or after
        self._is_seen = asyncio.Event()  # who is calling was found out, and not yet for the rooms
        self._connection = RoomConnection(
            str(caller.user_id),
            socket.send,
            wire=socket.scope.get("extensions", {}).get(WIRE),
            turn=self._kinds.turn,
        )

    async def hold(self) -> None:
        """Talk until either side ends it; raises what it ended by."""
        connection = self._connection
        self._welcome()
        pause = partial(asyncio.sleep, _LOOK_SECONDS)
        looks = (self._again(pause, self._ask_caller), self._again(self._seen, self._ask_rooms))
        tasks = [
            asyncio.ensure_future(work)
            for work in (self._read(), connection.write(), *looks, connection.closed)
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.close(1011, "over")
            leaving = asyncio.gather(*map(self._hear_no_more, self._joined))  # begins at once
            await end_tasks(tasks)
            await leaving
        ended = done.pop()
        error = ended.exception() or ended.result()
        if isinstance(error, Closed):
            await connection.end(error)
        elif isinstance(error, BaseException):
            raise error

    async def tell_left(self) -> None:
        """Say in their rooms that they are gone; nobody waits for it, but not for ever either."""
        try:
            async with asyncio.timeout(_HANDLER_SECONDS):
                while self._joined:
                    await self._kinds.tell_left(self._caller, self._joined.pop())
        except TimeoutError:
            _log.warning("room_notices_late", rooms_left=len(self._joined))

    def _welcome(self) -> None:
        data = {"user_id": self._connection.user, "connection_id": self._connection.id}
        self._connection.put(self._rooms.frame("welcome", data))

    async def _read(self) -> None:
        while True:
            await self._connection.space()  # who does not read cannot ask for more
            message = _parsed(await self._socket.receive())
            if not self._allowance.take():
                raise Closed(4009, "too many messages")
            try:
                async with asyncio.timeout(_HANDLER_SECONDS):
                    await self._answer(message)
            except (AppError, TimeoutError) as error:
                self._refuse(message, error)
            except (Closed, WebSocketDisconnect):
                raise
            except Exception as error:  # noqa: BLE001 - one bad message, not the connection
                _log.error("room_message_failed", type=message.type, exc_info=error)
                self._refuse(message, AppError())

    async def _answer(self, message: _ClientMessage) -> None:
        match message.type:
            case "ping":
                self._connection.put(self._rooms.frame("pong", {}))
            case "auth":
                await self._renew(str(message.data.get("token", "")))
            case "join":
                await self._join(message)
            case "leave":
                await self._leave(message.room)
                self._connection.put(self._rooms.frame("left", {}, room=message.room))
            case _:
                await self._say(message)

    async def _join(self, message: _ClientMessage) -> None:
        since = _since(message.data)
        async with self._moving:
            await self._kinds.check(self._caller, message.room)
            if len(self._joined | {message.room}) > _MAX_ROOMS:
                raise Conflict(f"A connection joins at most {_MAX_ROOMS} rooms.")
            is_new = await self._kinds.greets(self._caller, message.room)
            self._joined.add(message.room)
            await self._rooms.join(
                self._connection, message.room, tenant_id=self._caller.tenant_id, since=since
            )
        if is_new:
            await self._kinds.tell_joined(self._caller, message.room, but=self._connection.id)

    async def _leave(self, room: str) -> None:
        was_in = room in self._joined
        self._joined.discard(room)
        await self._hear_no_more(room)
        if was_in:
            await self._kinds.tell_left(self._caller, room)

    async def _hear_no_more(self, room: str) -> None:
        await self._rooms.leave(self._connection, room, tenant_id=self._caller.tenant_id)

    async def _say(self, message: _ClientMessage) -> None:
        if message.room not in self._joined:
            raise NotFound("room")
        at = await self._kinds.receive(
            self._caller, message.room, message.type, message.data, sender=self._connection.id
        )
        if message.id is not None:
            data = {"id": message.id, "epoch": at and at.epoch, "offset": at and at.offset}
            self._connection.put(self._rooms.frame("sent", data, room=message.room))

    def _refuse(self, message: _ClientMessage, error: AppError | TimeoutError) -> None:
        known = Unavailable() if isinstance(error, TimeoutError) else error
        if known.status == 500:  # its detail was written for the operator
            known = AppError()
        data = {
            "error": known.code,
            "detail": known.detail,
            "id": message.id,
            "errors": [
                {"pointer": one.pointer, "code": one.code, "message": one.message}
                for one in known.errors
            ],
        }
        self._connection.put(self._rooms.frame("error", data, room=message.room or None))

    # ----------------------------------------------------------------------------- who it still is

    async def _renew(self, token: str) -> None:
        """Go on with another token of the same user."""
        self._token, self._caller = token, await self._caller_of(token)
        await self._ask_rooms()
        self._welcome()

    async def _again(self, due: _Step, look: _Step) -> None:
        """Look whenever it is due; when that cannot be done for 30 s it is over."""
        later, over = asyncio.get_running_loop().call_later, self._connection.close
        while True:
            # Not by asyncio.timeout, which takes as long as the look.
            timer = later(_UNCHECKED_SECONDS, over, 1011, "unchecked")
            try:
                await self._once(due, look)
            finally:
                timer.cancel()

    async def _once(self, due: _Step, look: _Step) -> None:
        while True:
            await due()
            try:
                return await look()
            except Unavailable:  # the database is away: nobody is found out, nor anybody new
                _log.info("room_caller_unchecked", user_id=self._connection.user)

    async def _ask_caller(self) -> None:
        """See whether it is still them, however long their rooms take to answer."""
        token = self._token
        caller = await self._caller_of(token)
        if token == self._token:  # else they have another one by now
            self._caller = caller
        self._is_seen.set()

    async def _seen(self) -> None:
        await self._is_seen.wait()
        self._is_seen.clear()

    async def _ask_rooms(self) -> None:
        """Leave the rooms that are not theirs any more."""
        async with self._moving:
            refused = await self._kinds.refused(self._caller, self._joined)
            for room, error in refused.items():
                await self._leave(room)
                self._refuse(_ClientMessage(type="join", room=room), error)

    async def _caller_of(self, token: str) -> Principal:
        try:
            caller = await self._authenticator.authenticate(token)
        except Unauthorized as error:
            raise Closed(4401, error.code) from None
        if (caller.id, caller.tenant_id) != (self._caller.id, self._caller.tenant_id):
            raise Closed(4401, "another user")
        return caller


def _since(data: dict[str, Any]) -> Position | None:
    if not data:
        return None
    try:
        position = _Position.model_validate(data)
    except ValidationError:
        raise Invalid("Resume with the epoch and the offset that you saw last.") from None
    return Position(position.epoch, position.offset)


# ------------------------------------------------------------------------------ listening, looking


async def _admitted(request: Request, room: RoomName, caller: Caller) -> Principal:
    """Answer 404 before the stream begins."""
    kinds: RoomKinds = request.app.state.room_kinds
    await kinds.check(caller, room)
    return caller


Admitted = Annotated[Principal, Depends(_admitted)]


async def _counted(request: Request, caller: Caller) -> AsyncGenerator[None]:
    """Answer 429 to one connection too many."""
    kinds: RoomKinds = request.app.state.room_kinds
    with kinds.connecting(caller.user_id):
        yield


@_router.get("/{room}/members", response_model=RoomMembers, summary="List who is in a room")
async def read_room_members(request: Request, room: RoomName, caller: Admitted) -> RoomMembers:
    """Tell who is in a room."""
    rooms: Rooms = request.app.state.rooms
    members = await rooms.members(room, tenant_id=caller.tenant_id)
    return RoomMembers(members=list(members)[:_MAX_NAMED], member_count=len(members))


@_router.get(
    "/{room}/events",
    response_class=EventSourceResponse,
    summary="Listen to a room",
    dependencies=[Depends(_counted)],
)
async def listen_to_room(
    request: Request,
    room: RoomName,
    caller: Admitted,
    token: OfferedToken,
    last_event_id: Annotated[str | None, Header(max_length=128)] = None,
) -> AsyncGenerator[ServerSentEvent]:
    """Send what is said in a room, from the position `Last-Event-ID` on."""
    rooms: Rooms = request.app.state.rooms
    queue, epoch = RoomQueue(str(caller.user_id)), ""
    await rooms.join(queue, room, tenant_id=caller.tenant_id, since=_position(last_event_id))
    try:
        seen_at = look_at = time.monotonic()
        while not (request.app.state.draining or queue.closed.done()):
            queue.awake.clear()  # before: what is put from here on is not waited for
            for frame in queue.take():
                epoch, offset = _place(json.loads(frame), epoch)
                id = None if offset is None else f"{epoch}:{offset}"
                yield ServerSentEvent(raw_data=frame, id=id)
            if time.monotonic() > look_at + _LOOK_SECONDS:
                look_at = time.monotonic()
                is_admitted = await _is_still_admitted(request, room, token or "")
                if is_admitted is False or look_at > seen_at + _UNCHECKED_SECONDS:
                    return  # the browser opens it again, and is told why then
                seen_at = look_at if is_admitted else seen_at
            if not queue.waiting_bytes:
                with suppress(TimeoutError):  # then it is seen that the server stops
                    await asyncio.wait_for(queue.awake.wait(), _IDLE_SECONDS)
    finally:
        await rooms.leave(queue, room, tenant_id=caller.tenant_id)


async def _is_still_admitted(request: Request, room: str, token: str) -> bool | None:
    """Tell whether they may go on listening; ``None``: for now nobody can tell."""
    state = request.app.state
    try:
        async with asyncio.timeout(_UNCHECKED_SECONDS):
            caller = await state.authenticator.authenticate(token)
            return not await state.room_kinds.refused(caller, [room])
    except (Unauthorized, TimeoutError):
        return False
    except Unavailable:
        return None


def _place(said: dict[str, Any], epoch: str) -> tuple[str, int | None]:
    """Return where in the room a message is, knowing the epoch before it."""
    if said["type"] == "joined":  # before what was missed it is nowhere: that follows
        data = said["data"]
        return data["epoch"] or "", None if data["recovered"] else data["offset"]
    return epoch, said.get("offset")


def _position(last_event_id: str | None) -> Position | None:
    epoch, _, offset = (last_event_id or "").partition(":")
    return Position(epoch, int(offset)) if epoch and offset.isascii() and offset.isdigit() else None


def module() -> Module:
    """Return the module with the routes of rooms."""
    routers = [room_tickets.router(), _router, room_client.router()]
    return Module("rooms", description="What is said, as it is said", routers=routers)
