"""UP002: the client's name for a file becomes a path of the server."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.taint import Held, Kind, Taint
from newel_tools.facts.calls import Call
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Field, Shape
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_OPENS: Final = re.compile(
    r"(builtins\.)?open|aiofiles\.open|anyio\.open_file|io\.open"
    r"|shutil\.(copy|copy2|copyfile|move)|os\.(replace|rename|remove|unlink|makedirs)"
)
# What makes a way of `a_../../b`: the folder is created, or the dots are taken out.
_WAYS: Final = frozenset({"mkdir", "makedirs", "resolve", "abspath", "normpath", "realpath"})
_PATH_METHODS: Final = frozenset(
    {"open", "write_bytes", "write_text", "unlink", "rename", "mkdir", "touch"}
)


def find(review: Review) -> Iterator[Finding]:
    """Find files whose path is made with `UploadFile.filename`, unchecked."""
    cleaners = re.compile(r"^(name|suffix|stem|basename|splitext|hash)$")
    mentioned = Taint(review, Kind(held=_filename, cleaners=cleaners))
    found = [
        (call, route, path)
        for call, route in mentioned.calls()
        if (path := next((p for p in _paths(call) if mentioned.decides(p, call.caller)), None))
    ]
    begun = Taint(review, Kind(held=_filename, cleaners=cleaners, naming=True)) if found else None
    ways = {call.caller for call, _ in mentioned.calls() if found and _makes_way(call, mentioned)}
    for call, route, path in found:
        leads = begun is not None and begun.decides(path, call.caller)
        leads = leads or _is_led(review, call.caller, route, ways)
        yield RULE.found(
            "the client's `filename` is part of the path that is opened",
            file=call.caller.file,
            line=call.line,
            route=route.label,
            severity="block" if leads else "note",
        )


def _makes_way(call: Call, mentioned: Taint) -> bool:
    """Tell whether a call makes a way of the path that it is given, or is a method of."""
    func = call.node.func
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    given = [*call.node.args[:1], *([func.value] if isinstance(func, ast.Attribute) else [])]
    folders = [
        inner
        for path in given
        if isinstance(path, ast.Call) and ast.unparse(path.func).endswith("dirname")
        for inner in path.args
    ]
    return name in _WAYS and any(mentioned.decides(p, call.caller) for p in (*given, *folders))


def _is_led(review: Review, opens: Function, route: Route, ways: set[Function]) -> bool:
    """Tell whether the same request may make a way and open a path in a function."""
    return any(
        opens in reached and not ways.isdisjoint(reached)
        for start in (opens, *ways, *review.starts(route))
        for reached in [review.calls.reached(start)]
    )


def _filename(field: Field) -> Held:
    return frozenset({"filename"}) if _is_upload(field.shape) else frozenset()


def _is_upload(shape: Shape) -> bool:
    own = any(name.endswith(".UploadFile") for name in shape.types)
    return own or (shape.item is not None and _is_upload(shape.item))


def _to_thread(call: Call) -> bool:
    """Tell whether a call hands its first argument to a thread, which calls it."""
    return (call.target or "").rpartition(".")[2] in ("to_thread", "run_in_threadpool", "run_sync")


def _paths(call: Call) -> Iterator[ast.expr]:
    """Yield what a call uses as a path."""
    if call.target is not None and _OPENS.fullmatch(call.target):
        yield from call.node.args[:2]
        return
    handed = call.node.args[0] if call.node.args and _to_thread(call) else None
    match handed or call.node.func:
        case ast.Attribute(value=path, attr=name) if name in _PATH_METHODS:
            yield path
        case _:
            pass


RULE = Rule(
    id="UP002",
    title="The client's file name is part of a path",
    severity="block",
    how="source",
    why="`../../app/main.py` is a file name too: whoever may upload may write any file that the "
    "process may write.",
    fix="make a name of your own, `uuid4().hex`; keep the client's for display only, or take "
    "`Path(file.filename).name`",
    seed='003 "File Upload/Download"; 002 makes a name of its own',
    expected="names from which only `.name`, `.suffix` or the like is taken, names that are "
    "compared, checked or cleaned on the way. A name with something before it in the same part of "
    'the path is a note: `f"{uuid4()}_{file.filename}"` leads nowhere, unless the code creates the '
    "folder that it names or takes the dots out (`mkdir`, `resolve`, `abspath`).",
    bad="""
from pathlib import Path

from fastapi import FastAPI, UploadFile

app = FastAPI()
FOLDER = Path("uploads")


def store(name: str, data: bytes) -> None:
    with open(f"uploads/{name}", "wb") as target:  # finding
        target.write(data)


@app.post("/files")
async def upload(file: UploadFile) -> None:
    path = FOLDER / file.filename
    path.write_bytes(await file.read(1_000_000))  # finding


@app.post("/prefixed/{folder}")
async def prefixed(folder: int, file: UploadFile) -> None:
    with open(f"uploads/{folder}/{file.filename}", "wb") as target:  # finding
        target.write(await file.read(1_000_000))


@app.post("/many")
async def many(files: list[UploadFile]) -> None:
    for file in files:
        store(file.filename, await file.read(1_000_000))
""",
    good="""
from pathlib import Path
from uuid import uuid4

from fastapi import FastAPI, HTTPException, UploadFile

app = FastAPI()
FOLDER = Path("uploads")


def secure_filename(name: str) -> str:
    return name.replace("/", "_").lstrip(".")


@app.post("/files")
async def upload(file: UploadFile) -> str:
    path = FOLDER / f"{uuid4().hex}{Path(file.filename or '').suffix}"
    path.write_bytes(await file.read(1_000_000))
    return file.filename or ""


@app.post("/named")
async def named(file: UploadFile) -> None:
    with open(FOLDER / Path(file.filename or "").name, "wb") as target:
        target.write(await file.read(1_000_000))


@app.post("/cleaned")
async def cleaned(file: UploadFile) -> None:
    name = file.filename or "unnamed"
    name = secure_filename(name)
    with open(FOLDER / name, "wb") as target:
        target.write(await file.read(1_000_000))


@app.post("/chosen")
async def chosen(file: UploadFile) -> None:
    if file.filename not in ("logo.png", "banner.png"):
        raise HTTPException(422)
    (FOLDER / file.filename).write_bytes(await file.read(1_000_000))
""",
    find=find,
)
