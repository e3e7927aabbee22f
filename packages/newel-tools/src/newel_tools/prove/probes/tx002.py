"""An answer of success is a promise: what it says was done survives."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    if lab.service.dialect is None:
        yield PROBE.skipped("", "the commits of this database library are not seen")
        return
    for operation in lab.operations:
        if operation.writes:
            yield _commit_fails(lab, operation)


def _commit_fails(lab: Lab, operation: Operation) -> Result:
    for caller in lab.callers_for(operation):
        target = lab.target(operation, caller)
        request = lab.request(operation, caller, target)
        if request is None:
            continue
        exchange = lab.send(request.with_options(fail_commits=True), caller)
        failed = [commit for commit in exchange.answer.commits if commit.failed]
        lost = [commit for commit in failed if commit.phase != "background"]
        if lost and exchange.answer.is_success:
            late = " It was sent before the commit." if lost[0].phase == "answered" else ""
            said = f"it answered {exchange.answer.status} although the commit failed.{late}"
            details = ["every COMMIT of this request was made to fail"]
            return PROBE.broke(
                operation.label, said, exchange, where=lost[0].where, details=details
            )
        if lost:
            return PROBE.kept(operation.label)
    return PROBE.skipped(operation.label, "no valid request that commits is known")


_BAD = f"""{DATABASE}
# file: main.py
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy.orm import Mapped, Session, mapped_column

from database import Base, engine, sessions


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


Base.metadata.create_all(engine)
app = FastAPI()


def get_session() -> Iterator[Session]:
    with sessions() as session:
        yield session
        session.commit()


@app.post("/notes", status_code=201)
def create_note(text: str, session: Annotated[Session, Depends(get_session)]) -> dict[str, int]:
    note = Note(text=text)
    session.add(note)
    session.flush()
    return {{"id": note.id}}
"""
PROBE = Probe(
    id="TX002",
    title="No success is answered when the commit fails",
    severity="block",
    why="The caller goes on as if the data were there; nothing will ever repeat the request.",
    fix='commit before the answer: `Depends(..., scope="function")`, or commit in the route',
    seed='"Database transactions"',
    expected="commits of background tasks: TASK002",
    bad=_BAD,
    good=_BAD.replace("Depends(get_session)", 'Depends(get_session, scope="function")'),
    run=_run,
)
