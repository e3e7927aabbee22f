"""One operation: what to send, what comes back, and an example of each."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, cast

from newel_tools.openapi.document import Document, Node, Operation
from newel_tools.openapi.examples import example_of
from newel_tools.openapi.shape import Shape, Shapes
from newel_tools.openapi.values import as_mapping

__all__ = ["Content", "Described", "Field", "describe", "find_operation"]

_PARAMETER: Final = re.compile(r"\{[^}]*\}")
_DEPTH: Final = 4  # of nested fields in a table


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A parameter or a property: ``name`` is `query page` or `items/name`."""

    name: str
    type: str
    required: bool
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A body: its media type, its schema without outside references, its fields, an example."""

    media_type: str
    model: str | None
    schema: Any
    fields: tuple[Field, ...]
    example: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """An operation as a client has to know it; ``answers`` are by status."""

    method: str
    path: str
    summary: str | None
    needs: str
    parameters: tuple[Field, ...]
    request: Content | None
    answers: Mapping[str, tuple[str, Content | None]] = field(
        default_factory=dict[str, tuple[str, Content | None]]
    )
    curl: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the operation for machines."""

        def content(said: Content | None) -> dict[str, Any] | None:
            if said is None:
                return None
            return {
                "media_type": said.media_type,
                "model": said.model,
                "schema": said.schema,
                "example": said.example,
            }

        return {
            "method": self.method,
            "path": self.path,
            "summary": self.summary,
            "needs": self.needs,
            "parameters": [
                {"name": one.name, "type": one.type, "required": one.required, "notes": one.notes}
                for one in self.parameters
            ],
            "request": content(self.request),
            "answers": {
                status: {"description": said, "content": content(body)}
                for status, (said, body) in self.answers.items()
            },
            "curl": self.curl,
        }


def find_operation(document: Document, method: str, path: str) -> Operation | list[str]:
    """Return the operation that people mean, or the names of those that come close.

    ``path`` may be the template, a real path (`/agents/42`) or the end of one (`/agents`).
    """
    wanted = path if path.startswith("/") else f"/{path}"
    wanted = wanted.partition("?")[0].rstrip("/") or "/"
    operations = [one for one in document.operations.values() if one.method == method.lower()]
    tests: tuple[Callable[[Operation], bool], ...] = (
        lambda one: (one.path.rstrip("/") or "/") == wanted,
        lambda one: one.key[1] == _PARAMETER.sub("{}", wanted),
        lambda one: _pattern(one.path).fullmatch(wanted) is not None,
        lambda one: one.path.rstrip("/").endswith(wanted),
    )
    for test in tests:
        found = [one for one in operations if test(one)]
        if len(found) == 1 or (found and test is tests[2]):
            return found[0]
    everything = {one.name: one for one in document.operations.values()}
    close = get_close_matches(f"{method.upper()} {wanted}", everything, n=5, cutoff=0.4)
    same = [one.name for one in everything.values() if one.path.rstrip("/").endswith(wanted)]
    return list(dict.fromkeys([*same, *close]))[:5]


def describe(document: Document, operation: Operation, *, needs: str) -> Described:
    """Return what a client has to know; ``needs`` is what a caller needs, in words."""
    shapes = Shapes(document)
    parameters = document.parameters(operation).values()
    body, _ = document.resolve(operation.content.get("requestBody"))
    request = _content(document, shapes, body, sent=True)
    answers: dict[str, tuple[str, Content | None]] = {}
    for status, node in as_mapping(operation.content.get("responses")).items():
        answer, _ = document.resolve(node)
        said = str(answer.get("description", ""))
        answers[status] = (said, _content(document, shapes, answer, sent=False))
    return Described(
        method=operation.method.upper(),
        path=operation.path,
        summary=operation.content.get("summary"),
        needs=needs,
        parameters=tuple(_parameter(one, shapes) for one in parameters),
        request=request,
        answers=answers,
        curl=_curl(document, operation, list(parameters), request, shapes),
    )


def _parameter(node: Node, shapes: Shapes) -> Field:
    shape = shapes.of(node.get("schema"))
    return Field(
        name=f"{node.get('in')} {node.get('name')}",
        type=_type(shape, shapes),
        required=bool(node.get("required")),
        notes=_notes(shape),
    )


def _content(document: Document, shapes: Shapes, node: Node, *, sent: bool) -> Content | None:
    kinds = {kind: as_mapping(media) for kind, media in as_mapping(node.get("content")).items()}
    kind = next((name for name in kinds if "json" in name), next(iter(kinds), None))
    if kind is None or "schema" not in kinds[kind]:
        return None
    schema = kinds[kind]["schema"]
    shape = shapes.of(schema)
    return Content(
        media_type=kind,
        model=shape.component,
        schema=_bundled(document, schema),
        fields=tuple(_fields(shape, shapes, sent=sent, prefix="", inside=())),
        example=kinds[kind].get("example", example_of(schema, shapes, sent=sent)),
    )


def _fields(
    shape: Shape, shapes: Shapes, *, sent: bool, prefix: str, inside: tuple[str, ...]
) -> Iterator[Field]:
    if shape.component in inside or len(inside) >= _DEPTH:
        return
    deeper = (*inside, shape.component or f"#{len(inside)}")
    if shape.alternatives:
        for one in shapes.whole(shape):
            yield from _fields(one, shapes, sent=sent, prefix=prefix, inside=deeper)
    if "array" in shape.types and shape.items is not True:
        items = shapes.of(shape.items)
        yield from _fields(items, shapes, sent=sent, prefix=f"{prefix}[].", inside=deeper)
    for name, node in shape.properties.items():
        inner = shapes.of(node)
        if inner.read_only if sent else inner.write_only:
            continue
        yield Field(
            name=f"{prefix}{name}".replace(".[]", "[]"),
            type=_type(inner, shapes),
            required=name in shape.required,
            notes=_notes(inner),
        )
        yield from _fields(inner, shapes, sent=sent, prefix=f"{prefix}{name}.", inside=deeper)


def _type(shape: Shape, shapes: Shapes) -> str:
    if shape.alternatives:
        name = " | ".join(_type(shapes.of(one), shapes) for one in shape.alternatives)
    elif "array" in shape.types and shape.items is not True:
        name = f"list of {_type(shapes.of(shape.items), shapes)}"
    else:
        name = str(shape)
    return f"{name} or null" if shape.nullable else name


def _notes(shape: Shape) -> str:
    found: list[str] = []
    if shape.values is not None:
        found.append(" | ".join(shape.values))
    if shape.lower is not None:
        found.append(f"{'>' if shape.lower.exclusive else '>='} {shape.lower.value:g}")
    if shape.upper is not None:
        found.append(f"{'<' if shape.upper.exclusive else '<='} {shape.upper.value:g}")
    found += [f"{name.replace('-', ' ')} {size}" for name, size in shape.sizes.items()]
    if shape.pattern is not None:
        found.append(f"matches {shape.pattern}")
    if shape.default is not None:
        found.append(f"default {shape.default}")
    return ", ".join(found)


def _bundled(document: Document, schema: Any) -> Any:
    """Return a schema that is complete in itself: what it refers to lies in ``$defs``."""
    defined: dict[str, Any] = {}

    def copied(node: Any) -> Any:
        if isinstance(node, list):
            return [copied(item) for item in cast("list[Any]", node)]
        if not isinstance(node, dict):
            return node
        made = {key: copied(value) for key, value in cast("dict[str, Any]", node).items()}
        reference = made.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/components/schemas/"):
            name = reference.rpartition("/")[2]
            made["$ref"] = f"#/$defs/{name}"
            if name not in defined:
                defined[name] = {}  # met again below itself
                defined[name] = copied(document.resolve({"$ref": reference})[0])
        return made

    bundled = copied(schema)
    return {**bundled, "$defs": defined} if defined else bundled


def _curl(
    document: Document,
    operation: Operation,
    parameters: list[Node],
    request: Content | None,
    shapes: Shapes,
) -> str:
    def value(node: Node) -> str:
        made = example_of(node.get("schema"), shapes, sent=True)
        return made if isinstance(made, str) else json.dumps(made)

    path = operation.path
    required = [node for node in parameters if node.get("required")]
    for node in required:
        if node.get("in") == "path":
            path = path.replace(f"{{{node.get('name')}}}", value(node))
    query = "&".join(f"{n.get('name')}={value(n)}" for n in required if n.get("in") == "query")
    words = ["curl", "-X", operation.method.upper()]
    words.append(f"http://127.0.0.1:8000{path}{'?' if query else ''}{query}")
    if {} not in document.security(operation):
        words += ["-H", "Authorization: Bearer $TOKEN"]
    for node in required:
        if node.get("in") == "header":
            words += ["-H", f"{node.get('name')}: {value(node)}"]
    if request is not None and "json" in request.media_type:
        words += ["-H", f"Content-Type: {request.media_type}"]
        words += ["-d", json.dumps(request.example, ensure_ascii=False)]
    elif request is not None:
        flag = "-F" if request.media_type.startswith("multipart") else "--data-urlencode"
        for name, said in _form(request.example).items():
            words += [flag, f"{name}={'@file' if said == '<bytes>' else said}"]
    return _joined(words)


def _form(example: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", example) if isinstance(example, dict) else {}


def _joined(words: list[str]) -> str:
    # The token is the shell's variable, so this one word is quoted for it to be read.
    return " ".join(f'"{word}"' if "$TOKEN" in word else shlex.quote(word) for word in words)


def _pattern(path: str) -> re.Pattern[str]:
    parts = _PARAMETER.split(path.rstrip("/") or "/")
    return re.compile("[^/]+".join(map(re.escape, parts)))
