"""OBS001: nobody can ask whether it is well."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.sizes import reads_rows
from newel_tools.facts.calls import Call
from newel_tools.facts.routes import Route

__all__ = ["RULE"]

_HEALTH: Final = re.compile(
    r"/_*(health\w*|health[-_]?check|live\w*|liveness|ready\w*|readiness|ping|status|heartbeat|up|alive)/*$",
    re.IGNORECASE,
)
_READY: Final = re.compile(r"/_*(ready\w*|readiness)/*$", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find applications without a health route, and readiness that never asks the database."""
    routes = [route for route in review.facts.routes if route.kind in ("http", "plain", "mount")]
    if routes and not any(_HEALTH.search(route.path) for route in routes):
        file, line = review.application_place
        yield RULE.found("no route says whether the service is alive", file=file, line=line)
    for route in review.http_routes:
        if _READY.search(route.path) and _is_blind(review, route):
            file, line = review.at(route)
            yield RULE.found(
                "it says that it is ready without asking the database",
                file=file,
                line=line,
                route=route.label,
            )


def _is_blind(review: Review, route: Route) -> bool:
    """Tell whether a route calls nothing that could ask, in a service that has a database."""
    function = review.function(route.endpoint)
    if function is None or not review.facts.entities or reads_rows(review, route):
        return False
    return all(_makes_model(review, call) for call in review.calls.of(function))


def _makes_model(review: Review, call: Call) -> bool:
    """Tell whether a call only makes an answer: an instance of a model."""
    return any(call.target == model.full_name for model in review.facts.models.values())


RULE = Rule(
    id="OBS001",
    title="Nobody can ask whether the service is well",
    severity="note",
    how="import",
    why="The orchestrator cannot tell a hanging process from a busy one, and sends users to one "
    "that has lost its "
    "database.",
    fix="`GET /health/live` that answers at once, `GET /health/ready` that asks the database with "
    "a short limit",
    seed="004 Health checks and monitoring",
    expected="any route named health, live, ready, ping, status or up, also one that a library "
    "brings; readiness "
    "that calls anything.",
    bad="""
# file: main.py
from fastapi import FastAPI
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


@app.get("/ready")
def ready() -> dict[str, str]:  # finding
    return {"status": "ok"}
""",
    good="""
from fastapi import FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()
engine = create_engine("sqlite://")


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/ready")
def ready() -> dict[str, str]:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return {"status": "ok"}
""",
    find=find,
)
