"""Solves the dependencies of a route by a plan that is made once.

FastAPI walks the tree of dependencies at every request, a dependency that occurs three times three
times, and runs what is no ``async def`` (the constructor of ``AgentService``) in a thread. That is
more work than the request's own. ``plan_dependencies`` reads the same tree when the application is
made: same order, same cache, same overrides, same stacks for what has a ``yield``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from fastapi import BackgroundTasks, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import (
    _solve_generator,  # pyright: ignore[reportPrivateUsage] - what enters a dependency with yield
    solve_dependencies,
)
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.routing import BaseRoute

__all__ = ["plan_dependencies"]

_PLANNED: Final = "newel_planned"

_Kind = Literal["made here", "awaited", "in a thread", "entered"]


def plan_dependencies(routes: Sequence[BaseRoute]) -> None:
    """Let every route that can be planned solve its dependencies by a plan.

    A route is left to FastAPI when it is no ``async def``, or when a dependency that reads the
    request's parameters has dependencies itself. ``route.dependant``, which the documentation is
    made of, stays as it is. A class is made on the event loop: one whose constructor blocks does
    not belong into ``Depends``. What a service writes as ``def`` still gets its thread.
    """
    for found in iter_route_contexts(routes):
        route: Any = getattr(found, "_effective_route", None)
        dependant: Dependant | None = getattr(route, "dependant", None)
        if dependant is None or not isinstance(found.original_route, APIRoute):
            continue
        planned, left = _split(dependant)
        if inspect.iscoroutinefunction(dependant.call) and planned and _are_leaves(left):
            route.dependant = replace(dependant)
            _rewire(dependant, _Plan(planned), left)


def _split(dependant: Dependant) -> tuple[list[Dependant], list[Dependant]]:
    planned = [each for each in dependant.dependencies if _can_be_planned(each)]
    return planned, [each for each in dependant.dependencies if each not in planned]


def _are_leaves(dependencies: Sequence[Dependant]) -> bool:
    return not any(each.dependencies for each in dependencies)


def _rewire(dependant: Dependant, plan: _Plan, left: list[Dependant]) -> None:
    """Put the plan in place of what it solves, and give its values to the endpoint."""
    endpoint: Any = dependant.call

    @functools.wraps(endpoint)
    async def with_planned(**values: Any) -> Any:
        planned: Mapping[str, Any] = values.pop(_PLANNED)
        return await endpoint(**values, **planned)

    node = Dependant(
        name=_PLANNED,
        call=plan,
        path=dependant.path,
        http_connection_param_name="connection",
        response_param_name="response",
        background_tasks_param_name="tasks",
    )
    dependant.call = with_planned
    dependant.dependencies = [node, *left]


def _can_be_planned(dependant: Dependant) -> bool:
    reads_parameters = (
        dependant.path_params
        or dependant.query_params
        or dependant.header_params
        or dependant.cookie_params
        or dependant.body_params
    )
    wants_more = (
        dependant.background_tasks_param_name
        or dependant.security_scopes_param_name
        or dependant.own_oauth_scopes
        or dependant.concurrency
        or dependant.websocket_param_name
    )
    is_sync_generator = inspect.isgeneratorfunction(dependant.call)
    return not (reads_parameters or wants_more or is_sync_generator) and all(
        _can_be_planned(each) for each in dependant.dependencies
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """One call: which values of earlier steps it takes, by the names of its parameters."""

    dependant: Dependant
    call: Callable[..., Any]
    kind: _Kind
    takes: tuple[tuple[str, int], ...]
    connection: tuple[str, ...]
    response: str | None


class _Plan:
    """The calls that make the dependencies of one route, in FastAPI's order, each once."""

    def __init__(self, dependencies: list[Dependant]) -> None:
        self._dependencies = dependencies
        self._steps: list[_Step] = []
        self._places: dict[object, int] = {}
        self._gives = tuple(
            (each.name, place)
            for each, place in [(each, self._add(each)) for each in dependencies]
            if each.name is not None
        )

    async def __call__(
        self, connection: HTTPConnection, response: Response, tasks: BackgroundTasks
    ) -> dict[str, Any]:
        """Return the values of the endpoint's parameters; only an override may want ``tasks``."""
        if connection.app.dependency_overrides:
            return await self._as_fastapi_does(connection, response, tasks)
        values: list[Any] = []
        for step in self._steps:
            given: dict[str, Any] = {name: values[place] for name, place in step.takes}
            for name in step.connection:
                given[name] = connection
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
                    values.append(await _entered(step, given, connection))
        return {name: values[place] for name, place in self._gives}

    async def _as_fastapi_does(
        self, connection: HTTPConnection, response: Response, tasks: BackgroundTasks
    ) -> dict[str, Any]:
        assert isinstance(connection, Request)  # noqa: S101 - websockets are not planned
        solved = await solve_dependencies(
            request=connection,
            dependant=Dependant(dependencies=self._dependencies, path="/"),
            response=response,
            background_tasks=tasks,
            dependency_overrides_provider=connection.app,
            async_exit_stack=AsyncExitStack(),  # unused since FastAPI 0.106
            embed_body_fields=False,
        )
        return solved.values

    def _add(self, dependant: Dependant) -> int:
        """Return the place of what ``dependant`` gives, after adding what is missing for it."""
        taken = [(each.name, self._add(each)) for each in dependant.dependencies]
        key = (dependant.call, dependant.scope) if dependant.use_cache else object()
        if key not in self._places:
            self._places[key] = len(self._steps)
            self._steps.append(_step(dependant, taken))
        return self._places[key]


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
    function = call if inspect.isroutine(call) else type(call).__call__
    if inspect.isclass(call):
        return "made here"
    if inspect.isasyncgenfunction(function):
        return "entered"
    if inspect.iscoroutinefunction(function):
        return "awaited"
    is_ours = str(getattr(call, "__module__", "")).partition(".")[0] == "newel"
    return "made here" if is_ours else "in a thread"


async def _entered(step: _Step, given: dict[str, Any], connection: HTTPConnection) -> Any:
    """Enter a dependency with ``yield`` on the stack that FastAPI closes at its time."""
    assert isinstance(connection, Request)  # noqa: S101 - websockets are not planned
    within = "function" if step.dependant.scope == "function" else "inner"
    stack: AsyncExitStack = connection.scope[f"fastapi_{within}_astack"]
    return await _solve_generator(
        dependant=step.dependant, stack=stack, sub_values=given, request=connection
    )
