"""Clients that repeat a POST with the same key until it is answered, and remember the answer."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx2

__all__ = ["CLIENTS", "Acknowledged", "Clients", "Ledger"]

CLIENTS: Final = 10
_PATIENCE_SECONDS: Final = 60.0
"""How long a client sends the same request again before it says that nobody answers."""

_AGAIN_SECONDS: Final = 0.05
_PAUSE_SECONDS: Final = (0.05, 0.25)
_REPLAYED_SHARE: Final = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A request that was answered with 201, and the answer."""

    path: str
    body: dict[str, Any]
    answer: bytes

    @property
    def key(self) -> str:
        """The idempotency key, which is also the reference of what it made."""
        return str(self.body["reference"])

    @property
    def made(self) -> str:
        """The id of the row that the answer names."""
        return str(json.loads(self.answer)["id"])


@dataclass(slots=True)
class Ledger:
    """What the clients were promised, and what they were told that breaks a promise."""

    acknowledged: list[Acknowledged] = field(default_factory=list[Acknowledged])
    sent: int = 0
    replayed: int = 0
    failed: list[str] = field(default_factory=list[str])
    """Requests without the answer that they asked for, which were sent again."""

    different: list[str] = field(default_factory=list[str])
    unexpected: list[str] = field(default_factory=list[str])


class Clients:
    """Clients of the shop at ``url``; ``may_go_on`` holds them back while it says no."""

    def __init__(
        self,
        url: str,
        *,
        seed: int,
        customers: Sequence[UUID],
        purses: Sequence[UUID],
        may_go_on: Callable[[], bool],
        answer_seconds: float = 5.0,
        count: int = CLIENTS,
    ) -> None:
        self.ledger = Ledger()
        self._seed = seed
        self._customers = customers
        self._purses = purses
        self._may_go_on = may_go_on
        self._is_over = False
        self._count = count
        # A connection each time one was killed: what a pool does with dead ones is not our subject.
        limits = httpx2.Limits(max_connections=count, max_keepalive_connections=count)
        self._http = httpx2.AsyncClient(
            base_url=f"{url}/api/v1", timeout=answer_seconds, limits=limits, trust_env=False
        )

    async def run(self) -> None:
        """Send requests until ``stop``; returns when each one has its answer."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._client(number))

    def stop(self) -> None:
        """Send nothing new."""
        self._is_over = True

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _client(self, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")  # noqa: S311 - repeatable, no secret
        count = 0
        mine: list[Acknowledged] = []
        while not self._is_over:
            await asyncio.sleep(chance.uniform(*_PAUSE_SECONDS))
            if not self._may_go_on():
                continue
            count += 1
            path, body = self._request(chance, f"{number}-{count}")
            self.ledger.sent += 1
            answer = await self._until_answered(path, body)
            if answer is None:
                return
            mine.append(Acknowledged(path=path, body=body, answer=answer.content))
            self.ledger.acknowledged.append(mine[-1])
            if chance.random() < _REPLAYED_SHARE:
                await self.replay(chance.choice(mine))

    def _request(self, chance: random.Random, reference: str) -> tuple[str, dict[str, Any]]:
        if chance.random() < 2 / 3:
            customer = str(chance.choice(self._customers))
            return "/orders", {"reference": reference, "customer_id": customer}
        one, other = chance.sample(self._purses, 2)
        amount = chance.randint(1, 500)
        ids = {"from_id": str(one), "to_id": str(other)}
        return "/transfers", {"reference": reference, "amount_cents": amount, **ids}

    async def replay(self, known: Acknowledged) -> None:
        """Send a request that was answered again; the answer has to be the same, to the byte."""
        answer = await self._until_answered(known.path, known.body)
        if answer is None:
            return
        self.ledger.replayed += 1
        is_marked = answer.headers.get("idempotent-replayed") == "true"
        if answer.content != known.answer or not is_marked:
            self.ledger.different.append(f"{known.key}: {known.answer!r}, then {answer.content!r}")

    async def replay_some(self, most: int) -> None:
        """Send up to ``most`` requests again, old ones and new ones."""
        known = self.ledger.acknowledged
        chance = random.Random(f"{self._seed} again")  # noqa: S311 - as above
        for one in chance.sample(known, min(most, len(known))):
            await self.replay(one)

    async def _until_answered(self, path: str, body: dict[str, Any]) -> httpx2.Response | None:
        """Send until the answer is 201; what else comes is what a key and a kill may cause."""
        end = time.monotonic() + _PATIENCE_SECONDS
        headers = {"Idempotency-Key": str(body["reference"])}
        while time.monotonic() < end:
            try:
                answer = await self._http.post(path, json=body, headers=headers)
            except httpx2.TransportError as error:  # killed: nobody knows what became of it
                self.ledger.failed.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if answer.status_code == 201:
                return answer
            self.ledger.failed.append(f"{answer.status_code}: {answer.text[:300]}")
            if answer.status_code not in {409, 503}:  # its twin is at work; the database is away
                self.ledger.unexpected.append(f"{answer.status_code}: {answer.text[:300]}")
            await asyncio.sleep(_AGAIN_SECONDS)
        self.ledger.unexpected.append(f"no answer in {_PATIENCE_SECONDS:.0f} s: {path} {body}")
        return None
