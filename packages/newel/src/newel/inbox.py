"""What a consumer has seen already: an event that is delivered twice is handled once.

    async with database.write(None) as work:
        if await first_time(work, consumer="stock", event_id=event.id):
            ...

The note is a row of the consumer's transaction, so that handling and noting happen together or not
at all.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Column, LargeBinary, Table, delete
from sqlalchemy.dialects import postgresql, sqlite

from newel.clock import utc_now
from newel.db import Work
from newel.entity import Entity, UTCDateTime

__all__ = ["first_time", "forget_before"]

_INBOX: Final = Table(
    "inbox",
    Entity.metadata,
    Column("digest", LargeBinary(32), primary_key=True),  # of consumer and event
    Column("received_at", UTCDateTime, nullable=False, index=True),
    info={"kernel": True},
)


async def first_time(work: Work, *, consumer: str, event_id: UUID | str) -> bool:
    """Note in ``work`` that ``consumer`` handles an event; ``False`` if it has done so before.

    On PostgreSQL a twin that is being handled at this moment is waited for. An ``event_id`` of
    any length will do: a message's own id, a webhook's.
    """
    digest = hashlib.sha256(f"{consumer}\n{event_id}".encode()).digest()
    dialect = sqlite if work.database.is_sqlite else postgresql
    note = dialect.insert(_INBOX).values(digest=digest, received_at=utc_now())
    noted = note.on_conflict_do_nothing().returning(_INBOX.c.digest)
    return (await work.session.execute(noted)).one_or_none() is not None


async def forget_before(work: Work, moment: datetime) -> None:
    """Remove the notes from before ``moment``: of what no broker will deliver again."""
    await work.session.execute(delete(_INBOX).where(_INBOX.c.received_at < moment))
