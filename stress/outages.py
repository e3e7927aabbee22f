"""What a service depends on goes away and comes back, again and again, under a light load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args

from sqlalchemy import or_, select

from newel.events import OUTBOX
from newel.job_rows import JOBS
from stress.depot.application import Crate
from stress.figures import Figure
from stress.fleet import Member
from stress.load import Answer, Kind, Load, Ready, waited_seconds
from stress.proxy import Mode
from stress.site import Site

__all__ = [
    "OUTAGES",
    "Outage",
    "kept",
    "loaded",
    "run_outage",
    "slowest_answer",
    "wrong_answers",
]

STATE_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 2.0
RECOVERY_SECONDS: Final = 2.0
LATENCY_SECONDS: Final = 4.0
"""Where a round trip takes 0.2 s: a write has eight, and a new connection five before them."""
STORAGE_SECONDS: Final = 8.0
"""Of a bucket that is silent: its client waits five, and a part of a large file takes a while."""
GROWTH: Final = 3
"""How many connections, threads or files more there may be at the end: a pool breathes."""

_FIRST_SECONDS: Final = 20.0
_HOLD_SECONDS: Final = 2.0
_QUIET_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05
_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One dependency fails in one way: what ``/ready`` says then, and what is answered.

    Where it goes on saying ``ok`` it may say ``or_else`` now and then.
    ``refusals`` are the kinds of requests that may be answered with a problem of that status; all
    others succeed. ``answer_seconds`` is how long any answer may take meanwhile.
    """

    port: str
    mode: Mode
    ready: Ready
    or_else: Ready = "ok"
    refusals: Mapping[Kind, int] = field(default_factory=dict[Kind, int])
    answer_seconds: float = ANSWER_SECONDS
    longest_seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.port}-{self.mode.replace(' ', '-')}"


_WITHOUT_DATABASE: Final[Mapping[Kind, int]] = dict.fromkeys(("read", "write", "label"), 503)
_WITHOUT_ROOM: Final[Mapping[Kind, int]] = dict.fromkeys(("write", "keep"), 507)
_WITHOUT_STORAGE: Final[Mapping[Kind, int]] = dict.fromkeys(("keep", "paper"), 503)

OUTAGES: Final[Sequence[Outage]] = (
    *(
        Outage(port="database", mode=mode, ready="failed", refusals=_WITHOUT_DATABASE)
        for mode in ("refuse", "reset", "black hole")
    ),
    Outage(port="database", mode="latency", ready="ok", answer_seconds=LATENCY_SECONDS),
    Outage(port="database", mode="slow", ready="ok"),
    Outage(port="database", mode="cut", ready="ok", refusals=_WITHOUT_DATABASE),
    *(
        Outage(port="redis", mode=mode, ready="degraded")
        for mode in ("refuse", "reset", "black hole")
    ),
    *(Outage(port="redis", mode=mode, ready="ok") for mode in ("latency", "slow", "cut")),
    Outage(port="broker", mode="refuse", ready="degraded", longest_seconds=60.0),
    Outage(port="broker", mode="black hole", ready="degraded"),
    *(
        Outage(
            port="storage",
            mode=mode,
            ready="degraded",
            refusals=_WITHOUT_STORAGE,
            answer_seconds=STORAGE_SECONDS,
        )
        for mode in ("refuse", "black hole")
    ),
    Outage(
        port="storage",
        mode="cut",
        ready="ok",
        or_else="degraded",  # its own question may be cut off twice, too
        refusals=_WITHOUT_STORAGE,
        answer_seconds=STORAGE_SECONDS,
    ),
    *(Outage(port="mail", mode=mode, ready="ok") for mode in ("refuse", "black hole", "cut")),
    Outage(port="upstream", mode="refuse", ready="ok", refusals={"weather": 502}),
    Outage(port="upstream", mode="black hole", ready="ok", refusals={"weather": 504}),
    Outage(port="disk", mode="full", ready="failed", refusals=_WITHOUT_ROOM),
)


@dataclass(slots=True)
class _Seen:
    """What all cycles of an outage showed."""

    state_seconds: list[float] = field(default_factory=list[float])
    recovery_seconds: list[float] = field(default_factory=list[float])
    during: list[Answer] = field(default_factory=list[Answer])
    wrong: list[str] = field(default_factory=list[str])
    sizes: list[Mapping[str, int]] = field(default_factory=list[Mapping[str, int]])


@asynccontextmanager
async def loaded(site: Site) -> AsyncGenerator[Load]:
    """Have requests sent inside the block; the writes among them are acknowledged at its end."""
    load = Load(site.api, site.api.url)
    running = asyncio.create_task(load.run())
    try:
        yield load
        load.stop()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def run_outage(
    site: Site, load: Load, outage: Outage, *, cycles: int, is_long: bool
) -> list[Figure]:
    """Have it fail ``cycles`` times; return the figures."""
    seen, pids = _Seen(), [one.process.pid for one in site.members]
    for cycle in range(cycles):
        await _all_well(load, after=time.monotonic(), seconds=_FIRST_SECONDS)
        if cycle:  # the first one fills pools and caches
            seen.sizes.append(await _sizes(site))
        longest = outage.longest_seconds if is_long and not cycle else 0.0
        await _cycle(site, load, outage, seen, hold_seconds=max(longest, _HOLD_SECONDS))
    seen.sizes.append(await _sizes(site))
    async with load.held():
        promises = await kept(site, load)
    left = [one.process.pid for one in site.members]
    return [
        Figure(name="cycles", value=cycles),
        Figure(name="answers during it", value=len(seen.during)),
        _slowest("state in /ready, s", seen.state_seconds, most=STATE_SECONDS),
        slowest_answer(seen.during, most=outage.answer_seconds),
        _counted("answers of another class", seen.wrong),
        _slowest("recovery, s", seen.recovery_seconds, most=RECOVERY_SECONDS),
        Figure(name="processes that ended", value=len(set(pids) - set(left)), most=0),
        *promises,
        *_growth(seen.sizes),
    ]


async def _cycle(
    site: Site, load: Load, outage: Outage, seen: _Seen, *, hold_seconds: float
) -> None:
    part = site.parts[outage.port]
    began = time.monotonic()
    await part.switch(outage.mode)
    waited = _waited(site.api)
    found = await _state(load, outage.ready, after=began)
    if outage.ready != "ok":
        seen.state_seconds.append(max(0.0, found - began - (_waited(site.api) - waited)))
    await asyncio.sleep(hold_seconds)
    if outage.ready == "ok":
        others = [
            state
            for at, _, state in load.states
            if at >= began and state not in ("ok", outage.or_else)
        ]
        seen.wrong += [f"/ready said {state}" for state in others]
    ended = time.monotonic()
    await part.switch("pass")
    waited = _waited(site.api)
    well = await _all_well(load, after=ended, seconds=_FIRST_SECONDS)
    seen.recovery_seconds.append(max(0.0, well - ended - (_waited(site.api) - waited)))
    await asyncio.sleep(_QUIET_SECONDS)
    # What was on its way when it ended was still answered as during it.
    answers = load.since(began, ended)
    seen.during += answers
    seen.wrong += [_said(one) for one in answers if not _is_right(one, outage)]
    seen.wrong += [f"afterwards {_said(one)}" for one in load.since(well) if not one.is_good]


def _is_right(answer: Answer, outage: Outage) -> bool:
    if answer.is_good:
        return True
    status = outage.refusals.get(answer.kind)
    is_waited_for = answer.has_retry_after or status != 503
    return answer.status == status and answer.is_problem and is_waited_for


def _said(answer: Answer) -> str:
    return f"{answer.kind}: {answer.status} {answer.text}"


async def _state(load: Load, wanted: Ready, *, after: float) -> float:
    """Wait until ``/ready`` says what is wanted, after that moment; return when it did."""
    end = time.monotonic() + _FIRST_SECONDS
    while time.monotonic() < end:
        found = [at for _, at, state in load.states if at >= after and state == wanted]
        if found:
            return found[0]
        await asyncio.sleep(_LOOK_SECONDS)
    return time.monotonic()


async def _all_well(load: Load, *, after: float, seconds: float) -> float:
    """Wait until every kind of request, sent since then, succeeds; return since when they all did.

    That is after the last failure. It is given up, and so too late, after ``seconds``.
    """
    end = after + seconds
    while time.monotonic() < end:
        answers = load.since(after)
        bad = [at for began, at, state in load.states if began >= after and state != "ok"]
        bad += [one.ended_at for one in answers if not one.is_good]
        since = max(bad, default=after)
        good = {one.kind for one in answers if one.is_good and one.sent_at >= since}
        is_ready = any(began >= since and state == "ok" for began, _, state in load.states)
        if is_ready and good >= set(get_args(Kind)):
            return since
        await asyncio.sleep(_LOOK_SECONDS)
    return time.monotonic()


async def kept(site: Site, load: Load) -> list[Figure]:
    """Wait until all is done, or for too long; return whether what was acknowledged was done."""
    jobs, events = await _left(site)
    async with site.engine.connect() as connection:
        found = (await connection.scalars(select(Crate.reference))).all()
    stored = list(load.stored)
    unsent = [one for one in stored if f"Crate {one}" not in site.mails.subjects]
    return [
        Figure(name="acknowledged", value=len(stored)),
        _counted("acknowledged and lost", sorted(set(stored) - set(found))),
        Figure(name="stored twice", value=len(found) - len(set(found)), most=0),
        _counted("jobs that did not finish", jobs),
        _counted("events that did not leave", events),
        _counted("mails that never came", unsent),
    ]


async def _left(site: Site) -> tuple[Sequence[str], Sequence[str]]:
    """Wait until every event has left and every job has ended; return what is left in the end.

    It is not counted again: what a schedule begins after this is nobody's acknowledged work.
    """
    end = time.monotonic() + _IDLE_SECONDS
    while any(left := await _open(site)) and time.monotonic() < end:  # noqa: ASYNC110 - as above
        await asyncio.sleep(2 * _LOOK_SECONDS)
    return left


async def _open(site: Site) -> tuple[Sequence[str], Sequence[str]]:
    """Return the jobs that have not ended, and the events that were not sent or handed over.

    The events first: one that is handed over has its jobs in the table, which are seen then. It may
    be at the broker before that, when its jobs are in no table yet.
    """
    waiting = or_(OUTBOX.c.sent_at.is_(None), OUTBOX.c.published_at.is_(None))
    events = select(OUTBOX.c.name, OUTBOX.c.id).where(waiting)
    jobs = select(JOBS.c.name, JOBS.c.state, JOBS.c.attempt, JOBS.c.run_at)
    async with site.engine.connect() as connection:
        open_events = [" ".join(map(str, row)) for row in await connection.execute(events)]
        unfinished = await connection.execute(jobs.where(JOBS.c.finished_at.is_(None)))
        return [" ".join(map(str, row)) for row in unfinished], open_events


async def _sizes(site: Site) -> Mapping[str, int]:
    """Return the least of what is open over a moment, since connections come and go."""
    least: dict[str, int] = {}
    for _ in range(5):
        now = {f"connections to {name}": one.open for name, one in site.parts.items()}
        for member in site.members:
            process = Path(f"/proc/{member.process.pid}")
            now[f"threads of {member.name}"] = len(list((process / "task").iterdir()))
            now[f"files of {member.name}"] = len(list((process / "fd").iterdir()))
        least = {name: min(size, least.get(name, size)) for name, size in now.items()}
        await asyncio.sleep(_LOOK_SECONDS)
    return least


def _growth(sizes: Sequence[Mapping[str, int]]) -> list[Figure]:
    first, last = sizes[0], sizes[-1]
    grown = {name: last[name] - first.get(name, 0) for name in last}
    name, most = max(grown.items(), key=lambda one: one[1])
    return [
        Figure(
            name="growth of connections, threads, files",
            value=max(0, most),
            most=GROWTH,
            examples=[f"{name}: {first.get(name)}, then {last[name]}"],
        )
    ]


def slowest_answer(answers: Sequence[Answer], *, most: float) -> Figure:
    """Return how long the slowest of ``answers`` took."""
    slowest = sorted(answers, key=lambda one: -one.seconds)[:_EXAMPLES]
    return Figure(
        name="slowest answer during it, s",
        value=round(slowest[0].seconds if slowest else 0.0, 2),
        most=most,
        examples=[f"{one.seconds:.2f} s, {_said(one)}" for one in slowest],
    )


def wrong_answers(answers: Sequence[Answer]) -> Figure:
    """Return how many of ``answers`` are no success."""
    return _counted("answers of another class", [_said(one) for one in answers if not one.is_good])


def _slowest(name: str, seconds: Sequence[float], *, most: float) -> Figure:
    return Figure(name=name, value=round(max(seconds, default=0.0), 2), most=most)


def _counted(name: str, cases: Sequence[str]) -> Figure:
    return Figure(name=name, value=len(cases), most=0, examples=cases[:_EXAMPLES])


def _waited(member: Member) -> float:
    return waited_seconds(member.process.pid) + waited_seconds("self")
