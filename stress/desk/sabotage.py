"""The guards that can be left out, one at a time, so that each abuse is seen to need its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fastapi import FastAPI, Request

from newel import connections, room_connections
from newel.admission import Admission
from newel.auth import public
from newel.middleware import BodyLimit, Deadline
from newel.passwords import Passwords

__all__ = ["SABOTAGES", "Sabotage", "named"]

_connections: Final[Any] = connections
_room_connections: Final[Any] = room_connections


def _nothing(_: FastAPI) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """What is left out: middleware, a bound of uploads, settings, or what ``plant`` changes.

    ``found_by`` is a part of the name of the figure that has to show it.
    """

    found_by: str
    scenario: Literal["overload", "abuse"] = "abuse"
    left_out: Sequence[type] = ()
    upload_bytes: int = 0
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    plant: Callable[[FastAPI], None] = _nothing


def _threads_for_everybody(app: FastAPI) -> None:
    """Hash as many passwords at once as are sent."""
    app.state.passwords = Passwords(threads=64)


def _everything_of_a_websocket(_: FastAPI) -> None:
    """Take any number of fragments."""
    _connections._MOST_FRAGMENTS = 10**9


def _any_patience(_: FastAPI) -> None:
    """Keep for each connection whatever it does not read."""
    _room_connections.QUEUE_BYTES = 10**9
    _room_connections.SEND_SECONDS = 10**9


def _compression(_: FastAPI) -> None:
    """Let websockets compress."""
    init = _connections.ConnectionConfig.__init__

    def compressing(config: Any, *arguments: Any, **options: Any) -> None:
        init(config, *arguments, **options)
        config.ws_per_message_deflate = True

    _connections.ConnectionConfig.__init__ = compressing


def _raw_json(app: FastAPI) -> None:
    """Read a body as code without a schema does."""

    async def open_ticket(request: Request) -> dict[str, str]:
        await request.json()
        return {"id": "0"}

    _in_front(app, "/api/v1/tickets", open_ticket)


def _any_form(app: FastAPI) -> None:
    """Read a form with as many fields as somebody sends."""

    async def upload(request: Request) -> dict[str, str]:
        async with request.form(max_files=10**9, max_fields=10**9):
            return {"id": "0"}

    _in_front(app, "/api/v1/files", upload)


def _in_front(app: FastAPI, path: str, endpoint: Callable[..., Any]) -> None:
    """Put a route before all others; the index of routes does not know it, so it goes too."""
    app.add_api_route(path, endpoint, methods=["POST"], dependencies=[public()], status_code=201)
    app.router.routes.insert(0, app.router.routes.pop())
    search: Any = app.router.middleware_stack
    app.router.middleware_stack = search._search


SABOTAGES: Final[Mapping[str, Sabotage]] = {
    "no-admission": Sabotage(
        left_out=[Admission], found_by="refusal in 99 of 100, ms", scenario="overload"
    ),
    "no-body-limit": Sabotage(
        left_out=[BodyLimit], upload_bytes=10**9, found_by="an upload of 300 MB"
    ),
    "no-deadline": Sabotage(left_out=[Deadline], found_by="200 slow bodies"),
    "no-header-deadline": Sabotage(
        environment={"HEADER_TIMEOUT_SECONDS": "3600"}, found_by="300 slow headers"
    ),
    "no-schema": Sabotage(plant=_raw_json, found_by="deep JSON"),
    "any-form": Sabotage(plant=_any_form, found_by="50,000 fields"),
    "any-fragments": Sabotage(plant=_everything_of_a_websocket, found_by="two million fragments"),
    "compression": Sabotage(plant=_compression, found_by="deflate bombs"),
    "patience": Sabotage(plant=_any_patience, found_by="100 of 1,000 in a room read nothing"),
    "threads": Sabotage(plant=_threads_for_everybody, found_by="20 log-ins"),
}


def named(names: str) -> list[Sabotage]:
    """Return those that ``names``, separated by commas, lists."""
    return [SABOTAGES[name] for name in names.split(",") if name]
