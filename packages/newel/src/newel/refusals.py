"""Refusals: who finds no place is answered before a request is made of what it asks.

    ConnectionConfig(app, refusals=Refusals.of(app))    # as newel serve does

Twice as much as a service can do is as many refusals as answers: each costs what the rest lacks.
"""

from __future__ import annotations

import time
from typing import cast
from urllib.parse import quote

from fastapi import FastAPI
from pydantic_core import from_json, to_json
from starlette.types import Scope

from newel.admission import Admission, Places, is_exempt, refusal
from newel.clock import utc_now
from newel.connections import head
from newel.context import PATH_SAFE
from newel.metrics import RequestMetrics
from newel.middleware import account, request_id_of, security_headers
from newel.settings import Settings

__all__ = ["Refusals"]


class Refusals:
    """Answers in place of ``Admission`` when its ``places`` are full, with the same words."""

    def __init__(self, places: Places, *, metrics: RequestMetrics, settings: Settings) -> None:
        self._places = places
        self._metrics = metrics
        self._proxies = settings.trusted_proxies
        sample = refusal({"path": "/"})
        self._problem: dict[str, object] = from_json(bytes(sample.body))
        del sample.headers["content-length"]
        secure = security_headers(https_only=settings.environment == "production")
        self._fixed = head([*sample.raw_headers, *secure])

    @classmethod
    def of(cls, app: FastAPI) -> Refusals | None:
        """Return the refusals of ``app``; ``None`` when it has no ``Admission``."""
        for one in app.user_middleware:
            if one.cls is Admission:
                places = cast("Places", one.kwargs["places"])
                return cls(places, metrics=app.state.metrics, settings=app.state.settings)
        return None

    def is_needed(self) -> bool:
        """Tell whether there is no place for another request, nor in the line."""
        return not self._places.expect()

    def answer(self, scope: Scope) -> tuple[bytes, bytes] | None:
        """Return the headers, as they are sent, and body of a 503; ``None``: it is to be asked.

        The application is, when a browser asks for another origin's page, whose answer CORS has to
        allow, and by who wants to know how the service is.
        """
        if is_exempt(scope) or any(name == b"origin" for name, _ in scope["headers"]):
            return None
        began = time.perf_counter()
        identity = request_id_of(scope)
        path = quote(scope["path"][:1024], safe=PATH_SAFE)
        own = {"instance": path, "request_id": identity, "timestamp": utc_now().isoformat()}
        body = to_json({**self._problem, **own})
        scope["newel.refused"] = True
        seconds = time.perf_counter() - began
        account(self._metrics, scope, identity, 503, seconds, proxies=self._proxies)
        length, known = (b"content-length", b"%d" % len(body)), (b"x-request-id", identity.encode())
        return self._fixed + head([length, known]), body
