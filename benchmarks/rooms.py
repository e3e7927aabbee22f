"""What it costs to bring a message to everybody in a room of a thousand.

    python -m benchmarks.rooms            # prints into docs/performance.md, about a minute
    python -m benchmarks.rooms --quick    # fewer messages, three rounds; prints only

Server CPU, user and system, by the number of messages that arrived. All servers run all the time,
on the first core; each has a load of its own on the second. A round goes through them one after
the other, starting with another one each time: single messages, each when everybody has the last
one, then bursts: a client asks, and the service says eight things at once. A ratio is the median of
the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.peers_environment import ensure_peers
from benchmarks.report import markdown, save, write_section
from benchmarks.rooms_load import MARK, Talk
from benchmarks.servers import ROOT, BenchmarkError, Server, Variant, inherited, pinned, serving
from benchmarks.variants.rooms_newel import talk as newel_talk

CLIENTS = 1000
BURST = 8
SETTLE_SECONDS = 0.05
"""How long a server may still work after the last message has arrived; it counts."""

Load = Literal["single", "burst"]

TEXT = f"Hello {MARK.decode()} everybody in this room, how are you?"
CONTENT = f'{{"content":"{TEXT}","times":{{times}}}}'


class Side(NamedTuple):
    """A server, and what it is called in the docs."""

    variant: Variant
    label: str


SIDES: Mapping[str, Side] = {
    "floor": Side(
        Variant(name="rooms-floor", home="program", module="variants.rooms_floor"),
        "floor: one frame, made before, into every transport",
    ),
    "naive": Side(
        Variant(name="rooms-naive", home="workspace", module="variants.rooms_naive"),
        "naive: `send_json` in a loop",
    ),
    "library": Side(
        Variant(name="rooms-socketio", home="peers", module="peers.socketio_rooms"),
        "a library for rooms",
    ),
    "newel": Side(
        Variant(name="rooms-newel", home="program", module="variants.rooms_newel"),
        "newel",
    ),
}
# What issue 5 allows: newel's CPU by another's, under which load.
GOALS: Mapping[tuple[Load, str], float] = {
    ("single", "floor"): 1.3,
    ("burst", "naive"): 1 / 3,
    ("single", "library"): 1 / 3.5,
    ("burst", "library"): 1 / 3.5,
}


def talk(side: str, port: int, *, clients: int) -> Talk:
    """Return how so many clients speak to a server."""
    if side == "newel":
        return newel_talk(port, CONTENT, clients=clients)
    if side == "library":
        return Talk(
            port=port,
            path="/socket.io/?EIO=4&transport=websocket",
            steps=[("", "0{"), ("40", "40{")],
            message=f'42["message",{CONTENT}]',
            ping="2",
            pong="3",
        )
    return Talk(port=port, path="/chat/bench", message=CONTENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one measurement saw."""

    cpu_us: float
    until_all_have_it_ms: float


Round = Mapping[Load, Seen]


class Running(NamedTuple):
    """A server and the process that speaks to it."""

    server: Server
    load: subprocess.Popen[str]

    def measure(self, times: int, messages: int) -> Seen:
        """Have ``messages`` at once said ``times`` over."""
        before = self.server.cpu_seconds()
        answer = tell(self.load, f"{times} {messages}")
        time.sleep(SETTLE_SECONDS)
        used = self.server.cpu_seconds() - before
        return Seen(
            cpu_us=used / answer["deliveries"] * 1e6,
            until_all_have_it_ms=answer["until_all_have_it_ms"],
        )


def tell(load: subprocess.Popen[str], line: str = "") -> dict[str, Any]:
    """Return what a load answers to a line."""
    assert load.stdin is not None  # noqa: S101 - it is a pipe
    assert load.stdout is not None  # noqa: S101 - as above
    if line:
        load.stdin.write(f"{line}\n")
        load.stdin.flush()
    said = load.stdout.readline()
    answer: dict[str, Any] = json.loads(said) if said else {"error": "it ended"}
    if "error" in answer:
        raise BenchmarkError(f"A load stopped: {answer['error']}", "read .benchmarks/logs")
    return answer


@contextmanager
def running(side: str, core: int, *, clients: int) -> Generator[Running]:
    """Have a server, and as many clients of it, run inside the block."""
    with ExitStack() as stack:
        server = stack.enter_context(
            serving(SIDES[side].variant, variables={}, directory=ROOT, core=core)
        )
        told = json.dumps(asdict(talk(side, server.port, clients=clients)))
        load = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.rooms_load", told, str(clients)],
                cwd=ROOT,
                env=inherited(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(load.kill)
        tell(load)
        yield Running(server, load)


def run(
    *, sides: Sequence[str], rounds: int, times: int, clients: int = CLIENTS
) -> dict[str, list[Round]]:
    """Return what was seen of every side, round by round; the first round warms up."""
    seen: dict[str, list[Round]] = {side: [] for side in sides}
    with pinned() as (core, _), ExitStack() as stack:
        started = {
            side: stack.enter_context(running(side, core, clients=clients)) for side in sides
        }
        for number in range(rounds + 1):
            turn = number % len(sides)
            for side in (*sides[turn:], *sides[:turn]):
                one = started[side]
                found: Round = {
                    "single": one.measure(times, 1),
                    "burst": one.measure(max(1, times // 4), BURST),
                }
                if number:
                    seen[side].append(found)
    return seen


def ratio(seen: Mapping[str, Sequence[Round]], load: Load, side: str, other: str) -> float:
    """Return a side's CPU by another's: the median of the rounds' ratios."""
    pairs = zip(seen[side], seen[other], strict=True)
    return median(mine[load].cpu_us / its[load].cpu_us for mine, its in pairs)


HEAD = (
    "server CPU a delivery (by the floor's)",
    "single messages",
    f"bursts of {BURST}",
    "until all have a single one",
)


def rows(seen: Mapping[str, Sequence[Round]]) -> list[list[str]]:
    """Return the lines of the table."""
    found: list[list[str]] = []
    for side, mine in seen.items():
        costs = [
            f"{median(one[load].cpu_us for one in mine):.1f} us "
            f"({ratio(seen, load, side, 'floor'):.2f})"
            for load in ("single", "burst")
        ]
        wait = median(one["single"].until_all_have_it_ms for one in mine)
        found.append([SIDES[side].label, *costs, f"{wait:.0f} ms"])
    return found


def missed(seen: Mapping[str, Sequence[Round]]) -> list[str]:
    """Return the goals that newel does not reach, each in a line."""
    found: list[str] = []
    for (load, other), goal in GOALS.items():
        if (mine := ratio(seen, load, "newel", other)) > goal:
            found.append(f"{load}: newel is {mine:.2f} x {other}, at most {goal:.2f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three short rounds; print only")
    chosen = parser.parse_args()
    try:
        ensure_peers()
        rounds, times = (3, 12) if chosen.quick else (7, 32)
        seen = run(sides=list(SIDES), rounds=rounds, times=times)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    table = Table(*HEAD, title=f"{CLIENTS} clients in one room")
    for row in rows(seen):
        table.add_row(*row)
    Console(width=120).print(table)
    if not chosen.quick:
        save("rooms", {side: [plain(one) for one in mine] for side, mine in seen.items()})
        write_section("rooms", markdown(HEAD, rows(seen)))
    for line in missed(seen):
        print(line, file=sys.stderr)
    return int(bool(missed(seen)))


def plain(one: Round) -> dict[str, Any]:
    """Return a round as JSON values."""
    return {load: asdict(each) for load, each in one.items()}


if __name__ == "__main__":
    sys.exit(main())
