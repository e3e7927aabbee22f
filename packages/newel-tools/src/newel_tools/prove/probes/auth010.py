"""Passwords cannot be tried one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from newel_tools.prove.credentials import tokens_in
from newel_tools.prove.examples import ACCOUNTS
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.settings import Account

__all__ = ["PROBE"]

_TRIES: Final = 12


def _run(lab: Lab) -> Iterator[Result]:
    form = lab.entrance.log_in
    if form is None:
        yield PROBE.skipped("", "no log-in is known")
        return
    label = form.operation.label
    victim, address = lab.fresh(), lab.service.address()
    statuses: list[int] = []
    exchange = None
    for number in range(_TRIES):
        account = Account(username=victim.username, password=f"wrong-guess-{number}-Xq")
        request = lab.entrance.log_in_request(form, account).with_options(client=address)
        exchange = lab.service.send(request, patient=False)
        statuses.append(exchange.answer.status)
    if exchange is None or len({*statuses}) > 1 or statuses[0] in (429, 403):
        yield PROBE.kept(label)
        return
    if tokens_in(exchange.answer.json):
        said = "a wrong password is answered with a token"
        fix = "compare the stored hash with the password, and answer 401 when they differ"
        yield PROBE.broke(label, said, exchange, severity="block", fix=fix)
        return
    said = f"{_TRIES} wrong passwords within a minute were all answered with {statuses[0]}"
    yield PROBE.broke(label, said, exchange)


_BAD = f"""{ACCOUNTS}
# file: main.py
from collections import Counter
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

import accounts

app = FastAPI()
tries: Counter[str] = Counter()


def limit(request: Request) -> None:
    address = request.client.host if request.client else ""
    tries[address] += 1
    if tries[address] > LIMIT:
        raise HTTPException(429)


LIMIT = 1_000_000
app.include_router(accounts.router, dependencies=[Depends(limit)])
"""
PROBE = Probe(
    id="AUTH010",
    title="Wrong passwords are slowed down",
    severity="change",
    why="A list of leaked passwords is tried in minutes.",
    fix="limit log-ins by address (5 a minute), and delay them by account without locking it",
    seed='003 "Login 5/minute per IP"',
    expected="limits of a gateway, which are not seen here",
    bad=_BAD,
    good=_BAD.replace("1_000_000", "5"),
    run=_run,
)
