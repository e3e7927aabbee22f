"""``/admin/jobs``: the jobs for people, rendered on the server; needs ``jobs:all``.

The list with its filters, and one job with how far it is. ``console`` has the frame and the log-in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Annotated, Any, ClassVar, Final, Literal, cast, get_args
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from newel.auth import requires
from newel.console import HOME, PagePath, as_page, page, turn_to, url_of
from newel.db import CurrentWork
from newel.errors import NotFound
from newel.job_queue import cancel, count_open, discard, retry
from newel.job_rows import FINISHED, SEE_ALL, JobRow, JobState
from newel.principal import Principal

__all__ = ["JobAction", "JobFilter", "page_router"]

JobAction = Literal["retry", "discard", "cancel"]

_ROWS: Final = 50
_RELOAD_SECONDS: Final = 2
_ACTIONS: Final[Mapping[str, tuple[JobAction, ...]]] = {
    "dead": ("retry", "discard"),
    "cancelled": ("retry",),
    "scheduled": ("cancel",),
    "ready": ("cancel",),
    "running": ("cancel",),
}

Operator = Annotated[Principal, requires(SEE_ALL)]

page_router: APIRouter = APIRouter(prefix=HOME, dependencies=[as_page()], include_in_schema=False)


class JobFilter(BaseModel):
    """Which jobs the page shows; ``before`` is where the next page begins."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    state: JobState | Literal[""] = ""
    name: Annotated[str, Field(max_length=128)] = ""
    before: UUID | None = None

    def path(self, **changes: object) -> str:
        """Return the address of the list that it shows, with ``changes``."""
        values = {"state": self.state, "name": self.name, "before": self.before, **changes}
        query = urlencode({name: str(value) for name, value in values.items() if value})
        return f"{HOME}?{query}" if query else HOME


@page_router.get("")
async def show_jobs(
    request: Request, work: CurrentWork, wanted: Annotated[JobFilter, Query()], _caller: Operator
) -> HTMLResponse:
    """List jobs by state and name, the newest first."""
    found = select(JobRow).order_by(JobRow.id.desc()).limit(_ROWS + 1)
    if wanted.state:
        found = found.where(JobRow.state == wanted.state)
    if wanted.name:
        found = found.where(JobRow.name == wanted.name)
    if wanted.before is not None:
        found = found.where(JobRow.id < wanted.before)
    rows = (await work.session.scalars(found)).all()
    body = _tabs(request, wanted, await count_open(work)) + _list(request, wanted, rows)
    return page(request, "Jobs", body)


@page_router.get("/{job_id}")
async def show_job(
    request: Request, work: CurrentWork, job_id: UUID, _caller: Operator, *, watch: bool = True
) -> HTMLResponse:
    """Show one job; while it has not ended the page keeps up with it, unless told not to."""
    row = await work.session.scalar(select(JobRow).where(JobRow.id == job_id))
    if row is None:
        raise NotFound("job", job_id)
    is_open = row.state not in FINISHED
    body = (
        _details(row)
        + _outcome(row, shown="open")
        + "<p>"
        + _buttons(request, row, back=f"{HOME}/{job_id}")
        + "</p>"
    )
    if is_open:
        # The focus is lost each time: without it there nobody would reach a button by keyboard.
        stop, keep_up = "<a href='?watch=false' autofocus>Stop</a>", "<a href='?'>Keep up</a>"
        other = stop if watch else keep_up
        how = f"Shown anew every {_RELOAD_SECONDS} seconds." if watch else "Shown as it was."
        body += f"<p class=dim>{how} {other}</p>"
    return page(
        request, row.name, body, reload_seconds=_RELOAD_SECONDS if is_open and watch else None
    )


@page_router.post("/{job_id}/{action}")
async def change_job(
    request: Request,
    work: CurrentWork,
    job_id: UUID,
    action: JobAction,
    _caller: Operator,
    next: Annotated[PagePath, Query()] = HOME,
) -> RedirectResponse:
    """Do what a button says, if it is not too late, and show the page of the button again."""
    await {"retry": retry, "discard": discard, "cancel": cancel}[action](work, job_id)
    return turn_to(request, next)


# ---------------------------------------------------------------------------------------- the list


def _tabs(request: Request, wanted: JobFilter, counts: Mapping[JobState, int]) -> str:
    tabs = [_tab(request, wanted, "", "all")]
    for state in cast("tuple[JobState, ...]", get_args(JobState)):
        count = f" {counts[state]}" if state in counts else ""
        tabs.append(_tab(request, wanted, state, f"{state}{count}"))
    return (
        f'<nav aria-label="States">{"".join(tabs)}</nav><form method="get">'
        f'<input type="hidden" name="state" value="{wanted.state}">'
        f'<label>Name <input name="name" maxlength="128" value="{escape(wanted.name)}"></label> '
        "<button>Show</button></form>"
    )


def _tab(request: Request, wanted: JobFilter, state: JobState | Literal[""], text: str) -> str:
    here = ' aria-current="page"' if wanted.state == state else ""
    link = url_of(request, wanted.path(state=state, before=None))
    return f'<a href="{link}"{here}>{text}</a>'


def _list(request: Request, wanted: JobFilter, rows: Sequence[JobRow]) -> str:
    shown = rows[:_ROWS]
    older = ""
    if len(rows) > _ROWS:
        link = url_of(request, wanted.path(before=shown[-1].id))
        older = f'<p><a rel="next" href="{link}">Older jobs</a></p>'
    body = "".join(_row(request, wanted, row) for row in shown)
    return (
        "<table><thead><tr><th scope=col>Job<th scope=col>State<th scope=col>Attempt"
        "<th scope=col>Since<th scope=col>What came out<th scope=col>Change</thead>"
        f"<tbody>{body or '<tr><td colspan=6>There is no such job.'}</tbody></table>{older}"
    )


def _row(request: Request, wanted: JobFilter, row: JobRow) -> str:
    since = row.finished_at or row.started_at or row.run_at
    link = f'<a href="{url_of(request, f"{HOME}/{row.id}")}">{escape(row.name)}</a>'
    return (
        f"<tr><td>{link}<br><small class=id>{row.id}</small>"
        f'<td data-of="State"><span class="{row.state}">{row.state}</span> {_progress(row)}'
        f'<td data-of="Attempt">{row.attempt}/{row.max_attempts}'
        f'<td data-of="Since">{_time(since)}'
        f"<td>{_outcome(row)}<td>{_buttons(request, row, back=wanted.path())}"
    )


# ------------------------------------------------------------------------------------------ one job


def _details(row: JobRow) -> str:
    said: dict[str, str] = {
        "Id": str(row.id),
        "State": f'<span class="{row.state}">{row.state}</span>'
        + (" (asked to end)" if row.state == "running" and row.cancel_requested else ""),
        "Progress": _progress(row),
        "Attempt": f"{row.attempt} of {row.max_attempts}",
        "Queue": f"{escape(row.queue)}, priority {row.priority}",
        "Enqueued": _time(row.created_at),
        "Due": _time(row.run_at),
        "Started": _time(row.started_at),
        "Ended": _time(row.finished_at),
        "For": str(row.owner_id or ""),
        "Request": escape(row.request_id or ""),
        "Worker": escape(row.worker or ""),
    }
    parts = (f"<dt>{name}<dd>{value}" for name, value in said.items() if value)
    return f"<dl>{''.join(parts)}</dl>"


def _progress(row: JobRow) -> str:
    if row.progress is None or row.state == "done":  # what it said last is not what came of it
        return ""
    said = f"{row.progress:.0%} {escape(row.note or '')}"
    if row.state != "running":
        return said
    return f'<progress aria-label="progress" max="1" value="{row.progress:.3f}"></progress> {said}'


def _buttons(request: Request, row: JobRow, *, back: str) -> str:
    """Return the forms of what can be done with a job; ``back`` is the page to show again."""
    after = urlencode({"next": back})
    return "".join(
        f'<form method="post" action="{url_of(request, f"{HOME}/{row.id}/{action}?{after}")}">'
        f'<button aria-label="{action} {escape(row.name)}">{action}</button></form> '
        for action in _ACTIONS.get(row.state, ())
    )


def _time(at: datetime | None) -> str:
    if at is None:
        return ""
    return f'<time datetime="{at.isoformat()}">{at:%Y-%m-%d %H:%M:%S} UTC</time>'


def _outcome(row: JobRow, *, shown: Literal["", "open"] = "") -> str:
    if row.error is not None and row.state != "done":
        error: dict[str, Any] = json.loads(row.error)
        trace: str = error.get("trace") or error["detail"]
        summary = escape(f"{error['code']}: {trace.strip().splitlines()[-1][:200]}")
        return f"<details {shown}><summary>{summary}</summary><pre>{escape(trace)}</pre></details>"
    if row.result is None:
        return ""
    return f"<code>{escape(row.result if shown else row.result[:200])}</code>"
