"""The application knows whether it can work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.callers import ANONYMOUS
from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.requests import Request
from newel_tools.prove.service import Exchange

__all__ = ["PROBE"]

_HEALTH: Final = re.compile(r"health|ready|readiness|live|status|ping|heartbeat", re.IGNORECASE)
_TROUBLE: Final = re.compile(
    r"unhealthy|degraded|unavailable|\bdown\b|disconnected|error|fail|not[ _-]?ok", re.IGNORECASE
)
_USUAL: Final = (
    "/health",
    "/healthz",
    "/ready",
    "/readyz",
    "/health/ready",
    "/api/health",
    "/status",
)


def _run(lab: Lab) -> Iterator[Result]:
    named = [
        op.path
        for op in lab.operations
        if op.method == "GET" and not op.path_names and _HEALTH.search(op.path)
    ]
    asked = [_ask(lab, path) for path in dict.fromkeys([*named, *_USUAL])]
    there = [exchange for exchange in asked if exchange.answer.is_success]
    if not there:
        said = "no route says whether the application is healthy: /health, /ready and the like"
        yield PROBE.broke("", said)
        return
    if lab.service.dialect is None:
        yield PROBE.skipped(there[0].request.label, "the database cannot be taken away here")
        return
    yield _without_database(lab, there)


def _ask(lab: Lab, path: str) -> Exchange:
    return lab.send(Request(method="GET", path=path, label=f"GET {path}"), ANONYMOUS)


def _without_database(lab: Lab, there: list[Exchange]) -> Result:
    lab.service.host.ask("lose_database", lost=True)
    try:
        asked = [lab.send(exchange.request, ANONYMOUS) for exchange in there]
    finally:
        lab.service.host.ask("lose_database", lost=False)
    if any(_tells(after, before) for after, before in zip(asked, there, strict=True)):
        return PROBE.kept(asked[0].request.label)
    paths = ", ".join(exchange.request.path for exchange in asked)
    said = f"with the database gone, {paths} still says that all is well"
    return PROBE.broke(asked[0].request.label, said, asked[0])


def _tells(after: Exchange, before: Exchange) -> bool:
    """Tell whether an answer says that something is wrong: by its status, or in other words."""
    said = after.answer.text
    return not after.answer.is_success or (
        said != before.answer.text and _TROUBLE.search(said) is not None
    )


_BAD = f"""{DATABASE}
# file: main.py
from fastapi import FastAPI, HTTPException
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from database import Db

app = FastAPI()


@app.get("/health")
def health(session: Db) -> dict[str, str]:
    return {{"status": "ok"}}
"""
PROBE = Probe(
    id="OBS001",
    title="Readiness depends on the database",
    severity="note",
    why="The balancer sends requests to an instance that can only fail.",
    fix="ask the database in /ready, with a short limit, and answer 503 when it is gone",
    seed="004 monitoring",
    expected="applications whose database library is not seen; answers that say it in words",
    bad=_BAD,
    good=_BAD.replace(
        "    return {",
        '    try:\n        session.execute(text("SELECT 1"))\n    except SQLAlchemyError:\n'
        "        raise HTTPException(503) from None\n    return {",
    ),
    run=_run,
)
