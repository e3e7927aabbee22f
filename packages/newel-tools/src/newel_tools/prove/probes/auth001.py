"""Whoever changes something has said who they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.callers import ANONYMOUS
from newel_tools.prove.examples import ACCOUNTS
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.service import Exchange

__all__ = ["PROBE"]

_OPEN: Final = re.compile(
    r"web_?hook|callback|contact|newsletter|subscri|feedback|waitlist|inquir|enquir|survey|rsvp|public|search|query|health|graphql|"
    r"calculate|predict|preview|validate|unsubscribe|track|ping",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(r"api|v\d+|\{.*\}", re.IGNORECASE)


def _run(lab: Lab) -> Iterator[Result]:
    answers = list(_answers(lab))
    if not lab.callers and not any(op.secured for op in lab.operations):
        yield from _without_accounts(answers)
        return
    asking = {_kind(op) for op, found in answers if found and found.answer.status in (401, 403)}
    for operation, exchange in answers:
        if exchange is None:
            yield PROBE.skipped(operation.label, "no value is known for a name in its path")
        elif exchange.answer.is_success and _has_written(lab, exchange):
            said = f"it answered {exchange.answer.status} to a request without credentials"
            # Without the statements nobody knows what was changed: only an exception is plain.
            is_plain = lab.service.dialect is not None or _kind(operation) in asking
            severity = None if is_plain else "note"
            yield PROBE.broke(operation.label, said, exchange, severity=severity)
        else:
            yield PROBE.kept(operation.label)
    yield from _listed_people(lab)


def _kind(operation: Operation) -> str:
    """Return the first word of a path that says what it is about."""
    parts = operation.path.strip("/").split("/")
    return next((part for part in parts if not _PREFIX.fullmatch(part)), "")


def _answers(lab: Lab) -> Iterator[tuple[Operation, Exchange | None]]:
    for operation in lab.writes:
        if not _OPEN.search(operation.path):
            request = lab.request(operation, lab.user)
            yield operation, lab.send(request, ANONYMOUS) if request is not None else None


def _has_written(lab: Lab, exchange: Exchange) -> bool:
    """Tell whether something changed, as far as that can be seen: a calculation may be open."""
    if lab.service.dialect is None:
        return True
    return any(statement.writes for statement in exchange.answer.statements)


def _without_accounts(answers: list[tuple[Operation, Exchange | None]]) -> Iterator[Result]:
    """Yield one finding for the one cause: the application does not ask anybody."""
    written = [exchange for _, exchange in answers if exchange and exchange.answer.is_success]
    if written:
        many = f"{len(written)} routes change" if len(written) > 1 else "one route changes"
        said = f"the application asks nobody who they are: {many} data"
        yield PROBE.broke(written[0].request.label, said, written[0])


def _listed_people(lab: Lab) -> Iterator[Result]:
    """Ask for every list as nobody: an account's e-mail address in one is not for anyone."""
    if "@" not in lab.user.username:
        return
    for _, operation in lab.lists:
        request = lab.request(operation, lab.user)
        if request is None:
            continue
        exchange = lab.send(request, ANONYMOUS)
        if exchange.answer.is_success and lab.user.username in exchange.answer.text:
            said = "it shows the e-mail addresses of accounts to a request without credentials"
            yield PROBE.broke(operation.label, said, exchange)
        else:
            yield PROBE.kept(operation.label)


_BAD = f"""{ACCOUNTS}
# file: main.py
from fastapi import FastAPI

import accounts

app = FastAPI()
app.include_router(accounts.router)
notes: dict[int, str] = {{}}


@app.post("/notes", status_code=201)
def create_note(text: str, user: accounts.User) -> dict[str, int]:
    notes[len(notes)] = text
    return {{"id": len(notes) - 1}}


@app.delete("/notes/{{note_id}}", status_code=204)
def delete_note(note_id: int) -> None:
    notes.pop(note_id, None)
"""
PROBE = Probe(
    id="AUTH001",
    title="Nothing changes for a caller who has not logged in",
    severity="block",
    why="Anybody who finds the address can do it, and nobody can say who it was.",
    fix="add the dependency that the protected routes have, on their router",
    seed='003 "Skip authentication on protected routes"',
    expected="registration, log-in and the like; routes whose name says that they are public; "
    "where the statements cannot be seen and no route of the same kind asks, it is a note",
    bad=_BAD,
    good=_BAD.replace("note_id: int)", "note_id: int, user: accounts.User)"),
    run=_run,
)
