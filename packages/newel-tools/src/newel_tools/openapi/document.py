"""An OpenAPI document, read and resolved: its operations, and the schemas they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import yaml

from newel_tools.openapi.values import as_list, as_mapping

__all__ = ["METHODS", "Document", "DocumentError", "Node", "Operation", "read_document"]

Node: TypeAlias = Mapping[str, Any]
"""One JSON object of the document."""

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
_PARAMETER_IN_PATH: Final = re.compile(r"\{[^}]*\}")
_IGNORED_HEADERS: Final = {"accept", "content-type", "authorization"}  # OpenAPI ignores them too


class DocumentError(ValueError):
    """A file that is no OpenAPI 3 document; ``message`` and ``fix`` are one line each."""

    def __init__(self, message: str, *, fix: str) -> None:
        self.message = message
        self.fix = fix
        super().__init__(f"{message}\n  fix: {fix}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path; ``path_content`` holds what all methods of the path share."""

    method: str
    path: str
    content: Node
    path_content: Node

    @property
    def name(self) -> str:
        """How people call it: ``GET /agents/{agent_id}``."""
        return f"{self.method.upper()} {self.path}"

    @property
    def key(self) -> tuple[str, str]:
        """What stays the same when a parameter of the path is renamed: no client sees its name."""
        return self.method, _PARAMETER_IN_PATH.sub("{}", self.path)

    @property
    def deprecated(self) -> bool:
        """Whether clients were told to leave."""
        return bool(self.content.get("deprecated"))

    @property
    def sunset(self) -> str | None:
        """The day when it ends (``x-sunset``), as written."""
        said = self.content.get("x-sunset")
        return None if said is None else str(said)


@dataclass(frozen=True, eq=False)
class Document:
    """An OpenAPI 3 document; ``content`` is never changed."""

    content: Node
    shown: str = "the document"
    _operations: dict[tuple[str, str], Operation] = field(
        init=False, repr=False, default_factory=dict[tuple[str, str], Operation]
    )

    def __post_init__(self) -> None:
        version = str(self.content.get("openapi", ""))
        if not version.startswith("3."):
            found = f"version {version}" if version else "no `openapi: 3.x`"
            raise DocumentError(
                f"{self.shown} is no OpenAPI 3 document ({found})",
                fix="name a document of OpenAPI 3.0 or 3.1",
            )
        for operation in self._read():
            self._operations[operation.key] = operation

    @property
    def operations(self) -> Mapping[tuple[str, str], Operation]:
        """Every operation by its key."""
        return self._operations

    @property
    def webhooks(self) -> frozenset[str]:
        """The names of what the API calls itself."""
        return frozenset(as_mapping(self.content.get("webhooks")))

    def resolve(self, node: object) -> tuple[Node, str | None]:
        """Follow ``$ref`` to its end; also return the component's name, if it has one.

        Keys beside a ``$ref`` win over the target's (OpenAPI 3.1). A reference that leads nowhere
        or out of the document stays as it is: two such are the same if written the same.
        """
        seen: set[str] = set()
        name: str | None = None
        here = as_mapping(node)
        while isinstance(reference := here.get("$ref"), str) and reference not in seen:
            seen.add(reference)
            target = self._target(reference)
            if target is None:
                break
            name = name or _component_name(reference)
            beside = {key: value for key, value in here.items() if key != "$ref"}
            here = {**target, **beside} if beside else target
        return here, name

    def parameters(self, operation: Operation) -> dict[tuple[str, str], Node]:
        """Return the parameters by place and name; those of a path are numbered, not named."""
        found: dict[tuple[str, str], Node] = {}
        for source in (operation.path_content, operation.content):
            for node in as_list(source.get("parameters")):
                parameter, _ = self.resolve(node)
                place, name = str(parameter.get("in", "")), str(parameter.get("name", ""))
                if place == "header":
                    name = name.lower()
                    if name in _IGNORED_HEADERS:
                        continue
                if place == "path":
                    name = _position(operation.path, name)
                found[place, name] = parameter
        return found

    def security(self, operation: Operation) -> list[dict[str, frozenset[str]]]:
        """Return the ways in: each is what a caller needs, by what it sends, with its scopes.

        An empty way is an anonymous caller. A scheme is known by what travels with the request, not
        by the name that the document gives it.
        """
        said = operation.content.get("security", self.content.get("security"))
        ways = [as_mapping(way) for way in as_list(said)]
        if not ways:
            return [{}]
        return [
            {self._sent(name): frozenset(map(str, as_list(scopes))) for name, scopes in way.items()}
            for way in ways
        ]

    def _sent(self, name: str) -> str:
        schemes = as_mapping(as_mapping(self.content.get("components")).get("securitySchemes"))
        scheme, _ = self.resolve(schemes.get(name))
        match scheme.get("type"):
            case "apiKey":
                return f"{scheme.get('in')} {scheme.get('name')}"
            case "http":
                return f"Authorization: {str(scheme.get('scheme', '')).capitalize()}"
            case "oauth2" | "openIdConnect":
                return "Authorization: Bearer"
            case _:
                return name

    def _read(self) -> Iterator[Operation]:
        for path, item in as_mapping(self.content.get("paths")).items():
            content, _ = self.resolve(item)
            for method in METHODS:
                if isinstance(content.get(method), Mapping):
                    yield Operation(
                        method=method, path=path, content=content[method], path_content=content
                    )

    def _target(self, reference: str) -> Node | None:
        if not reference.startswith("#"):
            return None
        here: object = self.content
        for part in reference.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            here = as_mapping(here).get(key)
        return cast("Node", here) if isinstance(here, Mapping) else None


def read_document(path: Path) -> Document:
    """Read a document of JSON or YAML; raises ``DocumentError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DocumentError(
            f"{path} cannot be read: {reason}", fix="name an OpenAPI document"
        ) from None
    try:
        # YAML is a superset of JSON, but fifty times slower to read.
        content: object = json.loads(text) if text.lstrip().startswith("{") else _yaml(text)
    except (ValueError, yaml.YAMLError) as error:
        line = str(error).splitlines()[0]
        raise DocumentError(f"{path} is neither JSON nor YAML: {line}", fix="correct it") from None
    return Document(as_mapping(content), str(path))


def _yaml(text: str) -> object:
    loader = cast("Any", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    read = yaml.load(text, Loader=loader)  # noqa: S506 - the safe loader, in C where there is one
    return _as_json(read, {})


def _as_json(value: object, seen: dict[int, object]) -> object:
    """Return what JSON would have said: a status is a text, and so is a date.

    An alias is read once: nine of them within each other are a billion nodes otherwise.
    """
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, Mapping):
        made: dict[str, object] = {}
        seen[id(value)] = made  # pyright: ignore[reportUnknownArgumentType] - any YAML value
        for key, item in cast("Mapping[Any, Any]", value).items():
            made[str(key)] = _as_json(item, seen)
        return made
    if isinstance(value, list):
        items: list[object] = []
        seen[id(value)] = items  # pyright: ignore[reportUnknownArgumentType] - any YAML value
        items += [_as_json(item, seen) for item in cast("list[Any]", value)]
        return items
    return str(value) if isinstance(value, date) else value


def _component_name(reference: str) -> str | None:
    parts = reference.split("/")
    return parts[-1] if parts[:-1] == ["#", "components", "schemas"] else None


def _position(path: str, name: str) -> str:
    names = [found[1:-1].partition(":")[0] for found in _PARAMETER_IN_PATH.findall(path)]
    return str(names.index(name) + 1) if name in names else name
