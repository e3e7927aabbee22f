"""A scratch folder: gone when its block ends; of a process that was killed, at the next run."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["scratch_folder"]

_PREFIX: Final = "newel-scratch-"


@contextmanager
def scratch_folder(*, parent: Path | None = None) -> Generator[Path]:
    """Make a folder of our own, below the temporary one unless said, and remove it afterwards.

    Those that killed processes have left there are removed first. A process locks its folder for
    as long as it lives: the kernel lets go of the lock, however it ends.
    """
    place = (parent or Path(tempfile.gettempdir())).resolve()
    _sweep(place)
    # Under its own name it appears with its lock, so that no other process takes it for a leftover.
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))
    lock = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = made.rename(made.with_name(made.name.removeprefix(".")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _sweep(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another's, in use, or gone while we looked
            if folder.lstat().st_uid == os.geteuid():
                _remove_unless_held(folder)


def _remove_unless_held(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
