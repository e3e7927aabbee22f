"""A feature as a value: what ``create_app`` puts together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

from fastapi import APIRouter, FastAPI, params

from newel.auth import Authenticator

__all__ = ["Module"]


@dataclass(frozen=True, slots=True)
class Module:
    """A feature as a value: its routers, mounted under the API prefix.

    ``dependencies`` apply to all of its routes, so that a plain FastAPI router can be mounted
    unchanged: ``Module("old", routers=[router], dependencies=[requires("old:read")])``.
    ``root_routers`` are mounted without the prefix, for addresses that a standard fixes.
    ``authenticator`` builds what turns tokens into principals; one module of a service has it.
    """

    name: str
    _: KW_ONLY
    routers: Sequence[APIRouter] = ()
    root_routers: Sequence[APIRouter] = ()
    dependencies: Sequence[params.Depends] = ()
    description: str = ""
    authenticator: Callable[[FastAPI], Authenticator] | None = None
