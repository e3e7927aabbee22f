"""A server that ends with whoever started it, even with one that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["kept_server"]


@contextmanager
def kept_server(
    command: list[str],
    *,
    folder: Path,
    output: IO[bytes] | int = subprocess.DEVNULL,
    end: int = signal.SIGKILL,
    options: Mapping[str, Any] | None = None,
) -> Generator[subprocess.Popen[bytes]]:
    """Run a server until the block ends, and yield the process that keeps it and ends as it does.

    The keeper reads from us: it sends the server the signal ``end`` when the line breaks, which
    the kernel sees to, however we end. ``options`` are `Popen`'s for the server: `user`, `env`.
    """
    wanted = json.dumps({"command": command, "end": end, "options": dict(options or {})})
    # `Popen` closes the line and waits when its block ends.
    with subprocess.Popen(  # noqa: S603 - this file, in our own interpreter
        [sys.executable, "-I", "-S", __file__, wanted],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    ) as keeper:
        yield keeper


def _keep(wanted: Mapping[str, Any]) -> int:
    server = subprocess.Popen(  # noqa: S603 - what our own caller asks for
        wanted["command"], stdin=subprocess.DEVNULL, **wanted["options"]
    )

    def end_with_the_line() -> None:
        sys.stdin.buffer.read()
        server.send_signal(wanted["end"])

    threading.Thread(target=end_with_the_line, daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(_keep(json.loads(sys.argv[1])))
