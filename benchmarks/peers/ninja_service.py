"""The service on Django Ninja, with Django's ORM on psycopg's pool, as their guides show.

Its views are synchronous, as Django's ORM is: asynchronous ones cost a switch of threads a query.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import django
from django.conf import settings
from django.core.asgi import get_asgi_application

from benchmarks.variants.environment import Environment


def configure(environment: Environment) -> None:
    parts = urlsplit(environment.database_url)
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path.lstrip("/"),
                "USER": parts.username,
                "HOST": parse_qs(parts.query)["host"][0],
                "OPTIONS": {"pool": {"min_size": 1, "max_size": 30}},
            }
        },
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # it sets Content-Length
        ROOT_URLCONF="benchmarks.peers.ninja_api",
        SECRET_KEY=environment.token_key.hex(),
        USE_TZ=True,
    )
    django.setup()


class Lifespan:
    """Answers the server's start and stop messages, which Django leaves to others."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


def build() -> Lifespan:
    configure(Environment.read())
    return Lifespan(get_asgi_application())
