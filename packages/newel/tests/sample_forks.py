"""Runs commands in forks of a process that has imported the libraries, which takes 2 s of CPU.

Our own modules are not among them: each command imports these anew, and counts their lines if it
is asked to. Reads JSON lines with `words`, the `cwd`, the `env`, and `input`, `output` and
`errors`, which are files; answers each with an exit code.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("alembic.command", "alembic.autogenerate", "argon2", "fastapi", "fastapi.openapi.utils"),
    *("httpx2", "jwt", "pydantic_settings", "pytest", "sqlalchemy.dialects.postgresql"),
    *("sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.ext.asyncio", "sqlalchemy.orm"),
    *("starlette.testclient", "structlog", "uvicorn"),
)


class Forks:
    """A process that forks for each command; it ends with the one that started it."""

    def __init__(self) -> None:
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
        return subprocess.Popen(
            [sys.executable, "-P", __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        words: list[str],
        cwd: Path,
        env: Mapping[str, str],
        *,
        stdin: str = "",
        timeout_seconds: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``words``: the path of a script of Python, or ``-m`` and a module."""
        if self._process.poll() is not None:  # a command before this took too long
            self._process = self._start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            files = {name: f"{folder}/{name}" for name in ("input", "output", "errors")}
            for path in files.values():
                Path(path).write_text(stdin if path == files["input"] else "")
            asked = {"words": words, "cwd": str(cwd), "env": dict(env), **files}
            self._process.stdin.write(f"{json.dumps(asked)}\n")
            self._process.stdin.flush()
            limit = threading.Timer(timeout_seconds, self.end)
            limit.start()
            try:
                code = self._process.stdout.readline()
            except BaseException:  # the test's own limit: the answer would be the next one's
                self.end()
                raise
            finally:
                limit.cancel()
            said, errors = (Path(files[name]).read_text() for name in ("output", "errors"))
            if not code:
                raise subprocess.TimeoutExpired(words, timeout_seconds, said, errors)
            return subprocess.CompletedProcess(words, int(code), said, errors)

    def close(self) -> None:
        """Let it end: nothing more is asked."""
        self._process.communicate()

    def end(self) -> None:
        """End it, and what it forked."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@functools.cache
def forks() -> Forks:
    """Return what the tests of this process share; it ends with them."""
    found = Forks()
    atexit.register(found.close)
    return found


def run(words: list[str], **files_and: Any) -> None:
    """Be what was asked for: this is the fork."""
    os.environ.clear()
    os.environ.update(files_and["env"])
    os.chdir(files_and["cwd"])
    for number, name in enumerate(("input", "output", "errors")):
        opened = os.open(files_and[name], os.O_RDWR | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the old one has read what is asked next
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
    added = os.environ.get("PYTHONPATH", "")
    sys.path[:0] = [path for path in added.split(os.pathsep) if path]
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        importlib.import_module("coverage").process_startup(slug="fork")
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def main() -> None:
    """Fork for each line."""
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
            return
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
