"""HTTP002: a deletion answers 200 with nothing to say, or 204 with something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from newel_tools.check.answers import is_constant, is_response, returned
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route

__all__ = ["RULE"]

_NO_CONTENT: Final = 204
_WORDS: Final = frozenset(
    {"message", "msg", "detail", "details", "ok", "success", "status", "deleted", "result", "info"}
)


def find(review: Review) -> Iterator[Finding]:
    """Find DELETE routes that answer 200 with a message, and 204 that returns a value."""
    for route in review.http_routes:
        said = _fault(review, route)
        if said is not None:
            file, line = review.at(route)
            yield RULE.found(said, file=file, line=line, route=route.label)


def _fault(review: Review, route: Route) -> str | None:
    function = review.function(route.endpoint)
    if function is None:
        return None
    values = list(returned(function))
    if route.status_code == _NO_CONTENT:
        bodies = [value for value in values if not is_response(review, value, function)]
        written = [value for value in bodies if is_constant(value)]
        return "the answer is 204, and what is returned nobody gets" if written else None
    if route.methods != ("DELETE",) or route.status_code not in (None, 200):
        return None
    if any(is_response(review, value, function) for value in values):
        return None
    models = list(review.models_in(route.response.model))
    names = {field.name for model in models for field in model.fields}
    is_message = bool(names) and names <= _WORDS
    if is_message or not values or (not models and all(map(is_constant, values))):
        return "the answer is 200 and has nothing to say"
    return None


RULE = Rule(
    id="HTTP002",
    title="A deletion answers 200 with nothing to say",
    severity="note",
    how="import",
    why="204 says the same without a body that clients have to parse; a body with 204 is dropped.",
    fix="`status_code=204` and return nothing",
    seed="status table",
    expected="deletions that answer with what was deleted or with a job (202), responses of their "
    "own.",
    bad="""
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Message(BaseModel):
    message: str


@app.delete("/notes/{note_id}")
def delete(note_id: int) -> Message:  # finding
    return Message(message="deleted")


@app.delete("/drafts/{note_id}")
def delete_draft(note_id: int):  # finding
    return {"ok": True}


@app.delete("/tags/{tag_id}", status_code=204)
def delete_tag(tag_id: int):  # finding
    return {"ok": True}


@app.delete("/stars/{star_id}")
def delete_star(star_id: int) -> None:  # finding
    print(star_id)
""",
    good="""
from fastapi import FastAPI, Response
from pydantic import BaseModel

app = FastAPI()


class Note(BaseModel):
    id: int
    text: str


@app.delete("/notes/{note_id}", status_code=204)
def delete(note_id: int) -> None:
    return None


@app.delete("/drafts/{note_id}")
def delete_draft(note_id: int) -> Note:
    return Note(id=note_id, text="")


@app.delete("/archives/{note_id}", status_code=202)
def delete_archive(note_id: int) -> dict[str, bool]:
    return {"queued": True}


@app.delete("/tags/{tag_id}", status_code=204)
def delete_tag(tag_id: int):
    return Response(status_code=204)


@app.delete("/stars/{star_id}")
def delete_star(star_id: int):
    return Response(status_code=204)
""",
    find=find,
    is_habit=True,
)
