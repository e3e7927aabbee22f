"""Solves the dependencies of a route by a plan that is made once.

FastAPI walks the tree of dependencies at every request, a dependency that occurs three times three
times, and runs what is no ``async def`` (the constructor of ``AgentService``) in a thread. That is
more work than the request's own. A ``Plan`` reads the same tree when the application is made: same
order, same cache, same stacks for what has a ``yield``. ``newel.endpoints`` answers with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Response
from fastapi.dependencies.models import (
    Dependant,
    _is_async_gen_callable,  # pyright: ignore[reportPrivateUsage] - the only ones that agree with it
    _is_coroutine_callable,  # pyright: ignore[reportPrivateUsage] - as above
    _is_gen_callable,  # pyright: ignore[reportPrivateUsage] - as above
)
from fastapi.dependencies.utils import (
    _solve_generator,  # pyright: ignore[reportPrivateUsage] - what enters a dependency with yield
)
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

__all__ = ["Plan"]

_Kind = Literal["made here", "awaited", "in a thread", "entered"]


@dataclass(frozen=True, slots=True)
class _Step:
    """One call: which values of earlier steps it takes, by the names of its parameters."""

    dependant: Dependant
    call: Callable[..., Any]
    kind: _Kind
    takes: tuple[tuple[str, int], ...]
    connection: tuple[str, ...]
    response: str | None


class Plan:
    """The calls that make the dependencies of one route, in FastAPI's order, each once.

    A class is made on the event loop: one whose constructor blocks does not belong into
    ``Depends``. What a service writes as ``def`` still gets its thread.
    """

    def __init__(self, dependencies: Sequence[Dependant]) -> None:
        self._steps: list[_Step] = []
        self._places: dict[object, int] = {}
        self._gives = tuple(
            (each.name, place)
            for each, place in [(each, self._add(each)) for each in dependencies]
            if each.name is not None
        )
        self.enters: bool = any(step.kind == "entered" for step in self._steps)
        """Whether one of them has a ``yield``."""

    @property
    def dependants(self) -> list[Dependant]:
        """What is called, in this order."""
        return [step.dependant for step in self._steps]

    async def solve(
        self, request: Request, response: Response, read: Mapping[int, dict[str, Any]]
    ) -> dict[str, Any]:
        """Return what the endpoint takes; ``read`` are the parameters of ``dependants``."""
        values: list[Any] = []
        for step in self._steps:
            given: dict[str, Any] = {name: values[place] for name, place in step.takes}
            if len(values) in read:
                given.update(read[len(values)])
            for name in step.connection:
                given[name] = request
            if step.response is not None:
                given[step.response] = response
            match step.kind:
                case "made here":
                    values.append(step.call(**given))
                case "awaited":
                    values.append(await step.call(**given))
                case "in a thread":
                    values.append(await run_in_threadpool(step.call, **given))
                case "entered":
                    values.append(await _entered(step, given, request))
        return {name: values[place] for name, place in self._gives}

    def _add(self, dependant: Dependant) -> int:
        """Return the place of what ``dependant`` gives, after adding what is missing for it."""
        taken = [(each.name, self._add(each)) for each in dependant.dependencies]
        step = _step(dependant, taken)
        key = (dependant.call, dependant.scope or ("request" if step.kind == "entered" else ""))
        if dependant.use_cache and key in self._places:
            return self._places[key]
        place = len(self._steps)
        self._places.setdefault(key, place)
        self._steps.append(step)
        return place


def _step(dependant: Dependant, taken: Sequence[tuple[str | None, int]]) -> _Step:
    call = dependant.call
    assert call is not None  # noqa: S101 - only a route's root may have none, before it is built
    names = (dependant.http_connection_param_name, dependant.request_param_name)
    return _Step(
        dependant=dependant,
        call=call,
        kind=_kind(call),
        takes=tuple((name, place) for name, place in taken if name is not None),
        connection=tuple(name for name in names if name is not None),
        response=dependant.response_param_name,
    )


def _kind(call: Callable[..., Any]) -> _Kind:
    """Tell as FastAPI does, which looks into partials and behind decorators."""
    if _is_async_gen_callable(call) or _is_gen_callable(call):
        return "entered"
    if _is_coroutine_callable(call):
        return "awaited"
    is_ours = str(getattr(call, "__module__", "")).partition(".")[0] == "newel"
    return "made here" if is_ours or inspect.isclass(call) else "in a thread"


async def _entered(step: _Step, given: dict[str, Any], request: Request) -> Any:
    """Enter a dependency with ``yield`` on the stack that is closed at its time."""
    within = "function" if step.dependant.scope == "function" else "inner"
    stack: AsyncExitStack = request.scope[f"fastapi_{within}_astack"]
    return await _solve_generator(
        dependant=step.dependant, stack=stack, sub_values=given, request=request
    )
