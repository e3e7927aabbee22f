"""Agents over HTTP: what each endpoint does and what it refuses."""

from typing import Any
from uuid import UUID

import pytest
from httpx2 import AsyncClient
from newel.db import Work
from newel.events import OutboxEvent
from sqlalchemy import select

from agent_management.agents.models import Agent

pytestmark = pytest.mark.anyio

Row = dict[str, Any]

URL = "/api/v1/agents"
METHODS = ["GET", "PUT", "PATCH", "DELETE"]
VALID: Row = {
    "name": "Name 1",
    "description": "Description 1",
    "model_name": "Model name 1",
    "system_prompt": "System prompt 1",
    "config": {"key": 1},
    "is_active": True,
}
OTHER: Row = {
    "name": "Name 2",
    "description": "Description 2",
    "model_name": "Model name 2",
    "system_prompt": "System prompt 2",
    "config": {"key": 2},
    "is_active": False,
}
REQUIRED = ["name", "model_name", "system_prompt", "config"]
REFUSED: Row = {
    "name too short": "x" * 2,
    "name too long": "x" * 65,
    "name with NUL": "\0" + "x" * 2,
    "name of another type": 7,
    "description too long": "x" * 20_001,
    "model_name too long": "x" * 129,
    "system_prompt too short": "x" * 9,
    "system_prompt too long": "x" * 20_001,
    "config with too much in it": dict.fromkeys(range(1001)),
    "config with NUL": {"\0": 1},
    "config of another type": "x",
    "is_active of another type": "perhaps",
    "surprise is unknown": 7,
}
REFUSED.update({f"{name} null": None for name in [*REQUIRED, "is_active"]})
REFUSED.update(
    {
        f"{name} is the server's": 7
        for name in ["id", "owner_id", "created_at", "updated_at", "version", "deleted_at"]
    }
)


async def create(client: AsyncClient, body: Row, url: str = URL) -> Row:
    answer = await client.post(url, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
async def agent(owner: AsyncClient) -> Row:
    return await create(owner, VALID)


async def test_create_answers_with_the_row_and_its_address(owner: AsyncClient) -> None:
    answer = await owner.post(URL, json=VALID)
    assert answer.status_code == 201
    assert answer.json().items() >= VALID.items()
    found = await owner.get(answer.headers["Location"])
    assert found.json() == answer.json()
    known = {"If-None-Match": found.headers["ETag"]}
    assert (await owner.get(answer.headers["Location"], headers=known)).status_code == 304


@pytest.mark.parametrize("field", REQUIRED)
async def test_create_needs_what_has_no_default(owner: AsyncClient, field: str) -> None:
    body = {name: VALID[name] for name in REQUIRED if name != field}
    answer = await owner.post(URL, json=body)
    assert answer.status_code == 422
    assert [error["code"] for error in answer.json()["errors"]] == ["missing"]


async def test_create_fills_in_defaults(owner: AsyncClient) -> None:
    row = await create(owner, {name: VALID[name] for name in REQUIRED})
    usual: Row = {"description": None, "is_active": True}
    assert row.items() >= usual.items()


async def test_replace_sets_every_field(owner: AsyncClient, agent: Row) -> None:
    answer = await owner.put(f"{URL}/{agent['id']}", json=OTHER)
    assert answer.status_code == 200
    assert answer.json().items() >= OTHER.items()
    assert answer.headers["ETag"] == '"2"'


@pytest.mark.parametrize("field", OTHER)
async def test_update_changes_what_is_sent(owner: AsyncClient, agent: Row, field: str) -> None:
    answer = await owner.patch(f"{URL}/{agent['id']}", json={field: OTHER[field]})
    assert answer.status_code == 200
    assert answer.json().items() >= (VALID | {field: OTHER[field]}).items()


@pytest.mark.parametrize("field", ["description"])
async def test_update_clears_what_is_optional(owner: AsyncClient, agent: Row, field: str) -> None:
    answer = await owner.patch(f"{URL}/{agent['id']}", json={field: None})
    assert (answer.status_code, answer.json()[field]) == (200, None)


async def test_delete_hides_the_row(owner: AsyncClient, agent: Row, test_db: Work) -> None:
    url = f"{URL}/{agent['id']}"
    assert (await owner.delete(url)).status_code == 204
    for method in METHODS:
        assert (await owner.request(method, url, json=OTHER)).status_code == 404
    assert (await owner.get(URL)).json()["total"] == 0
    kept = select(Agent.deleted_at).execution_options(include_deleted=True)
    assert await test_db.session.scalar(kept) is not None


async def test_every_change_is_recorded_as_an_event(
    owner: AsyncClient, agent: Row, test_db: Work
) -> None:
    await owner.patch(f"{URL}/{agent['id']}", json=OTHER)
    await owner.delete(f"{URL}/{agent['id']}")
    facts = select(OutboxEvent.name).where(OutboxEvent.aggregate_id == UUID(agent["id"]))
    names = await test_db.session.scalars(facts.order_by(OutboxEvent.id))
    assert list(names) == ["AgentCreated", "AgentUpdated", "AgentDeleted"]


async def test_list_is_paged_and_newest_first(owner: AsyncClient) -> None:
    ids = [(await create(owner, VALID))["id"] for _ in range(3)]
    first = (await owner.get(URL, params={"page_size": 2})).json()
    second = (await owner.get(URL, params={"page_size": 2, "page": 2})).json()
    assert [row["id"] for row in first["items"] + second["items"]] == ids[::-1]
    assert (first["total"], first["page"], first["page_size"], first["pages"]) == (3, 1, 2, 2)


async def test_list_takes_no_statement_for_each_row(owner: AsyncClient, statements_of: Any) -> None:
    for _ in range(3):
        await create(owner, VALID)
    sent = [await statements_of(owner.get(URL, params={"page_size": n})) for n in (1, 3)]
    assert len(sent[0]) == len(sent[1]) > 0


@pytest.mark.parametrize("sort", ["name", "-name"])
async def test_list_is_sorted(owner: AsyncClient, sort: str) -> None:
    rows = [await create(owner, body) for body in (OTHER, VALID)]
    found = (await owner.get(URL, params={"sort": sort})).json()["items"]
    field = sort.removeprefix("-")
    assert found == sorted(rows, key=lambda row: row[field], reverse=sort.startswith("-"))


@pytest.mark.parametrize("field", ["is_active"])
async def test_list_is_filtered(owner: AsyncClient, agent: Row, field: str) -> None:
    other = await create(owner, OTHER)
    assert (await owner.get(URL, params={field: OTHER[field]})).json()["items"] == [other]


@pytest.mark.parametrize("method", ["POST", *METHODS[1:]])
async def test_who_may_only_read_changes_nothing(
    owner: AsyncClient, reader: AsyncClient, agent: Row, method: str
) -> None:
    url = URL if method == "POST" else f"{URL}/{agent['id']}"
    assert (await reader.request(method, url, json=OTHER)).status_code == 403
    assert (await owner.get(URL)).json()["items"] == [agent]


@pytest.mark.parametrize("method", METHODS)
async def test_a_row_of_somebody_else_is_not_there(
    admin: AsyncClient, stranger: AsyncClient, agent: Row, method: str
) -> None:
    answer = await stranger.request(method, f"{URL}/{agent['id']}", json=OTHER)
    assert answer.status_code == 404
    assert (await stranger.get(URL)).json()["items"] == []
    assert (await admin.get(URL)).json()["items"] == [agent]


@pytest.mark.parametrize("wrong", REFUSED)
async def test_a_wrong_field_is_refused(owner: AsyncClient, agent: Row, wrong: str) -> None:
    field, url = wrong.split()[0], f"{URL}/{agent['id']}"
    body = {field: REFUSED[wrong]}
    for answer in (
        await owner.post(URL, json=VALID | body),
        await owner.put(url, json=VALID | body),
        await owner.patch(url, json=body),
    ):
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"].startswith(f"#/{field}")
    assert (await owner.get(URL)).json()["items"] == [agent]


@pytest.mark.parametrize("method", METHODS[1:])
async def test_a_stale_version_is_not_changed(owner: AsyncClient, agent: Row, method: str) -> None:
    url, first = f"{URL}/{agent['id']}", {"If-Match": '"1"'}
    changed = await owner.patch(url, json=OTHER, headers=first)
    assert changed.status_code == 200
    answer = await owner.request(method, url, json=VALID, headers=first)
    assert answer.status_code == 412
    assert (await owner.get(url)).json() == changed.json()
