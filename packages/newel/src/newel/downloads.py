"""Answers that are files: resumable, never run by a browser, told apart by their digest.

Ranges as in RFC 9110, section 14: one range at a time; a request for several gets the whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from newel.revalidation import is_known

__all__ = ["Downloadable", "download"]

_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{1,15})?|-([0-9]{1,15}))")


class Downloadable(NamedTuple):
    """What is known of a file besides its bytes."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str


async def download(
    file: Downloadable, asked: Headers, read: Callable[[int, int], AsyncGenerator[bytes]]
) -> Response:
    """Return the answer to a request with the headers ``asked``: 200, 206 or 304.

    Raises ``HTTPException`` with 416 for a part that is not there.
    ``read(start, stop)`` yields bytes; what it raises before the first is raised here, where it can
    still be an answer of its own. The file is offered to be saved, under its name.
    """
    tag = f'"{file.sha256}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": _disposition(file.name),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }
    if is_known(tag, asked):
        return Response(status_code=304, headers=headers)
    found = _range(asked, tag, file.size_bytes)
    if found is not None and found[0] >= file.size_bytes:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{file.size_bytes}"})
    start, stop = found or (0, file.size_bytes)
    headers["Content-Length"] = str(stop - start)
    if found is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size_bytes}"
    return StreamingResponse(
        await _begun(read(start, stop)),
        status_code=200 if found is None else 206,
        headers=headers,
        media_type=file.media_type,
    )


async def _begun(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    first = await anext(chunks, b"")

    async def all_of_them() -> AsyncGenerator[bytes]:
        try:
            yield first
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    return all_of_them()


def _range(asked: Headers, tag: str, size: int) -> tuple[int, int] | None:
    """Return the first byte asked for and the one after the last; ``None``: the whole file."""
    match = _RANGE.fullmatch(asked.get("range", "").strip())
    if match is None or asked.get("if-range", tag) != tag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return (max(size - int(suffix), 0), size) if int(suffix) else (size, size)
    start, stop = int(first), size if last is None else min(int(last) + 1, size)
    return None if last is not None and int(last) < start else (start, stop)


def _disposition(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9 ._-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
