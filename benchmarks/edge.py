"""What a hit in the cache and a limit cost on top of a bare call, beside libraries for each.

Each side runs in an environment of its own and is measured in turns. The figures are medians over
the rounds; a bare call, measured beside, is subtracted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from uuid import UUID, uuid4

from benchmarks.calls import Calls, answer
from benchmarks.peers_environment import ensure_peers
from benchmarks.report import markdown, tell
from benchmarks.servers import PEERS_PYTHON, ROOT, BenchmarkError, pinned
from newel.cache import cached
from newel.db import Database, Work
from newel.limits import MemoryLimiter, Rate
from newel.principal import Principal

NAME = "edge"
ROUNDS = 9
OWN_LIMIT_US = 2.0
"""What issue 5 allows for each of newel's two."""

SIDES: Mapping[str, Sequence[str]] = {
    "newel": (sys.executable, "-m", "benchmarks.edge", "calls"),
    "library": (str(PEERS_PYTHON), "-m", "benchmarks.peers.edge_calls"),
}
ROWS: Mapping[str, str] = {
    "cache": "a hit in the memory of the process, of a method with a caller and an id",
    "limit": "one use of a limit, counted in the process",
}


class Reports:
    """A service whose values are kept."""

    def __init__(self, work: Work) -> None:
        self.work = work

    async def bare(self, caller: Principal, report_id: UUID) -> int:
        """Return what costs nothing."""
        del caller
        return report_id.version or 0

    @cached(expire=3600, tags=["reports:{report_id}"])
    async def kept(self, caller: Principal, report_id: UUID) -> int:
        """Return the same, kept."""
        return await self.bare(caller, report_id)


def own_calls() -> Calls:
    """Return newel's calls."""
    caller = Principal(
        id=uuid4(), roles=frozenset({"user"}), permissions=frozenset({"reports:read"})
    )
    reports = Reports(Database("sqlite+aiosqlite:///./unused.db").read(caller))
    report_id, limiter, rate = uuid4(), MemoryLimiter(), Rate.parse("1000000/second")
    return {
        "bare": lambda: reports.bare(caller, report_id),
        "cache": lambda: reports.kept(caller, report_id),
        "limit": lambda: limiter.hit("user:1", rate),
    }


def measure() -> str:
    """Return the table; raises ``BenchmarkError`` when newel's are dearer than allowed."""
    ensure_peers()
    costs = {side: _on_top(rounds) for side, rounds in _rounds().items()}
    for call, cost in costs["newel"].items():
        if cost > OWN_LIMIT_US:
            raise BenchmarkError(
                f"{ROWS[call]} costs {cost:.2f} us, at most {OWN_LIMIT_US:.0f}", "profile it"
            )
    rows = [
        [what, f"{costs['newel'][call]:.2f} us", f"{costs['library'][call]:.2f} us"]
        for call, what in ROWS.items()
    ]
    return markdown(["CPU on top of a bare call", "newel", "a library for it"], rows)


def _rounds() -> dict[str, list[dict[str, float]]]:
    with ExitStack() as stack:
        stack.enter_context(pinned())
        sides = {side: stack.enter_context(_started(command)) for side, command in SIDES.items()}
        rounds: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(ROUNDS + 1):
            for side, process in sides.items():
                seen = _ask(process)
                if number:  # the first warms up
                    rounds[side].append(seen)
        for process in sides.values():
            process.communicate()  # the end of its input is its end
        return rounds


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _ask(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    assert process.stdout is not None  # noqa: S101 - as above
    process.stdin.write("measure\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise BenchmarkError("What is measured has ended early", "read the lines above")
    seen: dict[str, float] = json.loads(line)
    return seen


def _on_top(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {call: median(one[call] - one["bare"] for one in rounds) for call in ROWS}


if __name__ == "__main__":
    if sys.argv[1:] == ["calls"]:
        answer(own_calls())
    else:
        sys.exit(tell(measure))
