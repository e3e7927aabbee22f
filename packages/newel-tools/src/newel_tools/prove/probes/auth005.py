"""What the server decides cannot be sent along."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.ownership import owner_columns, table_of
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.resources import Resource
from newel_tools.prove.service import Column, Exchange, Table

__all__ = ["PROBE"]

_POWER: Final = re.compile(
    r"^(is_)?(super_?user|admin|administrator|staff|verified|email_verified)$|^roles?$|"
    r"^(balance|credits?|hashed_password|password_hash)$",
    re.IGNORECASE,
)


def _run(lab: Lab) -> Iterator[Result]:
    if lab.service.dialect is None:
        yield PROBE.skipped("", "the rows of this database library are not seen")
        return
    yield from _registration(lab)
    for resource in lab.world.resources:
        if resource.create is not None:
            yield _created(lab, resource, resource.create)
        for method in ("PATCH", "PUT"):
            update = resource.item(method)
            if update is not None and resource.create is not None:
                yield _updated(lab, resource, update)


def _registration(lab: Lab) -> Iterator[Result]:
    form, users = lab.entrance.registration, lab.entrance.users
    first = lab.last_success(form.operation) if form is not None else None
    if form is None or users is None or first is None:
        return
    names = [column for column in users.columns if _POWER.match(column.name)]
    wanted = {column.name: _power(column) for column in names if _power(column) is not None}
    exchange, username = lab.entrance.register_with(form, wanted)
    if not exchange.answer.is_success:
        yield PROBE.kept(form.operation.label)
        return
    row = lab.entrance.row_by_name(username) or {}
    yield _judged(form.operation, exchange, _taken(row, wanted))


def _power(column: Column) -> Any:
    """Return what somebody would like to have there."""
    if column.type == "bool":
        return True
    if column.name.lower().startswith("role") and column.type in ("str", "UserRole", "Role"):
        return next((value for value in column.values if "admin" in value.lower()), "admin")
    return 4_242 if column.type in ("int", "float", "Decimal") else None


def _created(lab: Lab, resource: Resource, create: Operation) -> Result:
    made = lab.world.make(resource, lab.user)
    table = table_of(lab, made) if made is not None else None
    if made is None or table is None or table.key is None:
        return PROBE.skipped(create.label, "no such row could be made")
    wanted = _wished(lab, table, create)
    again = lab.world.make(resource, lab.user, changes=wanted)
    if again is None or again.exchange is None:
        return PROBE.kept(create.label)
    row = _row(lab, table, again.key, wanted)
    return _judged(create, again.exchange, _taken(row, wanted))


def _updated(lab: Lab, resource: Resource, update: Operation) -> Result:
    made = lab.world.make(resource, lab.user)
    table = table_of(lab, made) if made is not None else None
    if made is None or table is None or table.key is None:
        return PROBE.skipped(update.label, "no such row could be made")
    wanted = _wished(lab, table, update)
    request = lab.request(update, lab.user, made, changes=wanted)
    if request is None:
        return PROBE.skipped(update.label, "no valid request is known")
    exchange = lab.send(request, lab.user)
    if not exchange.answer.is_success:
        return PROBE.kept(update.label)
    row = _row(lab, table, made.key, wanted)
    return _judged(update, exchange, _taken(row, wanted))


def _wished(lab: Lab, table: Table, operation: Operation) -> dict[str, Any]:
    """Return a value for each column that the API does not offer, and for each owner it does."""
    owners = {column.name for column in owner_columns(lab, table)}
    wanted: dict[str, Any] = {}
    for column in table.columns:
        if column.name in owners and lab.other is not None and lab.other.id is not None:
            wanted[column.name] = int(lab.other.id) if column.type == "int" else lab.other.id
        elif column.name not in operation.fields and not column.references:
            value = _strange(column)
            if value is not None:
                wanted[column.name] = value
    return wanted


def _strange(column: Column) -> Any:
    """Return a value of the column's type that would not come about by itself."""
    values: Mapping[str, Any] = {
        "int": 424_242,
        "float": 4_242.5,
        "Decimal": "4242.50",
        "str": "newel-prove"[: column.length or 100],
        "datetime": "2001-02-03T04:05:06Z",
        "date": "2001-02-03",
        "UUID": str(uuid.UUID(int=424_242)),
    }
    return None if column.values else values.get(column.type)


def _row(lab: Lab, table: Table, key: Any, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    name = table.key or "id"
    rows = lab.service.rows(table.name, **{name: key})
    rows = rows or lab.service.rows(table.name, **{name: wanted.get(name, key)})
    return rows[0] if rows else {}


def _taken(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [name for name, value in wanted.items() if _same(row.get(name), value)]


def _same(stored: Any, sent: Any) -> bool:
    if isinstance(sent, bool) or stored is None:
        return stored is sent
    if isinstance(sent, str) and sent.startswith("2001-02-03"):
        return str(stored).startswith("2001-02-03")
    return str(stored).lower() == str(sent).lower()


def _judged(operation: Operation, exchange: Exchange, taken: list[str]) -> Result:
    if not taken:
        return PROBE.kept(operation.label)
    said = f"a user sets {', '.join(taken)} by sending {'them' if len(taken) > 1 else 'it'} along"
    return PROBE.broke(operation.label, said, exchange)


_BAD = f"""{DATABASE}
# file: main.py
from datetime import UTC, datetime

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Mapped, mapped_column

from database import Base, Db, engine


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    paid_at: Mapped[str | None]


class OrderCreate(BaseModel):
    model_config = ConfigDict(extra="allow")
    item: str


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/orders", status_code=201)
def create_order(data: OrderCreate, session: Db) -> dict[str, int]:
    order = Order(**data.model_dump())
    session.add(order)
    session.commit()
    return {{"id": order.id}}
"""
PROBE = Probe(
    id="AUTH005",
    title="Nobody sets a field that is the server's to set",
    severity="block",
    why="Who owns it, what it may do, when it was paid: one extra line in the JSON decides it.",
    fix='take only the fields that the caller may set; `extra="forbid"` in every input model',
    seed='003 "Pydantic validates all"',
    expected="fields that the API offers, but for the owner",
    bad=_BAD,
    good=_BAD.replace('extra="allow"', 'extra="forbid"'),
    run=_run,
)
