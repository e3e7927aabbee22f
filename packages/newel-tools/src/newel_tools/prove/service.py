"""The running application as the probes see it: operations, tables, and a way to ask."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from newel_tools.prove.answer import Answer, Session
from newel_tools.prove.callers import ANONYMOUS, Caller
from newel_tools.prove.client import HostClient
from newel_tools.prove.documents import object_of
from newel_tools.prove.operations import Operation, read_operations
from newel_tools.prove.requests import Request, build, curl

__all__ = ["Column", "Difference", "Exchange", "Service", "Table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; ``type`` is its Python type's name, ``references`` are `table.column`."""

    name: str
    type: str
    length: int | None
    values: tuple[str, ...]
    nullable: bool
    primary_key: bool
    has_default: bool
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the application, as its ORM declares it."""

    name: str
    columns: tuple[Column, ...]
    unique: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> Column | None:
        """Return the column of this name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def key(self) -> str | None:
        """The column that names a row: the primary key, or `id` as a part of it."""
        keys = [column.name for column in self.columns if column.primary_key]
        return "id" if "id" in keys else keys[0] if len(keys) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One between the models and the schema that the migrations made.

    ``kind`` is Alembic's name for what would mend it: `add_table`, `add_column`, `remove_column`,
    `modify_nullable`, `modify_type`.
    """

    kind: str
    table: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request with its answer."""

    request: Request
    answer: Answer
    caller: Caller

    @property
    def curl(self) -> str:
        """The shell line that sends the request; `$USER_TOKEN` stands for the caller's secret."""
        return curl(self.request, secrets=self.caller.secret_words)


@dataclass(slots=True)
class Service:
    """One run of an application.

    ``created`` are the tables that neither its migrations nor its start-up had made.
    """

    host: HostClient
    operations: tuple[Operation, ...]
    websockets: tuple[str, ...]
    tables: Mapping[str, Table]
    dialect: str | None
    token_urls: tuple[str, ...] = ()
    created: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    exchanges: int = 0
    listeners: list[Callable[[Exchange], None]] = field(
        default_factory=list[Callable[["Exchange"], None]]
    )
    _addresses: Any = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def of(cls, host: HostClient, said: Mapping[str, Any]) -> Service:
        """Return the service of a host that said what it has started."""
        tables = [
            Table(
                name=table["name"],
                columns=tuple(_column(column) for column in table["columns"]),
                unique=tuple(tuple(names) for names in table["unique"]),
            )
            for table in said["tables"]
        ]
        return cls(
            host=host,
            operations=tuple(read_operations(said["documents"])),
            websockets=tuple(item["path"] for item in said["websockets"]),
            tables={table.name: table for table in tables},
            dialect=said["dialect"],
            problems=tuple(said["problems"]),
            documents=said["documents"],
            token_urls=tuple(_token_urls(said["documents"])),
            created=tuple(said["created"]),
        )

    def send(
        self, request: Request, caller: Caller = ANONYMOUS, *, patient: bool = True
    ) -> Exchange:
        """Send a request as a caller and return both; each comes from an address of its own.

        ``patient``: when the application has been asked too often, its clock is put forward.
        """
        exchange = self.begin(request, caller)()
        if patient and exchange.answer.status == 429:
            said = exchange.answer.header("retry-after") or ""
            seconds = min(int(said), 3_600) if said.isdigit() else 61
            self.host.ask("advance", seconds=seconds + 1)
            exchange = self.begin(request, caller)()
        return exchange

    def begin(self, request: Request, caller: Caller = ANONYMOUS) -> Callable[[], Exchange]:
        """Send a request, and return a function that waits for its answer."""
        full = request.with_headers(caller.headers) if caller.headers else request
        options: dict[str, Any] = {"client": self.address(), **full.options}
        wait = self.host.start_call(
            full.method,
            full.path,
            headers=full.headers,
            body=full.body,
            fill_bytes=full.fill_bytes,
            tail=full.tail,
            **options,
        )

        def finish() -> Exchange:
            exchange = Exchange(request=full, answer=wait(), caller=caller)
            self.exchanges += 1
            for listener in self.listeners:
                listener(exchange)
            return exchange

        return finish

    def address(self) -> str:
        """Return a client address that was not used before: limits by address do not add up."""
        number = next(self._addresses)
        return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"

    def ask(self, operation: Operation, caller: Caller = ANONYMOUS, **parts: Any) -> Exchange:
        """Build the request of an operation and send it; ``parts`` as in `requests.build`."""
        return self.send(build(operation, **parts), caller)

    def operation(self, method: str, path: str) -> Operation | None:
        """Return the operation of a method and a path template."""
        found = (op for op in self.operations if (op.method, op.path) == (method, path))
        return next(found, None)

    def converse(self, path: str, **asked: Any) -> Session:
        """Open a websocket; see ``HostClient.converse``."""
        return self.host.converse(path, client=self.address(), **asked)

    def rows(self, table: str, **where: Any) -> list[dict[str, Any]]:
        """Return rows of a table past the application."""
        try:
            return self.host.ask("select", table=table, where=where)["rows"]
        except LookupError:
            return []

    def change_rows(self, table: str, where: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        """Change rows past the application; return how many."""
        asked = {"table": table, "where": dict(where), "values": dict(values)}
        return int(self.host.ask("update", **asked)["changed"])


def _token_urls(documents: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the API descriptions say that OAuth2 hands out tokens."""
    for document in documents.values():
        schemes = object_of(object_of(document.get("components")).get("securitySchemes"))
        for scheme in schemes.values():
            for flow in object_of(object_of(scheme).get("flows")).values():
                if url := object_of(flow).get("tokenUrl"):
                    yield str(url)


def _column(said: dict[str, Any]) -> Column:
    return Column(
        name=said["name"],
        type=said["type"],
        length=said["length"],
        values=tuple(said["values"]),
        nullable=said["nullable"],
        primary_key=said["primary_key"],
        has_default=said["has_default"],
        references=tuple(said["references"]),
    )
