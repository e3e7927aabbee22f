"""``/admin/jobs``: the jobs for people, rendered on the server; needs ``jobs:all``.

A browser brings the log-in as a cookie, so the page needs ``AUTH_COOKIES``; its buttons are forms,
which the check of the Origin guards like every other change by cookie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Annotated, ClassVar, Final, Literal, cast, get_args
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from newel.auth import requires
from newel.db import CurrentWork
from newel.job_queue import cancel, count_open, discard, retry
from newel.job_rows import SEE_ALL, JobRow, JobState
from newel.principal import Principal

__all__ = ["JobAction", "JobFilter", "page_router"]

JobAction = Literal["retry", "discard", "cancel"]

_ROWS: Final = 50
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_ACTIONS: Final[Mapping[str, tuple[JobAction, ...]]] = {
    "dead": ("retry", "discard"),
    "cancelled": ("retry",),
    "scheduled": ("cancel",),
    "ready": ("cancel",),
    "running": ("cancel",),
}
_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--dim:#888}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}
nav a{margin-right:1rem}nav a[aria-current]{font-weight:bold;text-decoration:none}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{border-bottom:1px solid var(--line);padding:.4rem .6rem;text-align:left;vertical-align:top}
small,.id{color:var(--dim)}.dead{color:#c33}.done{color:#383}.running{color:#36c}
pre{white-space:pre-wrap;max-width:40rem;font-size:12px}form{display:inline}button{font:inherit}
"""


class JobFilter(BaseModel):
    """Which jobs the page shows; ``before`` is where the next page begins."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    state: JobState | None = None
    name: Annotated[str, Field(max_length=128)] = ""
    before: UUID | None = None


def page_router() -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter(prefix="/admin/jobs", include_in_schema=False)

    @router.get("")
    async def show_jobs(
        request: Request,
        work: CurrentWork,
        wanted: Annotated[JobFilter, Query()],
        _caller: Annotated[Principal, requires(SEE_ALL)],
    ) -> HTMLResponse:
        found = select(JobRow).order_by(JobRow.id.desc()).limit(_ROWS + 1)
        if wanted.state is not None:
            found = found.where(JobRow.state == wanted.state)
        if wanted.name:
            found = found.where(JobRow.name == wanted.name)
        if wanted.before is not None:
            found = found.where(JobRow.id < wanted.before)
        rows = (await work.session.scalars(found)).all()
        page = _page(request.url.path, wanted, rows, await count_open(work))
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    @router.post("/{job_id}/{action}")
    async def change_job(
        request: Request,
        work: CurrentWork,
        job_id: UUID,
        action: JobAction,
        _caller: Annotated[Principal, requires(SEE_ALL)],
    ) -> RedirectResponse:
        await {"retry": retry, "discard": discard, "cancel": cancel}[action](work, job_id)
        return RedirectResponse(request.url.path.rsplit("/", 2)[0], status_code=303)

    return router


def _page(
    path: str, wanted: JobFilter, rows: Sequence[JobRow], counts: Mapping[JobState, int]
) -> str:
    shown = rows[:_ROWS]
    older = ""
    if len(rows) > _ROWS:
        query = {"state": wanted.state or "", "name": wanted.name, "before": shown[-1].id}
        older = f'<p><a rel="next" href="?{escape(_query(query))}">Older jobs</a></p>'
    body = "".join(_row(path, row) for row in shown)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Jobs</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style><h1>Jobs</h1>{_tabs(path, wanted, counts)}"
        '<form method="get"><label>Name <input name="name" '
        f'value="{escape(wanted.name)}"></label> <button>Show</button></form>'
        "<table><thead><tr><th scope=col>Job<th scope=col>State<th scope=col>Attempt"
        "<th scope=col>Since<th scope=col>What came out<th scope=col>Change</thead>"
        f"<tbody>{body or '<tr><td colspan=6>There is no such job.'}</tbody></table>{older}</html>"
    )


def _tabs(path: str, wanted: JobFilter, counts: Mapping[JobState, int]) -> str:
    tabs = [f'<a href="{escape(path)}"{_current(wanted.state is None)}>all</a>']
    for state in cast("tuple[JobState, ...]", get_args(JobState)):
        count = f" {counts[state]}" if state in counts else ""
        tabs.append(f'<a href="?state={state}"{_current(wanted.state == state)}>{state}{count}</a>')
    return f"<nav>{''.join(tabs)}</nav>"


def _current(is_it: bool) -> str:  # noqa: FBT001 - a value, not a switch
    return ' aria-current="page"' if is_it else ""


def _query(values: Mapping[str, object]) -> str:
    return urlencode({name: str(value) for name, value in values.items() if value})


def _row(path: str, row: JobRow) -> str:
    buttons = "".join(
        f'<form method="post" action="{escape(path)}/{row.id}/{action}">'
        f"<button>{action}</button></form> "
        for action in _ACTIONS.get(row.state, ())
    )
    progress = "" if row.progress is None else f" {row.progress:.0%} {escape(row.note or '')}"
    since = row.finished_at or row.started_at or row.run_at
    return (
        f"<tr><td>{escape(row.name)}<br><small class=id>{row.id}</small>"
        f'<td class="{row.state}">{row.state}{progress}<td>{row.attempt}/{row.max_attempts}'
        f"<td>{_time(since)}<td>{_outcome(row)}<td>{buttons}"
    )


def _time(at: datetime) -> str:
    return f'<time datetime="{at.isoformat()}">{at:%Y-%m-%d %H:%M:%S}</time>'


def _outcome(row: JobRow) -> str:
    if row.error is not None and row.state != "done":
        error = json.loads(row.error)
        summary = f"{error['code']}: {error['detail']}"
        return (
            f"<details><summary>{escape(summary)}</summary>"
            f"<pre>{escape(error.get('trace') or '')}</pre></details>"
        )
    return "" if row.result is None else f"<code>{escape(row.result[:200])}</code>"
