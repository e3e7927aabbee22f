"""Bytes and rows of files stay together, whatever is not committed, fails or is killed between."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest
from sample_files import PNG, World, form, running

from newel import files
from newel.clock import utc_now
from newel.errors import InsufficientStorage
from newel.files import sweep_files
from newel.storage import LocalStorage
from newel.testing import commits_fail, run_jobs

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with running(database_url, tmp_path) as found:
        yield found


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
