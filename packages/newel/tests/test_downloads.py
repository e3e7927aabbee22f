"""Downloads resume where they were cut, and no browser runs what somebody uploaded."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from newel.downloads import Downloadable, download

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(100))
FILE = Downloadable("photo.png", "image/png", len(CONTENT), "a" * 64)
TAG = f'"{FILE.sha256}"'


async def ask(file: Downloadable = FILE, **headers: str) -> httpx2.Response:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def read(start: int, stop: int) -> AsyncGenerator[bytes]:
            for at in range(start, stop, 7):
                yield CONTENT[at : min(at + 7, stop)]

        response = await download(file, Request(scope).headers, read)
        await response(scope, receive, send)

    transport = httpx2.ASGITransport(app)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get("/", headers=named)


async def test_the_whole() -> None:
    response = await ask()
    assert (response.status_code, response.content) == (200, CONTENT)
    assert response.headers["content-length"] == "100"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["etag"] == TAG
    assert response.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=90-", 90, 99),
        ("bytes=90-1000", 90, 99),
        ("bytes=-10", 90, 99),
        ("bytes=-1000", 0, 99),
        (" bytes=5-5 ", 5, 5),
    ],
)
async def test_a_part(asked: str, first: int, last: int) -> None:
    response = await ask(range=asked)
    assert (response.status_code, response.content) == (206, CONTENT[first : last + 1])
    assert response.headers["content-range"] == f"bytes {first}-{last}/100"
    assert response.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=-0"])
async def test_a_part_that_is_not_there(asked: str) -> None:
    with pytest.raises(HTTPException) as refused:
        await ask(range=asked)
    assert (refused.value.status_code, refused.value.headers) == (
        416,
        {"Content-Range": "bytes */100"},
    )


@pytest.mark.parametrize(
    "asked", ["bytes=5-1", "bytes=0-1,5-6", "bytes=", "bytes=-", "lines=1-2", "bytes=a-b", ""]
)
async def test_what_is_no_range_gets_the_whole(asked: str) -> None:
    response = await ask(range=asked)
    assert (response.status_code, response.content) == (200, CONTENT)


async def test_a_part_of_another_file_is_the_whole_of_this_one() -> None:
    assert (await ask(range="bytes=90-", if_range=TAG)).status_code == 206
    assert (await ask(range="bytes=90-", if_range='"older"')).content == CONTENT


@pytest.mark.parametrize("known", [TAG, f"W/{TAG}", f'"x", {TAG}', "*"])
async def test_what_the_client_has_is_not_sent_again(known: str) -> None:
    response = await ask(if_none_match=known)
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == TAG
    assert (await ask(if_none_match='"other"')).status_code == 200


@pytest.mark.parametrize(
    ("name", "plain", "encoded"),
    [
        ("a b.png", "a b.png", "a%20b.png"),
        ('a"; x="y.png', "a__ x__y.png", "a%22%3B%20x%3D%22y.png"),
        ("größe\r\nX: y.png", "gr__e__X_ y.png", "gr%C3%B6%C3%9Fe%0D%0AX%3A%20y.png"),
    ],
)
async def test_a_name_stays_within_its_header(name: str, plain: str, encoded: str) -> None:
    response = await ask(FILE._replace(name=name))
    said = response.headers["content-disposition"]
    assert said == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


async def test_a_browser_saves_it_and_runs_nothing() -> None:
    headers = (await ask(FILE._replace(media_type="text/html"))).headers
    assert headers["content-disposition"].startswith("attachment;")
    assert headers["content-security-policy"].startswith("sandbox;")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "private, no-cache"
