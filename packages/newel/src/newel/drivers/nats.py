"""NATS: its client, and jobs' lines of messages on JetStream, with nats-py (``newel[nats]``).

One stream a service, one subject and one durable consumer a line. A message is gone when it has
been acknowledged; one that was taken and not acknowledged comes again after ``TAKEN_SECONDS``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final
from urllib.parse import quote

import structlog
from nats.aio.client import NO_RESPONDERS_STATUS, Client
from nats.aio.msg import Msg
from nats.errors import Error, NoRespondersError
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType
from nats.js.errors import NotFoundError

from newel.errors import Unavailable

__all__ = ["JetStreamCarrier", "open_client"]

ANSWER_SECONDS: Final = 2.0
TAKEN_SECONDS: Final = 5.0
RECONNECT_SECONDS: Final = 0.25
AGAIN_SECONDS: Final = 5.0
"""How long a server that was not there is not tried again; meanwhile the table is looked at."""

_log = structlog.get_logger("newel.drivers.nats")


class JetStreamCarrier:
    """Carries messages by the stream ``<name>_jobs`` of the servers ``url`` (``a,b`` for several).

    Connects when it is first used, and again whenever the connection was lost; what is asked
    meanwhile raises ``Unavailable``. A stream that exists, with replicas for example, is used as it
    is. Belongs to one event loop.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._servers = url.split(",")
        self._stream = f"{_token(name)}_jobs"
        # A Client and its JetStreamContext, whose types nats-py leaves half open.
        self._connection: tuple[Any, Any] | None = None
        self._connecting = asyncio.Lock()
        self._next_try = 0.0
        self._prepared: set[str] = set()

    async def send(self, line: str, bodies: Sequence[bytes]) -> None:
        """Put ``bodies`` at the end of ``line``, on the server's disk, and wake who hears."""
        with self._translated():
            client, stream = await self._prepare(line)
            sent = [await stream.publish_async(self._subject(line), body) for body in bodies]
            async with asyncio.timeout(ANSWER_SECONDS):
                answers = await asyncio.gather(*sent, return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            await client.publish(f"{self._stream}-wake")

    @asynccontextmanager
    async def take(self, line: str, *, most: int) -> AsyncGenerator[Sequence[bytes]]:
        """Take up to ``most`` messages that are there: gone after the block, back if it fails."""
        with self._translated():
            client, _ = await self._prepare(line)
            taken = await _pull(client, f"{self._stream}.{_token(line)}", most)
        try:
            yield [message.data for message in taken]
        except BaseException:
            with suppress(Error):  # else they come again when their time is up
                for message in taken:
                    await message.nak()
            raise
        with suppress(Error):  # as above
            for message in taken:
                await message.ack()

    async def oldest(self, line: str) -> bytes | None:
        """Return the first message of ``line`` that is not gone yet; ``None``: there is none."""
        with self._translated():
            _, stream = await self._prepare(line)
            try:
                subject = self._subject(line)
                found = await stream.get_msg(self._stream, seq=1, subject=subject, next=True)
            except NotFoundError:
                return None
        return found.data

    async def hear(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever something was sent, until cancelled."""

        async def heard(_: Msg) -> None:
            wake()

        with self._translated():
            client, _ = await self._connected()
            subscription = await client.subscribe(f"{self._stream}-wake", cb=heard)
        wake()  # what was sent before we listened
        try:
            while not client.is_closed:  # noqa: ASYNC110 - nats-py has no event for it
                await asyncio.sleep(1)
        finally:
            with suppress(Error):
                await subscription.unsubscribe()

    async def ping(self) -> None:
        """Return when the server has answered that it has JetStream; tries whatever was before."""
        self._next_try = 0.0
        with self._translated():
            _, stream = await self._connected()
            await stream.account_info()

    async def close(self) -> None:
        """Close the connection; the next use opens another one."""
        connection, self._connection = self._connection, None
        self._prepared.clear()
        if connection is not None:
            await close_client(connection[0])

    # ------------------------------------------------------------ connection

    async def _connected(self) -> tuple[Any, Any]:
        async with self._connecting:
            if self._connection is not None and self._connection[0].is_closed:
                self._connection = None  # the server refused it for good: new credentials, say
                self._prepared.clear()
            if self._connection is None:
                self._connection = await self._connect()
        if not self._connection[0].is_connected:
            raise Unavailable("JetStream does not answer.")
        return self._connection

    async def _connect(self) -> tuple[Any, Any]:
        """Connect; what failed just now is not tried again: it takes two seconds to fail."""
        if time.monotonic() < self._next_try:
            raise Unavailable("JetStream does not answer.")
        try:
            client = await open_client(
                self._servers,
                error_cb=_note,
                connect_timeout=int(ANSWER_SECONDS),
                reconnect_time_wait=RECONNECT_SECONDS,
                max_reconnect_attempts=-1,  # for ever
            )
        except BaseException:
            self._next_try = time.monotonic() + AGAIN_SECONDS
            raise
        return client, client.jetstream(timeout=ANSWER_SECONDS)

    async def _prepare(self, line: str) -> tuple[Any, Any]:
        """Return the connection when the stream and the consumer of ``line`` are there."""
        client, stream = await self._connected()
        if line not in self._prepared:
            try:
                await stream.stream_info(self._stream)
            except NotFoundError:
                await stream.add_stream(
                    name=self._stream,
                    subjects=[f"{self._stream}.*"],
                    retention=RetentionPolicy.WORK_QUEUE,
                    storage=StorageType.FILE,
                )
            consumer = ConsumerConfig(
                durable_name=_token(line),
                filter_subject=self._subject(line),
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=TAKEN_SECONDS,
            )
            await stream.add_consumer(self._stream, consumer)
            self._prepared.add(line)
        return client, stream

    def _subject(self, line: str) -> str:
        return f"{self._stream}.{_token(line)}"

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Raise ``Unavailable``, and look afresh next time at what there is on the server."""
        try:
            yield
        except (Error, TimeoutError, OSError) as error:
            self._prepared.clear()
            raise Unavailable("JetStream does not answer.") from error


async def open_client(servers: list[str], **options: Any) -> Any:
    """Return a client; one that cannot connect, or is not waited for, leaves nothing open."""
    client: Any = Client()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await client.connect(servers, name="newel", **options)
    except BaseException:
        await close_client(client)
        raise
    return client


async def close_client(client: Any) -> None:
    """Close a client; one whose connection breaks over its last words is closed, too."""
    with suppress(OSError):
        await client.close()


async def _note(error: Exception) -> None:
    _log.warning("nats_hindered", error=repr(error))


async def _pull(client: Any, consumer: str, most: int) -> list[Msg]:
    """Ask for up to ``most`` messages that are there now.

    nats-py's own ``fetch`` would wait for more, and has a task for each message.
    """
    taken: list[Msg] = []
    ended = asyncio.Event()
    refusals: list[str] = []

    async def arrived(message: Msg) -> None:
        if message.headers and "Status" in message.headers:  # no message: why there is none
            refusals.append(message.headers["Status"])
            ended.set()
            return
        taken.append(message)
        if len(taken) == most or message.metadata.num_pending == 0:
            ended.set()

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=arrived)
    try:
        request = json.dumps({"batch": most, "no_wait": True}).encode()
        await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{consumer}", request, reply=inbox)
        async with asyncio.timeout(ANSWER_SECONDS):
            await ended.wait()
    finally:
        await subscription.unsubscribe()
    if NO_RESPONDERS_STATUS in refusals:  # the consumer is gone
        raise NoRespondersError
    return taken


def _token(name: str) -> str:
    """Return ``name`` as one token of a subject."""
    return quote(name, safe="").replace(".", "%2E")
