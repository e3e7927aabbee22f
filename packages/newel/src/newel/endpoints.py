"""Answers a planned request without FastAPI's handler, as long as nothing is unusual.

That handler can do all that a route may declare. Most declare JSON in, a model out, and what they
depend on: ``DirectAnswer`` does that much by FastAPI's own functions, but reads the parameters
before anything is called. What is wrong with them is FastAPI's to say, from the beginning.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import FunctionType
from typing import Any, Final

import fastapi.routing
from fastapi import Response
from fastapi._compat import ModelField, field_annotation_is_sequence, lenient_issubclass
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import (
    Dependant,
    _is_async_gen_callable,  # pyright: ignore[reportPrivateUsage] - as in newel.dependants
    _is_gen_callable,  # pyright: ignore[reportPrivateUsage] - as in newel.dependants
)
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args
from fastapi.exceptions import FastAPIError, ResponseValidationError
from fastapi.params import Form
from fastapi.routing import (
    APIRoute,
    _extract_endpoint_context,  # pyright: ignore[reportPrivateUsage] - where an endpoint stands
    iter_route_contexts,
)
from fastapi.telemetry import get_telemetry_data
from fastapi.utils import is_body_allowed_for_status_code
from pydantic import AliasChoices, AliasPath, BaseModel, RootModel
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newel.dependants import Plan

__all__ = ["DirectAnswer", "answer_directly"]

_Values = dict[str, Any]
_REPLACED: Final = (
    *("get_request_handler", "request_response", "run_endpoint_function", "serialize_response"),
    "solve_dependencies",
)
"""Where trackers of errors and of performance put their own."""


def answer_directly(routes: Sequence[BaseRoute]) -> None:
    """Let every route that can be answered directly be answered so.

    One is left to FastAPI when it is no ``async def``, reads a form, has a response class of its
    own or work for later, or when somebody has put their own in the place of FastAPI's handler.
    """
    if not all(_is_fastapis(getattr(fastapi.routing, name)) for name in _REPLACED):
        return
    for found in iter_route_contexts(routes):
        route: Any = getattr(found, "_effective_route", None)
        if isinstance(found.original_route, APIRoute) and _is_usual(route, found.original_route):
            plan = Plan(route.dependant.dependencies)
            if not any(_wants_more(each) or each.body_params for each in plan.dependants):
                route.app = DirectAnswer(route, plan)


def _is_usual(route: Any, original: APIRoute) -> bool:
    dependant: Dependant = route.dependant
    return (
        type(original).get_route_handler is APIRoute.get_route_handler
        and _is_fastapis(route.app)
        and inspect.iscoroutinefunction(dependant.call)
        and not _is_async_gen_callable(dependant.call)
        and isinstance(route.response_class, DefaultPlaceholder)
        and route.response_field is not None
        and route.max_body_size is None
        and not any(isinstance(field.field_info, Form) for field in dependant.body_params)
        and not _wants_more(dependant)
    )


def _is_fastapis(made: object) -> bool:
    """Tell whether nobody has put their own in its place, or around it: that may look like it."""
    return isinstance(made, FunctionType) and made.__globals__["__name__"].startswith("fastapi.")


def _wants_more(dependant: Dependant) -> bool:
    return bool(
        dependant.background_tasks_param_name
        or dependant.security_scopes_param_name
        or dependant.own_oauth_scopes
        or dependant.concurrency
        or _is_gen_callable(dependant.call)
    )


class DirectAnswer:
    """The ASGI application of one route, in place of FastAPI's, which answers what is unusual."""

    def __init__(self, route: Any, plan: Plan) -> None:
        self._route = route
        self._fastapi: ASGIApp = route.app
        self._dependant: Dependant = route.dependant
        self._endpoint: Any = self._dependant.call
        self._plan = plan
        self._embeds: bool = route._embed_body_fields  # noqa: SLF001 - it has no public name
        self._parameters = _Parameters(self._dependant)
        reading = [(place, _Parameters(one)) for place, one in enumerate(plan.dependants)]
        self._reading = [(place, one) for place, one in reading if one]
        self._serialization: _Values = {
            "include": route.response_model_include,
            "exclude": route.response_model_exclude,
            "by_alias": route.response_model_by_alias,
            "exclude_unset": route.response_model_exclude_unset,
            "exclude_defaults": route.response_model_exclude_defaults,
            "exclude_none": route.response_model_exclude_none,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let FastAPI do it."""
        overrides = getattr(self._route.dependency_overrides_provider, "dependency_overrides", None)
        if overrides or get_telemetry_data() is not None:
            await self._fastapi(scope, receive, send)
            return
        received = _Received(receive)
        request = Request(scope, received.take, send)
        read = await self._read(request)
        if read is None:
            await self._fastapi(scope, received.again, send)
            return
        received.forget()

        async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
            await self._run(request, send, *read)

        await wrap_app_handling_exceptions(answer, request)(scope, receive, send)

    async def _read(self, request: Request) -> tuple[_Values, Mapping[int, Any]] | None:
        """Return what is read of the request; ``None``: something is amiss."""
        try:
            values = self._parameters.of(request)
            read = {place: one.of(request) for place, one in self._reading}
            if self._dependant.body_params and values is not None:
                values = await self._with_body(request, values)
        except Exception:  # noqa: BLE001 - FastAPI meets it again, and knows what to say
            return None
        return None if values is None or None in read.values() else (values, read)

    async def _run(
        self, request: Request, send: Send, values: _Values, read: Mapping[int, Any]
    ) -> None:
        if not self._plan.enters:
            await self._answer(request, send, values, read)
            return
        is_answered = False
        async with AsyncExitStack() as stack:
            request.scope["fastapi_inner_astack"] = stack
            await self._answer(request, send, values, read)
            is_answered = True
        if not is_answered:
            raise FastAPIError("A dependency with a yield has kept an exception to itself.")

    async def _answer(
        self, request: Request, send: Send, values: _Values, read: Mapping[int, Any]
    ) -> None:
        async with AsyncExitStack() as stack:
            request.scope["fastapi_function_astack"] = stack
            response = await self._respond(request, values, read)
        await response(request.scope, request.receive, send)

    async def _with_body(self, request: Request, values: _Values) -> _Values | None:
        """Return ``values`` and what the endpoint takes of the body; ``None``: it is amiss."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return None
        body = await request.json()
        fields = self._dependant.body_params
        found, errors = await request_body_to_args(fields, body, self._embeds)
        return None if errors else {**values, **found}

    async def _respond(
        self, request: Request, values: _Values, read: Mapping[int, Any]
    ) -> Response:
        said = Response()  # by dependencies, in part
        del said.headers["content-length"]
        said.status_code = None  # type: ignore[assignment] - as FastAPI does  # ty: ignore[invalid-assignment]
        planned = await self._plan.solve(request, said, read)
        wanted = self._dependant
        for name in (wanted.request_param_name, wanted.http_connection_param_name):
            if name is not None:
                values[name] = request
        if wanted.response_param_name is not None:
            values[wanted.response_param_name] = said
        result = await self._endpoint(**values, **planned)
        if isinstance(result, Response):
            return result
        field: ModelField = self._route.response_field
        value, errors = field.validate(result, {}, loc=("response",))
        if errors:
            root: str = request.scope.get("root_path", "").rstrip("/")
            where = _extract_endpoint_context(self._endpoint).copy()
            where["path"] = f"{request.method} {root}{self._route.path}"
            raise ResponseValidationError(errors=errors, body=result, endpoint_ctx=where)
        content = field.serialize_json(value, **self._serialization)
        status = said.status_code or self._route.status_code or 200
        response = Response(content, status, media_type="application/json")
        if not is_body_allowed_for_status_code(status):
            response.body = b""
        response.headers.raw.extend(said.headers.raw)
        return response


class _Parameters:
    """What one function reads of a request, but for its body."""

    def __init__(self, dependant: Dependant) -> None:
        query = dependant.query_params
        self._path = dependant.path_params
        self._model = query[0] if len(query) == 1 and _is_flat(query[0]) else None
        kinds = (
            ("query_params", [] if self._model else query),
            ("headers", dependant.header_params),
            ("cookies", dependant.cookie_params),
        )
        self._others = [(name, fields) for name, fields in kinds if fields]

    def __bool__(self) -> bool:
        return bool(self._path or self._model or self._others)

    def of(self, request: Request) -> _Values | None:
        """Return their values; ``None``: something is amiss."""
        values: _Values = {}
        for field in self._path:
            value, errors = field.validate(request.path_params[field.alias], values)
            if errors:
                return None
            values[field.name] = value
        if self._model is not None:
            asked = dict(request.query_params)
            value, errors = self._model.validate(asked, values)
            if errors or len(asked) != len(request.query_params.multi_items()):
                return None
            values[self._model.name] = value
        for name, fields in self._others:
            found, errors = request_params_to_args(fields, getattr(request, name))
            if errors:
                return None
            values.update(found)
        return values


def _is_flat(field: ModelField) -> bool:
    """Tell whether it is a model that can be made of what is asked as it stands: without lists."""
    model: Any = field.field_info.annotation
    if not lenient_issubclass(model, BaseModel) or issubclass(model, RootModel):
        return False
    by_name = {"populate_by_name", "validate_by_alias", "validate_by_name"}
    return not by_name & model.model_config.keys() and not any(
        isinstance(one.validation_alias, AliasChoices | AliasPath)
        or field_annotation_is_sequence(one.annotation)
        for one in model.model_fields.values()
    )


class _Received:
    """What was received of a request, kept until it is known that FastAPI need not receive it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: list[Message | Exception] = []
        self._keeps = True

    def forget(self) -> None:
        """Keep nothing from now on: an endpoint may read a stream."""
        self._kept.clear()
        self._keeps = False

    async def take(self) -> Message:
        try:
            message = await self._receive()
        except Exception as error:
            self._kept.append(error)
            raise
        if self._keeps:
            self._kept.append(message)
        return message

    async def again(self) -> Message:
        if not self._kept:
            return await self._receive()
        kept = self._kept.pop(0)
        if isinstance(kept, Exception):
            raise kept
        return kept
