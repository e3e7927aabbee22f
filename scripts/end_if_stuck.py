"""Ends the process that started it, should that take longer than it allowed itself.

``conftest.py`` starts it, and says before each test how many seconds that may take from then on:
eight bytes, until the line is closed. A process of its own also ends what is stopped as a whole.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

LAST_WORDS_SECONDS = 10.0


def main() -> None:
    process, seconds = os.getppid(), None
    while select.select([0], [], [], seconds)[0]:
        said = os.read(0, 8)
        if not said:
            return
        [seconds] = struct.unpack("d", said)
    print(f"\na test has not ended; its process: {said_of(process)}", file=sys.stderr, flush=True)
    end(process)


def said_of(process: int) -> str:
    """Return what the kernel says of it: running, sleeping, stopped ..., and who traces it."""
    with suppress(OSError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        said = dict(line.split(":\t", 1) for line in lines)
        return f"{said['State']}, traced by {said['TracerPid']}"
    return "unknown"


def end(process: int) -> None:
    """Abort it, so that it writes where it is, as pytest has told it to; kill it if it does not."""
    for number in (signal.SIGABRT, signal.SIGCONT):
        os.kill(process, number)
    until = time.monotonic() + LAST_WORDS_SECONDS
    while os.getppid() == process and time.monotonic() < until:
        time.sleep(0.05)
    if os.getppid() == process:
        os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
