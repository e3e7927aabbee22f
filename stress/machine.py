"""What a machine does to its processes: a disk that is full, and a clock that jumps."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from newel.errors import ConfigurationError
from stress.proxy import Mode

__all__ = ["Clock", "Disk", "Missing", "apart", "mounted", "told"]

DISK_BYTES: Final = 24 * 1_048_576
_LIBRARY: Final = "*/faketime/libfaketimeMT.so.1"


class Missing(ConfigurationError):
    """What a fault needs is not there: it is left out, and said so."""


class Disk:
    """A small file system at ``folder``, which can be filled up to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open = 0
        self._filling = folder / "filling"

    async def switch(self, mode: Mode) -> None:
        """Fill it (``full``), or give the room back."""
        if mode == "full":
            with self._filling.open("wb", buffering=0) as filling:
                for size in (65_536, 4096, 1):  # the last block is a part of one
                    self._fill(filling.fileno(), bytes(size))
        else:
            self._filling.unlink(missing_ok=True)

    def _fill(self, file: int, block: bytes) -> None:
        while shutil.disk_usage(self.folder).free >= len(block):
            try:
                os.write(file, block)
            except OSError:
                return


@contextmanager
def apart(pid: int) -> Generator[None]:
    """Have the process ``pid`` on one processor and this one on the others, if there are others.

    Else who asks for more than can be done takes the time in which it would be done.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) > 1:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), usable[:1])
        os.sched_setaffinity(0, usable[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


@contextmanager
def mounted(folder: Path) -> Generator[Disk]:
    """Have a disk as long as the block lasts: ``Missing`` where none may be mounted."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)  # noqa: S607 - the system's own
    if done.returncode:
        raise Missing(
            "No file system may be mounted here, so that no disk can be filled",
            fix="run it as root, or leave that out: --only database-refuse, for example",
        )
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607 - as above


class Clock:
    """The wall clock of processes that are started with its ``environment``, by libfaketime.

    What measures time (the monotonic clock) goes on as it does, as on a machine whose clock is set.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        library = next(Path("/usr/lib").glob(_LIBRARY), None)
        if library is None:
            raise Missing(
                "libfaketime, which moves the clock of a process, is not installed",
                fix="apt install faketime, or leave that out: --only database-refuse, for example",
            )
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Set the clock to so many seconds beside the machine's."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.chmod(0o644)  # PostgreSQL is another user
        new.replace(self._file)


@contextmanager
def told(clock: Clock | None) -> Generator[None]:
    """Start processes inside the block by ``clock``."""
    added: Mapping[str, str] = {} if clock is None else clock.environment
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
