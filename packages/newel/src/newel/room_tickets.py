"""``POST /rooms/tickets``: what opens one websocket, for browsers, which send no header with it.

``room_routes.module()`` has it. A token in an address would stay in logs and histories; a ticket
is of no use there.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Annotated, Final

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel

from newel.auth import OfferedToken, requires
from newel.clock import Clock
from newel.errors import Unauthorized
from newel.limits import Limiter, Rate
from newel.principal import Principal
from newel.tokens import KeyRing, Sealer

__all__ = ["TICKET_SECONDS", "RoomTicket", "RoomTickets", "router"]

TICKET_SECONDS: Final = 30
"""How long a ticket is good."""

_ONCE: Final = Rate(1, 2.0 * TICKET_SECONDS)


class RoomTicket(BaseModel):
    """What opens one websocket: ``/rooms/ws?ticket=...``."""

    ticket: str
    expires_in_seconds: int


class RoomTickets:
    """Access tokens, encrypted, for 30 seconds and one use.

    That it was used is counted by the limiter: in Redis when there is one, for all processes.
    """

    def __init__(self, app: FastAPI) -> None:
        keys: KeyRing = app.state.keys
        self._sealer = Sealer(keys, "ws-ticket")
        self._limiter: Limiter = app.state.limiter
        self._clock: Clock = app.state.clock

    def issue(self, token: str) -> str:
        """Return a ticket for ``token``."""
        ends = self._clock.now().timestamp() + TICKET_SECONDS
        sealed = self._sealer.seal(json.dumps([token, ends]).encode(), context=b"room")
        return base64.urlsafe_b64encode(sealed).decode()

    async def redeem(self, ticket: str) -> str:
        """Return the token; raises ``Unauthorized``."""
        try:
            opened = self._sealer.open(base64.urlsafe_b64decode(ticket), context=b"room")
        except ValueError:
            raise Unauthorized("The ticket is not valid.") from None
        token, ends = json.loads(opened)
        used = await self._limiter.hit(f"ticket:{hashlib.sha256(opened).hexdigest()}", _ONCE)
        if not used.allowed or self._clock.now().timestamp() >= ends:
            raise Unauthorized("The ticket was used, or is too old.")
        return token


def router() -> APIRouter:
    """Return the route that gives tickets to who is logged in."""
    router = APIRouter(prefix="/rooms", tags=["rooms"])

    @router.post("/tickets", status_code=201, response_model=RoomTicket, summary="Get a ticket")
    async def create_room_ticket(
        request: Request, token: OfferedToken, _caller: Annotated[Principal, requires()]
    ) -> RoomTicket:
        """Give out what opens one websocket within 30 seconds."""
        ticket = RoomTickets(request.app).issue(token or "")
        return RoomTicket(ticket=ticket, expires_in_seconds=TICKET_SECONDS)

    return router
