"""Users' files over HTTP: whose they are, what they cost, and that none is lost or left behind."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from sample_accounts import SECRET
from sample_entities import User
from sqlalchemy import func, select

from newel import accounts, file_routes, files
from newel.app import create_app
from newel.clock import utc_now
from newel.errors import InsufficientStorage
from newel.files import StoredFile, sweep_files
from newel.settings import Settings
from newel.storage import LocalStorage
from newel.testing import FrozenClock, KnownUser, commits_fail, log_in, make_user, run_jobs
from newel.uploads import FileRules

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
RIGHTS = frozenset({"files:read", "files:write"})
ROLES = {"user": RIGHTS, "reader": frozenset({"files:read"}), "admin": frozenset({"*"})}
RULES = FileRules(max_bytes=200_000, quota_bytes=300_000, most_at_once=3)
"""Of one file and of all of a user's."""


class World:
    def __init__(self, app: FastAPI, folder: Path) -> None:
        self.app = app
        self.folder = folder

    @asynccontextmanager
    async def user(self, role: str = "user") -> AsyncGenerator[httpx2.AsyncClient]:
        known: KnownUser = await make_user(self.app, roles=[role], password="a-long-password-1")
        async with self.anybody(**await log_in(self.app, known)) as client:
            yield client

    def anybody(self, **headers: str) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(self.app)
        return httpx2.AsyncClient(
            transport=transport, base_url="https://test/api/v1", headers=headers
        )

    def stored(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    async def rows(self) -> int:
        database = self.app.state.database
        return (await database.rows(select(func.count()).select_from(StoredFile), {}))[0][0]


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    tmp_path.joinpath("migrations").mkdir()
    settings = Settings(
        _env_file=None,
        secret_key=SECRET,
        environment="test",
        database_url=database_url,
        migrations=tmp_path / "migrations",
        storage_url=f"file:{tmp_path / 'files'}",
        login_limit="1000/minute",
    )
    app = create_app(
        settings,
        accounts.module(User, roles=ROLES),
        file_routes.module(RULES),
        clock=FrozenClock(utc_now()),
    )
    async with LifespanManager(app):
        yield World(app, tmp_path / "files")


def form(content: bytes = PNG, name: str = "photo.png") -> Mapping[str, Any]:
    return {"files": {"file": (name, content, "application/x-whatever")}}


async def test_what_is_uploaded_is_downloaded(world: World) -> None:
    async with world.user() as client:
        created = await client.post("/files", **form())
        assert created.status_code == 201
        body = created.json()
        assert (body["name"], body["media_type"]) == ("photo.png", "image/png")
        assert (body["size_bytes"], body["sha256"]) == (len(PNG), hashlib.sha256(PNG).hexdigest())
        assert not {"key", "path"} & set(body), "where it lies is nobody's business"
        location = created.headers["location"].removeprefix("/api/v1")
        assert (await client.get(location)).json() == body

        content = await client.get(f"{location}/content")
        assert (content.status_code, content.content) == (200, PNG)
        part = await client.get(f"{location}/content", headers={"Range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, b"PNG")
        known = {"If-None-Match": content.headers["etag"]}
        assert (await client.get(f"{location}/content", headers=known)).status_code == 304


async def test_a_large_one_needs_little_memory(world: World) -> None:
    async with world.user() as client:
        content = b"x" * 199_000
        [created, again] = [await client.post("/files", **form(content, "a.txt")) for _ in (1, 2)]
        assert (created.status_code, again.status_code) == (201, 507)
        url = f"/files/{created.json()['id']}/content"
        tracemalloc.start()
        try:
            assert (await client.get(url)).content == content
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "name", "status", "code"),
    [
        (b"<html>", "a.html", 415, "unsupported_media_type"),
        (PNG, "a.jpg", 415, "unsupported_media_type"),
        (b"x" * 200_001, "a.txt", 413, "content_too_large"),
        (b"x" * 300_000, "a.txt", 413, "content_too_large"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    world: World, content: bytes, name: str, status: int, code: str
) -> None:
    async with world.user() as client:
        response = await client.post("/files", **form(content, name))
        assert (response.status_code, response.json()["error"]) == (status, code)
    assert (world.stored(), await world.rows()) == ([], 0)


async def test_a_path_in_a_name_leads_nowhere(world: World) -> None:
    async with world.user() as client:
        body = (await client.post("/files", **form(name="../../../etc/photo.png"))).json()
    assert body["name"] == "photo.png"
    [path] = world.stored()
    assert path.is_relative_to(world.folder)
    assert "photo" not in str(path.relative_to(world.folder))


class TestSeveral:
    async def test_each_has_its_outcome(self, world: World) -> None:
        several = [
            ("files", ("a.png", PNG, "image/png")),
            ("files", ("b.png", b"MZ no picture", "image/png")),
            ("files", ("c.txt", b"hello", "text/plain")),
        ]
        async with world.user() as client:
            outcomes = (await client.post("/files/batch", files=several)).json()
            assert [outcome["error"] for outcome in outcomes] == [
                None,
                "unsupported_media_type",
                None,
            ]
            assert [outcome["name"] for outcome in outcomes] == ["a.png", "b.png", "c.txt"]
            assert (await client.get("/files")).json()["total"] == 2

    async def test_one_beyond_the_quota_does_not_take_the_others_along(self, world: World) -> None:
        several = [("files", (f"{n}.txt", b"x" * 140_000, "text/plain")) for n in range(3)]
        async with world.user() as client:
            outcomes = (await client.post("/files/batch", files=several)).json()
        assert [outcome["error"] for outcome in outcomes] == [None, None, "insufficient_storage"]

    async def test_not_too_many(self, world: World) -> None:
        several = [("files", (f"{n}.txt", b"x", "text/plain")) for n in range(4)]
        async with world.user() as client:
            assert (await client.post("/files/batch", files=several)).status_code == 422
        assert world.stored() == []


class TestWhose:
    async def test_nobody_elses_are_found(self, world: World) -> None:
        async with world.user() as ann, world.user() as bob:
            mine = (await ann.post("/files", **form())).json()["id"]
            for method, url in [
                ("GET", f"/files/{mine}"),
                ("GET", f"/files/{mine}/content"),
                ("POST", f"/files/{mine}/link"),
                ("DELETE", f"/files/{mine}"),
            ]:
                assert (await bob.request(method, url)).status_code == 404, (method, url)
            assert (await bob.get("/files")).json()["total"] == 0
            assert (await ann.get("/files")).json()["total"] == 1

    async def test_who_only_reads_does_not_write(self, world: World) -> None:
        async with world.user("reader") as reader, world.anybody() as nobody:
            assert (await reader.post("/files", **form())).status_code == 403
            assert (await nobody.post("/files", **form())).status_code == 401
            assert (await nobody.get(f"/files/{uuid4()}/content")).status_code == 401
        assert world.stored() == [], "no byte of theirs is kept"

    async def test_the_quota_is_each_users_own(self, world: World) -> None:
        async with world.user() as ann, world.user() as bob:
            for client in (ann, bob):
                assert (await client.post("/files", **form(b"x" * 199_000, "a.txt"))).is_success


class TestLinks:
    async def test_anybody_may_download_until_it_expires(self, world: World) -> None:
        async with world.user() as ann, world.anybody() as nobody:
            mine = (await ann.post("/files", **form())).json()["id"]
            link = (await ann.post(f"/files/{mine}/link")).json()
            url = link["url"].removeprefix("/api/v1")
            assert (await nobody.get(url)).content == PNG

            clock: FrozenClock = world.app.state.clock
            clock.move(minutes=15)
            assert (await nobody.get(url)).status_code == 403

    async def test_a_link_is_of_one_file_and_made_here(self, world: World) -> None:
        async with world.user() as ann, world.anybody() as nobody:
            mine = (await ann.post("/files", **form())).json()["id"]
            url = (await ann.post(f"/files/{mine}/link")).json()["url"].removeprefix("/api/v1")
            for forged in (f"{url}A", url[:-1], "/files/shared/x", f"/files/shared/{'A' * 300}"):
                assert (await nobody.get(forged)).status_code in {404, 422}, forged
            await ann.delete(f"/files/{mine}")
            assert (await nobody.get(url)).status_code == 404


class TestBytes:
    async def test_go_after_the_row(self, world: World) -> None:
        async with world.user() as client:
            mine = (await client.post("/files", **form())).json()["id"]
            assert (await client.delete(f"/files/{mine}")).status_code == 204
            assert len(world.stored()) == 1, "the commit comes first"
            await run_jobs(world.app)
            assert world.stored() == []
            assert (await client.get(f"/files/{mine}")).status_code == 404

    async def test_stay_when_the_deletion_is_not_committed(self, world: World) -> None:
        async with world.user() as client:
            mine = (await client.post("/files", **form())).json()["id"]
            with commits_fail(world.app.state.database):
                assert (await client.delete(f"/files/{mine}")).status_code == 503
            await run_jobs(world.app)
            assert (await client.get(f"/files/{mine}/content")).content == PNG

    async def test_without_a_row_are_swept(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with world.user() as client:
            kept = (await client.post("/files", **form())).json()["id"]
            with commits_fail(world.app.state.database):
                assert (await client.post("/files", **form())).status_code == 503
            assert len(world.stored()) == 2

            await self.sweep(world)
            assert len(world.stored()) == 2, "it may still get its row"
            later = utc_now() + timedelta(hours=3)
            monkeypatch.setattr(files, "utc_now", lambda: later)
            await self.sweep(world)
            assert len(world.stored()) == 1
            assert (await client.get(f"/files/{kept}/content")).content == PNG

    @staticmethod
    async def sweep(world: World) -> None:
        async with world.app.state.database.write(None) as work:
            work.enqueue(sweep_files)
        await run_jobs(world.app)

    async def test_a_full_disk_is_507_and_reading_goes_on(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise InsufficientStorage

        async with world.user() as client:
            mine = (await client.post("/files", **form())).json()["id"]
            with monkeypatch.context() as patch:
                patch.setattr(LocalStorage, "_put", full)
                assert (await client.post("/files", **form())).status_code == 507
                assert (await client.get(f"/files/{mine}/content")).content == PNG
            assert (await client.post("/files", **form())).status_code == 201, "no restart"

    async def test_that_are_gone_are_not_found(self, world: World) -> None:
        async with world.user() as client:
            mine = (await client.post("/files", **form())).json()["id"]
            os.unlink(world.stored()[0])  # noqa: PTH108 - somebody's rm
            assert (await client.get(f"/files/{mine}/content")).status_code == 404


async def test_the_same_key_uploads_once(world: World) -> None:
    request = httpx2.Request("POST", "https://test", **form())  # one body, with one boundary
    headers = {"Idempotency-Key": "one", "Content-Type": request.headers["content-type"]}
    async with world.user() as client:
        answers = [
            await client.post("/files", content=request.read(), headers=headers) for _ in (1, 2)
        ]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        assert (await client.get("/files")).json()["total"] == 1


async def test_docs_say_what_a_file_is(world: World) -> None:
    paths = world.app.openapi()["paths"]
    upload = paths["/api/v1/files"]["post"]
    assert list(upload["requestBody"]["content"]) == ["multipart/form-data"]
    assert {"201", "413", "415", "507"} <= set(upload["responses"])
    assert {"200", "206", "304", "416"} <= set(
        paths["/api/v1/files/{file_id}/content"]["get"]["responses"]
    )
