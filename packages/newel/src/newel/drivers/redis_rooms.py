"""What is said in rooms, over Redis: numbered and kept there, heard by every process.

A message is one script: it takes the next number of its room, is appended to the room's stream, and
published on the one channel that all processes of the service listen to. Who is in a room is a
sorted set of users and processes by when that ends, unless it is said again.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import structlog

from newel.drivers.redis import Misfit, RedisLink
from newel.room_log import (
    HISTORY_MESSAGES,
    HISTORY_SECONDS,
    REPLAY_BYTES,
    Entry,
    Heard,
    Position,
    Replay,
)

__all__ = ["RedisRooms"]

T = TypeVar("T")

_log = structlog.get_logger("newel.rooms")

_ROOM_SECONDS: Final = 86_400

# Keys: the room's number and name, its stream. Arguments: an epoch for a room that has none, the
# message, who does not get it, how many are kept, seconds the stream and the number live, the
# channel, the room. The time is kept, as an old message must not be read though the stream lives.
# Where the number was evicted and the stream was not, XADD would refuse what begins with 1.
_APPEND: Final = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then
  epoch = ARGV[1]
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch)
end
local offset = redis.call('HINCRBY', KEYS[1], 'offset', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[4], offset .. '-1',
  'text', ARGV[2], 'but', ARGV[3], 'at', redis.call('TIME')[1])
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('PUBLISH', ARGV[7], table.concat({ARGV[8], epoch, offset, ARGV[3], ARGV[2]}, '\\n'))
return {epoch, offset}
"""

# Keys as above. Arguments: an epoch, the offset after which, the seconds that messages are kept,
# seconds the number lives, the bytes after which no older one is read. The newest come first.
_READ: Final = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then
  epoch = ARGV[1]
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'offset', 0)
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
local top = tonumber(redis.call('HGET', KEYS[1], 'offset'))
local found = {epoch, top}
if tonumber(ARGV[2]) < top then
  local oldest = redis.call('TIME')[1] - ARGV[3]
  local left, last = tonumber(ARGV[5]), top .. '-1'
  while left > 0 and last do
    local some = redis.call('XREVRANGE', KEYS[2], last, ARGV[2] .. '-2', 'COUNT', 16)
    last = nil
    for _, entry in ipairs(some) do
      if left <= 0 or tonumber(entry[2][6]) < oldest then
        return found
      end
      left = left - #entry[2][2]
      table.insert(found, {entry[1], entry[2][2], entry[2][4]})
      last = string.match(entry[1], '%d+') .. '-0'
    end
  end
end
return found
"""

# Keys as above. Arguments: the new epoch, the channel, the room, seconds that the number lives.
_RENEW: Final = """
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'offset', 0)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[2], table.concat({ARGV[3], ARGV[1], 0, '', ''}, '\\n'))
"""

# Key: who is there. Argument pairs follow the seconds.
_MARK: Final = """
local now = tonumber(redis.call('TIME')[1])
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[1], ARGV[i + 1])
  redis.call('EXPIRE', key, ARGV[1])
end
"""

_PRESENT: Final = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""


class RedisRooms:
    """A ``RoomLog`` and a ``Presence`` over the link of this process."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._channel = link.key("rooms")
        self._process = secrets.token_hex(6)
        self._append = link.script(_APPEND)
        self._read = link.script(_READ)
        self._renew = link.script(_RENEW)
        self._mark = link.script(_MARK)
        self._present = link.script(_PRESENT)

    async def append(self, room: str, text: str, *, but: str = "") -> Position:
        """See ``RoomLog``."""
        arguments = [secrets.token_hex(6), text, but, HISTORY_MESSAGES, int(HISTORY_SECONDS)]
        arguments += [_ROOM_SECONDS, self._channel, room]
        epoch, offset = await self._call(
            "say", room, lambda: self._append(keys=self._keys(room), args=arguments)
        )
        return Position(epoch.decode(), offset)

    async def read(self, room: str, *, after: int) -> Replay:
        """See ``RoomLog``."""
        arguments = [secrets.token_hex(6), after, int(HISTORY_SECONDS), _ROOM_SECONDS, REPLAY_BYTES]
        epoch, top, *found = await self._call(
            "read room", room, lambda: self._read(keys=self._keys(room), args=arguments)
        )
        entries = [_entry(id, text, but) for id, text, but in reversed(found)]
        return Replay(Position(epoch.decode(), top), entries)

    async def renew(self, room: str) -> None:
        """See ``RoomLog``."""
        arguments = [secrets.token_hex(6), self._channel, room, _ROOM_SECONDS]
        await self._link.call(
            "renew room", lambda: self._renew(keys=self._keys(room), args=arguments)
        )

    async def _call(self, name: str, room: str, command: Callable[[], Awaitable[T]]) -> T:
        """Run ``command``; a room that cannot be gone on with begins anew, and holds up no other.

        What Redis holds of it is then not what was written: another program's, or a part.
        """
        try:
            return await self._link.call(name, command)
        except Misfit as error:
            _log.warning("room_renewed", room=room, error=str(error.__cause__))
            await self.renew(room)
            return await self._link.call(name, command)

    async def listen(self, heard: Heard, *, lost: Callable[[], None]) -> None:
        """See ``RoomLog``."""

        def take(data: bytes) -> None:
            room, epoch, offset, but, text = data.decode().split("\n", 4)
            heard(room, epoch, Entry(int(offset), text, but))

        await self._link.hear(self._channel, take, began=lost, ended=lambda: None)

    async def mark(self, present: Iterable[tuple[str, str]], *, seconds: float) -> None:
        """See ``Presence``."""
        pairs = list(present)
        for start in range(0, len(pairs), 500):
            await self._mark_some(pairs[start : start + 500], seconds)

    async def _mark_some(self, pairs: Sequence[tuple[str, str]], seconds: float) -> None:
        keys = [self._there(room) for room, _ in pairs]
        arguments: list[Any] = [int(seconds), *(self._member(user) for _, user in pairs)]
        await self._link.call("mark present", lambda: self._mark(keys=keys, args=arguments))

    async def unmark(self, room: str, user: str) -> None:
        """See ``Presence``."""
        client = self._link.client
        await self._link.call(
            "unmark present", lambda: client.zrem(self._there(room), self._member(user))
        )

    async def present(self, room: str) -> Sequence[str]:
        """See ``Presence``."""
        found = await self._link.call(
            "read present", lambda: self._present(keys=[self._there(room)])
        )
        return list(dict.fromkeys(member.decode().partition(" ")[0] for member in found))

    def _keys(self, room: str) -> list[str]:
        return [self._link.key(f"room:{room}"), self._link.key(f"said:{room}")]

    def _there(self, room: str) -> str:
        return self._link.key(f"there:{room}")

    def _member(self, user: str) -> str:
        return f"{user} {self._process}"


def _entry(id: bytes, text: bytes, but: bytes) -> Entry:
    return Entry(int(id.partition(b"-")[0]), text.decode(), but.decode())
