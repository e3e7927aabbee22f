"""Jobs over HTTP: mine, nobody else's, and all of them for operators."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sample_browser import served
from sample_jobs import QUICK, drain, execute, row, running, until
from sample_operators import ANN, BOB, TENANT, build, client, enqueue

from newel import job_routes
from newel.db import Database
from newel.errors import AppError, Conflict
from newel.jobs import GiveUp, JobRun, job

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines")]

JOBS = "/api/v1/jobs"


@job()
async def add(job: JobRun) -> dict[str, int]:
    return {"sum": 7}


@job(retries=0)
async def fail(job: JobRun) -> None:
    raise KeyError("the password is hunter2")


@job(retries=0)
async def unpack(job: JobRun) -> None:
    raise GiveUp("no caf\udce9 in it")


@job(retries=0)
async def refuse(job: JobRun) -> None:
    raise Conflict("The report is closed.")


@pytest.fixture
def app(database: Database) -> FastAPI:
    return build(database, add, fail, unpack, refuse)


async def get(app: FastAPI, name: str | None, path: str) -> Any:
    async with client(app, name) as found:
        return await found.get(f"{JOBS}{path}")


async def post(app: FastAPI, name: str, path: str) -> Any:
    async with client(app, name) as found:
        return await found.post(f"{JOBS}{path}")


# ---------------------------------------------------------------- mine


async def test_its_owner_sees_how_it_goes(app: FastAPI, database: Database) -> None:
    id = await enqueue(database, ANN, add)
    before = await get(app, "ann", f"/{id}")
    assert before.status_code == 200
    assert before.json() == {
        "id": str(id),
        "name": "add",
        "state": "ready",
        "attempt": 0,
        "max_attempts": 6,
        "progress": None,
        "note": None,
        "result": None,
        "error": None,
        "cancel_requested": False,
        "created_at": before.json()["created_at"],
        "run_at": before.json()["run_at"],
        "started_at": None,
        "finished_at": None,
    }
    await drain(app)
    after = (await get(app, "ann", f"/{id}")).json()
    assert (after["state"], after["result"], after["attempt"]) == ("done", {"sum": 7}, 1)
    assert after["started_at"] <= after["finished_at"]


@pytest.mark.parametrize(
    ("declared", "error"),
    [
        (fail, {"code": AppError.code, "detail": AppError.advice}),
        (refuse, {"code": "conflict", "detail": "The report is closed."}),
    ],
)
async def test_the_owner_reads_no_exception(
    app: FastAPI, database: Database, declared: Any, error: dict[str, str]
) -> None:
    id = await enqueue(database, ANN, declared)
    await drain(app)
    found = await get(app, "ann", f"/{id}")
    assert found.json()["error"] == error
    assert "hunter2" not in found.text


async def test_a_name_that_is_no_text_is_said_as_well_as_can_be(
    app: FastAPI, database: Database
) -> None:
    """As a file's may be: one failure that no answer could hold would take the whole list along."""
    id = await enqueue(database, ANN, unpack)
    await drain(app)
    found = await get(app, "ann", f"/{id}")
    assert (found.status_code, found.json()["error"]["detail"]) == (200, "no caf? in it")
    for path in (JOBS, "/admin/jobs", f"/admin/jobs/{id}"):
        async with client(app, "operator") as operator:
            assert (await operator.get(path)).status_code == 200


@pytest.mark.parametrize(("name", "status"), [("bob", 404), (None, 401), ("tenant", 404)])
async def test_another_users_job_is_not_found(
    app: FastAPI, database: Database, name: str | None, status: int
) -> None:
    id = await enqueue(database, ANN, add)
    async with client(app, name) as found:
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
            answer = await found.request(method, f"{JOBS}/{id}{path}")
            missing = await found.request(method, f"{JOBS}/{uuid4()}{path}")
            assert (answer.status_code, missing.status_code) == (status, status)
    assert (await row(database, id)).state == "ready"


async def test_a_waiting_job_is_cancelled(app: FastAPI, database: Database) -> None:
    id = await enqueue(database, ANN, add)
    async with client(app, "ann") as ann:
        answer = await ann.delete(f"{JOBS}/{id}")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
        again = await ann.delete(f"{JOBS}/{id}")
        assert (again.status_code, again.json()["error"]) == (409, "conflict")
    assert await drain(app) == 0


async def test_a_running_job_is_asked_to_end(database: Database) -> None:
    @job()
    async def hang(job: JobRun) -> None:
        await asyncio.Event().wait()

    app = build(database, hang)
    id = await enqueue(database, ANN, hang)
    async with running(app, QUICK), client(app, "ann") as ann:

        async def runs() -> bool:
            return (await row(database, id)).state == "running"

        await until(runs)
        answer = await ann.delete(f"{JOBS}/{id}")
        assert answer.status_code == 202
        assert (answer.json()["state"], answer.json()["cancel_requested"]) == ("running", True)

        async def ended() -> bool:
            return (await row(database, id)).state == "cancelled"

        await until(ended)


# ---------------------------------------------------------------- its progress


async def events(app: FastAPI, id: UUID) -> list[tuple[str, dict[str, Any]]]:
    """Read a stream to its end."""
    async with client(app, "ann") as ann:
        answer = await ann.get(f"{JOBS}/{id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    found: list[tuple[str, dict[str, Any]]] = []
    for block in answer.text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


async def test_progress_is_streamed_until_the_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_routes, "_LOOK_SECONDS", 0.02)
    gate = asyncio.Event()

    @job()
    async def load(job: JobRun) -> int:
        job.report(0.5, "half of it")
        await gate.wait()
        return 7

    app = build(database, load)
    id = await enqueue(database, ANN, load)
    reading = asyncio.create_task(events(app, id))
    async with running(app, QUICK):

        async def told() -> bool:
            return (await row(database, id)).progress == 0.5

        await until(told)
        await asyncio.sleep(0.2)  # some more looks, which find nothing new
        gate.set()
        found = await asyncio.wait_for(reading, 20)
    kinds = [kind for kind, _ in found]
    assert kinds == ["progress"] * (len(found) - 1) + ["end"]
    assert (0.5, "half of it") in [(data["progress"], data["note"]) for _, data in found]
    assert (found[-1][1]["state"], found[-1][1]["result"]) == ("done", 7)
    assert len(found) == len({json.dumps(data) for _, data in found})  # only what is new


async def test_on_a_real_server_each_change_is_sent_when_it_happens(database: Database) -> None:
    gate = asyncio.Event()

    @job()
    async def load(job: JobRun) -> None:
        job.report(0.5, "half of it")
        await gate.wait()

    app = build(database, load)
    id = await enqueue(database, ANN, load)
    async with (
        served(app, lifespan="off") as url,
        httpx2.AsyncClient(headers={"Authorization": "Bearer ann"}) as ann,
        ann.stream("GET", f"{url}{JOBS}/{id}/events") as answer,
    ):
        lines = answer.aiter_lines()

        async def told(words: str) -> None:
            async with asyncio.timeout(20):
                while words not in await anext(lines):
                    pass

        await told('"state":"ready"')
        async with running(app, QUICK):
            await told('"note":"half of it"')  # while it still runs
            gate.set()
            await told("event: end")


async def test_a_server_that_stops_does_not_wait_for_streams(
    app: FastAPI, database: Database
) -> None:
    id = await enqueue(database, ANN, add)
    async with (
        served(app, lifespan="off") as url,
        httpx2.AsyncClient(headers={"Authorization": "Bearer ann"}) as ann,
        ann.stream("GET", f"{url}{JOBS}/{id}/events") as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        app.state.draining = True  # what SIGTERM does first
        async with asyncio.timeout(5):
            rest = [line async for line in lines]
    assert "event: end" not in rest, "the job goes on"


async def test_the_stream_of_an_ended_job_says_so_at_once(app: FastAPI, database: Database) -> None:
    id = await enqueue(database, ANN, add)
    await drain(app)
    [(kind, data)] = await events(app, id)
    assert (kind, data["state"]) == ("end", "done")


async def test_a_stream_ends_when_the_job_is_removed(app: FastAPI, database: Database) -> None:
    id = await enqueue(database, ANN, add)
    async with (
        served(app, lifespan="off") as url,
        httpx2.AsyncClient(headers={"Authorization": "Bearer ann"}) as ann,
        ann.stream("GET", f"{url}{JOBS}/{id}/events") as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)  # it is followed before it is removed
        await execute(database, "DELETE FROM jobs")
        async with asyncio.timeout(20):
            rest = [line async for line in lines]
    assert sum(line.startswith("event:") for line in rest) <= 1, "nothing is told of no job"


# ---------------------------------------------------------------- all of them


async def test_operators_list_and_filter_the_newest_first(app: FastAPI, database: Database) -> None:
    ids = [await enqueue(database, ANN, one) for one in (add, fail, add, fail)]
    await drain(app)
    everything = (await get(app, "operator", "?page_size=3")).json()
    assert [one["id"] for one in everything["items"]] == [str(id) for id in ids[:0:-1]]
    rest = (await get(app, "operator", f"?page_size=3&cursor={everything['next_cursor']}")).json()
    assert [one["id"] for one in rest["items"]] == [str(ids[0])]
    dead = (await get(app, "operator", "?state=dead")).json()["items"]
    assert {one["name"] for one in dead} == {"fail"}
    assert "KeyError" in dead[0]["error"]["trace"]
    for query in ("name=add", f"owner_id={BOB.id}", "queue=mail", "state=done&name=fail"):
        found = (await get(app, "operator", f"?{query}")).json()["items"]
        assert len(found) == (2 if query == "name=add" else 0)
    assert (await get(app, "operator", "?sort=name")).status_code == 422


async def test_a_tenants_operator_sees_their_own(app: FastAPI, database: Database) -> None:
    await enqueue(database, ANN, add)
    id = await enqueue(database, TENANT, add)
    found = (await get(app, "tenant", "")).json()["items"]
    assert [one["id"] for one in found] == [str(id)]


@pytest.mark.parametrize("path", ["", "/{id}/retry", "/{id}/discard"])
async def test_others_are_refused(app: FastAPI, database: Database, path: str) -> None:
    id = await enqueue(database, ANN, fail)
    await drain(app)
    path = path.format(id=id)
    call = get if path == "" else post
    assert (await call(app, "ann", path)).status_code == 403
    assert (await row(database, id)).state == "dead"


async def test_dead_letters_are_run_again_or_discarded(app: FastAPI, database: Database) -> None:
    id = await enqueue(database, ANN, fail)
    early = await post(app, "operator", f"/{id}/retry")
    assert early.status_code == 409
    await drain(app)
    again = await post(app, "operator", f"/{id}/retry")
    assert (again.status_code, again.json()["state"]) == (200, "ready")
    await drain(app)
    assert (await row(database, id)).attempt == 2
    gone = await post(app, "operator", f"/{id}/discard")
    assert (gone.status_code, gone.json()["state"]) == (200, "cancelled")
    assert (await post(app, "operator", f"/{id}/discard")).status_code == 409
    assert (await post(app, "operator", f"/{uuid4()}/discard")).status_code == 404
