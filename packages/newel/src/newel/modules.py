"""A feature as a value: what ``create_app`` puts together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, params

from newel.auth import Authenticator
from newel.handlers import Handler
from newel.jobs import Job
from newel.rooms import Room
from newel.schedules import Schedule

__all__ = ["Module"]


@dataclass(frozen=True, slots=True)
class Module:
    """A feature as a value: its routers, mounted under the API prefix.

    ``dependencies`` apply to all of its routes, so that a plain FastAPI router can be mounted
    unchanged: ``Module("old", routers=[router], dependencies=[requires("old:read")])``.
    ``root_routers`` are mounted without the prefix, for addresses that a standard fixes.
    ``authenticator`` builds what turns tokens into principals; one module of a service has it.
    ``jobs``, ``handlers`` and ``schedules`` are what it does in the background: a worker runs no
    job that no module names. ``rooms`` are those that clients may join. ``versions`` of the API
    that it is part of: none named, each.
    """

    name: str
    _: KW_ONLY
    routers: Sequence[APIRouter] = ()
    root_routers: Sequence[APIRouter] = ()
    dependencies: Sequence[params.Depends] = ()
    description: str = ""
    jobs: Sequence[Job[..., Any]] = ()
    handlers: Sequence[Handler[Any]] = ()
    schedules: Sequence[Schedule] = ()
    rooms: Sequence[Room] = ()
    versions: Sequence[str] = ()
    authenticator: Callable[[FastAPI], Authenticator] | None = None
