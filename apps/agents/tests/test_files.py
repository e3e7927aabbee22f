"""Files that users upload: each user's own, of a type that is known, and not without end."""

from typing import Any

import pytest
from httpx2 import AsyncClient
from newel.uploads import FileRules

pytestmark = pytest.mark.anyio

URL = "/api/v1/files"
TEXT = ("notes.txt", b"hello", "text/plain")


async def upload(client: AsyncClient, file: tuple[str, bytes, str] = TEXT) -> Any:
    return await client.post(URL, files={"file": file})


async def test_what_is_uploaded_is_downloaded(owner: AsyncClient) -> None:
    answer = await upload(owner)
    assert answer.status_code == 201
    row = answer.json()
    assert (row["name"], row["media_type"], row["size_bytes"]) == ("notes.txt", "text/plain", 5)
    content = await owner.get(f"{URL}/{row['id']}/content")
    assert (content.status_code, content.content) == (200, b"hello")
    assert [file["id"] for file in (await owner.get(URL)).json()["items"]] == [row["id"]]


async def test_nobody_else_finds_it(owner: AsyncClient, stranger: AsyncClient) -> None:
    file = f"{URL}/{(await upload(owner)).json()['id']}"
    for method, path in (("GET", ""), ("GET", "/content"), ("POST", "/link"), ("DELETE", "")):
        answer = await stranger.request(method, f"{file}{path}")
        assert answer.status_code == 404, f"{method} {path}"
    assert (await stranger.get(URL)).json()["total"] == 0
    assert (await owner.get(file)).status_code == 200


async def test_whoever_is_given_the_link_downloads_it(
    owner: AsyncClient, client: AsyncClient
) -> None:
    file = (await upload(owner)).json()["id"]
    link = (await owner.post(f"{URL}/{file}/link")).json()
    assert (await client.get(link["url"])).content == b"hello"
    assert (await client.get(f"{URL}/shared/nonsense")).status_code == 404


async def test_one_that_is_deleted_is_gone(owner: AsyncClient) -> None:
    file = f"{URL}/{(await upload(owner)).json()['id']}"
    assert (await owner.delete(file)).status_code == 204
    assert (await owner.get(f"{file}/content")).status_code == 404


async def test_one_that_is_too_large_is_refused(owner: AsyncClient) -> None:
    large = ("large.txt", b"x" * (FileRules().max_bytes + 1), "text/plain")
    assert (await upload(owner, large)).status_code == 413
    assert (await owner.get(URL)).json()["total"] == 0


@pytest.mark.parametrize("name", ["page.html", "picture.png"])
async def test_what_is_not_what_it_is_called_is_refused(owner: AsyncClient, name: str) -> None:
    answer = await upload(owner, (name, b"<script>alert(1)</script>", "image/png"))
    assert answer.status_code == 415


async def test_who_only_reads_uploads_nothing(reader: AsyncClient, client: AsyncClient) -> None:
    assert (await upload(reader)).status_code == 403
    assert (await upload(client)).status_code == 401
