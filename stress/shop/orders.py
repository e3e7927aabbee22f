"""Orders and transfers: every kind of promise that a request of a newel service can make.

An order is a row, an event, a job and a mail, in one transaction; a transfer is two rows. Nothing
here is unique in the database but ids, so that what is done twice is there twice.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Request
from pydantic import Field
from sqlalchemy import String, update
from sqlalchemy.orm import Mapped, mapped_column

from newel.auth import public
from newel.db import CurrentWork, Work
from newel.entity import Entity
from newel.errors import NotFound
from newel.events import Event
from newel.handlers import on
from newel.idempotency import key_required
from newel.ids import uuid7
from newel.jobs import Backoff, JobRun, job
from newel.mail import MailTemplate, send_mail
from newel.modules import Module
from newel.schemas import InputModel

CARRIER_SECONDS: Final = 0.2
"""How long the carrier takes to answer: what a job does outside of its transaction."""

_TELLING_SECONDS: Final = 0.05
"""How long it takes at most to tell somebody else of an event; often less."""

# Nothing here fails but by what is done to it: it comes back soon, and never gives up.
_RETRIES: Final = 100
_SOON: Final = Backoff(first_seconds=0.2, factor=1.5, longest_seconds=1.0)

CONFIRMATION: Final = MailTemplate(subject="Order $reference", text="It is number $number.")


# ------------------------------------------------------------------------------------------- tables


class Customer(Entity):
    """Somebody who orders; ``orders`` counts what they ordered."""

    __tablename__ = "customers"

    orders: Mapped[int] = mapped_column(default=0)


class Order(Entity):
    """An order: ``reference`` is the client's key, ``number`` its place among the customer's."""

    __tablename__ = "orders"

    reference: Mapped[str] = mapped_column(String(64))
    customer_id: Mapped[UUID]
    number: Mapped[int]


class Effect(Entity):
    """What was done for an order in the background: ``labelled``, ``packed``, ``told``."""

    __tablename__ = "effects"

    kind: Mapped[str] = mapped_column(String(16))
    order_id: Mapped[UUID]


class Purse(Entity):
    """Money of somebody, in cents."""

    __tablename__ = "purses"

    balance_cents: Mapped[int]


class Transfer(Entity):
    """Money that went from one purse to another one."""

    __tablename__ = "transfers"

    reference: Mapped[str] = mapped_column(String(64))
    from_id: Mapped[UUID]
    to_id: Mapped[UUID]
    amount_cents: Mapped[int]


# ---------------------------------------------------------------------------------- events and jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced(Event):
    """A customer (``id``) has placed their order number ``number``."""

    order_id: UUID
    number: int


@on(OrderPlaced, retries=_RETRIES, backoff=_SOON)
async def tell(run: JobRun, event: OrderPlaced) -> None:
    """Write down the delivery where a rolled back transaction does not reach, and in a row."""
    await asyncio.sleep(random.uniform(0, _TELLING_SECONDS))  # noqa: S311 - no secret
    _append(run.app.state.deliveries, f"{event.id} {event.number}\n")
    run.work.session.add(Effect(kind="told", order_id=event.order_id))


def _append(path: Path, line: str) -> None:
    """Add a line in one write, which no other process's can split and no kill takes back."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@job(retries=_RETRIES, backoff=_SOON, timeout_seconds=30)
async def pack(run: JobRun, order_id: UUID) -> None:
    """Print a label, once; wait for the carrier; note that it is packed."""
    await run.step("label", label, order_id)
    await asyncio.sleep(run.app.state.carrier_seconds)
    run.work.session.add(Effect(kind="packed", order_id=order_id))


async def label(work: Work, order_id: UUID) -> None:
    """Note that there is a label for an order."""
    work.session.add(Effect(kind="labelled", order_id=order_id))


# ----------------------------------------------------------------------------------------- requests


Reference = Annotated[str, Field(min_length=1, max_length=64)]


class OrderCreate(InputModel):
    """What a client orders."""

    reference: Reference
    customer_id: UUID


class TransferCreate(InputModel):
    """What a client moves."""

    reference: Reference
    from_id: UUID
    to_id: UUID
    amount_cents: int


class Shop:
    """What the shop does, in the unit of work of a request; ``tasks`` run after its answer."""

    def __init__(self, work: Work, tasks: BackgroundTasks) -> None:
        self.work = work
        self.tasks = tasks

    async def place(self, data: OrderCreate, *, id: UUID) -> Order:
        """Place the order ``id``; it is confirmed, told and packed after the commit."""
        counted = update(Customer).where(Customer.id == data.customer_id)
        counted = counted.values(orders=Customer.orders + 1).returning(Customer.orders)
        number = (await self.work.session.execute(counted)).scalar_one_or_none()
        if number is None:
            raise NotFound("customer", data.customer_id)
        order = Order(reference=data.reference, customer_id=data.customer_id, number=number)
        order.id = id
        self.work.session.add(order)
        self.tell_later(order)
        self.pack_later(order)
        mail = CONFIRMATION.fill(
            to="customer@example.com", reference=data.reference, number=str(number)
        )
        self.work.enqueue(send_mail, mail)
        return order

    def tell_later(self, order: Order) -> None:
        """Have others told of an order after the commit."""
        number = order.number
        self.work.publish(OrderPlaced(id=order.customer_id, order_id=order.id, number=number))

    def pack_later(self, order: Order) -> None:
        """Have an order packed after the commit."""
        self.work.enqueue(pack, order.id)

    async def transfer(self, data: TransferCreate) -> Transfer:
        """Move money; purses are taken in the order of their ids, so that nobody locks up."""
        moves = [(data.from_id, -data.amount_cents), (data.to_id, data.amount_cents)]
        for purse, cents in sorted(moves):
            await move(self.work, purse, cents)
        transfer = Transfer(**data.model_dump())
        self.work.session.add(transfer)
        return transfer


async def move(work: Work, purse_id: UUID, cents: int) -> None:
    """Change what is in a purse."""
    change = update(Purse).where(Purse.id == purse_id)
    await work.session.execute(change.values(balance_cents=Purse.balance_cents + cents))


async def open_shop(request: Request, work: CurrentWork, tasks: BackgroundTasks) -> Shop:
    """Return the shop of this application: as it should be, or one with a defect."""
    shop: type[Shop] = request.app.state.shop
    return shop(work, tasks)


router = APIRouter(dependencies=[public(), key_required()])
ShopDep = Annotated[Shop, Depends(open_shop)]


@router.post("/orders", status_code=201)
async def place_order(data: OrderCreate, shop: ShopDep) -> dict[str, str | int]:
    """Order something; answers the order's id and number."""
    order = await shop.place(data, id=uuid7())
    return {"id": str(order.id), "number": order.number}


@router.post("/transfers", status_code=201)
async def transfer(data: TransferCreate, shop: ShopDep) -> dict[str, str]:
    """Move money; answers the transfer's id."""
    return {"id": str((await shop.transfer(data)).id)}


module = Module("shop", routers=[router], jobs=[pack, send_mail], handlers=[tell])
