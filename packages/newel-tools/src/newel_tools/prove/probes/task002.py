"""Work that was accepted survives the process."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    lab.ask_everything()
    if lab.service.dialect is None:
        yield PROBE.skipped("", "the statements of this database library are not seen")
        return
    seen: set[str] = set()
    for exchange in lab.seen:
        label = exchange.request.label
        if not exchange.answer.is_success or exchange.request.method == "GET" or label in seen:
            continue
        seen.add(label)
        late = [
            one for one in exchange.answer.statements if one.writes and one.phase == "background"
        ]
        if late:
            said = f"{exchange.answer.status} was answered before the work was done"
            details = [f"a background task wrote: {late[0].sql}"]
            yield PROBE.broke(label, said, exchange, where=late[0].where, details=details)
        else:
            yield PROBE.kept(label)


_BAD = f"""{DATABASE}
# file: main.py
from fastapi import BackgroundTasks, FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from database import Base, engine, sessions


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


Base.metadata.create_all(engine)
app = FastAPI()


def book(item: str) -> None:
    with sessions() as session:
        session.add(Order(item=item))
        session.commit()


@app.post("/orders", status_code=202)
def create_order(item: str, tasks: BackgroundTasks) -> dict[str, str]:
    tasks.add_task(book, item)
    return {{"item": item}}


@app.get("/orders")
def list_orders() -> list[str]:
    return []
"""
PROBE = Probe(
    id="TASK002",
    title="Nothing is accepted that a restart would lose",
    severity="note",
    why="Between the answer and the task a deployment ends the process, and nobody knows.",
    fix="write it before the answer, or record a job in the same transaction",
    seed='"BackgroundTasks < 30 s"',
    expected="background tasks that write nothing to the database",
    stage="after",
    bad=_BAD,
    good=_BAD.replace("tasks.add_task(book, item)", "book(item)"),
    run=_run,
)
