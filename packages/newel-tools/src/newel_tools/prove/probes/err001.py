"""What went wrong inside stays inside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.service import Exchange

__all__ = ["PROBE"]

_INSIDE: Final = re.compile(
    r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+|\[SQL: |sqlalche\.me|"
    r"\b(sqlite3|psycopg2?|asyncpg|aiosqlite|sqlalchemy)\.(exc\.|errors\.)?\w*Error",
)
_MARKER: Final = re.compile(r"newel prove (let this commit fail|took the database away)")
_CHARACTERS: Final = 12  # a shorter text may stand in an answer by chance


def _run(lab: Lab) -> Iterator[Result]:
    lab.ask_everything()
    told: set[str] = set()
    for exchange in lab.seen:
        said = _leaked(exchange)
        if said is None:
            continue
        if exchange.request.label not in told:
            told.add(exchange.request.label)
            yield PROBE.broke(exchange.request.label, said, exchange)
    failed = {e.request.label for e in lab.seen if e.answer.status >= 500 and not e.answer.refused}
    for label in sorted(failed - told):
        yield PROBE.kept(label)


def _leaked(exchange: Exchange) -> str | None:
    answer = exchange.answer
    if answer.status < 400 or answer.refused:
        return None
    text = answer.text
    if _MARKER.search(text):
        return f"a {answer.status} shows the text of the database driver's exception"
    found = _INSIDE.search(text)
    if found:
        return f"a {answer.status} shows what only the log should: {found[0]!r}"
    for error in answer.errors if answer.status >= 500 else ():
        words = error.text.strip()
        if len(words) >= _CHARACTERS and words[:80] in text and not error.handled:
            return f"a {answer.status} shows the text of {error.type}"
    return None


_BAD = """
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()


@app.exception_handler(Exception)
async def failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"unexpected: {error}"}, status_code=500)


@app.get("/report")
def report() -> dict[str, str]:
    raise ConnectionError("no answer from the archive at 10.0.0.7")
"""
PROBE = Probe(
    id="ERR001",
    title="No answer shows the text of an exception",
    severity="change",
    why="Statements, addresses and versions are what somebody who looks for a way in needs.",
    fix="answer a fixed text with a request id, and write the exception to the log",
    seed='"Expose internal errors to API"',
    expected="messages of refusals (4xx), and of errors that have a handler, unless a database's",
    stage="after",
    bad=_BAD,
    good=_BAD.replace("unexpected: {error}", "unexpected, see the log"),
    run=_run,
)
