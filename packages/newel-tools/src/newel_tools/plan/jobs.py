"""The language in which a plan writes one job.

    nightly_report: cron(0 3 * * *)      at these times, in UTC
    send_receipt: on(paid)               after that event of its resource
    resize: job(photo_id uuid, width int, note str optional)      when the service enqueues it

``read_job`` and ``write_job`` are inverse to each other.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import ValidationError

from newel_tools.errors import PlanError
from newel_tools.plan.fields import TYPE_WORDS, refusal
from newel_tools.plan.plan import Argument, Job

__all__ = ["read_argument", "read_job", "write_job"]

_FORM: Final = re.compile(r"(job|cron|on)\s*(?:\(([^()]*)\))?")
_ARGUMENT: Final = re.compile(r"([a-z]\w*)\s*:?\s+([A-Za-z]+)(\s+optional)?")


def read_job(name: str, text: str) -> Job:
    """Read the job ``name`` from its line; ``PlanError`` names the word at fault."""
    found = _FORM.fullmatch(text.strip())
    if found is None or (found[1] != "job" and not found[2]):
        raise PlanError(
            f"'{text}' does not say when the job '{name}' runs",
            fix="write cron(0 3 * * *), on(created), or job(amount int) for one that is enqueued",
            word=name,
        )
    kind, inside = found[1], " ".join((found[2] or "").split())
    told = [item for item in inside.split(",") if item.strip()] if kind == "job" else []
    try:
        return Job(
            name=name,
            cron=inside if kind == "cron" else None,
            event=inside if kind == "on" else None,
            arguments=tuple(read_argument(item) for item in told),
        )
    except ValidationError as error:
        raise refusal(error) from None


def write_job(job: Job) -> str:
    """Write a job without its name, as ``read_job`` reads it."""
    if job.cron is not None:
        return f"cron({job.cron})"
    if job.event is not None:
        return f"on({job.event})"
    told = [f"{a.name} {a.type}{' optional' if a.optional else ''}" for a in job.arguments]
    return f"job({', '.join(told)})" if told else "job"


def read_argument(text: str) -> Argument:
    """Read ``width int`` or ``note str optional``; ``PlanError`` for anything else."""
    found = _ARGUMENT.fullmatch(text.strip())
    kind = TYPE_WORDS.get(found[2].lower()) if found else None
    kind = "int" if kind == "bigint" else kind
    if found is None or kind is None:
        raise PlanError(
            f"'{text.strip()}' is no argument of a job",
            fix="write name and type: 'width int', 'note str optional'",
            word=text.strip(),
        )
    try:
        return Argument.model_validate({"name": found[1], "type": kind, "optional": bool(found[3])})
    except ValidationError as error:
        raise refusal(error) from None
