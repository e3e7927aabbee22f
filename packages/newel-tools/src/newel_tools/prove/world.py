"""The world that the probes act in: things that callers made, and valid requests on them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from newel_tools.prove.callers import Caller
from newel_tools.prove.documents import object_of
from newel_tools.prove.operations import Operation, Schema
from newel_tools.prove.refusals import refused_fields
from newel_tools.prove.requests import Request, build
from newel_tools.prove.resources import Resource, find_resources, is_people, key_of, singular
from newel_tools.prove.service import Exchange, Service
from newel_tools.prove.settings import Settings
from newel_tools.prove.values import Maker

__all__ = ["Made", "World"]

_TRIES: Final = 6
_KEYS: Final = ("id", "_id", "uuid", "pk", "key", "slug", "name")
_OWNERS: Final = re.compile(
    r"^(owner|user|author|creator|account|created_by|customer)(_?id)?$", re.IGNORECASE
)
_OWN_NAMES: Final = ("username", "user_name", "email", "handle", "login")
_LINK: Final = re.compile(r"^(?P<noun>\w+?)(_id|Id|_uuid|_pk)$")
_INSERT: Final = re.compile(
    r"\s*INSERT\s+INTO\s+[\"`\[]?(?:\w+[\"`]?\.[\"`]?)?(\w+)", re.IGNORECASE
)
_PNG: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ff"
    "ff3f0005fe02fe0def46b80000000049454e44ae426082"
)
FILES: Final = (
    ("prove.png", "image/png", _PNG),
    ("prove.txt", "text/plain", b"newel prove\n"),
    (
        "prove.pdf",
        "application/pdf",
        b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<<>>\n%%EOF\n",
    ),
    ("prove.csv", "text/csv", b"name,value\nprove,1\n"),
    ("prove.json", "application/json", b"{}"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One thing that a caller made. ``path_values`` address it; ``json`` is what was answered.

    ``tables`` were written by its request, in that order.
    """

    resource: Resource
    caller: Caller
    exchange: Exchange | None
    path_values: Mapping[str, Any]
    key: Any
    json: Mapping[str, Any]
    body: Mapping[str, Any]
    tables: tuple[str, ...] = ()


class World:
    """Makes things for callers. ``failures`` says what could not be made, and what was answered."""

    def __init__(self, service: Service, maker: Maker, settings: Settings) -> None:
        self.service = service
        self.resources = find_resources(service.operations)
        self.failures: dict[str, str] = {}
        self.settings = settings
        self._maker = maker
        self.newcomer: Callable[[], Caller | None] = lambda: None
        self._kept: dict[tuple[str, str], Made | None] = {}
        self._making: list[tuple[str, ...]] = []
        self._own_links = False

    def serial(self) -> int:
        """Return a number that was not used before."""
        return self._maker.serial()

    def value(self, operation: Operation, name: str, caller: Caller) -> Any:
        """Return a valid value for a field of an operation's body, another one each time."""
        maker = self._maker.wishing(lambda name, schema: self._wish(name, schema, caller))
        return maker.value(operation.schemas, operation.fields[name], name=name)

    def resource_of(self, operation: Operation) -> Resource | None:
        """Return the resource whose collection, or whose items, an operation is on."""
        found = (r for r in self.resources if operation in (r.create, r.list, *r.items))
        return next(found, None)

    def kept(self, resource: Resource, caller: Caller) -> Made | None:
        """Return one thing of a caller's, made once: for requests that leave it as it is."""
        where = (resource.label, caller.name)
        if where not in self._kept:
            self._kept[where] = self.make(resource, caller)
        return self._kept[where]

    def make(
        self,
        resource: Resource,
        caller: Caller,
        *,
        changes: Mapping[str, Any] | None = None,
        own_links: bool = False,
    ) -> Made | None:
        """Make a new thing for a caller; ``changes`` replace fields of its body.

        ``own_links``: what it refers to is made anew, too. ``None`` if the application did not let
        it be made; ``failures`` says why.
        """
        if resource.key in self._making:
            return None
        if resource.create is None:
            return self.account(resource, caller)
        self._making.append(resource.key)
        before, self._own_links = self._own_links, own_links
        try:
            made = self._make(resource, resource.create, caller, changes or {})
            return self.account(resource, caller) if made is None and not changes else made
        finally:
            self._own_links = before
            self._making.pop()

    def account(self, resource: Resource, caller: Caller) -> Made | None:
        """Return a caller's own account as the thing."""
        if not (is_people(resource) and resource.items and caller.id is not None):
            return None
        if len(resource.items[0].path_names) != 1:
            return None
        name = resource.items[0].path_names[0]
        key = caller.account.get(name) or (caller.username if "name" in name else caller.id)
        return Made(
            resource=resource,
            caller=caller,
            exchange=None,
            path_values={name: key},
            key=key,
            json={},
            body={},
        )

    def _make(
        self, resource: Resource, create: Operation, caller: Caller, changes: Mapping[str, Any]
    ) -> Made | None:
        last: Exchange | None = None
        for tries in range(_TRIES):
            request = self.request(create, caller, full=tries in (1, 3), changes=changes)
            if request is None:
                self.failures[create.label] = "no value is known for a name in its path"
                return None
            last = self.service.send(request, caller)
            if last.answer.is_success:
                self.failures.pop(create.label, None)
                return self._made(resource, create, caller, last)
            if last.answer.status in (401, 403, 404, 405):
                break
            for name in refused_fields(last.answer):
                self._maker.tries[name] = self._maker.tries.get(name, 0) + 1
        if last is not None:
            self.failures[create.label] = f"{last.answer.status} {last.answer.text[:300]}"
        return None

    def _made(
        self, resource: Resource, create: Operation, caller: Caller, exchange: Exchange
    ) -> Made:
        said = unwrapped(exchange.answer.json, resource.name)
        parents = self._parents(create, exchange.request)
        values: dict[str, Any] = dict(parents)
        item = next(iter(resource.items), None)
        name = "id" if item is None else item.path_names[-1]
        key = _key(said, name, resource.name)
        if key is None and (location := exchange.answer.header("location")):
            key = location.rstrip("/").rpartition("/")[2]
        if item is not None:
            values = {**dict(zip(item.path_names, parents.values(), strict=False)), name: key}
        statements = exchange.answer.statements
        tables = [found[1] for one in statements if (found := _INSERT.match(one.sql))]
        return Made(
            resource=resource,
            caller=caller,
            exchange=exchange,
            path_values=values,
            key=key,
            json=said,
            body=_json_object(exchange.request.body),
            tables=tuple(dict.fromkeys(tables)),
        )

    @staticmethod
    def _parents(create: Operation, request: Request) -> dict[str, str]:
        """Return the path values that a request was made with."""
        parts = [part for part in request.path.partition("?")[0].split("/") if part]
        pairs = zip(create.segments, parts, strict=False)
        return {name[1:-1]: part for name, part in pairs if name.startswith("{")}

    def request(
        self,
        operation: Operation,
        caller: Caller,
        *,
        target: Made | None = None,
        full: bool = False,
        changes: Mapping[str, Any] | None = None,
        path_changes: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Request | None:
        """Return a valid request of an operation; ``None`` if no value is known for its path.

        ``target`` is the thing it is about (else one is made for the caller); ``changes`` replace
        fields of the body, ``path_changes`` parts of the path, ``query`` adds to the query.
        """
        path_values = self.path_values(operation, caller, target)
        if path_values is None:
            return None
        maker = self._maker.wishing(lambda name, schema: self._wish(name, schema, caller))
        needed = {
            item.name: maker.value(operation.schemas, item.schema, name=item.name)
            for item in operation.parameters
            if item.required and item.place in ("query", "header")
        }
        places = {item.name: item.place for item in operation.parameters}
        body = self._body(operation, maker, full=full, changes=changes or {})
        files = self._files(operation)
        kept = {name: value for name, value in object_of(body).items() if name not in files}
        return build(
            operation,
            path_values={**path_values, **(path_changes or {})},
            query={
                **{name: value for name, value in needed.items() if places[name] == "query"},
                **(query or {}),
            },
            headers={n: str(value) for n, value in needed.items() if places[n] == "header"},
            body=None if body is None and not files else kept if isinstance(body, dict) else body,
            files=files,
        )

    def _body(
        self, operation: Operation, maker: Maker, *, full: bool, changes: Mapping[str, Any]
    ) -> Any:
        if operation.body is None:
            return None
        body = maker.body(operation.schemas, operation.body, full=full)
        if isinstance(body, dict):
            if not body and operation.method in ("PATCH", "PUT"):
                body = self._smallest_change(operation, maker)
            return {**object_of(body), **changes}
        return body

    @staticmethod
    def _smallest_change(operation: Operation, maker: Maker) -> dict[str, Any]:
        """Return a body with one field, the plainest there is: a text, else a number."""
        order = ("string", "number", "integer", "boolean")
        found: list[tuple[int, str]] = []
        for name, schema in operation.fields.items():
            parts = operation.schemas.alternatives(schema)
            kind = parts[0].get("type") if parts else None
            links = _LINK.match(name) or re.search(r"pass|secret|email|status|state|role", name)
            if kind in order and not links:
                plain = 0 if kind == "string" and not parts[0].keys() & {"enum", "format"} else 1
                found.append((order.index(kind) * 2 + plain, name))
        if not found:
            return dict(maker.body(operation.schemas, operation.body, full=True))
        name = min(found)[1]
        return {name: maker.value(operation.schemas, operation.fields[name], name=name)}

    def _files(self, operation: Operation) -> dict[str, tuple[str, str, bytes]]:
        return {
            name: FILES[self._maker.tries.get(name, 0) % len(FILES)]
            for name in file_fields(operation)
        }

    def path_values(
        self, operation: Operation, caller: Caller, target: Made | None = None
    ) -> dict[str, Any] | None:
        """Return a value for each name in an operation's path; ``None`` if one is not known."""
        values: dict[str, Any] = {}
        known = dict(target.path_values) if target is not None else {}
        for index, part in enumerate(operation.segments):
            if not part.startswith("{"):
                continue
            name = part[1:-1].partition(":")[0]
            value = known.get(name)
            if value is None:
                value = self._value_at(operation, index, name, caller, values)
            if value is None:
                return None
            values[name] = value
        return values

    def _value_at(
        self, operation: Operation, index: int, name: str, caller: Caller, so_far: Any
    ) -> Any:
        """Return the key of a thing of the caller's for the parameter at a place in the path."""
        if name in self.settings.values:
            return self.settings.values[name]
        key = key_of("/".join(operation.segments[:index]))
        found = next((r for r in self.resources if r.key == key), None)
        noun = singular(re.sub(r"(_?id|Id|_?uuid|_?slug|_?pk)$", "", name))
        if found is None or (found.create is None and not is_people(found)):
            found = next((r for r in self.resources if r.name == noun and r.create), None)
        made = self._thing(operation, found, caller) if found is not None else None
        if made is not None:
            so_far.update({k: v for k, v in made.path_values.items() if k in operation.path_names})
            return made.key
        if _OWNERS.match(name):
            return caller.id
        if name in _OWN_NAMES and caller.account.get(name) is not None:
            return caller.account[name]
        parameter = operation.parameter(name, "path")
        if parameter is not None and parameter.schema.get("enum"):
            return parameter.schema["enum"][0]
        return None

    def _thing(self, operation: Operation, resource: Resource, caller: Caller) -> Made | None:
        """Return the thing that a request is about; one that may perish if it is to be deleted."""
        is_last = (
            operation.path_names[-1:] == resource.items[0].path_names[-1:]
            if resource.items
            else False
        )
        if is_people(resource) and operation.writes and caller.name == "administrator":
            someone = self.newcomer()
            return self.account(resource, someone) if someone is not None else None
        if operation.method == "DELETE" and is_last:
            return self.make(resource, caller)
        return self.kept(resource, caller)

    def _wish(self, name: str, schema: Schema, caller: Caller) -> Any:
        if name in self.settings.values:
            return self.settings.values[name]
        kind = schema.get("type")
        if kind not in ("integer", "string") or schema.get("enum"):
            return None
        link = _LINK.match(name)
        if link:
            noun = singular(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", link["noun"]))
            found = [r for r in self.resources if r.name == noun and r.create is not None]
            found += [r for r in self.resources if r.create and noun.endswith("_" + r.name)]
            for resource in found:
                fresh = self._own_links and resource.key not in self._making
                made = self.make(resource, caller) if fresh else self.kept(resource, caller)
                if made is not None and made.key is not None:
                    return made.key
        if _OWNERS.match(name) and (link or kind == "integer") and caller.id is not None:
            return int(caller.id) if kind == "integer" and caller.id.isdigit() else caller.id
        return None


def file_fields(operation: Operation) -> tuple[str, ...]:
    """Return the names of the files in an operation's multipart body."""
    found: list[str] = []
    for name, schema in operation.fields.items():
        parts = operation.schemas.alternatives(schema)
        parts += [
            one for part in parts for one in operation.schemas.alternatives(part.get("items"))
        ]
        if any(one.get("format") == "binary" or "contentMediaType" in one for one in parts):
            found.append(name)
    return tuple(found)


def unwrapped(said: Any, noun: str) -> dict[str, Any]:
    """Return the object inside an envelope such as `{"data": {...}}`."""
    whole = object_of(said)
    for name in ("data", "result", "item", "response", noun, *(whole if len(whole) == 1 else ())):
        if isinstance(whole.get(name), dict):
            return object_of(whole[name])
    return whole


def _key(said: Mapping[str, Any], name: str, noun: str) -> Any:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    tail = snake.rpartition("_")[2]
    names = (name, snake, tail, f"{noun}_id", f"{noun}Id", *_KEYS)
    return next((said[one] for one in names if isinstance(said.get(one), int | str)), None)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        return object_of(json.loads(body))
    except ValueError:
        return {}
