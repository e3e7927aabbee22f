"""What is for administrators is not for everybody who has an account."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.examples import ACCOUNTS
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result

__all__ = ["PROBE"]

_ADMIN: Final = re.compile(
    r"/(admin|administration|superuser|staff|backoffice)(/|$)", re.IGNORECASE
)


def _run(lab: Lab) -> Iterator[Result]:
    if not lab.has_log_in:
        yield PROBE.skipped("", "there is no ordinary user to ask")
        return
    for operation in lab.operations:
        if not _ADMIN.search(operation.path):
            continue
        request = lab.request(operation, lab.user) or lab.request(operation, lab.admin or lab.user)
        if request is None:
            yield PROBE.skipped(operation.label, "no value is known for a name in its path")
            continue
        exchange = lab.send(request, lab.user)
        if exchange.answer.is_success:
            said = f"an ordinary user is answered {exchange.answer.status}"
            yield PROBE.broke(operation.label, said, exchange)
        else:
            yield PROBE.kept(operation.label)


_BAD = f"""{ACCOUNTS}
# file: main.py
from fastapi import FastAPI, HTTPException

import accounts

app = FastAPI()
app.include_router(accounts.router)
ADMINISTRATORS: set[str] = set()


@app.get("/admin/accounts")
def list_accounts(user: accounts.User) -> list[str]:
    return list(accounts.passwords)
"""
PROBE = Probe(
    id="AUTH004",
    title="An ordinary user is no administrator",
    severity="block",
    why="The path says that it is for a few, and everybody with an account may use it.",
    fix="ask for the role in a dependency of the router that has these routes",
    seed="003, 004 RBAC",
    expected="paths that only sound like it: none are known",
    bad=_BAD,
    good=_BAD.replace(
        "    return list(",
        "    if user not in ADMINISTRATORS:\n        raise HTTPException(403)\n    return list(",
    ),
    run=_run,
)
