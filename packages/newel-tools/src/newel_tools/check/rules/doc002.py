"""DOC002: bodies without an example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.shapes import Model

__all__ = ["RULE"]

_FEW: Final = 5  # bodies that are named one by one


def find(review: Review) -> Iterator[Finding]:
    """Find models of request bodies without an example; if many have none, say it once."""
    schemas = _part(review.facts.openapi, "components", "schemas")
    bodies: dict[str, tuple[Model, str]] = {}
    for route in review.http_routes:
        for model in list(review.models_in(route.body))[:1] if route.in_schema else ():
            schema = schemas.get(model.name.rpartition(".")[2])
            shown = _has_example(schema) or _is_shown(review, route.path)
            shown = shown or not _has_words(schema, schemas)
            if schema is not None and model.file is not None and not shown:
                bodies.setdefault(model.full_name, (model, route.label))
    if len(bodies) > _FEW:
        first, label = next(iter(bodies.values()))
        yield _finding(review, first, label, f"{len(bodies)} request bodies have no example")
        return
    for model, label in bodies.values():
        yield _finding(review, model, label, f"`{model.name}` has no example")


def _is_shown(review: Review, path: str) -> bool:
    """Tell whether the operations of a path have examples of their own."""
    operations = _part(review.facts.openapi, "paths", path)
    return any(_has_example(_part(item, "requestBody")) for item in operations.values())


def _part(document: object, *names: str) -> dict[str, Any]:
    """Return a part of a document; an empty one if it has none."""
    part: Any = document
    for name in names:
        part = cast("dict[str, Any]", part).get(name) if isinstance(part, dict) else None
    return cast("dict[str, Any]", part) if isinstance(part, dict) else {}


def _has_example(schema: object) -> bool:
    """Tell whether a schema, or something in it, has an example."""
    if isinstance(schema, list):
        return any(map(_has_example, cast("list[object]", schema)))
    if not isinstance(schema, dict):
        return False
    parts = cast("dict[str, object]", schema)
    return "example" in parts or "examples" in parts or any(map(_has_example, parts.values()))


def _has_words(schema: object, schemas: Mapping[str, Any]) -> bool:
    """Tell whether a body takes free text: all else the documentation makes up as it should be."""
    if not isinstance(schema, dict):
        return False
    parts = cast("dict[str, Any]", schema)
    inner = [*_part(parts, "properties").values(), parts.get("items")]
    inner += parts.get("allOf", [])
    inner += [
        part for key in ("anyOf", "oneOf") for part in parts.get(key, ())[:1]
    ]  # what it shows
    name = str(parts.get("$ref", "")).rpartition("/")[2]
    if name:  # once: a model that holds itself holds no other words
        inner.append(schemas.get(name))
        schemas = {other: schema for other, schema in schemas.items() if other != name}
    free = parts.get("type") == "string" and not {"const", "enum", "format"} & parts.keys()
    return free or any(_has_words(part, schemas) for part in inner)


def _finding(review: Review, model: Model, label: str, said: str) -> Finding:
    return RULE.found(said, file=model.file, line=review.line_of(model), route=label)


RULE = Rule(
    id="DOC002",
    title="A request body has no example",
    severity="note",
    how="import",
    why='Whoever tries the documentation sends `"string"` and gets a 422.',
    fix='`Field(examples=[...])`, or `model_config = {"json_schema_extra": {"examples": [...]}}`',
    seed='"OpenAPI docs complete"',
    expected="models with an example for one of their fields, or at the route; models without free "
    "text, which the documentation fills in by itself; hidden routes. More than five are one "
    "finding.",
    bad="""
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class NoteCreate(BaseModel):  # finding
    text: str


@app.post("/notes", status_code=201)
def create(body: NoteCreate) -> None:
    print(body)
""",
    good="""
from typing import Annotated, Literal

from fastapi import Body, FastAPI
from pydantic import BaseModel, Field

app = FastAPI()


class NoteCreate(BaseModel):
    text: str = Field(examples=["Buy milk"])


class TagCreate(BaseModel):
    name: str


class Hidden(BaseModel):
    name: str


class Vote(BaseModel):
    kind: Literal["up", "down"]
    weight: int = 1


@app.post("/notes", status_code=201)
def create(body: NoteCreate) -> None:
    print(body)


@app.post("/tags", status_code=201)
def create_tag(body: Annotated[TagCreate, Body(examples=[{"name": "home"}])]) -> None:
    print(body)


@app.post("/votes", status_code=201)
def vote(body: Vote) -> None:
    print(body)


@app.post("/hidden", include_in_schema=False)
def hidden(body: Hidden) -> None:
    print(body)
""",
    find=find,
)
