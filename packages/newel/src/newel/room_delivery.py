"""Brings what is said in rooms to those of this process who are in them, in order, without a gap.

Everything goes through the log, which numbers it: what this process says, too, is delivered when
it is heard. A number that is missing is read from the history; what is not there any more is told
to the clients. While the log is away, this process delivers what it says by itself, and hands it
over later.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

import structlog
from pydantic import BaseModel
from pydantic_core import to_json

from newel.clock import Clock, SystemClock
from newel.errors import Unavailable
from newel.room_log import (
    REPLAY_BYTES,
    Entry,
    MemoryLog,
    Position,
    Presence,
    Replay,
    RoomLog,
    utf8_bytes,
)
from newel.tasks import end_tasks

__all__ = ["MAX_MESSAGE_BYTES", "Receiver", "Rooms", "Spoken", "frame_of", "is_room_name"]

MAX_MESSAGE_BYTES: Final = 65_536
"""The longest message, in both directions."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.~:-]{1,128}")
_OF_THE_PROTOCOL: Final = frozenset(
    {"auth", "error", "join", "joined", "leave", "left", "ping", "pong", "sent", "welcome"}
)
_MAX_NAMED_MEMBERS: Final = 100
_MAX_OWED_BYTES: Final = 4 * 1_048_576
_MAX_BACKLOG: Final = 1000
_BEAT_SECONDS: Final = 0.5
_PRESENT_SECONDS: Final = 30.0
_MARK_EVERY_BEATS: Final = 20

_log = structlog.get_logger("newel.rooms")


class Receiver(Protocol):
    """One connection that hears what is said in rooms."""

    @property
    def id(self) -> str:
        """A name that no other connection has."""
        ...

    @property
    def user(self) -> str:
        """The id of its user."""
        ...

    def put(self, frame: str) -> None:
        """Take a message to send it on; never waits and never raises."""
        ...

    def put_missed(self, frames: Sequence[str]) -> None:
        """Take what was said before it came: up to 1 MiB at once."""
        ...


@dataclass(frozen=True, slots=True)
class Spoken:
    """A message on its way: to which room, the JSON object, and which connection does not get it.

    ``room`` is the name with the tenant before it.
    """

    room: str
    text: str
    but: str = ""


def is_room_name(text: str) -> bool:
    """Tell whether ``text`` can be the name of a room."""
    return _NAME.fullmatch(text) is not None


@dataclass(slots=True, eq=False)
class _Room:
    """A room as this process sees it: who of it is in it, and how far they have heard.

    ``backlog`` holds what is heard while the log is read, ``has_missed`` that there is more.
    """

    name: str
    label: str
    receivers: dict[str, Receiver] = field(default_factory=dict[str, Receiver])
    position: Position | None = None
    unplaced: set[str] = field(default_factory=set[str])
    backlog: list[tuple[str, Entry]] | None = None
    has_missed: bool = False
    is_behind: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    joining: int = 0

    def users(self) -> dict[str, None]:
        return dict.fromkeys(receiver.user for receiver in self.receivers.values())

    def send(self, text: str, *, but: str = "") -> None:
        left_out = self.receivers.get(but)
        for receiver in self.receivers.values():
            if receiver is not left_out:
                receiver.put(text)


class Rooms:
    """The rooms of a process: who is in them, and what is said; ``app.state.rooms``.

    ``log`` carries messages between processes, ``presence`` who is there; without them there is
    one process.
    """

    def __init__(
        self,
        log: RoomLog | None = None,
        presence: Presence | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._log = log or MemoryLog()
        self._presence = presence
        self._clock = clock or SystemClock()
        self._process = f"process-{secrets.token_hex(8)}"
        self._rooms: dict[str, _Room] = {}
        self._owed: deque[Spoken] = deque()
        self._owed_bytes = 0
        self._broken: dict[str, None] = {}  # rooms of which more was said than can be owed
        self._paying = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    # --------------------------------------------------------------------------------- to speak

    async def publish(
        self, room: str, message: BaseModel, *, tenant_id: UUID | None = None
    ) -> Position | None:
        """Say ``message``, which has a ``type``, in ``room``, at once; for code without a unit.

        Returns its number, or ``None`` while Redis is away: then those of this process hear it now
        and the others later. Raises ``ValueError`` for what is no room or no message.
        """
        return await self.say(self.spoken(room, message, tenant_id=tenant_id))

    def spoken(
        self,
        room: str,
        message: BaseModel,
        *,
        tenant_id: UUID | None,
        sender: UUID | None = None,
        but: str = "",
    ) -> Spoken:
        """Return ``message`` ready to be said: ``ValueError`` for what is no room or no message."""
        kind = str(getattr(message, "type", ""))
        if not kind:
            raise ValueError(f"{type(message).__name__} has no type, by which clients know it")
        if kind in _OF_THE_PROTOCOL:
            raise ValueError(f"{kind!r} is a type of the protocol's own")
        if not is_room_name(room):
            raise ValueError(f"{room!r} is no name of a room: letters, digits and _ . ~ : -")
        head = to_json({"type": kind, "room": room, "from": sender}).decode()
        data = message.model_dump_json(exclude={"type"})
        text = f'{head[:-1]},"data":{data},"timestamp":"{self._now()}"}}'
        if len(text.encode()) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message in a room has at most {MAX_MESSAGE_BYTES} bytes")
        return Spoken(_address(room, tenant_id), text, but)

    async def say(self, spoken: Spoken) -> Position | None:
        """Say what ``spoken`` made; see ``publish``."""
        if not self._owed and not self._broken:
            with suppress(Unavailable):
                return await self._log.append(spoken.room, spoken.text, but=spoken.but)
        self._say_here(spoken)
        return None

    def frame(self, kind: str, data: Any, *, room: str | None = None) -> str:
        """Return a message of the server's own, not numbered and to one connection."""
        return frame_of(kind, data, room=room, timestamp=self._now())

    # ---------------------------------------------------------------------------------- to hear

    async def join(
        self, receiver: Receiver, room: str, *, tenant_id: UUID | None, since: Position | None
    ) -> None:
        """Let ``receiver`` hear ``room`` from now on, beginning with what it missed ``since``.

        ``joined`` and the messages missed are put before anything that is said later.
        """
        name = _address(room, tenant_id)
        local = self._rooms.setdefault(name, _Room(name, room))
        local.joining += 1
        try:
            await self._mark([(name, receiver.user)])
            users = {receiver.user: None, **await self._users(local)}
            async with local.lock:
                await self._admit(local, receiver, since, list(users))
        finally:
            local.joining -= 1
            self._drop_empty(local)

    async def leave(self, receiver: Receiver, room: str, *, tenant_id: UUID | None) -> None:
        """Let ``receiver`` hear nothing more of ``room``."""
        local = self._rooms.get(_address(room, tenant_id))
        if local is None or local.receivers.pop(receiver.id, None) is None:
            return
        local.unplaced.discard(receiver.id)
        self._drop_empty(local)
        if self._presence is not None and receiver.user not in local.users():
            with suppress(Unavailable):
                await self._presence.unmark(local.name, receiver.user)

    async def members(self, room: str, *, tenant_id: UUID | None) -> Sequence[str]:
        """Return the ids of the users who are in ``room``, each once, of all processes."""
        name = _address(room, tenant_id)
        return list(await self._users(self._rooms.get(name) or _Room(name, room)))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Hear what is said, inside the block."""
        self._start(self._log.listen(self._heard, lost=self._lost))
        self._start(self._beat())
        try:
            yield
        finally:
            await end_tasks(self._tasks)

    async def _admit(
        self, local: _Room, receiver: Receiver, since: Position | None, users: list[str]
    ) -> None:
        """Take ``receiver`` in, between what it missed and what comes. No wait after the read."""
        missed: Sequence[Entry] | None = () if since is not None else None
        is_current = local.position is not None and not local.is_behind and not self._owed
        if not is_current or since not in {None, local.position}:
            try:
                await self._pay()  # else it would be numbered as heard by all who are here
                replay = await self._read(local, since)
            except Unavailable:
                missed = None
                local.unplaced.add(receiver.id)
                self._catch_up(local)
            else:
                self._continue(local, replay)
                missed = None if since is None else _bounded(replay.since(since))
        placed = None if receiver.id in local.unplaced else local.position
        local.receivers[receiver.id] = receiver
        receiver.put(self._joined(local, placed, users, recovered=missed is not None))
        receiver.put_missed([_numbered(entry) for entry in missed or ()])
        self._take_backlog(local)

    def _joined(
        self, local: _Room, position: Position | None, users: Sequence[str], *, recovered: bool
    ) -> str:
        data = {
            "epoch": position and position.epoch,
            "offset": position and position.offset,
            "recovered": recovered,
            "members": users[:_MAX_NAMED_MEMBERS],
            "member_count": len(users),
        }
        return self.frame("joined", data, room=local.label)

    def _drop_empty(self, local: _Room) -> None:
        if not local.receivers and not local.joining and self._rooms.get(local.name) is local:
            del self._rooms[local.name]

    # ------------------------------------------------------------------------- what the log says

    def _heard(self, name: str, epoch: str, entry: Entry) -> None:
        local = self._rooms.get(name)
        if local is None:
            return
        if local.backlog is not None:
            if len(local.backlog) < _MAX_BACKLOG:
                local.backlog.append((epoch, entry))
            else:
                local.has_missed = True
        elif not self._deliver(local, epoch, entry):
            self._catch_up(local)

    def _deliver(self, local: _Room, epoch: str, entry: Entry) -> bool:
        """Bring an entry to those who are here; ``False`` if something before it is missing."""
        position = local.position
        if position is None or epoch != position.epoch or entry.offset > position.offset + 1:
            return False
        if entry.offset == position.offset + 1:
            local.position = Position(epoch, entry.offset)
            if entry.but != self._process:  # else they heard it when the log was away
                local.send(_numbered(entry), but=entry.but)
        return True

    def _lost(self) -> None:
        """Look again at every room: something may have been said that was not heard."""
        for local in self._rooms.values():
            local.has_missed = True  # also of what is read now: that may be older
            self._catch_up(local)

    def _catch_up(self, local: _Room) -> None:
        if not local.is_behind:
            local.is_behind = True
            self._start(self._read_on(local))

    async def _read_on(self, local: _Room) -> None:
        """Read what is missing until it is here."""
        while local.is_behind and local.receivers:
            try:
                async with local.lock:
                    if local.is_behind:
                        await self._pay()  # before: what is owed is part of what is read
                        self._continue(local, await self._read(local, None))
                        self._take_backlog(local)
            except Unavailable:
                await asyncio.sleep(_BEAT_SECONDS)
        if not local.receivers:
            local.is_behind, local.position = False, None

    async def _read(self, local: _Room, since: Position | None) -> Replay:
        """Read what this process and ``since`` have not heard; what is heard meanwhile waits."""
        ends = [position.offset for position in (local.position, since) if position is not None]
        local.backlog, local.has_missed = [], False
        try:
            return await self._log.read(local.name, after=min(ends) if ends else _NOTHING)
        except BaseException:
            self._take_backlog(local)
            raise

    def _continue(self, local: _Room, replay: Replay) -> None:
        """Bring those who are here to the end of ``replay``, or tell them that they cannot be."""
        local.is_behind = False
        missed = None if local.position is None else replay.since(local.position)
        if missed is None:
            local.unplaced.update(local.receivers)
        for entry in missed or ():
            self._deliver(local, replay.top.epoch, entry)
        local.position = replay.top
        users = list(local.users())
        for id in local.unplaced & local.receivers.keys():
            joined = self._joined(local, replay.top, users, recovered=False)
            local.receivers[id].put(joined)
        local.unplaced.clear()
        if local.has_missed:
            self._catch_up(local)

    def _take_backlog(self, local: _Room) -> None:
        heard, local.backlog = local.backlog or (), None
        for epoch, entry in heard:
            if not self._deliver(local, epoch, entry):
                self._catch_up(local)

    # -------------------------------------------------------------------------- without the log

    def _say_here(self, spoken: Spoken) -> None:
        """Deliver it to those of this process, and remember that the others wait for it."""
        local = self._rooms.get(spoken.room)
        if local is not None:
            local.send(spoken.text, but=spoken.but)
        if spoken.room in self._broken:
            return
        size = utf8_bytes(spoken.text)
        if self._owed_bytes + size > _MAX_OWED_BYTES:
            self._broken[spoken.room] = None
            self._owed = deque(owed for owed in self._owed if owed.room != spoken.room)
            self._owed_bytes = sum(utf8_bytes(owed.text) for owed in self._owed)
        else:
            self._owed.append(spoken)
            self._owed_bytes += size

    async def _pay(self) -> None:
        """Hand over what was said while the log was away; raises ``Unavailable``."""
        async with self._paying:
            while self._owed:
                spoken = self._owed[0]
                await self._log.append(spoken.room, spoken.text, but=self._process)
                if self._owed and self._owed[0] is spoken:  # else its room was given up
                    self._owed.popleft()
                    self._owed_bytes -= utf8_bytes(spoken.text)
            for room in list(self._broken):
                await self._log.renew(room)
                del self._broken[room]

    async def _beat(self) -> None:
        """Pay what is owed, and say now and then who is here."""
        beats = 0
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            with suppress(Unavailable):
                await self._pay()
            beats += 1
            if beats % _MARK_EVERY_BEATS == 0:
                rooms = self._rooms.values()
                await self._mark([(room.name, user) for room in rooms for user in room.users()])

    # ------------------------------------------------------------------------------ who is there

    async def _mark(self, present: Sequence[tuple[str, str]]) -> None:
        if self._presence is not None and present:
            with suppress(Unavailable):
                await self._presence.mark(present, seconds=_PRESENT_SECONDS)

    async def _users(self, local: _Room) -> dict[str, None]:
        users = local.users()
        if self._presence is not None:
            with suppress(Unavailable):
                users.update(dict.fromkeys(await self._presence.present(local.name)))
        return users

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("rooms_failed", exc_info=error)


_NOTHING: Final = 2**62
"""After every offset: only where the room ends is asked for."""


def _address(room: str, tenant_id: UUID | None) -> str:
    """Name a room of a tenant; no name of a room has a slash."""
    return f"{tenant_id or ''}/{room}"


def _bounded(missed: Sequence[Entry] | None) -> Sequence[Entry] | None:
    """Leave out what would be too much to send at once: it is quicker read from the API."""
    return missed if sum(utf8_bytes(entry.text) for entry in missed or ()) <= REPLAY_BYTES else None


def _numbered(entry: Entry) -> str:
    return f'{entry.text[:-1]},"offset":{entry.offset}}}'


def frame_of(kind: str, data: Any, *, room: str | None, timestamp: str) -> str:
    """Return a message as JSON."""
    fields: dict[str, Any] = {"type": kind, "data": data, "timestamp": timestamp}
    if room is not None:
        fields["room"] = room
    return to_json(fields).decode()
