"""Users' files over HTTP: whose they are, what they cost, and that none is lost or left behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sample_files import PNG, World, form, running

from newel.limits import Rate
from newel.testing import FrozenClock
from newel.tokens import Signer
from newel.uploads import FileRules

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with running(database_url, tmp_path) as found:
        yield found


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


async def test_a_part_that_is_not_there_is_a_problem(world: World) -> None:
    async with world.user() as client:
        url = f"/files/{(await client.post('/files', **form())).json()['id']}/content"
        beyond = await client.get(url, headers={"Range": "bytes=100000-"})

    assert (beyond.status_code, beyond.json()["status"]) == (416, 416)
    assert beyond.headers["content-range"] == f"bytes */{len(PNG)}"
    assert beyond.headers["content-type"] == "application/problem+json"


async def test_two_files_where_one_goes_are_refused(world: World) -> None:
    async with world.user() as client:
        two = await client.post("/files", files=2 * [("file", ("a.png", PNG, "image/png"))])

    assert (two.status_code, two.json()["detail"]) == (
        422,
        "It is one file at once: several go to /files/batch.",
    )
    assert world.stored() == []


async def test_another_version_is_not_deleted(world: World) -> None:
    async with world.user() as client:
        location = (await client.post("/files", **form())).headers["location"]
        where, version = location.removeprefix("/api/v1"), {"If-Match": '"1"'}
        assert (await client.delete(where, headers={"If-Match": '"2"'})).status_code == 412
        assert (await client.delete(where, headers=version)).status_code == 204


async def test_a_large_one_needs_little_memory(world: World) -> None:
    async with world.user() as client:
        content = b"x" * 199_000
        [created, again] = [await client.post("/files", **form(content, "a.txt")) for _ in (1, 2)]
        assert (created.status_code, again.status_code) == (201, 507)
        assert len(world.stored()) == 1, "what does not fit is not kept"
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


async def test_an_empty_file(world: World) -> None:
    async with world.user() as client:
        mine = (await client.post("/files", **form(b"", "empty.txt"))).json()["id"]
        content = await client.get(f"/files/{mine}/content")
        assert (content.status_code, content.content) == (200, b"")


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
            cursor = Signer(world.app.state.keys, "cursor").sign(bytes(16) + b"\xff" * 8)
            for forged in (
                *(f"{url}A", url[:-1], "/files/shared/x", f"/files/shared/{'A' * 300}"),
                f"/files/shared/{cursor}",
            ):
                assert (await nobody.get(forged)).status_code in {404, 422}, forged
            loud = (await ann.post(f"/files/{mine.upper()}/link")).json()["url"]
            assert (await nobody.get(loud.removeprefix("/api/v1"))).content == PNG
            await ann.delete(f"/files/{mine}")
            assert (await nobody.get(url)).status_code == 404


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


# --------------------------------------------------------------------------- of nobody we know

PART_BYTES = 65_536
BEGINNING = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
PATIENCE_BYTES = 2_097_152


async def offer(app: FastAPI, path: str = "/files", **headers: str) -> tuple[int, int]:
    """Announce 300 MB, and leave after two; return the status, 0 without one, and what was read."""
    read_bytes = status = 0
    said = {"content-type": "multipart/form-data; boundary=x", "content-length": "300000000"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/api/v1{path}",
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), text.encode()) for name, text in (said | headers).items()],
        "client": ("127.0.0.1", 4711),
    }

    async def receive() -> dict[str, Any]:
        nonlocal read_bytes
        if read_bytes >= PATIENCE_BYTES:
            return {"type": "http.disconnect"}
        part = (b"" if read_bytes else BEGINNING).ljust(PART_BYTES, b"a")
        read_bytes += len(part)
        return {"type": "http.request", "body": part, "more_body": True}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)
    return status, read_bytes


@pytest.fixture
async def large(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    """A place for files of 400 MB."""
    async with running(database_url, tmp_path, FileRules(max_bytes=400_000_000)) as found:
        yield found


@pytest.mark.parametrize("path", ["/files", "/files/batch"])
@pytest.mark.parametrize("offered", [{}, {"authorization": "Bearer nonsense"}], ids=["none", "bad"])
async def test_nothing_of_a_strangers_is_read(
    large: World, path: str, offered: dict[str, str]
) -> None:
    status, read_bytes = await offer(large.app, path, **offered)
    assert status == 401
    assert read_bytes <= PART_BYTES


@pytest.mark.parametrize("path", ["/files", "/files/batch"])
async def test_nothing_is_read_of_a_user_who_may_not_upload(large: World, path: str) -> None:
    async with large.user("reader") as client:
        status, read_bytes = await offer(
            large.app, path, authorization=client.headers["authorization"]
        )
    assert status == 403
    assert read_bytes <= PART_BYTES


async def test_of_a_user_who_may_it_is(large: World) -> None:
    async with large.user() as client:
        _, read_bytes = await offer(large.app, authorization=client.headers["authorization"])
    assert read_bytes == PATIENCE_BYTES


async def test_negative_control_fastapi_reads_first(large: World) -> None:
    large.app.dependency_overrides[offer] = offer  # whatever it is: nobody is asked before
    status, read_bytes = await offer(large.app)
    assert status != 401
    assert read_bytes == PATIENCE_BYTES


@pytest.mark.parametrize(("role", "status"), [(None, 401), ("reader", 403)])
async def test_who_is_refused_is_counted_all_the_same(
    large: World, role: str | None, status: int
) -> None:
    headers: dict[str, str] = {}
    if role is not None:
        async with large.user(role) as client:
            headers = {"authorization": client.headers["authorization"]}
    large.app.state.api_rate = Rate.parse("2/minute")
    answers = [(await offer(large.app, **headers))[0] for _ in range(3)]
    assert answers == [status, status, 429]


# ----------------------------------------------------------------------- in a process of its own


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[int, dict[str, Any]]]:
    """The process id of a server whose files may have 10 MB, and what it says of itself."""
    script = Path(__file__).with_name("sample_upload_server.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("served"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = next(line for line in process.stdout if line.startswith('{"port"'))
            yield process.pid, json.loads(said)
        finally:
            process.kill()


def most_memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s*([0-9]+)", status)
    assert found is not None
    return int(found[1]) / 1024


async def upload(said: dict[str, Any], megabytes: int, *, says_its_size: bool) -> int:
    """Send a text of so many megabytes as it goes; return the status of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", said["port"])
    boundary, chunk = "x" * 20, b"a" * 1_000_000
    begin = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()
    size = len(begin) + megabytes * len(chunk) + len(end)
    headers = {
        "Host": "127.0.0.1",
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        **({"Content-Length": size} if says_its_size else {"Transfer-Encoding": "chunked"}),
        **said["headers"],
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /api/v1/files HTTP/1.1\r\n{lines}\r\n".encode())

    async def send() -> None:
        with suppress(OSError):  # who has answered may stop listening
            for part in (begin, *[chunk] * megabytes, end):
                writer.write(part if says_its_size else b"%x\r\n%b\r\n" % (len(part), part))
                await writer.drain()
            if not says_its_size:
                writer.write(b"0\r\n\r\n")

    sending = asyncio.create_task(send())
    try:
        status = await asyncio.wait_for(reader.readline(), 60)
    finally:
        sending.cancel()
        writer.close()
    return int(status.split()[1])


@pytest.mark.parametrize("says_its_size", [True, False], ids=["said", "not said"])
async def test_300_megabytes_for_a_place_of_ten(
    serving: tuple[int, dict[str, Any]], says_its_size: bool
) -> None:
    """A client may lie about the size, or not say it: what is too much is not even received."""
    pid, said = serving
    assert await upload(said, 1, says_its_size=says_its_size) == 201
    before = most_memory_mb(pid)
    assert await upload(said, 300, says_its_size=says_its_size) == 413
    assert most_memory_mb(pid) - before <= 30
    assert await upload(said, 9, says_its_size=says_its_size) == 201


async def test_a_stranger_who_has_sent_little_is_answered(
    serving: tuple[int, dict[str, Any]],
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", serving[1]["port"])
    lines = ["POST /api/v1/files HTTP/1.1", "host: x", "content-length: 9000000"]
    lines += ["content-type: multipart/form-data; boundary=x", "", ""]
    writer.write("\r\n".join(lines).encode() + bytes(PART_BYTES))
    assert (await asyncio.wait_for(reader.readline(), 60)).split()[1] == b"401"
    writer.close()
