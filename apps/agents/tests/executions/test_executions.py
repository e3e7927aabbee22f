"""Executions over HTTP: what each endpoint does and what it refuses."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx2 import AsyncClient
from newel.db import Work
from newel.events import OutboxEvent
from sqlalchemy import select

pytestmark = pytest.mark.anyio

Row = dict[str, Any]

URL = "/api/v1/executions"
METHODS = ["GET", "PUT", "PATCH", "DELETE"]
VALID: Row = {
    "query": "Query 1",
    "answer": "Answer 1",
}
OTHER: Row = {
    "query": "Query 2",
    "answer": "Answer 2",
}
REQUIRED = ["agent_id", "query"]
REFUSED: Row = {
    "query too short": "",
    "query too long": "x" * 501,
    "query with NUL": "\0",
    "query of another type": 7,
    "answer too long": "x" * 20_001,
    "agent_id of nobody": str(uuid4()),
    "surprise is unknown": 7,
}
REFUSED.update({f"{name} null": None for name in REQUIRED})
REFUSED.update(
    {
        f"{name} is the server's": 7
        for name in ["id", "owner_id", "created_at", "updated_at", "version", "status"]
    }
)
# What comes before: each can be done with a new row after these.
MOVES: dict[str, tuple[list[str], str]] = {
    "run": ([], "running"),
    "finish": (["run"], "finished"),
    "fail": (["run"], "failed"),
}
NO_MOVES: dict[str, list[str]] = {
    "run": ["run"],
    "finish": [],
    "fail": [],
}


async def create(client: AsyncClient, body: Row, url: str = URL) -> Row:
    answer = await client.post(url, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
async def links(owner: AsyncClient) -> Row:
    """The rows that an execution refers to."""
    agent = await create(
        owner,
        {
            "name": "Name 1",
            "model_name": "Model name 1",
            "system_prompt": "System prompt 1",
            "config": {"key": 1},
        },
        "/api/v1/agents",
    )
    return {"agent_id": agent["id"]}


@pytest.fixture
async def execution(owner: AsyncClient, links: Row) -> Row:
    return await create(owner, VALID | links)


async def move(client: AsyncClient, execution: Row, *verbs: str) -> Row:
    for verb in verbs:
        answer = await client.post(f"{URL}/{execution['id']}/{verb}")
        assert answer.status_code == 200, answer.text
        execution = answer.json()
    return execution


async def test_create_answers_with_the_row_and_its_address(owner: AsyncClient, links: Row) -> None:
    answer = await owner.post(URL, json=VALID | links)
    assert answer.status_code == 201
    assert answer.json().items() >= (VALID | links).items()
    found = await owner.get(answer.headers["Location"])
    assert found.json() == answer.json()
    known = {"If-None-Match": found.headers["ETag"]}
    assert (await owner.get(answer.headers["Location"], headers=known)).status_code == 304


@pytest.mark.parametrize("field", REQUIRED)
async def test_create_needs_what_has_no_default(owner: AsyncClient, links: Row, field: str) -> None:
    body = {name: (VALID | links)[name] for name in REQUIRED if name != field}
    answer = await owner.post(URL, json=body)
    assert answer.status_code == 422
    assert [error["code"] for error in answer.json()["errors"]] == ["missing"]


async def test_create_fills_in_defaults(owner: AsyncClient, links: Row) -> None:
    row = await create(owner, {name: (VALID | links)[name] for name in REQUIRED})
    usual: Row = {"answer": None}
    assert row.items() >= usual.items()


async def test_replace_sets_every_field(owner: AsyncClient, execution: Row, links: Row) -> None:
    answer = await owner.put(f"{URL}/{execution['id']}", json=OTHER | links)
    assert answer.status_code == 200
    assert answer.json().items() >= (OTHER | links).items()
    assert answer.headers["ETag"] == '"2"'


@pytest.mark.parametrize("field", OTHER)
async def test_update_changes_what_is_sent(owner: AsyncClient, execution: Row, field: str) -> None:
    answer = await owner.patch(f"{URL}/{execution['id']}", json={field: OTHER[field]})
    assert answer.status_code == 200
    assert answer.json().items() >= (VALID | {field: OTHER[field]}).items()


@pytest.mark.parametrize("field", ["answer"])
async def test_update_clears_what_is_optional(
    owner: AsyncClient, execution: Row, field: str
) -> None:
    answer = await owner.patch(f"{URL}/{execution['id']}", json={field: None})
    assert (answer.status_code, answer.json()[field]) == (200, None)


async def test_delete_removes_the_row(owner: AsyncClient, execution: Row, links: Row) -> None:
    url = f"{URL}/{execution['id']}"
    assert (await owner.delete(url)).status_code == 204
    for method in METHODS:
        assert (await owner.request(method, url, json=OTHER | links)).status_code == 404
    assert (await owner.get(URL)).json()["total"] == 0


async def test_every_change_is_recorded_as_an_event(
    owner: AsyncClient, execution: Row, test_db: Work
) -> None:
    await owner.patch(f"{URL}/{execution['id']}", json=OTHER)
    await owner.delete(f"{URL}/{execution['id']}")
    facts = select(OutboxEvent.name).where(OutboxEvent.aggregate_id == UUID(execution["id"]))
    names = await test_db.session.scalars(facts.order_by(OutboxEvent.id))
    assert list(names) == ["ExecutionCreated", "ExecutionUpdated", "ExecutionDeleted"]


async def test_list_is_paged_and_newest_first(owner: AsyncClient, links: Row) -> None:
    ids = [(await create(owner, VALID | links))["id"] for _ in range(3)]
    first = (await owner.get(URL, params={"page_size": 2})).json()
    second = (await owner.get(URL, params={"page_size": 2, "page": 2})).json()
    assert [row["id"] for row in first["items"] + second["items"]] == ids[::-1]
    assert (first["total"], first["page"], first["page_size"], first["pages"]) == (3, 1, 2, 2)


async def test_list_takes_no_statement_for_each_row(
    owner: AsyncClient, statements_of: Any, links: Row
) -> None:
    for _ in range(3):
        await create(owner, VALID | links)
    sent = [await statements_of(owner.get(URL, params={"page_size": n})) for n in (1, 3)]
    assert len(sent[0]) == len(sent[1]) > 0


@pytest.mark.parametrize("sort", ["query", "-query"])
async def test_list_is_sorted(owner: AsyncClient, links: Row, sort: str) -> None:
    rows = [await create(owner, body | links) for body in (OTHER, VALID)]
    found = (await owner.get(URL, params={"sort": sort})).json()["items"]
    field = sort.removeprefix("-")
    assert found == sorted(rows, key=lambda row: row[field], reverse=sort.startswith("-"))


async def test_list_is_filtered_by_agent_id(owner: AsyncClient, execution: Row) -> None:
    found = await owner.get(URL, params={"agent_id": execution["agent_id"]})
    assert found.json()["items"] == [execution]
    nothing = await owner.get(URL, params={"agent_id": str(uuid4())})
    assert nothing.json()["items"] == []


@pytest.mark.parametrize("method", ["POST", *METHODS[1:]])
async def test_who_may_only_read_changes_nothing(
    owner: AsyncClient, reader: AsyncClient, execution: Row, method: str
) -> None:
    url = URL if method == "POST" else f"{URL}/{execution['id']}"
    assert (await reader.request(method, url, json=OTHER)).status_code == 403
    assert (await owner.get(URL)).json()["items"] == [execution]


@pytest.mark.parametrize("method", METHODS)
async def test_a_row_of_somebody_else_is_not_there(
    admin: AsyncClient, stranger: AsyncClient, execution: Row, links: Row, method: str
) -> None:
    answer = await stranger.request(method, f"{URL}/{execution['id']}", json=OTHER | links)
    assert answer.status_code == 404
    assert (await stranger.get(URL)).json()["items"] == []
    assert (await admin.get(URL)).json()["items"] == [execution]


async def test_agent_of_somebody_else_is_unknown(stranger: AsyncClient, links: Row) -> None:
    answer = await stranger.post(URL, json=VALID | links)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/agent_id"


@pytest.mark.parametrize("wrong", REFUSED)
async def test_a_wrong_field_is_refused(
    owner: AsyncClient, execution: Row, links: Row, wrong: str
) -> None:
    field, url = wrong.split()[0], f"{URL}/{execution['id']}"
    body = {field: REFUSED[wrong]}
    for answer in (
        await owner.post(URL, json=VALID | links | body),
        await owner.put(url, json=VALID | links | body),
        await owner.patch(url, json=body),
    ):
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"].startswith(f"#/{field}")
    assert (await owner.get(URL)).json()["items"] == [execution]


@pytest.mark.parametrize("method", METHODS[1:])
async def test_a_stale_version_is_not_changed(
    owner: AsyncClient, execution: Row, links: Row, method: str
) -> None:
    url, first = f"{URL}/{execution['id']}", {"If-Match": '"1"'}
    changed = await owner.patch(url, json=OTHER, headers=first)
    assert changed.status_code == 200
    answer = await owner.request(method, url, json=VALID | links, headers=first)
    assert answer.status_code == 412
    assert (await owner.get(url)).json() == changed.json()


@pytest.mark.parametrize("verb", MOVES)
async def test_status_moves_on(
    admin: AsyncClient, execution: Row, test_db: Work, verb: str
) -> None:
    before, after = MOVES[verb]
    moved = await move(admin, execution, *before, verb)
    assert moved["status"] == after
    facts = select(OutboxEvent.payload).where(OutboxEvent.name == "ExecutionStatusChanged")
    last = list(await test_db.session.scalars(facts.order_by(OutboxEvent.id)))[-1]
    assert (last["id"], last["after"]) == (execution["id"], after)


@pytest.mark.parametrize("verb", NO_MOVES)
async def test_status_does_not_skip(admin: AsyncClient, execution: Row, verb: str) -> None:
    now = await move(admin, execution, *NO_MOVES[verb])
    assert (await admin.post(f"{URL}/{execution['id']}/{verb}")).status_code == 409
    assert (await admin.get(f"{URL}/{execution['id']}")).json() == now


@pytest.mark.parametrize("verb", MOVES)
async def test_who_may_only_read_does_not_move_it(
    reader: AsyncClient, execution: Row, verb: str
) -> None:
    assert (await reader.post(f"{URL}/{execution['id']}/{verb}")).status_code == 403
