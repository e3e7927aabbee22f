"""What was answered to one caller is not kept for all."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.prove.callers import ANONYMOUS
from newel_tools.prove.examples import ACCOUNTS
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    if not lab.has_log_in:
        yield PROBE.skipped("", "no answer is for one caller only")
        return
    lab.ask_everything()
    told: set[str] = set()
    for exchange in list(lab.seen):
        label = exchange.request.label
        asked = exchange.request.method == "GET" and not exchange.caller.is_anonymous
        if not asked or not exchange.answer.is_success or label in told:
            continue
        told.add(label)
        said = (exchange.answer.header("cache-control") or "").lower()
        if "public" not in said and "s-maxage" not in said:
            yield PROBE.kept(label)
            continue
        bare = [
            pair for pair in exchange.request.headers if pair not in exchange.caller.headers.items()
        ]
        again = lab.send(exchange.request.only(bare), ANONYMOUS)
        if again.answer.status in (401, 403):
            what = f"an answer for one caller says `Cache-Control: {said}`"
            yield PROBE.broke(label, what, exchange)


_BAD = f"""{ACCOUNTS}
# file: main.py
from fastapi import FastAPI, Response

import accounts

app = FastAPI()
app.include_router(accounts.router)


@app.get("/me")
def read_me(user: accounts.User, response: Response) -> dict[str, str]:
    response.headers["Cache-Control"] = "public, max-age=60"
    return {{"username": user}}
"""
PROBE = Probe(
    id="HTTP006",
    title="No shared cache keeps what one caller was answered",
    severity="block",
    why="The next caller behind the same proxy is shown the first one's data.",
    fix="answer `Cache-Control: private` or `no-store` where the caller matters",
    seed='"Security"',
    expected="routes that answer anybody",
    stage="after",
    bad=_BAD,
    good=_BAD.replace("public,", "private,"),
    run=_run,
)
