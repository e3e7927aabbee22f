"""One request does not stop all others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.service import Exchange

__all__ = ["PROBE"]

_AGAIN: Final = 2  # a stall has to come back as often: the first may be an import or a cold cache


def _run(lab: Lab) -> Iterator[Result]:
    yield from _tried(lab)
    told: set[str] = set()
    stalls: list[dict[str, Any]] = lab.stalls()
    for stall in stalls:
        place = stall["where"] or (stall["stack"] or [""])[0]
        exchange = _request_of(lab, stall)
        if exchange is None or place in told:
            continue
        told.add(place)
        longest = _repeated(lab, exchange, place)
        if longest is None:
            continue
        said = f"the event loop stood still for {longest * 1000:.0f} ms, and every request with it"
        details = ["stack: " + " < ".join(stall["stack"])]
        yield PROBE.broke(
            exchange.request.label, said, exchange, where=stall["where"], details=details
        )


def _tried(lab: Lab) -> Iterator[Result]:
    """Ask every operation at least once, so that each has had its chance to stall."""
    lab.ask_everything()
    for label in dict.fromkeys(exchange.request.label for exchange in lab.seen):
        yield PROBE.kept(label)


def _request_of(lab: Lab, stall: dict[str, Any]) -> Exchange | None:
    """Return the exchange in which the loop stood still; ``None`` if it was none alone."""
    doing: list[str] = stall["doing"]
    found = [e for e in lab.seen if doing == [f"{e.request.method} {e.request.path}"]]
    usable = [e for e in found if not e.answer.refused]
    return next((e for e in reversed(usable) if e.answer.is_success), None)


def _repeated(lab: Lab, exchange: Exchange, place: str) -> float | None:
    """Ask the same again and return the longest stall at the same place, if it comes back."""
    longest = 0.0
    for _ in range(_AGAIN):
        lab.stalls()
        _send_again(lab, exchange)
        again = [stall for stall in lab.stalls() if place in (stall["where"], *stall["stack"][:1])]
        if not again:
            return None
        longest = max(longest, *(stall["seconds"] for stall in again))
    return longest


def _send_again(lab: Lab, exchange: Exchange) -> None:
    form = lab.entrance.registration
    if form is not None and form.operation.label == exchange.request.label:
        lab.entrance.register_with(form, {})  # a name can be registered once
        return
    operation = next(op for op in lab.operations if op.label == exchange.request.label)
    made = exchange.request.method == "POST" and operation.path_names == ()
    fresh = lab.request(operation, exchange.caller) if made and operation in lab.writes else None
    lab.send(fresh or exchange.request, exchange.caller)


_BAD = """
import asyncio
import time

from fastapi import FastAPI

app = FastAPI()


@app.get("/report")
async def report() -> dict[str, str]:
    time.sleep(0.2)
    return {"status": "done"}
"""
PROBE = Probe(
    id="ASYNC005",
    title="No request stops the event loop for 100 ms",
    severity="change",
    why="While it stands still nobody is answered, health checks included.",
    fix="await it, run it in a thread (`run_in_threadpool`, a plain `def` route), or make it a job",
    seed='"Blocking calls in async context"',
    expected="stalls that do not come back: imports, cold caches",
    stage="after",
    bad=_BAD,
    good=_BAD.replace("    time.sleep", "    await asyncio.sleep"),
    run=_run,
)
