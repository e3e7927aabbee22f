"""What is done to the service: who is killed, how and when. A seed decides all of it."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args
from uuid import UUID

from newel.errors import ConfigurationError
from stress.databases import Backend, DatabaseUnderTest, PostgresUnderTest
from stress.fleet import Fleet, Member, send
from stress.monitor import Monitor

__all__ = ["KILL_FILE", "Blow", "Blows", "Kind", "find_strace", "plan"]

Kind = Literal["api", "worker", "all", "relay", "pause", "backend", "server"]
"""``relay``: a worker while it hands over events; ``pause``: a worker sleeps beyond its leases.

``backend`` is a process of PostgreSQL that serves a connection, ``server`` all of it.
"""

TRACED: Final[Sequence[Kind]] = ("api", "worker", "all")
KILL_FILE: Final = "kill"
"""Names the place in the relay, in the folder of the run."""

RELAY_PLACES: Final = ("before", "inside", "after")
# Up to the how manieth of a thread. `write` is what talks to PostgreSQL, to clients and to the log.
SYSTEM_CALLS: Final[Mapping[Backend, Mapping[str, int]]] = {
    "sqlite": {"fdatasync": 20, "pwrite64": 60, "write": 60},
    "postgresql": {"write": 80},
}
_AIM_SECONDS: Final = 10.0
_END_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One of them; with a ``system_call``, at the ``number``-th one that the victim makes."""

    kind: Kind
    system_call: str | None = None
    number: int = 0


def plan(
    backend: Backend, *, kills: int, syscalls: int, seed: int, only: Sequence[Kind] = ()
) -> list[Blow]:
    """Return ``kills`` blows at random moments and ``syscalls`` at system calls, shuffled.

    Each kind comes as often as the others. ``only`` leaves the other kinds out;
    ``ConfigurationError`` when that leaves nothing.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable, no secret
    kinds: list[Kind] = [
        one for one in get_args(Kind) if backend == "postgresql" or one not in {"backend", "server"}
    ]
    chosen: list[Kind] = [one for one in kinds if one in only or not only]
    traced: list[Kind] = [one for one in TRACED if one in only or not only]
    if (kills and not chosen) or (syscalls and not traced):
        raise ConfigurationError(
            f"Of {', '.join(only)} there is nothing to kill here",
            fix=f"take of {', '.join(kinds)}; at system calls of {', '.join(TRACED)}",
        )
    blows = [Blow(kind=kind) for kind in _deal(chosen, kills, chance)]
    for kind in _deal(traced, syscalls, chance):
        call, most = chance.choice(sorted(SYSTEM_CALLS[backend].items()))
        blows.append(Blow(kind=kind, system_call=call, number=chance.randint(1, most)))
    chance.shuffle(blows)
    return blows


def _deal(kinds: Sequence[Kind], count: int, chance: random.Random) -> list[Kind]:
    """Return ``count`` kinds, deck by deck, so that few blows are not all of one kind."""
    dealt: list[Kind] = []
    while len(dealt) < count:
        dealt += chance.sample(kinds, len(kinds))
    return dealt[:count]


def find_strace() -> str:
    """Return the path of strace; raises ``ConfigurationError`` where it is not installed."""
    found = shutil.which("strace")
    if found is None:
        raise ConfigurationError(
            "strace, which kills at a system call, is not installed",
            fix="apt install strace, or leave that out: --syscalls 0",
        )
    return found


class Blows:
    """Deals blows to a fleet and its database, and has them up again after each."""

    def __init__(
        self,
        fleet: Fleet,
        database: DatabaseUnderTest,
        monitor: Monitor,
        *,
        seed: int,
        folder: Path,
    ) -> None:
        self.dealt: Counter[str] = Counter()
        self.missed = 0
        self._fleet = fleet
        self._database = database
        self._monitor = monitor
        self.chance = random.Random(f"{seed} blows")  # noqa: S311 - as above
        self._folder = folder

    async def strike(self, blow: Blow) -> None:
        """Deal ``blow``, and wait until everything works again."""
        missed = self.missed
        name = blow.kind if blow.system_call is None else f"{blow.kind} at {blow.system_call}"
        if blow.system_call is not None:
            await self._at_system_call(blow, blow.system_call)
        elif blow.kind == "pause":
            await self._pause(self._a_worker())
        elif blow.kind == "relay":
            await self._in_relay()
        elif isinstance(self._database, PostgresUnderTest) and blow.kind == "backend":
            await self._database.kill_backend(self.chance.randrange(100))
        elif isinstance(self._database, PostgresUnderTest) and blow.kind == "server":
            await self._database.crash()
        else:
            members = self._members(blow.kind)
            await self._fleet.kill(*members)
            await self._fleet.start(*members)
        await self._fleet.api.ready()
        self.dealt[name] += self.missed == missed

    def _a_worker(self) -> Member:
        return self.chance.choice(self._fleet.workers)

    def _members(self, kind: Kind) -> list[Member]:
        if kind == "all":
            return self._fleet.members
        return [self._fleet.api if kind == "api" else self._a_worker()]

    # ------------------------------------------------------------------------------- system calls

    async def _at_system_call(self, blow: Blow, call: str) -> None:
        members = self._members(blow.kind)
        victim = self.chance.choice(members)
        tracer = await self._trace(victim, call, blow.number)
        died, traced = asyncio.create_task(victim.died()), asyncio.create_task(tracer.wait())
        await asyncio.wait([died, traced], timeout=_AIM_SECONDS, return_when="FIRST_COMPLETED")
        if traced.done():  # it ends with the victim
            await asyncio.wait([died], timeout=_END_SECONDS)
        if traced.done() and not died.done():
            raise ConfigurationError(
                "strace, which kills at a system call, may not attach to a process here",
                fix="see its message above; or leave that out: --syscalls 0",
            )
        self.missed += not died.done()
        send(tracer, signal.SIGTERM)
        await traced
        await self._fleet.kill(*members)
        await self._fleet.start(*members)

    async def _trace(self, victim: Member, call: str, number: int) -> asyncio.subprocess.Process:
        kill = f"inject={call}:signal=SIGKILL:when={number}"
        pid = str(victim.process.pid)
        output = str(self._folder / "strace.log")
        return await asyncio.create_subprocess_exec(
            *(find_strace(), "-f", "-qq", "-o", output, "-e", f"trace={call}", "-e", kill),
            *("-p", pid),
            stdin=asyncio.subprocess.DEVNULL,
        )

    # ------------------------------------------------------------------------------------ workers

    async def _in_relay(self) -> None:
        """Have the worker that hands over events next kill itself on the way."""
        file, workers = self._folder / KILL_FILE, self._fleet.workers
        file.write_text(self.chance.choice(RELAY_PLACES))
        died = [asyncio.create_task(one.died()) for one in workers]
        try:
            async with asyncio.timeout(_AIM_SECONDS):
                await asyncio.wait(died, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self.missed += 1
        finally:
            file.unlink(missing_ok=True)
            for one in died:
                one.cancel()
        await self._fleet.start(*(one for one in workers if not one.is_alive))

    async def _pause(self, worker: Member) -> None:
        """Stop a worker in the middle of its jobs until others have done them; let it go on."""
        try:
            async with asyncio.timeout(_AIM_SECONDS):
                jobs = await self._stopped_at_work(worker)
                while not await self._monitor.are_done(jobs):  # noqa: ASYNC110 - of other processes
                    await asyncio.sleep(10 * _LOOK_SECONDS)
        except TimeoutError:
            self.missed += 1
        finally:
            worker.resume()

    async def _stopped_at_work(self, worker: Member) -> list[UUID]:
        """Stop a worker that has jobs; one that holds up all writers is let go on at once."""
        while True:
            if await self._monitor.jobs_of(worker.process.pid):
                worker.signal(signal.SIGSTOP)
                jobs = await self._monitor.jobs_of(worker.process.pid)
                if jobs and not await self._database.is_locked():
                    return jobs
                worker.resume()
            await asyncio.sleep(_LOOK_SECONDS)
