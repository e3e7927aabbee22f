"""Runs the command line on copies of the sample service, as a user does: in new processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from queue import Queue
from typing import Any

import httpx2
from sample_forks import forks

SAMPLE = Path(__file__).parent / "sample"
NEWEL = Path(sys.executable).parent / "newel"
_OURS = {
    *("DATABASE_URL", "SECRET_KEY", "MIGRATIONS", "NEWEL_ADMIN_PASSWORD", "ENVIRONMENT"),
    "PYTHONDONTWRITEBYTECODE",  # each process would compile every module again
}


def wait_until(holds: Callable[[], object], *, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        time.sleep(0.02)


def error_lines(text: str) -> tuple[str, str]:
    lines = text.splitlines()
    assert len(lines) == 2, text
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("fix:   ")
    return lines[0].removeprefix("error: "), lines[1].removeprefix("fix:   ")


@dataclass(frozen=True)
class Service:
    """A copy of the sample service."""

    root: Path

    def command(self, *arguments: str, **environment: str) -> dict[str, Any]:
        inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
        return {
            "args": [str(NEWEL), *arguments],
            "cwd": self.root,
            "env": inherited | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
            "text": True,
        }

    def run(
        self, *arguments: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, **environment)
        return forks().run(command["args"], command["cwd"], command["env"], stdin=stdin)

    def copy(self, to: Path) -> Service:
        shutil.copytree(self.root, to, dirs_exist_ok=True)
        return Service(to)

    @contextmanager
    def serving(self, *arguments: str, **environment: str) -> Generator[Running]:
        command = self.command("serve", "--port", "0", *arguments, **environment)
        with running(**command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            yield Running(process)


@contextmanager
def running(**command: Any) -> Generator[subprocess.Popen[str]]:
    """Start a process that is gone after the block with all that it started, however it ends.

    Whoever leaves a block of ``Popen`` alone waits for the end of a process that nobody told to
    end, and of whatever holds its pipes.
    """
    with subprocess.Popen(**command, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):  # all ended by themselves
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def at_a_terminal(
    *, args: list[str], **options: Any
) -> Generator[tuple[FileIO, subprocess.Popen[str]]]:
    """Start a process at a terminal of its own; yield that terminal's screen, and the process."""
    # A shell's children hear of its end, also where these tests run behind `nohup`.
    take = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.login_tty(0)"
    take += "; os.execv(sys.argv[1], sys.argv[1:])"
    args = [sys.executable, "-S", "-c", take, *args]
    screen, terminal = (FileIO(number, "r+") for number in os.openpty())
    with screen, terminal, subprocess.Popen(args, stdin=terminal, **options) as process:
        terminal.close()
        try:
            yield screen, process
        finally:
            process.kill()


def read_until(word: bytes, screen: FileIO) -> None:
    """Read until ``word`` is there; an ``OSError`` when nobody writes any more."""
    seen = b""
    while word not in seen:
        seen += screen.read(65_536)


class Running:
    """A served copy; its log lines are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: Queue[str | None] = Queue()
        self.log: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.url: str = self.await_line("serving")["url"]

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):  # closed by who has waited for the end
            for line in self.process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the log as it is written, until the process ends."""
        while (line := self._lines.get(timeout=30)) is not None:
            self.log.append(json.loads(line))
            yield self.log[-1]

    def await_line(self, event: str) -> dict[str, Any]:
        for line in self.lines():
            if line["event"] == event:
                return line
        assert self.process.stderr is not None
        raise AssertionError(f"no line {event!r}: {self.process.stderr.read()}")

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", timeout=20, **options)


def make_service(root: Path, *, secret: str = "k3y-0123456789-abcdefghij-ABCDEFGHIJ") -> Service:
    """Return a migrated copy of the sample service, on SQLite."""
    shutil.copytree(SAMPLE, root, ignore=shutil.ignore_patterns("__pycache__"))
    env_file = root / ".env"
    env_file.write_text(f"SECRET_KEY={secret}\n")
    env_file.chmod(0o600)
    service = Service(root)
    for arguments in (("migrate", "new", "initial"), ("migrate", "up")):
        done = service.run(*arguments)
        assert done.returncode == 0, done.stderr
    return service
