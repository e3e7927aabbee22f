"""``GET /rooms/client.js``: the rooms' client for pages, one file without a build.

``room_routes.module()`` has it: it comes from the service itself, so that both are of one version.
What it does stands in the file beside this one, ``room_client.js``.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response

from newel.auth import public

__all__ = ["router"]

_NAME: Final = "room_client.js"


def router() -> APIRouter:
    """Return the route of the file, which anybody may read."""
    script = files("newel").joinpath(_NAME).read_bytes()
    # Its bytes are its version: a browser asks each time, and after an upgrade gets the new one.
    tag = f'"{sha256(script).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    router = APIRouter(prefix="/rooms", tags=["rooms"], dependencies=[public()])

    @router.get("/client.js", include_in_schema=False)
    async def read_client() -> Response:
        """Send the client for pages; ``revalidation`` answers those who have it."""
        return Response(script, media_type="text/javascript", headers=headers)

    return router
