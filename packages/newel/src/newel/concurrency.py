"""Optimistic locking over HTTP: a version as ``ETag``, and ``If-Match`` to change only that one.

    @router.patch("/{agent_id}")
    async def update_agent(
        agent_id: UUID, data: AgentUpdate, agents: Agents, if_match: IfMatch, tagged: Tagged
    ) -> Agent:
        agent = await agents.get(agent_id)
        check_version(agent.version, if_match)
        return tagged(await agents.update(agent, data.changes()))

What a GET answers by ``tagged(...)`` is not sent again to a client that has it: ``revalidation``.

A client that sends no ``If-Match`` is let through here. On PostgreSQL the row's own version still
keeps apart two changes at the same moment (``StaleVersion``); on SQLite, where writers queue, the
later one wins.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final, Literal, TypeVar
from urllib.parse import quote

from fastapi import Depends, Header, Request, Response
from pydantic.json_schema import SkipJsonSchema

from newel.context import PATH_SAFE
from newel.entity import Entity
from newel.errors import BadRequest, PreconditionFailed
from newel.schemas import EntityRead

__all__ = ["IfMatch", "Tagged", "Tagger", "Versions", "check_version", "etag", "read_if_match"]

E = TypeVar("E", bound=Entity | EntityRead)
T = TypeVar("T")

Versions = tuple[int, ...] | Literal["*"] | None
"""What ``If-Match`` names: versions, any version, or (without the header) nothing."""

# Strong tags only: If-Match compares strongly, so W/"3" could never match (RFC 9110, 13.1.1).
# What follows the version in the answer to a GET tells bytes apart, which no change depends on.
_TAG = r'"[0-9]{1,18}(?:-[0-9a-f]{16})?"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*", re.ASCII)
_VERSIONS = re.compile(r'"([0-9]+)')


_UNVERSIONED: Final = '""'
"""The ``ETag`` of what has no version, before ``revalidation`` adds its digest."""


def etag(version: int) -> str:
    """Return the ``ETag`` of an entity's version: ``"3"``, with the quotes."""
    return f'"{version}"'


class Tagger:
    """Puts what is answered into the headers of its answer, and returns it."""

    __newel_tags__: ClassVar[bool] = True

    def __init__(self, request: Request, response: Response) -> None:
        self._request = request
        self._response = response

    def __call__(self, answer: T) -> T:
        """Say its version in ``ETag``; of what has none, a page, that it is told by its bytes."""
        is_versioned = isinstance(answer, Entity | EntityRead)
        self._response.headers["ETag"] = etag(answer.version) if is_versioned else _UNVERSIONED
        return answer

    def new(self, entity: E) -> E:
        """Say its version, and in ``Location`` its address: its id below the path of the POST."""
        path = quote(self._request.scope["path"], safe=PATH_SAFE)
        self._response.headers["Location"] = f"{path}/{entity.id}"
        return self(entity)


Tagged = Annotated[Tagger, Depends()]
"""Sets ``ETag``, and ``Location`` of what is new: ``return tagged.new(agent)``."""


async def read_if_match(  # async: FastAPI runs what is none in a thread
    if_match: Annotated[
        str | SkipJsonSchema[None],  # in the API docs it is left out, never null
        Header(
            alias="If-Match",
            description='Change it only if this is its present version, as in its ETag: `"3"`.',
            max_length=200,
            json_schema_extra={"pattern": rf"^(\*|{_TAGS.pattern})$"},
        ),
    ] = None,
) -> Versions:
    """Return what ``If-Match`` names; raises ``BadRequest`` for anything but our own ETags."""
    if if_match is None:
        return None
    text = if_match.strip()
    if text == "*":
        return "*"
    if not _TAGS.fullmatch(text):
        raise BadRequest('If-Match is not a version: send the ETag you have read, as in "3".')
    return tuple(int(version) for version in _VERSIONS.findall(text))


IfMatch = Annotated[Versions, Depends(read_if_match)]
"""The versions that the client is ready to change: ``Depends(read_if_match)``."""


def check_version(entity_version: int, if_match: Versions) -> None:
    """Raise ``PreconditionFailed`` when ``if_match`` names versions and not this one."""
    if if_match is None or if_match == "*":
        return
    if entity_version not in if_match:
        raise PreconditionFailed
