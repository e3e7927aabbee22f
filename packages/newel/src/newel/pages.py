"""Pages of rows: by number with a total, or by cursor without one.

A ``Slice`` is rows as the repository returns them; a ``Page`` is what goes over the wire. A list's
query is a subclass of ``PageQuery`` or ``CursorQuery`` that adds what to sort and to filter by:

    class AgentQuery(PageQuery):
        sort: Literal["created_at", "-created_at", "name", "-name"] = "-created_at"
        is_active: bool | None = None

Nothing else can be sorted or filtered by: the fields are the allow-list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CursorQuery", "KeysetPage", "KeysetSlice", "Page", "PageQuery", "Slice"]

T = TypeVar("T")

MAXIMUM_PAGE_SIZE = 100
_PAGING = {"page", "page_size", "cursor", "sort"}


class _ListQuery(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    page_size: Annotated[int, Field(ge=1, le=MAXIMUM_PAGE_SIZE, description="Rows a page")] = 20

    def filters(self) -> dict[str, Any]:
        """Return the fields that the subclass added and the caller gave: column name to value."""
        given = self.model_dump(exclude=_PAGING, exclude_none=True)
        return {name: value for name, value in given.items() if value is not None}

    @property
    def order(self) -> str:
        """The column to sort by, with ``-`` in front for descending; newest first by default."""
        return str(getattr(self, "sort", "-created_at"))


class PageQuery(_ListQuery):
    """``?page=1&page_size=20``: pages by number, at most 100 rows each."""

    page: Annotated[int, Field(ge=1, le=1_000_000, description="Number of the page, from 1")] = 1

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.page_size


class CursorQuery(_ListQuery):
    """``?cursor=...&page_size=20``: pages that stay put while rows come and go; no total."""

    cursor: Annotated[
        str | None, Field(max_length=1024, description="The next_cursor of the page before")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Slice(Generic[T]):
    """The rows of one page and how many there are in all."""

    items: Sequence[T]
    total: int
    page: int
    page_size: int

    @property
    def pages(self) -> int:
        return -(-self.total // self.page_size)


@dataclass(frozen=True, kw_only=True)
class KeysetSlice(Generic[T]):
    """The rows of one page and the cursor of the next, ``None`` on the last."""

    items: Sequence[T]
    next_cursor: str | None


class Page(BaseModel, Generic[T]):
    """``{items, total, page, page_size, pages}`` on the wire."""

    model_config: ClassVar[ConfigDict] = ConfigDict(from_attributes=True)

    items: list[T]
    total: int
    page: int
    page_size: int
    pages: int


class KeysetPage(BaseModel, Generic[T]):
    """``{items, next_cursor}`` on the wire."""

    model_config: ClassVar[ConfigDict] = ConfigDict(from_attributes=True)

    items: list[T]
    next_cursor: str | None
