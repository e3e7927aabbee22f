"""UP001: a file of any size is taken."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.roles import asks_role
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Field, Shape
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_SIZES: Final = re.compile(
    r"(size|length|len|limit|max|bytes|total|large|written|read_so_far)", re.IGNORECASE
)
_MIDDLEWARE: Final = re.compile(r"(size|limit|content_?length|upload|body)", re.IGNORECASE)
_CHECKS: Final = re.compile(
    r"(valid|check|verif|limit|ensure)\w*(size|file|upload|image)", re.IGNORECASE
)


def find(review: Review) -> Iterator[Finding]:
    """Find uploads on routes without a limit of the body, where no code compares a size."""
    application = review.facts.application or {}
    by_middleware = any(
        _MIDDLEWARE.search(item.class_.rpartition(".")[2]) for item in review.facts.middleware
    )
    if application.get("max_body_size_bytes") or by_middleware:
        return
    for route in review.http_routes:
        files = [param for param in route.params if _is_file(param)]
        if files and route.max_body_size_bytes is None and not _is_limited(review, route):
            file, line = review.at(route)
            yield RULE.found(
                f"`{files[0].name}` may be of any size",
                file=file,
                line=line,
                route=route.label,
            )


def _is_file(param: Field) -> bool:
    return param.source == "file" or _is_upload(param.shape)


def _is_upload(shape: Shape) -> bool:
    own = any(name.endswith(".UploadFile") for name in shape.types)
    return own or (shape.item is not None and _is_upload(shape.item))


def _is_limited(review: Review, route: Route) -> bool:
    """Tell whether code on the way compares a size, or calls what checks one; or it is internal."""
    starts = list(review.starts(route))
    if not starts or asks_role(review, route):
        return True
    reached = {inner for start in starts for inner in review.calls.reached(start)}
    return any(_compares_size(function) for function in reached)


def _compares_size(function: Function) -> bool:
    for node in function.nodes:
        match node:
            case ast.Compare() if _SIZES.search(ast.unparse(node)):
                return True
            case ast.Call(func=callee) if _CHECKS.search(ast.unparse(callee)):
                return True
            case _:
                pass
    return False


RULE = Rule(
    id="UP001",
    title="A file of any size is taken",
    severity="change",
    how="import",
    why="The body is written to the disk before the endpoint sees it, and `read()` puts it into "
    "memory: a few "
    "requests fill either.",
    fix="limit the body, `FastAPI(max_body_size=...)` or a middleware, and read in pieces, "
    "counting: answer 413",
    seed="002 File Upload (MAX_FILE_SIZE), 003 File Upload/Download",
    expected="routes and applications with `max_body_size`, code that compares a size or a "
    "length, middleware"
    " named for it, administrators' routes. A limit in a proxy cannot be seen: allow it here and "
    "say so.",
    bad="""
from fastapi import FastAPI, UploadFile

app = FastAPI()


@app.post("/files")
async def upload(file: UploadFile) -> int:  # finding
    return len(await file.read())


@app.post("/many")
async def many(files: list[UploadFile]) -> int:  # finding
    return sum([len(await file.read()) for file in files])
""",
    good="""
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, UploadFile

app = FastAPI()
MAX_BYTES = 1_000_000


@app.post("/files")
async def upload(file: UploadFile) -> int:
    if file.size is None or file.size > MAX_BYTES:
        raise HTTPException(413)
    return len(await file.read())


async def pieces(file: UploadFile) -> int:
    total = 0
    while piece := await file.read(65536):
        total += len(piece)
        if total > MAX_BYTES:
            raise HTTPException(413)
    return total


@app.post("/counted")
async def counted(file: UploadFile) -> int:
    return await pieces(file)


def short(content_length: Annotated[int, Header()]) -> None:
    if content_length > MAX_BYTES:
        raise HTTPException(413)


@app.post("/declared", dependencies=[Depends(short)])
async def declared(file: UploadFile) -> int:
    return len(await file.read())
""",
    find=find,
)
