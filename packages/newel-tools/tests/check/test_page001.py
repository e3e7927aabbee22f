"""A list with every row: found where the rows go into the answer, not where they are looked at."""

import pytest

from newel_tools.check.rule import load_rules

RULE = load_rules()["PAGE001"]

APP = """
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    owner: Mapped[int]


class Row(BaseModel):
    invoice_id: int
    body: str
    mine: bool


class Service:
    def everything(self):
        with Session(engine) as session:
            return session.scalars(select(Invoice)).all()

    def shown(self, invoices):
        return [Row(invoice_id=i.id, body=i.text, mine=i.owner == 1) for i in invoices]

    def known(self, number, invoices):
        names = {i.id: i.text for i in invoices}
        return [names.get(number)]


@app.get("/rows")
def rows(service: Annotated[Service, Depends()], number: int = 1) -> list[{model}]:
    {body}
"""
GROWN = """rows = []
    for invoice in service.everything():
        rows.append(Row(invoice_id=invoice.id, body=invoice.text, mine=True))
    return rows"""
IN_A_THREAD = """def load():
        return Service().everything()
    return run_in_threadpool(load)"""


def tables(reviewed, model: str, body: str) -> list[str]:
    text = APP.replace("{model}", model).replace("{body}", body)
    report = reviewed(text, rules=[RULE])

    assert report.facts.is_imported, report.notes
    return [finding.what.partition("`")[2].partition("`")[0] for finding in report.findings]


@pytest.mark.parametrize("model", ["Row", "dict[str, Any]"])
@pytest.mark.parametrize(
    "body",
    [
        "return service.everything()",
        "found = service.everything(); return sorted(found, key=lambda i: i.id)",
        "return service.shown(service.everything())",
        "return [Row(invoice_id=i.id, body=i.text, mine=True) for i in service.everything()]",
        "return {'rows': list(service.everything())}['rows'] or service.everything()",
        GROWN,
        IN_A_THREAD,
    ],
)
def test_rows_that_the_answer_is_made_of_are_found(reviewed, model: str, body: str):
    assert tables(reviewed, model, body) == ["invoices"]


@pytest.mark.parametrize("model", ["Row", "dict[str, Any]"])
@pytest.mark.parametrize(
    "body",
    [
        "found = service.everything(); return [found[number]]",
        "found = service.everything(); return [{'n': len(found)}]",
        "found = service.everything(); return [r for r in [number] if r in found]",
        "return [next(i for i in service.everything() if i.id == number)]",
        "return service.known(number, [1])",
        "names = {i.id: i.text for i in service.everything()}; return [names[number]]",
        "service.everything(); return []",
    ],
)
def test_rows_that_are_only_looked_at_are_not(reviewed, model: str, body: str):
    assert tables(reviewed, model, body) == []
