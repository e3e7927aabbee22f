"""What has to be true of the shop after everything that was done to it, told by its tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from newel.entity import Entity
from newel.events import OUTBOX
from newel.job_rows import JOBS
from stress.clients import Acknowledged
from stress.databases import DatabaseUnderTest
from stress.figures import Figure
from stress.shop.orders import Effect, Order, Purse, Transfer

__all__ = ["Found", "find", "invariants"]

EXAMPLES: Final = 3

Rows = Sequence[Any]
"""Rows of SQLAlchemy: columns by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The shop's tables, its mails, and what its handlers were called with, in that order."""

    orders: Rows
    transfers: Rows
    effects: Rows
    balances_cents: Mapping[UUID, int]
    jobs: Rows
    unpublished: int
    deliveries: Sequence[tuple[str, int]]
    mails: Mapping[str, int]
    damage: Sequence[str]


async def find(database: DatabaseUnderTest, *, deliveries: Path, mails: Path) -> Found:
    """Read everything, when nothing moves any more."""
    async with database.engine.connect() as connection:
        purses = await _rows(connection, Purse)
        waiting = select(OUTBOX.c.id).where(OUTBOX.c.published_at.is_(None))
        jobs = await connection.execute(select(JOBS.c.id, JOBS.c.name, JOBS.c.state))
        return Found(
            orders=await _rows(connection, Order),
            transfers=await _rows(connection, Transfer),
            effects=await _rows(connection, Effect),
            balances_cents={purse.id: purse.balance_cents for purse in purses},
            jobs=jobs.all(),
            unpublished=len((await connection.execute(waiting)).all()),
            deliveries=_deliveries(deliveries),
            mails=_mails(mails),
            damage=await database.faults(),
        )


async def _rows(connection: AsyncConnection, entity: type[Entity]) -> Rows:
    return (await connection.execute(select(entity.__table__))).all()


def _deliveries(path: Path) -> list[tuple[str, int]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [(customer, int(number)) for customer, number in map(str.split, lines)]


def _mails(folder: Path) -> dict[str, int]:
    """Return, by subject, how many different mails there are: one that comes twice is the same."""
    identities: defaultdict[str, set[str]] = defaultdict(set)
    for path in folder.glob("*.eml"):
        mail = message_from_bytes(path.read_bytes())
        identities[str(mail["Subject"])].add(str(mail["Message-ID"]))
    return {subject: len(found) for subject, found in identities.items()}


def invariants(
    found: Found, *, acknowledged: Sequence[Acknowledged], purse_cents: int
) -> list[Figure]:
    """Return how often each promise was broken; ``purse_cents`` was in each purse at first."""
    counted = {
        "acknowledged and lost": _lost(found, acknowledged),
        "keys with more than one row": _twice(found),
        "jobs that did not finish": _unfinished(found),
        "effects of no order": _of_nothing(found),
        "jobs without one effect": _effects(found, "labelled", "packed"),
        "events without one effect": _effects(found, "told"),
        "events never delivered": _never_delivered(found),
        "customers whose events came out of order": _out_of_order(found),
        "orders without one mail": _mailed(found),
        "purses that do not add up": _off(found, purse_cents),
        "faults in the database's files": list(found.damage),
    }
    return [
        Figure(name=name, value=len(cases), most=0, examples=cases[:EXAMPLES])
        for name, cases in counted.items()
    ]


def _lost(found: Found, acknowledged: Iterable[Acknowledged]) -> list[str]:
    """An answer names the row that it made; there has to be that one."""
    made = {(row.reference, str(row.id)) for row in (*found.orders, *found.transfers)}
    return [
        f"{one.key}: {one.answer.decode()}"
        for one in acknowledged
        if (one.key, one.made) not in made
    ]


def _twice(found: Found) -> list[str]:
    rows = Counter(row.reference for row in (*found.orders, *found.transfers))
    return [f"{key} has {count} rows" for key, count in rows.items() if count > 1]


def _unfinished(found: Found) -> list[str]:
    jobs = [f"{job.name} {job.id} is {job.state}" for job in found.jobs if job.state != "done"]
    return [*jobs, *["an event was not handed over"] * found.unpublished]


def _of_nothing(found: Found) -> list[str]:
    """What was done for an order that there is not: somebody was told of it before its commit."""
    orders = {order.id for order in found.orders}
    return [
        f"{row.kind} for order {row.order_id}"
        for row in found.effects
        if row.order_id not in orders
    ]


def _effects(found: Found, *kinds: str) -> list[str]:
    seen = Counter((row.order_id, row.kind) for row in found.effects)
    return [
        f"order {order.id} was {kind} {seen[order.id, kind]} times"
        for order in found.orders
        for kind in kinds
        if seen[order.id, kind] != 1
    ]


def _never_delivered(found: Found) -> list[str]:
    delivered = set(found.deliveries)
    return [
        f"number {order.number} of customer {order.customer_id}"
        for order in found.orders
        if (str(order.customer_id), order.number) not in delivered
    ]


def _out_of_order(found: Found) -> list[str]:
    """Of each customer, what was delivered for the first time has to be 1, 2, 3 and so on."""
    firsts: defaultdict[str, list[int]] = defaultdict(list)
    for customer, number in dict.fromkeys(found.deliveries):
        firsts[customer].append(number)
    return [
        f"{customer}: {next(n for i, n in enumerate(numbers, 1) if n != i)} came too early"
        for customer, numbers in firsts.items()
        if numbers != list(range(1, len(numbers) + 1))
    ]


def _mailed(found: Found) -> list[str]:
    return [
        f"{order.reference} has {found.mails.get(f'Order {order.reference}', 0)} mails"
        for order in found.orders
        if found.mails.get(f"Order {order.reference}", 0) != 1
    ]


def _off(found: Found, purse_cents: int) -> list[str]:
    """What is in a purse is what was in it and what was moved; so the total stays the same."""
    expected = dict.fromkeys(found.balances_cents, purse_cents)
    for row in found.transfers:
        expected[row.from_id] -= row.amount_cents
        expected[row.to_id] += row.amount_cents
    return [
        f"{purse} has {cents} cents and should have {expected[purse]}"
        for purse, cents in found.balances_cents.items()
        if cents != expected[purse]
    ]
