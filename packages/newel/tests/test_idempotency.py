"""A POST that is sent again: once, twice, twenty times at once, and with a crash in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, cast
from uuid import uuid4

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from sample_accounts import ROLES, SECRET
from sample_apps import borrowed
from sample_entities import Measure, Tag, User
from sqlalchemy import func, select, text

from newel import accounts, idempotency
from newel.app import create_app
from newel.auth import public, requires
from newel.db import CurrentWork, Database
from newel.errors import Conflict, Unavailable
from newel.events import OutboxEvent
from newel.idempotency import Idempotency, key_required
from newel.modules import Module
from newel.principal import Principal
from newel.schemas import InputModel
from newel.settings import Settings
from newel.testing import FrozenClock, KnownUser, log_in, make_user

pytestmark = pytest.mark.anyio

KEY = "7d5c0e8a-8c1f-4b2e-9a53-3c1f6d2b7a90"
URL = "/api/v1/measures"
CANARY = "canary-9f3a"


class NewMeasure(InputModel):
    label: str = "a"


Body = Annotated[Principal, requires("agents:write")]


def things() -> Module:  # noqa: C901 - one small route after the other
    """Routes that add one row each, and end in their own ways."""
    router = APIRouter(prefix="/measures")
    writes = [requires("agents:write")]

    @router.post("", status_code=201, dependencies=writes)
    async def create(
        data: NewMeasure, work: CurrentWork, request: Request, response: Response
    ) -> dict[str, Any]:
        measure = Measure(label=data.label)
        work.session.add(measure)
        await work.flush()
        response.headers["Location"] = f"{request.url.path}/{measure.id}"
        response.headers["ETag"] = '"1"'
        return {"id": str(measure.id), "secret": CANARY}

    @router.post("/open", status_code=201, dependencies=[public()])
    async def open_to_all(data: NewMeasure, work: CurrentWork) -> str:
        work.session.add(Measure(label=data.label))
        return data.label

    @router.post("/required", dependencies=[*writes, key_required()])
    async def required(work: CurrentWork) -> None:
        work.session.add(Measure(label="required"))

    @router.post("/tag", dependencies=writes)
    async def tag(data: NewMeasure, work: CurrentWork) -> None:
        work.session.add(Tag(label=data.label))  # unique: refused by the flush of the commit
        work.session.add(Measure(label=data.label))

    @router.post("/raises/{what}", dependencies=writes)
    async def raises(what: str, work: CurrentWork, request: Request) -> str:
        work.session.add(Measure(label=what))
        await work.flush()
        if not request.app.state.is_mended:
            raise {"conflict": Conflict(), "away": Unavailable(), "bug": RuntimeError()}[what]
        return "mended"

    @router.post("/returns/{status}", dependencies=writes)
    async def returns(status: int, work: CurrentWork) -> JSONResponse:
        work.session.add(Measure(label=str(status)))
        return JSONResponse({"status": status}, status)

    @router.post("/nothing", dependencies=writes)
    async def nothing(request: Request) -> int:
        request.app.state.calls += 1
        return request.app.state.calls

    @router.post("/long/{size}", dependencies=writes)
    async def long(size: int, work: CurrentWork) -> Response:
        work.session.add(Measure(label="long"))
        return Response(b"x" * size)

    @router.post("/silent", status_code=204, dependencies=writes)
    async def silent(work: CurrentWork) -> None:
        work.session.add(Measure(label="silent"))

    @router.post("/slow", dependencies=writes)
    async def slow(request: Request, work: CurrentWork) -> str:
        request.app.state.entered.set()
        await request.app.state.gate.wait()
        work.session.add(Measure(label="slow"))
        return "done"

    @router.post("/asked-twice", dependencies=[public(), *writes])
    async def asked_twice(work: CurrentWork) -> None:
        work.session.add(Measure(label="asked twice"))

    @router.put("/put", dependencies=writes)
    async def put(work: CurrentWork) -> None:
        work.session.add(Measure(label="put"))

    add_streams(router, writes)
    return Module("measures", routers=[router])


def add_streams(router: APIRouter, writes: list[Any]) -> None:
    @router.post("/stream/{kind}", dependencies=writes)
    async def stream(
        kind: str, work: CurrentWork, request: Request, length: int | None = None
    ) -> StreamingResponse:
        work.session.add(Measure(label="stream"))
        gate: asyncio.Event = request.app.state.gate

        async def parts() -> AsyncIterator[str]:
            yield "data: 1\n\n"
            await gate.wait()
            yield "data: 2\n\n"

        headers = None if length is None else {"Content-Length": str(length)}
        return StreamingResponse(parts(), media_type=f"text/{kind}", headers=headers)

    @router.post("/stream-that-writes", dependencies=writes)
    async def stream_that_writes(work: CurrentWork) -> StreamingResponse:
        work.session.add(Measure(label="before the stream"))

        async def parts() -> AsyncIterator[str]:
            async with work.database.write(None) as own, own.as_system("it is late"):
                own.session.add(Measure(label="in the stream"))
            yield "written"

        return StreamingResponse(parts())


def build(database_url: str, directory: Path, **settings: Any) -> FastAPI:
    directory.joinpath("migrations").mkdir(exist_ok=True)
    values = {
        "_env_file": None,
        "secret_key": SECRET,
        "environment": "test",
        "database_url": database_url,
        "migrations": directory / "migrations",
        "api_limit": "10000/second",
        **settings,
    }
    app = create_app(
        Settings(**values), accounts.module(User, roles=ROLES), things(), clock=FrozenClock()
    )
    app.state.is_mended = False
    app.state.calls = 0
    app.state.gate = asyncio.Event()
    app.state.entered = asyncio.Event()
    return app


class World:
    """One service with one user, and a client of theirs."""

    def __init__(self, app: FastAPI, user: KnownUser, headers: dict[str, str]) -> None:
        self.app = app
        self.user = user
        self.headers = headers
        self.database: Database = app.state.database
        self.clock: FrozenClock = app.state.clock

    def client(self, app: FastAPI | None = None, *, ip: str = "192.0.2.1") -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(
            app or self.app, client=(ip, 50_000), raise_app_exceptions=False
        )
        return httpx2.AsyncClient(transport=transport, base_url="https://test")

    async def post(
        self, path: str = "", *, key: str | None = KEY, app: FastAPI | None = None, **options: Any
    ) -> httpx2.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        if key is not None:
            headers["Idempotency-Key"] = key
        if not {"json", "content"} & options.keys():
            options["json"] = {"label": "a"}
        async with self.client(app, ip=options.pop("ip", "192.0.2.1")) as client:
            return await client.post(f"{URL}{path}", headers=headers, **options)

    async def effects(self) -> int:
        return await self.count(select(func.count()).select_from(Measure))

    async def keys(self) -> int:
        return await self.count(text("SELECT count(*) FROM idempotency_keys"))

    async def count(self, query: Any) -> int:
        async with self.database.read(None) as work, work.as_system("look"):
            return cast("int", await work.session.scalar(query))


def is_replay(answer: httpx2.Response) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def _build(chosen: tuple[str, Path, tuple[tuple[str, Any], ...]]) -> FastAPI:
    database_url, directory, settings = chosen
    return build(database_url, directory, **dict(settings))


@asynccontextmanager
async def open_world(database_url: str, directory: Path, **settings: Any) -> AsyncGenerator[World]:
    chosen = (database_url, directory.parent, tuple(sorted(settings.items())))
    with borrowed(_build, chosen) as app:
        app.state.gate = asyncio.Event()
        app.state.entered = asyncio.Event()
        async with app.router.lifespan_context(app):
            user = await make_user(app)
            yield World(app, user, await log_in(app, user))


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with open_world(database_url, tmp_path) as world:
        yield world


@pytest.fixture
async def twin(world: World, tmp_path: Path) -> AsyncGenerator[FastAPI]:
    """Another process of the same service: it shares nothing but the database."""
    async with open_world(world.database.url, tmp_path) as other:
        yield other.app


class TestReplay:
    async def test_the_same_request_gets_the_same_answer(self, world: World) -> None:
        first, second = await world.post(), await world.post()
        assert (first.status_code, second.status_code) == (201, 201)
        assert first.content == second.content
        for name in ("location", "etag", "content-type", "content-length"):
            assert first.headers[name] == second.headers[name]
        assert (is_replay(first), is_replay(second)) == (False, True)
        assert first.headers["x-request-id"] != second.headers["x-request-id"]
        assert "ratelimit" in first.headers
        assert "ratelimit" not in second.headers, "it would be that of the first"
        assert (await world.effects(), await world.keys()) == (1, 1)

    async def test_without_a_key_each_counts(self, world: World) -> None:
        for _ in range(2):
            assert not is_replay(await world.post(key=None))
        assert (await world.effects(), await world.keys()) == (2, 0)

    async def test_another_key_is_another_thing(self, world: World) -> None:
        await world.post()
        assert not is_replay(await world.post(key="another"))
        assert await world.effects() == 2

    async def test_another_process_replays_it(self, world: World, twin: FastAPI) -> None:
        first = await world.post()
        second = await world.post(app=twin)
        assert is_replay(second)
        assert first.content == second.content

    async def test_a_new_token_of_the_same_user_replays_it(self, world: World) -> None:
        await world.post()
        assert is_replay(await world.post(headers=await log_in(world.app, world.user)))

    async def test_an_answer_without_a_body_is_replayed(self, world: World) -> None:
        await world.post("/required")
        again = await world.post("/required")
        assert (again.status_code, again.text, is_replay(again)) == (200, "null", True)

    async def test_work_without_a_row_is_done_once_too(self, world: World) -> None:
        first, second = await world.post("/nothing"), await world.post("/nothing")
        assert (first.text, second.text, is_replay(second)) == ("1", "1", True)

    async def test_events_are_published_once(self, world: World) -> None:
        body = {"email": "eve@example.com", "password": "correct horse battery"}
        async with world.client() as client:
            for _ in range(2):
                answer = await client.post(
                    "/api/v1/auth/register", json=body, headers={"idempotency-key": KEY}
                )
                assert answer.status_code == 201
        query = select(func.count()).where(OutboxEvent.name == "UserRegistered")
        assert await world.count(query) == 1

    async def test_a_route_that_asks_twice_claims_once(self, world: World) -> None:
        assert [is_replay(await world.post("/asked-twice")) for _ in range(2)] == [False, True]
        assert await world.effects() == 1

    async def test_only_post_takes_a_key(self, world: World) -> None:
        async with world.client() as client:
            for _ in range(2):
                headers = {**world.headers, "idempotency-key": KEY}
                answer = await client.put(f"{URL}/put", headers=headers)
                assert not is_replay(answer)
        assert await world.effects() == 2


class TestWhoseKey:
    async def test_another_user_gets_their_own_answer(self, world: World) -> None:
        first = await world.post()
        other = await log_in(world.app, await make_user(world.app))
        second = await world.post(headers=other)
        assert not is_replay(second)
        assert first.json()["id"] != second.json()["id"]

    async def test_without_the_caller_in_the_key_they_would_not(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digest_for = idempotency._Call._digest_for
        nobody = Principal()
        monkeypatch.setattr(
            idempotency._Call, "_digest_for", lambda call, caller: digest_for(call, nobody)
        )
        first = await world.post()
        other = await log_in(world.app, await make_user(world.app))
        assert first.content == (await world.post(headers=other)).content

    async def test_another_route_is_another_thing(self, world: World) -> None:
        await world.post()
        assert not is_replay(await world.post("/required"))

    async def test_anyone_is_told_apart_by_address(self, world: World) -> None:
        none = {"Authorization": ""}
        assert (await world.post("/open", headers=none)).status_code == 201
        assert is_replay(await world.post("/open", headers=none))
        assert not is_replay(await world.post("/open", headers=none, ip="192.0.2.2"))
        assert not is_replay(await world.post("/open"))

    async def test_who_may_not_call_the_route_gets_no_replay(self, world: World) -> None:
        await world.post()
        assert (await world.post(headers={"Authorization": ""})).status_code == 401
        async with world.database.write(None) as work, work.as_system("arrange"):
            user = await work.session.get_one(User, world.user.id)
            user.roles = ["reader"]
        assert (await world.post()).status_code == 403
        assert await world.effects() == 1

    async def test_replays_are_limited_like_requests(
        self, database_url: str, tmp_path: Path
    ) -> None:
        async with open_world(database_url, tmp_path, api_limit="3/hour") as world:
            statuses = [(await world.post()).status_code for _ in range(4)]
            assert statuses == [201, 201, 201, 429]


class TestOtherRequest:
    @pytest.mark.parametrize(
        "other",
        [
            {"json": {"label": "b"}},
            {"content": b'{"label":  "a"}', "headers": {"content-type": "application/json"}},
            {"params": {"x": "1"}},
        ],
    )
    async def test_the_key_of_another_one_is_refused(
        self, world: World, other: dict[str, Any]
    ) -> None:
        await world.post()
        answer = await world.post(**other)
        assert answer.status_code == 422
        assert answer.json()["error"] == "idempotency_key_reused"
        assert await world.effects() == 1

    async def test_another_path_of_the_same_route_is_another_request(self, world: World) -> None:
        await world.post("/long/1")
        assert (await world.post("/long/2")).status_code == 422

    async def test_a_body_that_comes_in_pieces_is_the_same(self, world: World) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"lab'
            yield b'el":"a"}'

        headers = {"content-type": "application/json"}
        await world.post(content=b'{"label":"a"}', headers=headers)
        assert is_replay(await world.post(content=pieces(), headers=headers))

    @pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "\xe9", "a\tb"])
    async def test_a_key_has_a_form(self, world: World, key: str) -> None:
        headers = [(b"idempotency-key", key.encode("latin-1"))]
        async with world.client() as client:
            answer = await client.post(URL, headers=headers, json={})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_two_keys_are_none(self, world: World) -> None:
        async with world.client() as client:
            headers = [("idempotency-key", "a"), ("idempotency-key", "b")]
            assert (await client.post(URL, headers=headers, json={})).status_code == 400

    async def test_the_longest_key_is_taken(self, world: World) -> None:
        assert (await world.post(key="x" * 255)).status_code == 201


class TestRequired:
    async def test_a_route_can_insist(self, world: World) -> None:
        answer = await world.post("/required", key=None)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "header/Idempotency-Key"
        assert (await world.post("/required")).status_code == 200

    async def test_the_docs_say_so(self, world: World) -> None:
        paths = world.app.openapi()["paths"]
        [parameter] = paths[f"{URL}/required"]["post"]["parameters"]
        assert (parameter["name"], parameter["required"]) == ("Idempotency-Key", True)
        assert "409" in paths[URL]["post"]["responses"]


class TestFailures:
    @pytest.mark.parametrize(("what", "status"), [("conflict", 409), ("away", 503), ("bug", 500)])
    async def test_an_error_that_was_raised_is_not_kept(
        self, world: World, what: str, status: int
    ) -> None:
        path = f"/raises/{what}"
        assert (await world.post(path)).status_code == status
        assert (await world.effects(), await world.keys()) == (0, 0)
        world.app.state.is_mended = True
        answer = await world.post(path)
        assert (answer.json(), is_replay(answer)) == ("mended", False)
        assert is_replay(await world.post(path))
        assert await world.effects() == 1

    async def test_bad_input_may_be_corrected_under_the_same_key(self, world: World) -> None:
        assert (await world.post(json={"label": 1})).status_code == 422
        assert (await world.post(json={"label": "b"})).status_code == 201

    async def test_what_the_flush_of_the_commit_refuses_is_answered_as_ever(
        self, world: World
    ) -> None:
        await world.post("/tag", key="1")
        for key in ("2", None):
            answer = await world.post("/tag", key=key)
            assert (answer.status_code, answer.json()["error"]) == (409, "duplicate")
        assert (await world.effects(), await world.keys()) == (1, 1)

    async def test_a_returned_4xx_is_what_was_committed(self, world: World) -> None:
        assert not is_replay(await world.post("/returns/409"))
        again = await world.post("/returns/409")
        assert (again.status_code, is_replay(again)) == (409, True)
        assert await world.effects() == 1

    async def test_a_5xx_is_never_kept(self, world: World) -> None:
        for _ in range(2):
            answer = await world.post("/returns/503")
            assert (answer.status_code, is_replay(answer)) == (503, False)
        assert (await world.effects(), await world.keys()) == (0, 0)


class Crash(BaseException):
    """The process is killed here."""


class TestCrash:
    async def crashed(self, world: World) -> None:
        with pytest.raises(Crash):
            await world.post()

    async def test_before_the_commit_nothing_is_there(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        end = idempotency._KeyedWork.end
        with monkeypatch.context() as patch:

            async def die(work: Any, kind: Any) -> None:
                await end(work, Crash)  # what the database does when the connection breaks
                raise Crash

            patch.setattr(idempotency._KeyedWork, "end", die)
            await self.crashed(world)
        assert (await world.effects(), await world.keys()) == (0, 0)
        assert not is_replay(await world.post())
        assert await world.effects() == 1

    async def test_after_the_commit_all_is_there(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        end = idempotency._KeyedWork.end
        with monkeypatch.context() as patch:

            async def commit_and_die(work: Any, kind: Any) -> None:
                await end(work, kind)
                raise Crash

            patch.setattr(idempotency._KeyedWork, "end", commit_and_die)
            await self.crashed(world)
        assert is_replay(await world.post())
        assert (await world.effects(), await world.keys()) == (1, 1)

    async def test_a_row_in_a_transaction_of_its_own_gives_duplicates(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control: the effect is committed, the process is killed, the row never comes."""
        with monkeypatch.context() as patch:

            async def effect_first(call: Any, body: bytes | None) -> None:
                await call._work.end(None)
                raise Crash

            patch.setattr(idempotency._Call, "_settle", effect_first)
            await self.crashed(world)
        assert not is_replay(await world.post())
        assert await world.effects() == 2

    async def test_the_commit_that_fails_is_answered(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        end = idempotency._KeyedWork.end

        async def fail(work: Any, kind: Any) -> None:
            await end(work, kind or Unavailable)
            if kind is None:
                raise Unavailable("The database does not answer.")

        with monkeypatch.context() as patch:
            patch.setattr(idempotency._KeyedWork, "end", fail)
            answer = await world.post()
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        assert "x-request-id" in answer.headers


class TestConflictsOfTheCommit:
    async def test_one_without_a_twin_is_answered(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A constraint that is only looked at by the commit."""

        async def refuse(call: Any, body: bytes | None) -> None:
            raise Conflict("Too late.")

        with monkeypatch.context() as patch:
            patch.setattr(idempotency._Call, "_keep", refuse)
            answer = await world.post()
        assert (answer.status_code, answer.json()["detail"]) == (409, "Too late.")
        assert (await world.effects(), await world.keys()) == (0, 0)


class TestAtOnce:
    async def test_twenty_sends_are_one_effect(self, world: World) -> None:
        answers = await asyncio.gather(*(world.post() for _ in range(20)))
        self.check(answers)
        assert (await world.effects(), await world.keys()) == (1, 1)

    async def test_to_two_processes_too(self, world: World, twin: FastAPI) -> None:
        apps = [world.app, twin]
        answers = await asyncio.gather(*(world.post(app=apps[n % 2]) for n in range(20)))
        self.check(answers)
        assert (await world.effects(), await world.keys()) == (1, 1)

    @pytest.mark.parametrize("path", ["/tag", "/open"])
    async def test_of_whatever_kind(self, world: World, twin: FastAPI, path: str) -> None:
        """The twin of a unique value is no duplicate: it gets the answer of the first."""
        apps = [world.app, twin]
        answers = await asyncio.gather(*(world.post(path, app=apps[n % 2]) for n in range(8)))
        self.check(answers)
        assert await world.effects() == 1

    async def test_a_key_that_has_expired_counts_once_too(
        self, world: World, twin: FastAPI
    ) -> None:
        world.app.state.gate.set()
        await world.post("/slow")
        for app in (world.app, twin):
            app.state.clock.move(days=2)
            app.state.gate = asyncio.Event()
            app.state.entered = asyncio.Event()
        world.headers = await log_in(world.app, world.user)
        first = asyncio.create_task(world.post("/slow"))
        await world.app.state.entered.wait()
        second = asyncio.create_task(world.post("/slow", app=twin))
        entered = asyncio.create_task(twin.state.entered.wait())  # not on PostgreSQL, by its lock
        await asyncio.wait([second, entered], return_when=asyncio.FIRST_COMPLETED)
        entered.cancel()
        for app in (world.app, twin):
            app.state.gate.set()
        self.check([await first, await second])
        assert (await world.effects(), await world.keys()) == (2, 1)

    def check(self, answers: list[httpx2.Response]) -> None:
        done = [answer for answer in answers if answer.is_success]
        assert [is_replay(answer) for answer in done].count(False) == 1
        assert len({answer.content for answer in done}) == 1
        for answer in answers:
            if not answer.is_success:
                assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
                assert answer.json()["error"] == "idempotency_key_in_use"

    async def test_without_the_guards_they_are_many(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def nothing(call: Any, *_: Any) -> Any:
            return None

        async def free(call: Any, digest: bytes) -> bool:
            call._in_flight.clear()
            return True

        monkeypatch.setattr(idempotency._Call, "_keep", nothing)
        monkeypatch.setattr(idempotency._Call, "_lock", free)
        await asyncio.gather(*(world.post() for _ in range(20)))
        assert await world.effects() > 1

    async def test_while_it_is_being_done_the_twin_is_told_to_wait(
        self, world: World, twin: FastAPI
    ) -> None:
        first = asyncio.create_task(world.post("/slow"))
        await world.app.state.entered.wait()
        second = await world.post("/slow")
        assert (second.status_code, second.headers["retry-after"]) == (409, "1")
        if not world.database.is_sqlite:
            assert (await world.post("/slow", app=twin)).status_code == 409
        world.app.state.gate.set()
        assert (await first).status_code == 200
        assert is_replay(await world.post("/slow"))
        assert is_replay(await world.post("/slow", app=twin))
        assert await world.effects() == 1

    async def test_the_key_is_free_when_the_client_has_gone(self, world: World) -> None:
        first = asyncio.create_task(world.post("/slow"))
        await world.app.state.entered.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        world.app.state.gate.set()
        assert (await world.post("/slow")).status_code == 200
        assert await world.effects() == 1

    async def test_no_key_is_remembered_for_ever(self, world: World) -> None:
        await asyncio.gather(*(world.post() for _ in range(5)))
        stack: Any = world.app.middleware_stack
        while not isinstance(stack, Idempotency):
            stack = stack.app
        assert stack._in_flight == set()


class TestLongAnswers:
    async def test_up_to_the_limit_they_are_kept(self, world: World) -> None:
        path = f"/long/{idempotency.MAX_ANSWER_BYTES}"
        await world.post(path)
        again = await world.post(path)
        assert (len(again.content), is_replay(again)) == (idempotency.MAX_ANSWER_BYTES, True)

    async def test_above_it_only_that_it_was_done(self, world: World) -> None:
        path = f"/long/{idempotency.MAX_ANSWER_BYTES + 1}"
        first = await world.post(path)
        assert len(first.content) == idempotency.MAX_ANSWER_BYTES + 1
        again = await world.post(path)
        assert again.status_code == 409
        assert again.json()["detail"] == "This was done already; its answer was not kept."
        assert await world.effects() == 1

    @pytest.mark.parametrize("kind", ["event-stream", "plain"])
    async def test_a_stream_is_not_held_back(self, world: World, kind: str) -> None:
        """Its first part arrives, and its work is committed, before the second one is made."""
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        request = asyncio.create_task(self.stream(world, kind, arrived))
        async with asyncio.timeout(20):
            assert await arrived.get() == b"http.response.start"
            assert await arrived.get() == b"data: 1\n\n"
        assert await world.effects() == 1
        world.app.state.gate.set()
        assert await arrived.get() == b"data: 2\n\n"
        await request
        assert (await world.post(f"/stream/{kind}", content=b"")).status_code == 409

    async def stream(self, world: World, kind: str, arrived: asyncio.Queue[bytes]) -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": f"{URL}/stream/{kind}",
            "query_string": b"",
            "http_version": "1.1",
            "scheme": "https",
            "root_path": "",
            "client": ("192.0.2.1", 1),
            "headers": [
                (b"authorization", world.headers["Authorization"].encode()),
                (b"idempotency-key", KEY.encode()),
            ],
        }
        coming: asyncio.Queue[Any] = asyncio.Queue()  # the client stays

        async def send(message: Any) -> None:
            arrived.put_nowait(message.get("body", message["type"].encode()))

        await world.app(scope, coming.get, send)

    async def test_a_stream_may_write_in_a_unit_of_its_own(self, world: World) -> None:
        """What was committed before it is no longer in its way: SQLite has one writer."""
        answer = await world.post("/stream-that-writes")
        assert (answer.status_code, answer.text) == (200, "written")
        assert await world.effects() == 2

    async def test_a_file_that_the_server_sends_is_not_held_back(self) -> None:
        """Its content never comes through here: some servers take a path instead."""
        call = object.__new__(idempotency._Call)
        headers = [(b"content-length", b"9")]
        call._held = [{"type": "http.response.start", "status": 200, "headers": headers}]
        assert call._is_stream({"type": "http.response.pathsend", "path": "/file"})
        assert not call._is_stream({"type": "http.response.body", "body": b""})

    async def test_a_short_answer_in_parts_is_kept_when_it_says_how_long_it_is(
        self, world: World
    ) -> None:
        world.app.state.gate.set()
        path = "/stream/plain?length=18"
        await world.post(path)
        again = await world.post(path)
        assert (again.text, is_replay(again)) == ("data: 1\n\ndata: 2\n\n", True)

    async def test_an_answer_that_has_no_body_needs_no_length(self, world: World) -> None:
        for replayed in (False, True):
            answer = await world.post("/silent")
            assert (answer.status_code, is_replay(answer)) == (204, replayed)
        assert await world.effects() == 1


class TestKeeping:
    async def test_a_day_later_the_key_is_free(self, world: World) -> None:
        await world.post()
        world.clock.move(hours=23, minutes=59)
        world.headers = await log_in(world.app, world.user)
        assert is_replay(await world.post())
        world.clock.move(minutes=1)
        assert not is_replay(await world.post())
        assert is_replay(await world.post())
        assert (await world.effects(), await world.keys()) == (2, 1)

    async def test_the_table_does_not_grow_for_ever(self, world: World) -> None:
        for number in range(4):
            await world.post(key=str(number))
        world.clock.move(days=2)
        world.headers = await log_in(world.app, world.user)
        counts = []
        for number in range(4):
            await world.post(key=f"new {number}".replace(" ", "-"))
            counts.append(await world.keys())
        assert counts == [3, 2, 3, 4]

    async def test_nobody_reads_the_answers_in_the_database(self, world: World) -> None:
        answer = await world.post(json={"label": "hunter2"})
        assert CANARY in answer.text
        async with world.database.read(None) as work, work.as_system("look"):
            [row] = await work.session.execute(text("SELECT * FROM idempotency_keys"))
        kept = b"".join(value for value in row if isinstance(value, bytes))
        for secret in (CANARY, "hunter2", KEY, world.user.email):
            assert secret.encode() not in kept

    async def test_a_new_secret_key_loses_no_answer(self, world: World, tmp_path: Path) -> None:
        await world.post()
        new = "abcdefghijklmnopqrstuvwxyz9876543210"
        url = world.database.url
        rotated = build(url, tmp_path, secret_key=new, secret_key_previous=SECRET)
        forgotten = build(url, tmp_path, secret_key=new)
        async with AsyncExitStack() as stack:
            for app in (rotated, forgotten):
                await stack.enter_async_context(app.router.lifespan_context(app))
            headers = await log_in(rotated, world.user)
            assert is_replay(await world.post(app=rotated, headers=headers))
            headers = await log_in(forgotten, world.user)
            answer = await world.post(app=forgotten, headers=headers)
            assert answer.status_code == 422, "nobody can tell any more what it was"
        assert await world.effects() == 1


async def test_a_request_without_a_key_passes_untouched() -> None:
    """It costs a look at the method, and of a POST at the headers."""
    passed: list[Any] = []

    async def app(*arguments: Any) -> None:
        passed.extend(arguments)

    async def receive() -> Any: ...

    async def send(message: Any) -> None: ...

    for scope in (
        {"type": "http", "method": "GET", "headers": [(b"idempotency-key", b"1")]},
        {"type": "http", "method": "POST", "headers": [(b"host", b"test")]},
        {"type": "websocket", "headers": []},
        {"type": "lifespan"},
    ):
        passed.clear()
        await Idempotency(app)(scope, receive, send)
        assert passed == [scope, receive, send]
        assert "newel.work" not in scope


async def test_the_keys_of_two_requests_are_never_the_same(world: World) -> None:
    answers = [await world.post(key=str(uuid4())) for _ in range(3)]
    assert len({answer.json()["id"] for answer in answers}) == 3
