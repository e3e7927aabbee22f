"""The application's operations, read from its OpenAPI documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from newel_tools.prove.documents import object_of

__all__ = ["Operation", "Parameter", "Schema", "Schemas", "read_operations"]

Schema = Mapping[str, Any]
Place = Literal["path", "query", "header", "cookie"]
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_MEDIA: Final = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
)
_DEPTH: Final = 20
_CREDENTIAL: Final = re.compile(r"(^|[-_])(token|authorization|auth|api[-_]?key)$", re.IGNORECASE)
_PARAMETER: Final = re.compile(r"\{([^}:]+)(?::[^}]*)?\}")


class Schemas:
    """The schemas of one document; resolves references and merges what `allOf` brings together."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def resolve(self, schema: Any) -> dict[str, Any]:
        """Return a schema without a reference or `allOf` at its top; ``{}`` for anything goes."""
        for _ in range(_DEPTH):
            if not isinstance(schema, dict):
                return {}
            found = cast("dict[str, Any]", schema)
            if "$ref" in found:
                rest = {name: value for name, value in found.items() if name != "$ref"}
                schema = {**self._at(str(found["$ref"])), **rest}
            elif "allOf" in found:
                schema = self._merged(found)
            else:
                return found
        return {}

    def _at(self, reference: str) -> dict[str, Any]:
        node: Any = self._document
        for part in reference.removeprefix("#/").split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            node = cast("dict[str, Any]", node).get(name) if isinstance(node, dict) else None
        return cast("dict[str, Any]", node) if isinstance(node, dict) else {}

    def _merged(self, schema: dict[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = {name: value for name, value in schema.items() if name != "allOf"}
        for part in schema["allOf"]:
            resolved = self.resolve(part)
            properties = {**merged.get("properties", {}), **resolved.get("properties", {})}
            required = [*merged.get("required", []), *resolved.get("required", [])]
            merged = {**resolved, **merged}
            if properties:
                merged |= {"properties": properties, "required": required}
        return merged

    def alternatives(self, schema: Any) -> list[dict[str, Any]]:
        """Return what a schema allows besides null, unions flattened."""
        found = self.resolve(schema)
        for name in ("anyOf", "oneOf"):
            if name in found:
                rest = {key: value for key, value in found.items() if key != name}
                parts = [part for one in found[name] for part in self.alternatives(one)]
                return [{**rest, **part} for part in parts]
        kind = found.get("type")
        if isinstance(kind, list):
            kinds = cast("list[str]", kind)
            return [{**found, "type": one} for one in kinds if one != "null"]
        return [] if kind == "null" else [found]

    def allows_null(self, schema: Any) -> bool:
        """Tell whether null is documented as a value."""
        found = self.resolve(schema)
        if found.get("nullable") or found.get("type") == "null" or not found:
            return True
        kinds = found.get("type")
        if isinstance(kinds, list):
            return "null" in kinds
        unions = [*found.get("anyOf", ()), *found.get("oneOf", ())]
        return any(self.allows_null(part) for part in unions)

    def properties(self, schema: Any) -> dict[str, Any]:
        """Return the fields of an object; of the first alternative that is one."""
        for part in self.alternatives(schema):
            if part.get("properties"):
                return dict(part["properties"])
        return {}

    def required(self, schema: Any) -> tuple[str, ...]:
        """Return the names that an object must have."""
        for part in self.alternatives(schema):
            if part.get("properties"):
                return tuple(part.get("required", ()))
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter outside the body."""

    name: str
    place: Place
    schema: Schema
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path, as the API description has it.

    ``body`` is the schema of the request's body (``None``: it has none), ``media`` its type.
    ``secured``: the description says that credentials are needed. ``answers`` maps documented
    statuses to the schema of their JSON.
    """

    method: str
    path: str
    name: str = ""
    tags: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    media: str = ""
    body_required: bool = False
    secured: bool = False
    answers: Mapping[int, Schema] = field(default_factory=dict[int, Schema])
    schemas: Schemas = field(repr=False, compare=False)

    @property
    def label(self) -> str:
        """The operation as people write it: `GET /users/{id}`."""
        return f"{self.method} {self.path}"

    @property
    def writes(self) -> bool:
        """Tell whether its method is meant to change something."""
        return self.method != "GET"

    @property
    def path_names(self) -> tuple[str, ...]:
        """The names in its path, in their order."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's parts, parameters as `{name}`."""
        return tuple(part for part in self.path.split("/") if part)

    def parameter(self, name: str, place: Place) -> Parameter | None:
        """Return one of its parameters."""
        found = (item for item in self.parameters if (item.name, item.place) == (name, place))
        return next(found, None)

    def queries(self) -> tuple[Parameter, ...]:
        """Return the parameters of its query."""
        return tuple(item for item in self.parameters if item.place == "query")

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of its body, by name."""
        return {} if self.body is None else self.schemas.properties(self.body)

    @property
    def lists(self) -> bool:
        """Tell whether it answers with a list, bare or inside an object (a page)."""
        schema = next((self.answers[code] for code in sorted(self.answers) if code < 300), None)
        if schema is None or self.method != "GET":
            return False
        parts = self.schemas.alternatives(schema)
        if any(part.get("type") == "array" for part in parts):
            return True
        inner = [value for part in parts for value in part.get("properties", {}).values()]
        arrays = [
            one for value in inner for one in self.schemas.alternatives(value) if one.get("items")
        ]
        return any(self.schemas.properties(array["items"]) for array in arrays)


def read_operations(documents: Mapping[str, Mapping[str, Any]]) -> list[Operation]:
    """Return the operations of the documents, each below its prefix; deprecated ones included."""
    return [
        operation
        for prefix, document in documents.items()
        for operation in _of_document(prefix, document)
    ]


def _of_document(prefix: str, document: Mapping[str, Any]) -> Iterator[Operation]:
    schemas = Schemas(document)
    everywhere = bool(document.get("security"))
    for path, item in cast("dict[str, dict[str, Any]]", document.get("paths") or {}).items():
        shared: list[Any] = item.get("parameters") or []
        for method in _METHODS:
            if method in item:
                said: dict[str, Any] = item[method]
                security = said.get("security")
                yield _operation(
                    schemas,
                    method=method.upper(),
                    path=prefix + path,
                    said=said,
                    shared=shared,
                    secured=everywhere if security is None else any(security),
                )


def _operation(
    schemas: Schemas,
    *,
    method: str,
    path: str,
    said: dict[str, Any],
    shared: list[Any],
    secured: bool,
) -> Operation:
    request = schemas.resolve(said.get("requestBody"))
    contents: dict[str, Any] = request.get("content") or {}
    media = next((name for name in _MEDIA if name in contents), next(iter(contents), ""))
    parameters = [schemas.resolve(item) for item in (*shared, *(said.get("parameters") or ()))]
    return Operation(
        method=method,
        path=path,
        name=str(said.get("operationId") or ""),
        tags=tuple(said.get("tags") or ()),
        parameters=tuple(
            Parameter(
                name=item["name"],
                place=item["in"],
                schema=schemas.resolve(item.get("schema")),
                required=bool(item.get("required")),
            )
            for item in parameters
            if "name" in item
        ),
        body=schemas.resolve(contents[media].get("schema")) if media else None,
        media=media,
        body_required=bool(request.get("required")),
        secured=secured or any(_is_credential(item) for item in parameters),
        answers=dict(_answers(schemas, said)),
        schemas=schemas,
    )


def _is_credential(parameter: Mapping[str, Any]) -> bool:
    """Tell whether a header is asked for that tells who is calling: some write it out."""
    named = parameter.get("in") == "header" and parameter.get("required")
    return bool(named) and _CREDENTIAL.search(str(parameter.get("name"))) is not None


def _answers(schemas: Schemas, said: dict[str, Any]) -> Iterator[tuple[int, Schema]]:
    for status, answer in cast("dict[str, Any]", said.get("responses") or {}).items():
        if str(status).isdigit():
            content = object_of(schemas.resolve(answer).get("content"))
            one = object_of(content.get("application/json"))
            yield int(status), schemas.resolve(one.get("schema"))
