"""No request, however odd, is answered with a failure of the server."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.prove.front import serve_front
from newel_tools.prove.fuzzing import has_schemathesis, run_schemathesis
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.service import Exchange

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    broken = dict(_valid(lab))
    if has_schemathesis() and lab.settings.fuzz_seconds:
        for label, exchange in _fuzzed(lab).items():
            broken.setdefault(label, exchange)
    elif not has_schemathesis():
        lab.notes.append('schemathesis was not asked: uv pip install "newel-tools[prove]"')
    for operation in lab.operations:
        exchange = broken.get(operation.label)
        if exchange is None:
            yield PROBE.kept(operation.label)
        else:
            said = f"a request ends in {exchange.answer.status or 'no answer'}"
            yield PROBE.broke(operation.label, said, exchange, cause=_cause(exchange))


def _cause(exchange: Exchange) -> str | None:
    """Return what is one cause wherever it shows: a failure that the application words itself."""
    answer = exchange.answer
    return answer.text if answer.where is None and answer.text.startswith("{") else None


def _valid(lab: Lab) -> Iterator[tuple[str, Exchange]]:
    """Yield the operations that fail on requests that mean well."""
    count = len(lab.seen)
    lab.ask_everything()
    for exchange in lab.seen[count:]:
        if exchange.answer.is_fault:
            yield exchange.request.label, exchange


def _fuzzed(lab: Lab) -> dict[str, Exchange]:
    """Return the operations that schemathesis broke, each with its first request."""
    broken: dict[str, Exchange] = {}

    def notice(exchange: Exchange) -> None:
        if exchange.answer.is_fault:
            broken.setdefault(exchange.request.label, exchange)

    listeners, lab.service.listeners = lab.service.listeners, []  # thousands: none is kept
    try:
        with serve_front(lab.service, caller=lab.fresh, notice=notice) as url:
            for prefix, document in lab.service.documents.items():
                if document.get("paths"):
                    kept = lab.without_skipped(document, prefix)
                    run_schemathesis(kept, url + prefix, seconds=lab.settings.fuzz_seconds)
    finally:
        lab.service.listeners = listeners
    return broken


_BAD = """
from fastapi import FastAPI
from pydantic import BaseModel, Field

app = FastAPI()
SIZES = ["small", "medium", "large"]


class Order(BaseModel):
    size: int


@app.post("/orders")
def order(data: Order) -> dict[str, str]:
    return {"size": SIZES[data.size]}
"""
PROBE = Probe(
    id="ERR007",
    title="No request ends in a failure of the server",
    severity="block",
    why="Whatever a client sends, a 5xx says that the mistake is ours, and wakes us up.",
    fix="refuse what cannot be handled with a 4xx: validate it, or catch what it raises",
    seed='"Handle all errors"',
    expected="requests during which the guard refused a connection or a process",
    stage="last",
    bad=_BAD,
    good=_BAD.replace("size: int", "size: int = Field(ge=0, le=2)"),
    run=_run,
)
