"""Agents in the database."""

from typing import Any

from newel.entity import Owned, SoftDeleted
from sqlalchemy import JSON, String, Text
from sqlalchemy.orm import Mapped, mapped_column


class Agent(Owned, SoftDeleted):
    __tablename__ = "agents"

    name: Mapped[str] = mapped_column(String(64))
    model_name: Mapped[str] = mapped_column(String(128))
    system_prompt: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    description: Mapped[str | None] = mapped_column(Text, default=None)
    is_active: Mapped[bool] = mapped_column(default=True)
