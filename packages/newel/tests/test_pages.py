"""Lists have bounds, allow-lists and a wire form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import httpx2
import pytest
from fastapi import FastAPI, Query
from pydantic import ValidationError

from newel.pages import CursorQuery, KeysetPage, KeysetSlice, Page, PageQuery, Slice
from newel.schemas import ReadModel

pytestmark = pytest.mark.anyio


class Row(ReadModel):
    name: str


class RowQuery(PageQuery):
    sort: Literal["name", "-name"] = "name"
    name: str | None = None
    is_active: bool | None = None


def build() -> FastAPI:
    app = FastAPI()

    @app.get("/rows", response_model=Page[Row])
    async def rows(query: Annotated[RowQuery, Query()]) -> Slice[Row]:
        page, size = query.page, query.page_size
        return Slice(items=[Row(name=query.order)], total=41, page=page, page_size=size)

    @app.get("/stream", response_model=KeysetPage[Row])
    async def stream(query: Annotated[CursorQuery, Query()]) -> KeysetSlice[Row]:
        return KeysetSlice(items=[Row(name=query.order)], next_cursor=query.cursor)

    return app


async def get(path: str) -> tuple[int, Any]:
    transport = httpx2.ASGITransport(build())
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(path)
    return answer.status_code, answer.json()


async def test_a_slice_goes_over_the_wire_as_a_page() -> None:
    assert await get("/rows") == (
        200,
        {"items": [{"name": "name"}], "total": 41, "page": 1, "page_size": 20, "pages": 3},
    )


async def test_a_keyset_slice_goes_over_the_wire_without_a_total() -> None:
    expected = {"items": [{"name": "-created_at"}], "next_cursor": "abc"}
    assert await get("/stream?cursor=abc") == (200, expected)


@pytest.mark.parametrize(
    "query",
    [
        *("page=0", "page=-1", "page=1000001", "page=x", "page=1e9"),
        *("page_size=0", "page_size=101", "page_size=-1", "page=99999999999999999999"),
        *("sort=password", "sort=", "unknown=1", "cursor=x"),
    ],
)
async def test_what_is_out_of_bounds_is_refused(query: str) -> None:
    status, _ = await get(f"/rows?{query}")
    assert status == 422


@pytest.mark.parametrize("query", ["page_size=101", "page=2", f"cursor={'x' * 1025}"])
async def test_cursor_pages_have_bounds_too(query: str) -> None:
    status, _ = await get(f"/stream?{query}")
    assert status == 422


def test_the_last_allowed_page_fits_a_64_bit_offset() -> None:
    query = PageQuery(page=1_000_000, page_size=100)
    assert query.offset + query.page_size < 2**63


@pytest.mark.parametrize(
    ("total", "size", "pages"), [(0, 20, 0), (1, 20, 1), (20, 20, 1), (21, 20, 2), (100, 1, 100)]
)
def test_pages_are_counted_up(total: int, size: int, pages: int) -> None:
    assert Slice[int](items=(), total=total, page=1, page_size=size).pages == pages


def test_filters_are_the_given_fields_of_the_subclass() -> None:
    assert RowQuery(page=3, name="x", is_active=False).filters() == {
        "name": "x",
        "is_active": False,
    }
    assert RowQuery().filters() == {}


def test_newest_first_by_default() -> None:
    assert PageQuery().order == "-created_at"
    assert RowQuery(sort="-name").order == "-name"


def test_an_unknown_sort_is_refused_in_python_too() -> None:
    with pytest.raises(ValidationError):
        RowQuery.model_validate({"sort": "owner_id"})
