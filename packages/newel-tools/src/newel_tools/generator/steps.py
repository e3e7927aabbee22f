"""The programs that look at a generated service: each with a time limit, none left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from newel_tools.generator.variables import VARIABLES

__all__ = ["Outcome", "Running", "Step", "clean_environment"]

_END_SECONDS = 2.0  # for a program that is asked to end
# What a developer's shell may have set for another project, or for another way of testing.
_FOREIGN = frozenset(
    {"DATABASE_URL", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONPATH", "COLUMNS", "FORCE_COLOR"}
)
_FOREIGN_PREFIX = "COVERAGE_"  # measuring us must not slow down what we run


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One program: what it is called in the report, its command, how long it may take."""

    name: str
    command: Sequence[str]
    timeout_seconds: float
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables besides those of ``clean_environment``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a step ended: ``output`` is all it printed, ``reason`` why it failed (else empty)."""

    name: str
    seconds: float
    output: str
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the program ended by itself with code 0."""
        return not self.reason

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines with something in them."""
        return [line.rstrip() for line in self.output.splitlines() if line.strip()][-count:]


class Running:
    """A program that was started in ``directory``; the block's end ends it, come what may.

    with Running(step, directory=root) as types:
        ...
        outcome = types.finish()
    """

    def __init__(self, step: Step, *, directory: Path) -> None:
        self._step = step
        self._started = time.monotonic()
        # A file, because a pipe that nobody reads would block the program.
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
                [sys.executable, *step.command],
                cwd=directory,
                env={**clean_environment(directory), **step.environment},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours; what the program started ends with it
            )
        except BaseException:  # Ctrl-C too
            self._output.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._end()
        self._output.close()

    def finish(self) -> Outcome:
        """Wait for the program, no longer than its time limit."""
        try:
            left = self._step.timeout_seconds - (time.monotonic() - self._started)
            code = self._process.wait(max(left, 0))
            reason = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            self._end()
            reason = f"not done within {self._step.timeout_seconds:g} s"
        seconds = time.monotonic() - self._started
        self._output.seek(0)
        output = self._output.read().decode(errors="replace")
        return Outcome(name=self._step.name, seconds=seconds, output=output, reason=reason)

    def _end(self) -> None:
        """Ask the program and what it started to end, then insist."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)


def clean_environment(directory: Path) -> dict[str, str]:
    """Return the environment for a service in ``directory``: nobody else's settings are in it."""
    foreign = _FOREIGN | {variable.name for variable in VARIABLES}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in foreign and not name.startswith(_FOREIGN_PREFIX)
    }
    return kept | {
        "PYTHONPATH": str(directory / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",  # the tree holds what was generated, nothing else
        "RUFF_NO_CACHE": "true",
        "PYTHONUTF8": "1",
        "NO_COLOR": "1",
    }
