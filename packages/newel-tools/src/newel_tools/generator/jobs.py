"""The jobs of a feature: their functions, what starts them, and how tests start them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim

from newel_tools.generator.facts import FactView
from newel_tools.generator.imports import KNOWN
from newel_tools.generator.samples import PYTHON
from newel_tools.plan.plan import Argument, Job

__all__ = ["JobView", "listed", "view_jobs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One function of jobs.py: ``cause`` is what a test does to a unit of work to start it."""

    name: str
    decorator: str
    parameters: str
    says: str
    cause: str
    cron: str | None
    event: str | None


_TESTED: Final = frozenset({"cause", "every_job", "module"})
"""What the tests of jobs are made of."""


def view_jobs(
    jobs: Iterable[Job], facts: Callable[[str], FactView], *, taken: Collection[str]
) -> Iterator[JobView]:
    """Yield the jobs of a feature; ``taken`` are names that its router uses otherwise."""
    for job in jobs:
        name = f"{job.name}_job" if job.name in {*taken, *KNOWN, *_TESTED} else job.name
        if job.event is not None:
            yield _handler(name, facts(job.event))
        elif job.cron is not None:
            yield JobView(
                name=name,
                decorator='@job(as_system="a schedule has no caller")',
                parameters="run: JobRun",
                says=f"{CronSim(job.cron, datetime.now(UTC)).explain()}, in UTC.",
                cause=f"work.enqueue({name})",
                cron=job.cron,
                event=None,
            )
        else:
            yield _told(name, job.arguments)


def listed(jobs: Iterable[JobView]) -> str:
    """Return the arguments of a ``Module`` that name these jobs."""
    kept = tuple(jobs)
    parts = {
        "jobs": [job.name for job in kept if job.event is None],
        "handlers": [job.name for job in kept if job.event is not None],
        "schedules": [f"schedule({json.dumps(j.cron)}, {j.name})" for j in kept if j.cron],
    }
    return "".join(f", {key}=[{', '.join(names)}]" for key, names in parts.items() if names)


def _handler(name: str, fact: FactView) -> JobView:
    return JobView(
        name=name,
        decorator=f"@on({fact.cls})",
        parameters=f"run: JobRun, event: {fact.cls}",
        says=f"Answers to {fact.cls}, for who published it.",
        cause=f"work.publish({fact.cls}(id=uuid4(){fact.sample}))",
        cron=None,
        event=fact.cls,
    )


def _told(name: str, arguments: tuple[Argument, ...]) -> JobView:
    told = [f"{a.name}: {PYTHON[a.type][0]}{' | None = None' * a.optional}" for a in arguments]
    told.sort(key=lambda text: text.endswith("= None"))
    values = [f"{a.name}={PYTHON[a.type][1]}" for a in arguments]
    return JobView(
        name=name,
        decorator="@job()",
        parameters=", ".join(["run: JobRun", *(["*"] if told else []), *told]),
        says="Enqueue it in the service, with what makes it needed.",
        cause=f"work.enqueue({', '.join([name, *values])})",
        cron=None,
        event=None,
    )
