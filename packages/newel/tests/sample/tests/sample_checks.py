"""Tests of the sample service; `test_testing.py` runs them in a process of their own.

Not named test_*, so that they are not collected with the kernel's.
"""

import asyncio

import httpx2
import pytest
from fastapi import FastAPI
from sample_service.application import User
from sample_service.notes import Note
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from newel.clock import utc_now
from newel.db import Database, Work
from newel.identity import AuthSession
from newel.ids import uuid7
from newel.principal import ANYONE
from newel.testing import PASSWORD, KnownUser, StatementsOf, log_in, make_user

pytestmark = pytest.mark.anyio
ROW = {"text": "by hand", "created_at": utc_now(), "updated_at": utc_now(), "version": 1}


@pytest.mark.parametrize("number", [1, 2])
async def test_every_test_starts_clean(
    client: httpx2.AsyncClient, auth_headers: dict[str, str], number: int
):
    assert (await client.get("/api/v1/notes")).json() == []
    made = await client.post(f"/api/v1/notes?text=note+{number}", headers=auth_headers)
    assert made.status_code == 201
    assert (await client.get("/api/v1/notes")).json() == [f"note {number}"]


async def test_the_client_is_not_logged_in_by_itself(client: httpx2.AsyncClient):
    assert (await client.post("/api/v1/notes?text=x")).status_code == 401
    assert (await client.get("/ready")).status_code == 200, "the lifespan runs"


async def test_the_test_and_the_app_see_each_others_rows(
    client: httpx2.AsyncClient, auth_headers: dict[str, str], test_db: Work
):
    test_db.session.add(Note(text="from the test"))
    await test_db.flush()
    assert (await client.get("/api/v1/notes")).json() == ["from the test"]

    assert (
        await client.post("/api/v1/notes?text=from+the+app", headers=auth_headers)
    ).status_code == 201
    found = await test_db.session.scalars(select(Note).order_by(Note.text))
    assert [note.text for note in found] == ["from the app", "from the test"]


async def test_the_statements_of_a_request_are_told(
    client: httpx2.AsyncClient, auth_headers: dict[str, str], statements_of: StatementsOf
):
    async def add(text: str) -> None:
        await client.post(f"/api/v1/notes?text={text}", headers=auth_headers)

    [added] = await statements_of(add("one"))
    assert added.startswith("INSERT INTO notes"), "and not how the session was looked up"
    [whole] = await statements_of(client.get("/api/v1/notes"))
    assert await statements_of(client.get("/api/v1/notes/one-by-one")) == [whole]
    await add("two")
    assert await statements_of(client.get("/api/v1/notes")) == [whole]
    assert len(await statements_of(client.get("/api/v1/notes/one-by-one"))) == 2


async def test_what_goes_on_beside_a_request_is_not_told(
    client: httpx2.AsyncClient, database: Database, statements_of: StatementsOf
):
    async def beside() -> None:
        await database.ping()

    async def slow() -> None:
        await running  # another task, which was there before
        await client.get("/api/v1/notes")

    running = asyncio.create_task(beside())
    [told] = await statements_of(slow())
    assert "notes" in told


async def test_a_row_is_read_afresh(database: Database, test_db: Work):
    note = Note(text="before")
    test_db.session.add(note)
    await test_db.flush()
    async with database.write(ANYONE) as work:
        (await work.session.get_one(Note, note.id)).text = "after"
    assert (await test_db.session.scalars(select(Note))).one().text == "after"


async def test_references_are_watched(test_db: Work):
    """SQLite would take a session of nobody, unless it is told to look."""
    now = utc_now()
    lost = AuthSession(
        user_id=uuid7(),
        epoch=0,
        ip="",
        user_agent="",
        last_used_at=now,
        rotated_at=now,
        expires_at=now,
    )
    test_db.session.add(lost)
    with pytest.raises(IntegrityError):
        await test_db.flush()
    test_db.session.expunge_all()


async def test_the_engine_is_a_plain_one(test_engine: AsyncEngine, client: httpx2.AsyncClient):
    async with test_engine.connect() as connection:
        await connection.execute(delete(Note))
        await connection.execute(insert(Note.__table__), [{**ROW, "id": uuid7()}])
    assert (await client.get("/api/v1/notes")).json() == ["by hand"], "committed at once"


async def test_the_user_can_log_in_with_the_password(
    client: httpx2.AsyncClient, test_user: KnownUser
):
    form = {"username": test_user.email, "password": PASSWORD}
    answer = await client.post("/api/v1/auth/login", data=form)
    assert answer.status_code == 200
    assert test_user.roles == ("user",)


async def test_users_of_ones_own(app: FastAPI, client: httpx2.AsyncClient, test_db: Work):
    nobody = await make_user(app, roles=[])
    headers = await log_in(app, nobody)
    assert (await client.post("/api/v1/notes?text=x", headers=headers)).status_code == 403
    assert (await client.get("/api/v1/auth/me", headers=headers)).json()["email"] == nobody.email

    named = await make_user(app, email="Ada@Example.com", roles=["user", "admin"])
    assert named.email == "ada@example.com"
    form = {"username": named.email, "password": "!"}
    assert (await client.post("/api/v1/auth/login", data=form)).status_code == 401
    stored = await test_db.session.get_one(User, named.id)
    assert stored.roles == ["user", "admin"]


async def test_more_log_ins_than_the_limit_allows(app: FastAPI, client: httpx2.AsyncClient):
    user = await make_user(app)
    for _ in range(20):
        headers = await log_in(app, user)
    assert (await client.get("/api/v1/auth/me", headers=headers)).status_code == 200
