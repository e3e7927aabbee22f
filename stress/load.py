"""A light load of every kind of request, and what each was answered, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import httpx2

from stress.fleet import Member

__all__ = ["Answer", "Kind", "Load", "Ready", "waited_seconds"]

Kind = Literal["read", "write", "label", "keep", "paper", "weather"]
Ready = Literal["ok", "degraded", "failed", "silent"]
"""What ``/ready`` says; ``silent``: nothing."""

_PAUSE_SECONDS: Final = 0.08
_READY_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: times are monotonic; ``seconds`` without what other programs took of them.

    ``status`` is 0 when there was none.
    """

    kind: Kind
    sent_at: float
    ended_at: float
    seconds: float
    status: int
    text: str = ""
    is_problem: bool = False
    has_retry_after: bool = False

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True)
class Load:
    """Clients of the depot that ``api`` is, one for each kind of request."""

    api: Member
    url: str
    answers: list[Answer] = field(default_factory=list[Answer])
    states: list[tuple[float, float, Ready]] = field(
        default_factory=list[tuple[float, float, Ready]]
    )
    stored: dict[str, str] = field(default_factory=dict[str, str])
    """The crates that were acknowledged: id by reference."""

    _is_over: bool = False
    _is_held: bool = False
    _count: int = 0
    _writing: int = 0

    async def run(self) -> None:
        """Send requests until ``stop``; each write is sent again until it is acknowledged."""
        async with httpx2.AsyncClient(
            base_url=self.url, timeout=_PATIENCE_SECONDS, trust_env=False
        ) as client:
            await self._write(client)
            await self._once(client, "keep")  # what is read is there
            async with asyncio.TaskGroup() as group:
                for kind in ("read", "label", "keep", "paper", "weather"):
                    group.create_task(self._repeat(client, kind))
                for _ in range(2):
                    group.create_task(self._writes(client))
                group.create_task(self._watch(client))

    def stop(self) -> None:
        """Send nothing new."""
        self._is_over = True

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Write nothing inside the block; what was on its way has been acknowledged before it."""
        self._is_held = True
        while self._writing:  # noqa: ASYNC110 - several end it
            await asyncio.sleep(_PAUSE_SECONDS)
        try:
            yield
        finally:
            self._is_held = False

    def since(self, start: float, end: float = float("inf")) -> Sequence[Answer]:
        """Return what was sent in a time and answered by now."""
        return [one for one in self.answers if start <= one.sent_at < end]

    async def _repeat(self, client: httpx2.AsyncClient, kind: Kind) -> None:
        while not self._is_over:
            await self._once(client, kind)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _once(self, client: httpx2.AsyncClient, kind: Kind) -> None:
        reference = next(reversed(self.stored))
        crate = self.stored[reference]
        match kind:
            case "read":
                await self._ask(client, kind, "GET", f"/api/v1/crates/{crate}")
            case "label":
                await self._ask(client, kind, "GET", f"/api/v1/crates/{crate}/label")
            case "keep":
                await self._ask(client, kind, "PUT", "/api/v1/papers/one", content=b"paper")
            case "paper":
                await self._ask(client, kind, "GET", "/api/v1/papers/one")
            case _:
                await self._ask(client, kind, "GET", "/api/v1/weather")

    async def _writes(self, client: httpx2.AsyncClient) -> None:
        while not self._is_over:
            if not self._is_held:
                self._writing += 1
                await self._write(client)
                self._writing -= 1
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _write(self, client: httpx2.AsyncClient) -> None:
        self._count += 1
        reference = f"crate-{self._count}"
        key = {"Idempotency-Key": reference}
        while True:
            answer = await self._ask(
                client,
                "write",
                "POST",
                "/api/v1/crates",
                json={"reference": reference},
                headers=key,
            )
            if answer is not None and answer.status_code == 201:
                self.stored[reference] = answer.json()["id"]
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _ask(
        self,
        client: httpx2.AsyncClient,
        kind: Kind,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        json: Mapping[str, str] | None = None,
    ) -> httpx2.Response | None:
        began, waited = time.monotonic(), self._waited()
        answer: httpx2.Response | None = None
        text = ""
        try:
            answer = await client.request(method, path, headers=headers, content=content, json=json)
            text = answer.text[:300]
        except httpx2.TransportError as error:
            text = repr(error)
        ended = time.monotonic()
        took = ended - began - (self._waited() - waited)
        self.answers.append(
            Answer(
                kind=kind,
                sent_at=began,
                ended_at=ended,
                seconds=max(took, 0.0),
                status=0 if answer is None else answer.status_code,
                text=text,
                is_problem=answer is not None
                and answer.headers.get("content-type") == "application/problem+json",
                has_retry_after=answer is not None and "retry-after" in answer.headers,
            )
        )
        return answer

    async def _watch(self, client: httpx2.AsyncClient) -> None:
        """Look at ``/ready`` all the time: note when each look began and ended, and what it saw."""
        while not self._is_over:
            began = time.monotonic()
            state: Ready = "silent"
            with suppress(httpx2.TransportError):
                answer = await client.get("/ready")
                state = "failed" if answer.status_code == 503 else answer.json()["status"]
            self.states.append((began, time.monotonic(), state))
            await asyncio.sleep(_READY_SECONDS)

    def _waited(self) -> float:
        return waited_seconds(self.api.process.pid) + waited_seconds("self")


def waited_seconds(process: int | str) -> float:
    """Return how long the first thread of a process, its loop's, has waited for a processor.

    ``self`` is this one.
    """
    with suppress(OSError):  # it has ended
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    return 0.0
