"""Executions in the database."""

from typing import Literal
from uuid import UUID

from newel.entity import Owned
from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

Status = Literal["queued", "running", "finished", "failed"]


class Execution(Owned):
    __tablename__ = "executions"

    agent_id: Mapped[UUID] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"), index=True)
    query: Mapped[str] = mapped_column(String(500))
    answer: Mapped[str | None] = mapped_column(Text, default=None)
    status: Mapped[Status] = mapped_column(String(40), default="queued", init=False, index=True)
