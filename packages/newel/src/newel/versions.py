"""Versions of an API side by side: ``/api/v1`` and ``/api/v2`` from one code base.

    V1 = Version("v1", deprecated=date(2026, 6, 1), sunset=date(2027, 1, 1))
    V2 = Version("v2")
    app = create_app(
        settings, accounts.module(User), agents.v1, agents.v2, versions=[V1, V2]
    )   # agents.v1 = Module("agents", routers=[...], versions=["v1"])

A module that names no version is part of each. A path without a version, ``/api/agents``, means the
one that ``X-API-Version`` names, else the first.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from newel.errors import AppError, BadRequest, ConfigurationError
from newel.middleware import REDOC_POLICY, SWAGGER_POLICY
from newel.routing import RouteIndex

__all__ = ["HEADER", "Version", "VersionedPaths", "prefixes", "serve_document"]

HEADER: Final = "X-API-Version"

_NAME: Final = re.compile(r"v[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the API: ``v1``, ``v2``.

    Its answers say since when it is ``deprecated`` (RFC 9745), from when on it may be gone
    (``sunset``, RFC 8594), and where its ``guide``, the way to the next one, can be read. Raises
    ``ConfigurationError`` for a name that is no version's and for a sunset before the deprecation.
    """

    name: str
    _: KW_ONLY
    deprecated: date | None = None
    sunset: date | None = None
    guide: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} is no version", fix="call it v1, v2, ...")
        if self.sunset and (self.deprecated is None or self.sunset < self.deprecated):
            raise ConfigurationError(
                f"the version {self.name} ends before it is deprecated",
                fix="give Version(...) a deprecated= that is earlier than its sunset=",
            )

    def headers(self) -> dict[str, str]:
        """Return what its answers carry."""
        said = {HEADER: self.name}
        if self.deprecated is not None:
            said["Deprecation"] = f"@{int(_midnight(self.deprecated).timestamp())}"
        if self.sunset is not None:
            said["Sunset"] = format_datetime(_midnight(self.sunset), usegmt=True)
        if self.guide is not None:
            relation = "sunset" if self.deprecated is None else "deprecation"
            said["Link"] = f'<{self.guide}>; rel="{relation}"; type="text/html"'
        return said


def prefixes(versions: Sequence[Version], api_prefix: str) -> Mapping[str, Version]:
    """Return each version by its path: beside ``api_prefix`` (``/api/v1`` or ``/api``).

    Raises ``ConfigurationError`` for a name that is there twice.
    """
    found = {f"{_common(api_prefix)}/{version.name}": version for version in versions}
    if len(found) < len(versions):
        raise ConfigurationError("two versions have one name", fix="name each version once")
    return found


def _common(api_prefix: str) -> str:
    above, _, last = api_prefix.rstrip("/").rpartition("/")
    return above if _NAME.fullmatch(last) else api_prefix.rstrip("/")


def serve_document(app: FastAPI, prefix: str, document: Callable[[], dict[str, Any]]) -> None:
    """Serve one version's OpenAPI ``document`` below its ``prefix``, and the pages that show it."""
    url = f"{prefix}/openapi.json"

    async def openapi(_request: Request) -> Response:
        return JSONResponse(document())

    app.add_route(url, openapi, include_in_schema=False)
    pages = {
        "docs": (get_swagger_ui_html, SWAGGER_POLICY),
        "redoc": (get_redoc_html, REDOC_POLICY),
    }
    for name, (page, policy) in pages.items():
        show = _shown(page, policy, url, app.title)
        app.add_route(f"{prefix}/{name}", show, include_in_schema=False)


def _shown(
    page: Callable[..., HTMLResponse], policy: str, url: str, title: str
) -> Callable[[Request], Awaitable[Response]]:
    async def show(request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        response = page(openapi_url=root + url, title=title)
        response.headers["Content-Security-Policy"] = policy
        return response

    return show


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


class VersionedPaths:
    """Finds the version of a request before its route, as ``app.router.middleware_stack``.

    Raises ``BadRequest`` for a version that is not there and for a path and a header that differ.
    """

    def __init__(self, index: RouteIndex, by_prefix: Mapping[str, Version]) -> None:
        self._index = index
        self._by_name = {version.name: version for version in by_prefix.values()}
        self._common = f"{next(iter(by_prefix)).rpartition('/')[0]}/"
        self._first = next(iter(self._by_name))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if not path.startswith(self._common):
            await self._index(scope, receive, send)
            return
        asked = Headers(scope=scope).get(HEADER)
        name = path[len(self._common) :].partition("/")[0]
        if name in self._by_name:
            if asked not in {None, name}:
                raise BadRequest(f"The path asks for {name}, {HEADER} for another version.")
        elif not self._index.answers(scope):  # not the docs page, which has no version
            name = self._named(asked)
            _insert(scope, self._common, name)
        else:
            await self._index(scope, receive, send)
            return
        said = self._by_name[name].headers()
        try:
            await self._index(scope, receive, _saying(send, said))
        except AppError as error:  # what is raised around a route is answered further out
            error.headers.update(said)
            raise

    def _named(self, asked: str | None) -> str:
        if asked is None:
            return self._first
        if asked not in self._by_name:
            known = ", ".join(self._by_name)
            raise BadRequest(f"{HEADER} names no version of this API: there are {known}.")
        return asked


def _insert(scope: Scope, common: str, name: str) -> None:
    """Put the version into the path: what comes after, logs too, sees the route that answers."""
    root = scope.get("root_path", "")
    scope["path"] = f"{root}{common}{name}/{scope['path'][len(root) + len(common) :]}"
    scope["raw_path"] = scope["path"].encode()


def _saying(send: Send, headers: Mapping[str, str]) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.accept"}:
            found = MutableHeaders(scope=message)
            for name, value in headers.items():
                found.append(name, value)
            found.add_vary_header(HEADER)
        await send(message)

    return answer
