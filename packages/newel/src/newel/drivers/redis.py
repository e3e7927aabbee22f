"""Redis or Valkey, with redis-py (the extra ``newel[redis]``): the one place that talks to it.

A link is the second level of the cache, the shared counter of the limits, and the channel on which
processes tell each other what to forget. Every wait is bounded, and after a failure one call a
second tries again; the others raise ``Unavailable`` at once, so that nobody waits for what is away.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final, Literal, TypeVar, cast

import structlog
from opentelemetry.trace import SpanKind
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from newel.errors import ConfigurationError, Unavailable
from newel.telemetry import traced

__all__ = ["Misfit", "RedisLink"]

T = TypeVar("T")

_TOKEN_MILLISECONDS: Final = 86_400_000
_SILENCE_SECONDS: Final = 1.0
_CONNECTIONS: Final = 20

# What is written on a connection that was reset raises RuntimeError in uvloop.
_FAILURES: Final = (RedisError, OSError, RuntimeError)
_RETRIED: Final[Any] = (RedisConnectionError, RedisTimeoutError, RuntimeError)
_REDIS: Final = {"db.system.name": "redis"}

_log = structlog.get_logger("newel.redis")

# Keys: the value, who loads it, then the tags. Arguments: a token for tags that have none, how long
# a token lives, the turn, how long the turn lasts. A token that was lost is a new one, and so no
# value outlives it.
_LOOK: Final = """
local tokens = {}
for i = 3, #KEYS do
  local token = redis.call('GET', KEYS[i])
  if not token then
    token = ARGV[1]
    redis.call('SET', KEYS[i], token, 'PX', ARGV[2])
  end
  tokens[i - 2] = token
end
local seen = table.concat(tokens, ' ')
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'value')
if kept[1] == seen then
  return {'hit', seen, kept[2], redis.call('PTTL', KEYS[1])}
end
if redis.call('GET', KEYS[2]) == ARGV[3]
    or redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[4]) then
  return {'load', seen, '', 0}
end
return {'wait', seen, '', 0}
"""

# Keys as above. Arguments: the tokens read before the load, the value, its milliseconds, the turn.
_KEEP: Final = """
local tokens = {}
for i = 3, #KEYS do
  tokens[i - 2] = redis.call('GET', KEYS[i]) or ''
end
if tonumber(ARGV[3]) > 0 and table.concat(tokens, ' ') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'tokens', ARGV[1], 'value', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
if redis.call('GET', KEYS[2]) == ARGV[4] then
  redis.call('DEL', KEYS[2])
end
"""

# GCRA on the server's clock, in microseconds (a number of Lua's is exact to 2^53). Arguments: the
# rate, one use, the whole period, the uses. A clock that was put back owes one period at most.
_HIT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step, full = tonumber(ARGV[2]), tonumber(ARGV[3])
local before = tonumber(redis.call('HGET', KEYS[1], ARGV[1])) or now
before = math.min(math.max(now, before), now + full)
local after = before + ARGV[4] * step
if after - now > full then
  return {0, before - now}
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', after))
local left = math.ceil((after - now) / 1000)
if redis.call('PTTL', KEYS[1]) < left then
  redis.call('PEXPIRE', KEYS[1], left)
end
return {1, after - now}
"""


class Misfit(Unavailable):
    """A command does not fit what is stored under its keys; Redis itself is there."""


class RedisLink:
    """The connections of one process to the server at ``url`` (``redis://``, ``rediss://``...).

    ``name`` is the service's: its keys begin with ``{name}:``, in one slot of a cluster. A call
    waits ``wait_seconds``; what fails is tried again after ``retry_seconds``. Raises
    ``ConfigurationError`` for an address that is none; connects with the first call.
    """

    def __init__(
        self, url: str, *, name: str, wait_seconds: float = 1.0, retry_seconds: float = 0.5
    ) -> None:
        self._wait_seconds = wait_seconds
        self._retry_seconds = retry_seconds
        self._prefix = f"{{{name}}}:"
        self._channel = f"{self._prefix}forget"
        self._sender = secrets.token_hex(8)
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._client: Any = _client(url, wait_seconds=wait_seconds)
        self._look = self._client.register_script(_LOOK)
        self._keep = self._client.register_script(_KEEP)
        self._hit = self._client.register_script(_HIT)
        self.is_listening = False
        self._is_away = False
        self._next_try = 0.0

    async def ping(self) -> None:
        """Ask for a sign of life, whatever was found before; raises ``Unavailable``."""
        self._next_try = 0.0
        await self.call("ping", self._client.ping)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    # ------------------------------------------------------------------------ for other drivers

    @property
    def client(self) -> Any:
        """redis-py's client, for commands inside of ``call``."""
        return self._client

    def key(self, name: str) -> str:
        """Return ``name`` as a key or channel of this service's."""
        return f"{self._prefix}{name}"

    def script(self, text: str) -> Callable[..., Awaitable[Any]]:
        """Return what runs a Lua script: ``await link.call(lambda: run(keys=..., args=...))``."""
        script: Callable[..., Awaitable[Any]] = self._client.register_script(text)
        return script

    async def call(self, name: str, command: Callable[[], Awaitable[T]]) -> T:
        """Run ``command`` in bounded time; raises ``Unavailable``, at once while Redis is away.

        ``Misfit`` is one that only its keys are to blame for: the next call is made all the same.
        """
        with traced(f"redis {name}", kind=SpanKind.CLIENT, attributes=_REDIS):
            async with self._free:
                return await self._try(command)

    async def hear(
        self,
        channel: str,
        take: Callable[[bytes], None],
        *,
        began: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        """Until cancelled, ``take`` what is published on ``channel``.

        ``began`` is called whenever it begins to hear (what was said before is lost), ``ended``
        whenever it does not any more.
        """
        is_said = False
        while True:
            try:
                async with self._client.pubsub() as heard:
                    await heard.subscribe(channel)
                    async for data in _messages(heard):
                        is_said = False
                        if data is None:
                            began()
                        else:
                            take(data)
            except (*_FAILURES, ValueError) as error:  # ValueError: not ours to read
                if not is_said:
                    _log.warning("redis_away", error=f"{type(error).__name__}: {error}")
                    is_said = True
            finally:
                ended()
            await asyncio.sleep(self._retry_seconds)

    # ---------------------------------------------------------------------------------- the cache

    async def look(
        self, key: str, tags: Sequence[str], *, turn: str, turn_seconds: float
    ) -> tuple[Literal["hit", "load", "wait"], bytes, bytes, float]:
        """See ``cache_levels.Store``."""
        arguments = [secrets.token_hex(6), _TOKEN_MILLISECONDS, turn, _milliseconds(turn_seconds)]
        state, tokens, value, left = await self.call(
            "look", lambda: self._look(keys=self._keys(key, tags), args=arguments)
        )
        return state.decode(), tokens, value, left / 1000

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
        """See ``cache_levels.Store``."""
        arguments = [tokens, value, _milliseconds(expire_seconds), turn]
        await self.call("keep", lambda: self._keep(keys=self._keys(key, tags), args=arguments))

    async def forget(self, tags: Sequence[str]) -> None:
        """See ``cache_levels.Store``."""

        async def send() -> None:
            async with self._client.pipeline(transaction=True) as commands:
                for tag in tags:
                    token = secrets.token_hex(6)
                    commands.set(self._tag(tag), token, px=_TOKEN_MILLISECONDS)
                commands.publish(self._channel, json.dumps([self._sender, *tags]))
                await commands.execute()

        await self.call("forget", send)

    async def listen(self, heard: Callable[[Sequence[str] | None], None]) -> None:
        """See ``cache_levels.Store``."""

        def began() -> None:
            heard(None)
            self.is_listening = True
            _log.info("redis_connected")

        def take(data: bytes) -> None:
            sender, *tags = json.loads(data)
            if sender != self._sender:
                heard(tags)

        def ended() -> None:
            self.is_listening = False

        await self.hear(self._channel, take, began=began, ended=ended)

    def _keys(self, key: str, tags: Sequence[str]) -> list[str]:
        return [
            f"{self._prefix}cache:{key}",
            f"{self._prefix}turn:{key}",
            *(self._tag(tag) for tag in tags),
        ]

    def _tag(self, tag: str) -> str:
        return f"{self._prefix}tag:{tag}"

    # --------------------------------------------------------------------------------- the limits

    async def hit(
        self, key: str, rate: str, *, step_us: int, full_us: int, cost: int
    ) -> tuple[bool, int]:
        """See ``limits.Tally``."""
        arguments = [rate, step_us, full_us, cost]
        allowed, used_us = await self.call(
            "hit", lambda: self._hit(keys=[self._limit(key)], args=arguments)
        )
        return bool(allowed), int(used_us)

    async def reset(self, key: str) -> None:
        """See ``limits.Tally``."""
        await self.call("reset", lambda: self._client.delete(self._limit(key)))

    def _limit(self, key: str) -> str:
        return f"{self._prefix}limit:{key}"

    # -------------------------------------------------------------------------------- the breaker

    async def _try(self, command: Callable[[], Awaitable[T]]) -> T:
        if self._is_away:
            now = time.monotonic()
            if now < self._next_try:
                raise Unavailable("Redis does not answer.")
            self._next_try = now + self._retry_seconds  # one tries, the others go on without
        try:
            async with asyncio.timeout(self._wait_seconds):
                answer = await command()
        except _FAILURES as error:
            if _is_misfit(error):
                self._is_away = False
                raise Misfit("Redis holds something else there.") from error
            self._is_away = True
            self._next_try = time.monotonic() + self._retry_seconds
            raise Unavailable("Redis does not answer.") from error
        self._is_away = False
        return answer


def _is_misfit(error: Exception) -> bool:
    """Tell an answer about these keys from one about the server: `READONLY`, `OOM`, `MISCONF`."""
    if type(error) is not ResponseError:
        return False
    return error.status_code == "ERR" or str(error).startswith("WRONGTYPE ")


async def _messages(channel: Any) -> AsyncGenerator[bytes | None]:
    """Yield what is published; ``None`` when it begins, also again. ``TimeoutError`` of silence."""
    asked = False
    while True:
        message = await channel.get_message(timeout=_SILENCE_SECONDS)
        if message is None:
            if asked:
                raise TimeoutError("the server is silent")
            await channel.ping()
        asked = message is None
        if message is not None and message["type"] in {"subscribe", "message"}:
            yield None if message["type"] == "subscribe" else message["data"]


def _client(url: str, *, wait_seconds: float) -> Any:
    """Return redis-py's client, as ``Any``: its annotations are partly missing."""
    scheme, separator, rest = url.partition("://")
    spelled = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    try:
        pool = cast("Any", BlockingConnectionPool).from_url(
            f"{spelled}{separator}{rest}",
            max_connections=_CONNECTIONS + 2,  # two listen: to what is forgotten, and said in rooms
            timeout=wait_seconds,
            socket_timeout=wait_seconds,
            socket_connect_timeout=wait_seconds,
            protocol=2,  # nothing of RESP3 is used, and proxies speak this one
            # Once, at once: a connection may have died with a server that is back.
            retry=Retry(NoBackoff(), 1, _RETRIED),
        )
    except ValueError:
        raise ConfigurationError(
            "REDIS_URL is not the address of a Redis or Valkey server",
            fix="write redis://host:6379/0, rediss://user:password@host or unix:///path/socket",
        ) from None
    return Redis.from_pool(pool)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
