"""Chats: rooms by id, where everybody hears what the others say, and who comes and goes.

    app = create_app(Settings(), users, chat.module(may_join=is_member), room_routes.module())

Nothing is kept but what ``rooms`` keeps for those who come back, unless ``on_message`` adds a row.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from newel.modules import Module
from newel.principal import Principal
from newel.rooms import MayJoin, OnMessage, Visit, anyone, room
from newel.schemas import InputModel, Text

__all__ = ["ChatMessage", "ChatNotice", "module"]


class ChatMessage(InputModel):
    """What a member says; the others get it as it is, with who said it."""

    type: Literal["message"] = "message"
    content: Annotated[Text, Field(min_length=1, max_length=4000)]


class ChatNotice(BaseModel):
    """What the service says of a member: that they came, or left with their last connection."""

    type: Literal["system"] = "system"
    content: Annotated[str, Field(description="For people, in English")]
    event: Literal["joined", "left"]
    user_id: UUID


async def _say(_caller: Principal, _visit: Visit, message: ChatMessage) -> ChatMessage:
    return message


def module(
    *,
    pattern: str = "chat:{id}",
    may_join: MayJoin | str = anyone,
    on_message: OnMessage = _say,
) -> Module:
    """Return the module of the chats that ``pattern`` names.

    ``may_join`` says who may: a function of the caller and the visit (``visit.values["id"]`` is the
    chat), or a permission. Without it, everybody who is logged in. ``on_message`` gets what is said
    and returns what the others hear: the place to keep it, as they hear it after the commit.
    """
    chats = room(
        pattern,
        ChatMessage,
        may_join=may_join,
        on_message=on_message,
        on_join=_come,
        on_leave=_go,
        exclude_sender=True,
    )
    return Module("chat", description="What people say to each other", rooms=[chats])


async def _come(caller: Principal, _visit: Visit) -> ChatNotice:
    return ChatNotice(content="Somebody joined the chat", event="joined", user_id=caller.user_id)


async def _go(caller: Principal, _visit: Visit) -> ChatNotice:
    return ChatNotice(content="Somebody left the chat", event="left", user_id=caller.user_id)
