"""Executions are answered by the agent's model: a real server, whose answers the test sets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from httpx2 import AsyncClient
from newel.jobs import Backoff
from newel.outgoing import OutgoingError
from newel.testing import run_jobs
from pydantic import SecretStr

from agent_management.assistant import Assistant, Question

pytestmark = pytest.mark.anyio

AGENT: dict[str, Any] = {
    "name": "Oracle",
    "model_name": "small",
    "system_prompt": "Be very short.",
    "config": {},
}
SAID = {"choices": [{"message": {"role": "assistant", "content": "42"}}]}


NUL = {"choices": [{"message": {"content": "no database\0 keeps this"}}]}


@dataclass
class Model:
    """What it is asked, and the answers that it still has; the last one stays."""

    answers: list[tuple[int, Any]] = field(default_factory=lambda: [(200, SAID)])
    asked: list[Any] = field(default_factory=list[Any])
    keys: set[str | None] = field(default_factory=set[str | None])

    async def complete(self, request: Request) -> JSONResponse:
        self.asked.append(await request.json())
        self.keys.add(request.headers.get("authorization"))
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return JSONResponse(body, status)


class Server(uvicorn.Server):
    """Says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@pytest.fixture
async def model(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Model]:
    found, site = Model(), FastAPI()
    site.add_api_route("/v1/chat/completions", found.complete, methods=["POST"])
    server = Server(uvicorn.Config(site, port=0, log_config=None, access_log=False))
    task = asyncio.create_task(server.serve())
    await server.is_up.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    app.state.assistant = Assistant(
        f"http://127.0.0.1:{port}/v1", key=SecretStr("a-key"), network="127.0.0.1/32"
    )
    known = app.state.background.jobs["run_execution_job"]
    at_once = replace(known, backoff=Backoff(first_seconds=0))
    monkeypatch.setitem(app.state.background.jobs, "run_execution_job", at_once)
    yield found
    server.should_exit = True
    await task


async def asked(client: AsyncClient) -> str:
    """Have an agent execute something; return the execution's address."""
    agent = await client.post("/api/v1/agents", json=AGENT)
    assert agent.status_code == 201, agent.text
    body = {"agent_id": agent.json()["id"], "query": "What is six times seven?"}
    answer = await client.post("/api/v1/executions", json=body)
    assert (answer.status_code, answer.json()["status"]) == (201, "queued"), answer.text
    return f"/api/v1/executions/{answer.json()['id']}"


async def ends(client: AsyncClient, address: str) -> tuple[str, str | None]:
    found = (await client.get(address)).json()
    return found["status"], found["answer"]


async def test_the_agents_model_answers(app: FastAPI, owner: AsyncClient, model: Model) -> None:
    address = await asked(owner)
    await run_jobs(app)

    assert await ends(owner, address) == ("finished", "42")
    assert model.asked == [
        {
            "model": "small",
            "messages": [
                {"role": "system", "content": "Be very short."},
                {"role": "user", "content": "What is six times seven?"},
            ],
        }
    ]
    assert model.keys == {"Bearer a-key"}


@pytest.mark.parametrize("failure", [(503, {}), (429, {})])
async def test_a_model_that_is_busy_is_asked_again(
    app: FastAPI, owner: AsyncClient, model: Model, failure: tuple[int, Any]
) -> None:
    model.answers.insert(0, failure)
    address = await asked(owner)
    await run_jobs(app)

    assert await ends(owner, address) == ("finished", "42")
    assert len(model.asked) == 2


async def test_a_model_that_stays_away_fails_the_execution(
    app: FastAPI, owner: AsyncClient, model: Model
) -> None:
    model.answers = [(500, {})]
    address = await asked(owner)
    await run_jobs(app)

    assert await ends(owner, address) == ("failed", None)
    assert len(model.asked) == 4


@pytest.mark.parametrize("refusal", [(400, {}), (200, {"choices": []}), (200, "no"), (200, NUL)])
async def test_what_the_model_refuses_has_failed_at_once(
    app: FastAPI, owner: AsyncClient, model: Model, refusal: tuple[int, Any]
) -> None:
    model.answers = [refusal]
    address = await asked(owner)
    await run_jobs(app)

    assert await ends(owner, address) == ("failed", None)
    assert len(model.asked) == 1


async def test_what_an_agent_left_behind_has_failed(
    app: FastAPI, owner: AsyncClient, model: Model
) -> None:
    address = await asked(owner)
    agent = (await owner.get(address)).json()["agent_id"]
    assert (await owner.delete(f"/api/v1/agents/{agent}")).status_code == 204
    await run_jobs(app)

    assert await ends(owner, address) == ("failed", None)
    assert model.asked == []


@pytest.mark.parametrize(
    ("url", "network", "reason"),
    [
        ("http://127.0.0.1/v1", "127.0.0.1/32", "unreachable"),
        ("https://127.0.0.1:9/v1", "127.0.0.1/32", "unreachable"),
        ("https://127.0.0.1:9/v1", None, "address"),
        ("http://10.1.2.3/v1", "127.0.0.1/32", "address"),
    ],
)
async def test_only_the_server_of_the_settings_is_called(
    url: str, network: str | None, reason: str
) -> None:
    assistant = Assistant(url, key=None, network=network)

    with pytest.raises(OutgoingError) as refused:
        await assistant.answer(Question(model="m", system_prompt="p", query="q"))
    assert refused.value.reason == reason


async def test_what_nobody_waits_for_is_not_asked(
    app: FastAPI, owner: AsyncClient, model: Model
) -> None:
    address = await asked(owner)
    assert (await owner.delete(address)).status_code == 204
    await run_jobs(app)

    assert model.asked == []
