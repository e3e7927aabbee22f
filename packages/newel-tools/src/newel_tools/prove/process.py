"""The host as a process: started in the project's own interpreter, and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from newel_tools.facts.process import ended_by
from newel_tools.prove.client import HostClient, HostEnded
from newel_tools.prove.errors import ProveError, Setting

__all__ = ["HostProcess", "run_host"]

_HOST: Final = Path(__file__).with_name("host")
_MEMORY_BYTES: Final = 4 * 1024**3
_START_SECONDS: Final = 90.0
_STILL_SECONDS: Final = 20.0  # in the same calls of an import, or of a command
_STOP_SECONDS: Final = 10.0
_LOG_LINES: Final = 8
_STACK: Final = "Current thread"


class HostProcess(HostClient):
    """One run of the application, or of one of its commands; made by ``run_host``.

    ``pid`` is the process's id, ``log`` collects what it prints.
    """

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket, log: Path) -> None:
        super().__init__(line, give_up=self._interrupt)
        self.pid = process.pid
        self._process = process
        self.log = log

    def _interrupt(self) -> None:
        """Let the process write its stacks to the log, and end it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR2)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        self.kill()

    def kill(self) -> None:
        """End the process and all that it started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Let the application end its lifespan, then end the process."""
        self.hang_up()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self.kill()
        self.close()

    def started(self) -> dict[str, Any]:
        """Return what the host says first; raises ``ProveError`` if the project's code failed."""
        try:
            said = self.first(_START_SECONDS)  # the same each time it is asked
        except TimeoutError:
            message = f"the application had not started after {_START_SECONDS:.0f} s"
            fix = "see the stack above: what does it wait for?"
            self._interrupt()
            raise ProveError(message, fix=fix, details=self.log_end()) from None
        except HostEnded:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)
            self.kill()
            how = ended_by(self._process.returncode)
            message = f"the application's process ended {how} while it started"
            fix = "start it by hand and see why: the end of its log is above"
            raise ProveError(message, fix=fix, details=self.log_end()) from None
        if "failed" in said:
            raise self._failed(said["failed"])
        return said

    def _failed(self, said: Mapping[str, Any]) -> ProveError:
        where = f" ({said['where']})" if said["where"] else ""
        message = f"{said['step']} failed{where}: {said['text']}"
        if said["settings"]:
            wanted = [Setting(**setting) for setting in said["settings"]]
            names = ", ".join(f'{setting.name.upper()} = "..."' for setting in wanted)
            fix = f"add to pyproject.toml, [tool.newel.prove]: env = {{ {names} }}"
            return ProveError(message, fix=fix, settings=tuple(wanted))
        if "stack" in said:
            fix = (
                "let it end: what waits for something else, or serves, belongs in the lifespan or "
                'below `if __name__ == "__main__"`'
            )
            return ProveError(message, fix=fix, details=tuple(said["stack"]), error=said["type"])
        fix = "mend it, or add what it needs to pyproject.toml, [tool.newel.prove] env = { ... }"
        return ProveError(message, fix=fix, details=self.log_end(), error=said["type"])

    def log_end(self) -> tuple[str, ...]:
        """Return the last lines that the application printed, or where it was interrupted."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        # After the process was interrupted, its stack is what matters.
        _, mark, stack = text.rpartition(_STACK)
        lines = (mark + stack).splitlines()[:_LOG_LINES] if mark else text.splitlines()
        return tuple(line[:300] for line in lines[-_LOG_LINES:])


@contextmanager
def run_host(
    python: Path, wanted: Mapping[str, Any], *, environment: Mapping[str, str], log: Path
) -> Generator[HostProcess]:
    """Run the host with an interpreter; the process and all its children are gone afterwards.

    ``wanted`` is what it is told first, see ``host/wire.py``; ``log`` gets what it prints.
    """
    ours, theirs = socket.socketpair()
    with theirs, log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the project's interpreter and our own program
            [str(python), "-B", str(_HOST), str(theirs.fileno())],
            cwd=wanted["folder"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    host = HostProcess(process, ours, log)
    try:
        with suppress(HostEnded):  # `started` says so, with the log
            limits = {"memory_bytes": _MEMORY_BYTES, "still_seconds": _STILL_SECONDS}
            host.say({**limits, **wanted})
        yield host
    finally:
        host.stop()
