"""Bytes and rows of files stay together, whatever is not committed, fails or is killed between."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from sample_files import PNG, World, form, running
from starlette.formparsers import MultiPartParser
from structlog.testing import capture_logs

from newel import files
from newel.clock import utc_now
from newel.errors import InsufficientStorage
from newel.files import sweep_files
from newel.storage import LocalStorage
from newel.testing import Databases, commits_fail, run_jobs

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with running(database_url, tmp_path) as found:
        yield found


@pytest.fixture
def pass_hours(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    def passed(hours: float) -> None:
        later = utc_now() + timedelta(hours=hours)
        monkeypatch.setattr(files, "utc_now", lambda: later)

    return passed


@pytest.fixture
def copied_url(databases: Databases, database_url: str) -> Generator[str]:
    found = databases.create(template=database_url)
    yield found
    databases.drop(found)


async def sweep(world: World) -> None:
    async with world.app.state.database.write(None) as work:
        work.enqueue(sweep_files)
    await run_jobs(world.app)


async def left_behind(world: World, client: httpx2.AsyncClient) -> Path:
    """Return where the bytes lie of an upload whose row was never committed."""
    before = set(world.stored())
    with commits_fail(world.app.state.database):
        assert (await client.post("/files", **form())).status_code == 503
    [found] = set(world.stored()) - before
    return found


class TestSweep:
    @pytest.mark.parametrize("hours", [3, 24 * 400])
    async def test_what_has_no_row_goes_when_it_is_old(
        self, world: World, pass_hours: Callable[[float], None], hours: float
    ) -> None:
        async with world.user() as client:
            kept = (await client.post("/files", **form())).json()["id"]
            lost = await left_behind(world, client)
            for _ in range(2):  # the first one writes whose storage it is
                await sweep(world)
                assert lost.exists(), "it may still get its row"
            foreign = world.folder / "backup" / "of" / "somebody"
            foreign.parent.mkdir(parents=True)
            foreign.touch()

            pass_hours(hours)
            await sweep(world)
            assert not lost.exists()
            assert foreign.exists(), "it has no key of ours"
            assert (await client.get(f"/files/{kept}/content")).content == PNG

    async def test_more_than_one_batch(
        self,
        world: World,
        pass_hours: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(files, "_BATCH", 2)
        async with world.user() as client:
            kept = (await client.post("/files", **form())).json()["id"]
            lost = [await left_behind(world, client) for _ in range(5)]
            await sweep(world)
            pass_hours(3)
            await sweep(world)
            assert not [path for path in lost if path.exists()]
            assert (await client.get(f"/files/{kept}/content")).content == PNG

    @pytest.mark.parametrize("is_guarded", [True, False])
    async def test_of_another_database_removes_nothing(
        self,
        copied_url: str,  # before the world: a database that is in use is not copied
        world: World,
        tmp_path: Path,
        pass_hours: Callable[[float], None],
        is_guarded: bool,
    ) -> None:
        """A copy of the service, on a database of its own, with the storage of this one."""
        tmp_path.joinpath("copy").mkdir()
        async with (
            running(copied_url, tmp_path / "copy", storage=world.folder) as copy,
            world.user() as client,
            copy.user() as other,
        ):
            mine = (await client.post("/files", **form())).json()["id"]
            await other.post("/files", **form())
            await sweep(world)
            if not is_guarded:
                world.folder.joinpath("newel-owner").unlink()
            pass_hours(3)
            with capture_logs() as logs:
                await sweep(copy)
                await sweep(copy)
            found = (await client.get(f"/files/{mine}/content")).status_code
        refused = [log for log in logs if log["event"] == "storage_belongs_to_another_database"]
        assert (found, len(refused)) == ((200, 2) if is_guarded else (404, 0))

    async def test_a_database_without_files_takes_no_storage(
        self, world: World, pass_hours: Callable[[float], None]
    ) -> None:
        async with world.user() as client:
            lost = await left_behind(world, client)
        pass_hours(3)
        await sweep(world)
        await sweep(world)
        assert world.stored() == [lost]


class TestQuota:
    @pytest.mark.parametrize("takes_turns", [True, False])
    async def test_twenty_uploads_at_once_stay_within_it(
        self,
        world: World,
        monkeypatch: pytest.MonkeyPatch,
        takes_turns: bool,
    ) -> None:
        """Three of 100 KB fit. On SQLite, which has one writer, nobody has to take turns."""
        fits = takes_turns or world.app.state.database.is_sqlite
        counting, are_many = 0, asyncio.Event()

        async def no_turn(*_: object) -> None:
            nonlocal counting
            counting += 1
            if fits or counting == 4:
                are_many.set()
            await are_many.wait()  # else they might come one after the other

        if not takes_turns:
            monkeypatch.setattr(files, "_take_turn", no_turn)
        async with world.user() as client:
            answers = await asyncio.gather(
                *(client.post("/files", **form(b"x" * 100_000, "a.txt")) for _ in range(20))
            )
            used = sum(f["size_bytes"] for f in (await client.get("/files")).json()["items"])
        statuses = [answer.status_code for answer in answers]
        assert {201} <= set(statuses) <= {201, 503, 507}  # 503: a busy machine, waited too long
        assert statuses.count(201) == len(world.stored()) == used // 100_000
        assert (used <= 300_000) is fits


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

    async def test_a_disk_that_is_full_while_they_arrive_is_507(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Forms above a megabyte are written to the disk before their route begins."""

        def full(_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        large = form(PNG + b"x" * 150_000)
        async with world.user() as client:
            with monkeypatch.context() as patch:
                patch.setattr(MultiPartParser, "spool_max_size", 1000)
                patch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
                refused = await client.post("/files", **large)
                assert (refused.status_code, refused.json()["error"]) == (
                    507,
                    "insufficient_storage",
                )
            broken = {"content-type": "multipart/form-data; boundary=x"}
            answer = await client.post("/files", content=b"--y", headers=broken)
            assert answer.status_code in {400, 422}, "what the client has done stays its own"
            assert (await client.post("/files", **large)).status_code == 201, "no restart"

    async def test_that_are_gone_are_not_found(self, world: World) -> None:
        async with world.user() as client:
            mine = (await client.post("/files", **form())).json()["id"]
            os.unlink(world.stored()[0])  # noqa: PTH108 - somebody's rm
            assert (await client.get(f"/files/{mine}/content")).status_code == 404
