"""An upload has a greatest size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, cast

from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.world import file_fields

__all__ = ["PROBE"]

_FILL_BYTES: Final = 101 * 1024 * 1024
_SECONDS: Final = 60.0


def _run(lab: Lab) -> Iterator[Result]:
    for operation in lab.operations:
        if operation.writes and file_fields(operation):
            yield _huge(lab, operation)


def _huge(lab: Lab, operation: Operation) -> Result:
    caller = lab.allowed(operation)
    request = lab.request(operation, caller) if caller is not None else None
    if caller is None or request is None:
        return PROBE.skipped(operation.label, "no small file was taken")
    before = lab.service.host.ask("memory")["peak_bytes"]
    # The last file of the body is made longer: zeroes go in before its end.
    head, mark, end = request.body.rpartition(b"\r\n--")
    tail = mark + end
    size = len(head) + _FILL_BYTES + len(tail)
    huge = replace(request, body=head, fill_bytes=_FILL_BYTES, tail=tail)
    exchange = lab.send(
        huge.with_headers({"Content-Length": str(size)}).with_options(seconds=_SECONDS), caller
    )
    if not exchange.answer.is_success or _is_refused(exchange.answer.json):
        return PROBE.kept(operation.label)
    grown = (lab.service.host.ask("memory")["peak_bytes"] - before) // 1024**2
    said = f"a file of {_FILL_BYTES // 1024**2} MiB was taken"
    details = [f"the process grew by {grown} MiB meanwhile"]
    return PROBE.broke(operation.label, said, exchange, details=details)


def _is_refused(answer: Any) -> bool:
    """Tell whether each of several files was refused: then each outcome has an error."""
    outcomes = cast("list[Any]", answer) if isinstance(answer, list) else []
    return bool(outcomes) and all(
        isinstance(outcome, dict) and cast("dict[str, Any]", outcome).get("error")
        for outcome in outcomes
    )


_BAD = """
from typing import Annotated

from fastapi import FastAPI, File, HTTPException, UploadFile

app = FastAPI()
LIMIT_BYTES = 10 * 1024**4


@app.post("/files", status_code=201)
async def upload(file: UploadFile) -> dict[str, int]:
    if (file.size or 0) > LIMIT_BYTES:
        raise HTTPException(413)
    return {"bytes": file.size or 0}


@app.post("/files/batch")
async def upload_several(files: list[UploadFile]) -> list[dict[str, str | None]]:
    return [{"error": "too large" if (one.size or 0) > LIMIT_BYTES else None} for one in files]
"""
PROBE = Probe(
    id="UP001",
    title="An upload has a greatest size",
    severity="change",
    why="A few such requests fill the disk or the memory.",
    fix="bound the body before it is read (`max_body_size`, a proxy), and count while you write",
    seed="002, 003 upload",
    expected="limits of a proxy, which are not seen here",
    bad=_BAD,
    good=_BAD.replace("1024**4", "1024**2"),
    run=_run,
)
