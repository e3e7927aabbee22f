"""A request that is sent again by a network that gave up is not done twice."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.resources import Resource
from newel_tools.prove.service import Exchange

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    """Yield one note for the application: it keeps idempotency keys, or it does not."""
    twice: list[tuple[str, tuple[Exchange, Exchange]]] = []
    for resource in lab.world.resources:
        pair = _replayed(lab, resource)
        if pair is None:
            continue
        if pair[1].answer.is_success and pair[0].answer.text != pair[1].answer.text:
            twice.append((resource.label, pair))
        else:
            yield PROBE.kept(resource.label)
    if twice:
        label, pair = twice[0]
        said = "a POST that was sent again with its Idempotency-Key made a second thing"
        details = [f"so does {other}" for other, _ in twice[1:]]
        yield PROBE.broke(label, said, *pair, details=details)


def _replayed(lab: Lab, resource: Resource) -> tuple[Exchange, Exchange] | None:
    if resource.create is None or resource.create not in lab.operations:
        return None
    caller = lab.maker_for(resource)
    request = lab.request(resource.create, caller)
    if request is None:
        return None
    keyed = request.with_headers({"Idempotency-Key": str(uuid.uuid4())})
    first = lab.send(keyed, caller)
    return (first, lab.send(keyed, caller)) if first.answer.is_success else None


_BAD = """
from typing import Annotated

from fastapi import FastAPI, Header

app = FastAPI()
orders: list[str] = []
done: dict[str, int] = {}


@app.post("/orders", status_code=201)
def create_order(
    item: str, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, int]:
    orders.append(item)
    return {"id": len(orders)}
"""
PROBE = Probe(
    id="IDEM001",
    title="A POST may be repeated",
    severity="note",
    why="Networks lose answers; a client that tries again orders and pays twice.",
    fix="keep the Idempotency-Key with the answer, in the transaction of the effect",
    seed='"Database transactions"',
    expected="POSTs that refuse the second request, as a duplicate",
    bad=_BAD,
    good=_BAD.replace(
        "    orders.append",
        "    if idempotency_key in done:\n"
        '        return {"id": done[idempotency_key]}\n'
        "    done[idempotency_key or item] = len(orders) + 1\n"
        "    orders.append",
    ),
    run=_run,
)
