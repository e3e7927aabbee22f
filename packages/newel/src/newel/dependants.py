"""Makes services and repositories on the event loop instead of in a thread each.

FastAPI calls what is no ``async def`` in a thread, because it might block. The constructor of a
class like ``AgentService`` only keeps what it is given, and the way to a thread and back costs more
than the rest of the request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_signature
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

__all__ = ["OnTheLoop", "construct_on_the_loop"]


class OnTheLoop:
    """A class as a coroutine function: FastAPI awaits it where it is.

    It equals the class, so that ``app.dependency_overrides[AgentService]`` finds it.
    """

    def __init__(self, made: Callable[..., Any]) -> None:
        self.made = made
        # FastAPI reads it again when anything of the application is overridden.
        self.__signature__ = get_typed_signature(made)

    async def __call__(self, **values: Any) -> Any:
        return self.made(**values)

    def __hash__(self) -> int:
        return hash(self.made)

    def __eq__(self, other: object) -> bool:
        return self.made is (other.made if isinstance(other, OnTheLoop) else other)


def construct_on_the_loop(routes: Sequence[BaseRoute]) -> None:
    """Change the dependencies of ``routes`` that are classes; and the kernel's own functions.

    What a service writes as ``def`` still runs in a thread. A class whose constructor blocks does
    not belong there: make it in the lifespan, or write ``Depends`` on a function.
    """
    for route in iter_route_contexts(routes):
        dependant: Dependant | None = getattr(route, "dependant", None)
        for dependency in _inside(dependant):
            if dependency.call is not None and _is_quick(dependency.call):
                dependency.call = OnTheLoop(dependency.call)


def _inside(dependant: Dependant | None) -> Iterator[Dependant]:
    for dependency in () if dependant is None else dependant.dependencies:
        yield dependency
        yield from _inside(dependency)


def _is_quick(call: Callable[..., Any]) -> bool:
    if inspect.isclass(call):
        return True
    is_plain = inspect.isfunction(call) and not (
        inspect.iscoroutinefunction(call)
        or inspect.isasyncgenfunction(call)
        or inspect.isgeneratorfunction(call)
    )
    return is_plain and call.__module__.partition(".")[0] == "newel"
