"""Every error as an RFC 9457 problem: the answers, and what OpenAPI says about them.

    problems.install(app)     # AppErrors, FastAPI's and Starlette's own errors, database time-outs
    problems.document(app)    # every operation lists every status it can give

A problem never holds the input, nor the text of an exception that was not written for clients.
What caused it goes to the log, under the same request id.
"""

from __future__ import annotations

import http
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Final, cast
from urllib.parse import quote

import structlog
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import (
    RequestValidationError,
    ResponseValidationError,
    ValidationException,
    WebSocketRequestValidationError,
)
from fastapi.routing import RouteContext, iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError, to_json
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from newel import revalidation
from newel.clock import utc_now
from newel.console import error_page
from newel.context import PATH_SAFE, request_id, trace_ids
from newel.errors import (
    AppError,
    BadRequest,
    Conflict,
    ContentTooLarge,
    FieldError,
    Forbidden,
    GatewayTimeout,
    Invalid,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    StaleVersion,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    UpstreamError,
    disk_error,
)
from newel.validation import MAX_FIELD_ERRORS, field_errors

__all__ = [
    "CLOSE_CODES",
    "MEDIA_TYPE",
    "Problem",
    "ProblemField",
    "document",
    "install",
    "problem_response",
]

MEDIA_TYPE: Final = "application/problem+json"

CLOSE_CODES: Final[Mapping[int, int]] = {s: 4000 + s for s in (401, 403, 404, 409, 422, 429)}
"""HTTP status to websocket close code; every other error closes with 1011 (internal error)."""

_log = structlog.get_logger("newel.problems")


class ProblemField(BaseModel):
    """One refused field of a request."""

    pointer: str = Field(description="`#/name` in the body, or `query/page`, `path/id`, `header/x`")
    code: str = Field(description="What is wrong, for machines")
    message: str = Field(description="What is wrong, for people")


class Problem(BaseModel):
    """An error (RFC 9457). Some have members of their own, such as `resource` or `service`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    type: str = Field(description="The kind of error, as a URN")
    title: str = Field(description="The kind of error, for people")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What happened and what to do next")
    instance: str = Field(description="The path that was asked for")
    error: str = Field(description="The kind of error, for machines")
    request_id: str | None = Field(description="Names this request in the log")
    trace_id: str | None = Field(None, description="Names its trace, if it is sampled")
    timestamp: datetime = Field(description="When it happened")
    errors: list[ProblemField] = Field(description="The refused fields, at most 50")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Error:
    """What a problem says, made from an ``AppError`` or from a bare HTTP status."""

    status: int
    code: str
    title: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of_class(cls, kind: type[AppError]) -> _Error:
        return cls(status=kind.status, code=kind.code, title=kind.title, detail=kind.advice)

    @classmethod
    def of(cls, error: AppError) -> _Error:
        if error.status == 500:  # its detail was written for the operator
            return cls(status=500, code=error.code, title=AppError.title, detail=AppError.advice)
        return cls(
            status=error.status,
            code=error.code,
            title=error.title,
            detail=error.detail,
            errors=error.errors,
            headers=error.headers,
            extra=error.extra,
        )


_KINDS: Final[Mapping[str, _Error]] = {
    **{
        kind.__name__: _Error.of_class(kind)
        for kind in (BadRequest, Unauthorized, Forbidden, NotFound, Conflict)
    },
    "MethodNotAllowed": _Error(
        status=405,
        code="method_not_allowed",
        title="Method not allowed",
        detail="Use one of the methods named in Allow.",
    ),
    "PreconditionFailed": _Error.of_class(PreconditionFailed),
    **{kind.__name__: _Error.of_class(kind) for kind in (ContentTooLarge, UnsupportedMediaType)},
    **{
        kind.__name__: _Error.of_class(kind)
        for kind in (Invalid, PreconditionRequired, TooManyRequests)
    },
    "ServerError": _Error.of_class(AppError),
    **{kind.__name__: _Error.of_class(kind) for kind in (UpstreamError, Unavailable)},
    "GatewayTimeout": _Error.of_class(GatewayTimeout),
}
"""What a bare status means, by the name it has in OpenAPI."""

_BY_STATUS: Final = {error.status: error for error in _KINDS.values()}
_UNREAD_BODY: Final = "There was an error parsing the body"  # FastAPI's, a full disk's too
_DEFAULT_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"www-authenticate": "Bearer"},
    408: {"connection": "close"},  # the rest of the body is not read
    503: {"retry-after": "2"},
}


def problem_response(error: AppError | int, *, instance: str) -> Response:
    """Return the answer for an error or a bare status.

    ``instance`` is the decoded path, without the query. Of an error with status 500 only the code
    is shown: its ``detail`` is for the log.
    """
    return _response(_kind(error) if isinstance(error, int) else _Error.of(error), instance)


def _response(error: _Error, instance: str) -> Response:
    own = {
        "type": f"urn:newel:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": _clean(error.detail),
        "instance": quote(_clean(instance[:1024]), safe=PATH_SAFE),
        "error": error.code,
        "request_id": request_id.get(),
        **{name: value for name, value in trace_ids().items() if name == "trace_id"},
        "timestamp": utc_now().isoformat(),
        "errors": [
            {"pointer": e.pointer, "code": e.code, "message": _clean(e.message)}
            for e in error.errors[:MAX_FIELD_ERRORS]
        ],
    }
    try:
        body = to_json({**error.extra, **own}, inf_nan_mode="null", fallback=lambda _: None)
    except (ValueError, RecursionError):  # an extra member that JSON cannot hold must not cost more
        body = to_json(own)
    headers = {name.lower(): value for name, value in error.headers.items()}
    headers = {**_DEFAULT_HEADERS.get(error.status, {}), **headers}
    return Response(body, status_code=error.status, headers=headers, media_type=MEDIA_TYPE)


def _clean(text: str) -> str:
    """Replace what UTF-8 cannot hold: JSON input may contain half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


async def _answer(connection: HTTPConnection, error: _Error) -> Response | None:
    """Return the answer to a request; on a websocket give it here, so return ``None``."""
    response = _response(error, connection.scope["path"])
    if not isinstance(connection, WebSocket):
        return error_page(connection, error) or response
    code = CLOSE_CODES.get(error.status, 1011)
    if connection.application_state is WebSocketState.CONNECTED:
        await connection.close(code, error.code)
    elif connection.application_state is WebSocketState.CONNECTING:
        if "websocket.http.response" in connection.scope.get("extensions", {}):
            await connection.send_denial_response(response)
        else:
            await connection.close(code, error.code)
    return None


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error as a problem, on websockets too.

    Before a websocket is accepted the problem is the answer to its handshake; after that it is
    closed with ``CLOSE_CODES``. What nothing here knows is left to
    ``middleware.UnexpectedErrors``.
    """
    handlers: dict[type[Exception], Any] = {
        AppError: _on_app_error,
        HTTPException: _on_http_exception,
        RequestValidationError: _on_invalid_request,
        WebSocketRequestValidationError: _on_invalid_request,
        ResponseValidationError: _on_invalid_response,
        StaleDataError: _on_stale_data,
        PoolTimeoutError: _on_pool_timeout,
        UnicodeEncodeError: _on_surrogates,
        PydanticSerializationError: _on_surrogates,
        ExceptionGroup: _on_group,
        Exception: _on_unexpected,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _on_app_error(connection: HTTPConnection, error: AppError) -> Response | None:
    # Without a cause a 503 of a full pool or a draining service is a state, not a fault to trace.
    if error.status == 500 or (error.status > 500 and error.__cause__ is not None):
        _log.error("request_failed", error=error.code, exc_info=error)
    elif error.__cause__ is not None:
        # In a line, as whoever asks decides how often: a traceback would be kilobytes each time.
        _log.info("request_refused", error=error.code, why=repr(error.__cause__)[:500])
    return await _answer(connection, _Error.of(error))


async def _on_http_exception(connection: HTTPConnection, error: HTTPException) -> Response | None:
    if isinstance(error.__cause__, OSError) and error.detail == _UNREAD_BODY:
        return await _on_app_error(connection, disk_error(error.__cause__))
    status = error.status_code
    headers = dict(error.headers or {})
    if status < 200 or status in {204, 304}:
        return Response(status_code=status, headers=headers)
    if status == 405:
        headers["Allow"] = ", ".join(_allowed_methods(connection)) or headers.get("Allow", "")
    shown = _kind(status)
    # FastAPI lets it be anything that JSON can hold; of a 500 it is for the log.
    said = cast(Any, None if status == 500 else error.detail)
    if isinstance(said, Mapping):
        shown = replace(shown, extra=cast("Mapping[str, Any]", said))
    elif isinstance(said, str) and said not in {"", _phrase(status)}:
        shown = replace(shown, detail=said)
    return await _answer(connection, replace(shown, headers=headers))


async def _on_invalid_request(
    connection: HTTPConnection, error: RequestValidationError | WebSocketRequestValidationError
) -> Response | None:
    body = error.body if isinstance(error, RequestValidationError) else None
    if any(found["type"] == "json_invalid" for found in error.errors()):
        position = error.errors()[0]["loc"][-1]
        message = f"The body is not valid JSON (at character {position})."
        fields = [FieldError(pointer="#", code="json_invalid", message=message)]
        return await _answer(connection, _Error.of(BadRequest(message, errors=fields)))
    if _is_other_media_type(connection, error, body):
        return await _answer(connection, _KINDS["UnsupportedMediaType"])
    invalid = Invalid(errors=field_errors(error.errors(), body=body))
    return await _answer(connection, _Error.of(invalid))


async def _on_invalid_response(
    connection: HTTPConnection, error: ResponseValidationError
) -> Response | None:
    # Neither the exception nor its text: both hold the data that must not leave.
    faults = [{"loc": e["loc"], "type": e["type"]} for e in error.errors()[:MAX_FIELD_ERRORS]]
    _log.error("invalid_response", endpoint=error.endpoint_path, faults=faults)
    return await _answer(connection, _KINDS["ServerError"])


async def _on_stale_data(connection: HTTPConnection, _: StaleDataError) -> Response | None:
    return await _answer(connection, _Error.of(StaleVersion()))


async def _on_pool_timeout(connection: HTTPConnection, _: PoolTimeoutError) -> Response | None:
    _log.error("database_pool_exhausted")
    return await _answer(connection, _Error.of(Unavailable()))


async def _on_surrogates(connection: HTTPConnection, error: Exception) -> Response | None:
    """Half a surrogate pair can only have come from a JSON body, so it is the client's mistake."""
    if "surrogates not allowed" not in str(error):
        raise error
    invalid = Invalid("The request holds text that is not valid Unicode.")
    return await _answer(connection, _Error.of(invalid))


async def _on_group(connection: HTTPConnection, group: ExceptionGroup[Any]) -> Response | None:
    """Answer as the first error of a ``TaskGroup``, when all of them are ours."""
    expected, others = group.split(AppError)
    if expected is None or others is not None:
        raise group
    first: Exception = expected
    while isinstance(first, ExceptionGroup):
        first = cast("ExceptionGroup[Exception]", first).exceptions[0]
    return await _on_app_error(connection, cast(AppError, first))


async def _on_unexpected(connection: HTTPConnection, _: Exception) -> Response | None:
    """Answer where ``middleware.UnexpectedErrors`` is left out; the error is raised again."""
    return await _answer(connection, _KINDS["ServerError"])


def _kind(status: int) -> _Error:
    if (known := _BY_STATUS.get(status)) is not None:
        return known
    phrase = _phrase(status)
    code = phrase.lower().replace(" ", "_").replace("-", "_").replace("'", "")
    return _Error(status=status, code=code, title=phrase, detail=f"{phrase}.")


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def _allowed_methods(connection: HTTPConnection) -> list[str]:
    """Every method of the path: Starlette names those of its first route only."""
    path: str = connection.scope["path"].removeprefix(connection.scope.get("root_path", ""))
    methods: set[str] = set()
    for route in iter_route_contexts(connection.app.routes):
        pattern = getattr(route, "path_regex", None)
        if pattern is not None and pattern.match(path):
            methods |= route.methods or set()
    return sorted(methods)


def _is_other_media_type(
    connection: HTTPConnection, error: ValidationException, body: object
) -> bool:
    """Tell whether the body was refused because it came as another type than the route reads."""
    if not any(found["loc"][:1] == ("body",) for found in error.errors()):
        return False
    sent = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if isinstance(body, FormData):
        return sent not in {"", "multipart/form-data", "application/x-www-form-urlencoded"}
    # FastAPI hands the bytes of anything but JSON on to validation.
    return isinstance(body, bytes) and not any(
        found["type"].startswith("bytes_") for found in error.errors()
    )


_SCHEMA: Final = "#/components/schemas/"
_HEADERS: Final[Mapping[int, Mapping[str, Any]]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
}


def document(app: FastAPI) -> None:
    """Make ``app.openapi()`` list every status an operation can give, as a ``Problem``.

    What a route says in ``responses=`` wins; an error status without ``content`` there gets the
    problem's. FastAPI's own ``HTTPValidationError`` is replaced.
    """
    generate = app.openapi
    documented: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        nonlocal documented
        schema = generate()
        if schema is not documented:
            _describe(schema, iter_route_contexts(app.routes))
            documented = schema
        return schema

    app.openapi = openapi


def _describe(schema: dict[str, Any], routes: Iterator[RouteContext]) -> None:
    components = schema.setdefault("components", {})
    used: set[str] = set()
    for route in routes:
        dependant: Dependant | None = getattr(route, "dependant", None)
        if dependant is None or not getattr(route, "methods", None):  # a websocket
            continue
        own, tree = {str(status).upper() for status in route.responses}, list(_flat(dependant))
        for method in route.methods or ():
            operation = schema["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                statuses = _statuses(method, operation, tree)
                statuses |= {404} if "{" in (route.path_format or "") else set()
                if method == "GET" and any(getattr(d.call, "__newel_tags__", False) for d in tree):
                    revalidation.describe(operation)
                used |= _document_operation(operation["responses"], statuses, own)
    definitions = Problem.model_json_schema(ref_template=f"{_SCHEMA}{{model}}")
    schemas = components.setdefault("schemas", {})
    schemas.update(definitions.pop("$defs"), Problem=definitions)
    components.setdefault("responses", {}).update(
        {name: _documented(error) for name, error in _KINDS.items() if name in used}
    )
    for name in ("HTTPValidationError", "ValidationError"):  # the first one refers to the second
        if f'"{_SCHEMA}{name}"'.encode() not in to_json(schema):
            schemas.pop(name, None)


def _flat(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for dependency in dependant.dependencies:
        yield from _flat(dependency)


def _statuses(method: str, operation: dict[str, Any], tree: Sequence[Dependant]) -> set[int]:
    """Return the errors an operation can give, by what it takes; free public ones of security."""
    found = {429, 500, 503}
    if "requestBody" in operation:
        found |= {400, 413, 415, 422}
    if any(d.path_params or d.query_params or d.header_params or d.cookie_params for d in tree):
        found |= {422}
    parameters: list[dict[str, Any]] = operation.get("parameters", [])
    if any(p["in"] == "header" and p["name"].lower() == "if-match" for p in parameters):
        found |= {400, 412}
    marks = {getattr(d.call, "__newel_access__", None) for d in tree} - {None}
    if marks == {()}:
        operation.pop("security", None)  # a public route reads a token, but asks for none
    if any(marks) or "security" in operation:
        found |= {401, 403}
    if method in {"POST", "PUT", "PATCH", "DELETE"}:
        found |= {409}
    return found


def _document_operation(responses: dict[str, Any], statuses: set[int], own: set[str]) -> set[str]:
    """Add ``statuses`` to the responses of an operation; return the components that are used."""
    used: set[str] = set()
    for name, error in _KINDS.items():
        status = str(error.status)
        if status in own:
            continue
        if error.status in statuses or status in responses:
            responses[status] = {"$ref": f"#/components/responses/{name}"}
            used.add(name)
    for status in own & responses.keys():
        if status >= "4" and "content" not in responses[status] and status.isdigit():
            responses[status] = {**_documented(_kind(int(status))), **responses[status]}
    ordered = sorted(responses.items())
    responses.clear()
    responses.update(ordered)
    return used


def _documented(error: _Error) -> dict[str, Any]:
    field_error = {"pointer": "#/name", "code": "missing", "message": "Field required"}
    example = {
        "type": f"urn:newel:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": "/api/v1/agents",
        "error": error.code,
        "request_id": "0198c5a1e0f27c3b8a5d2f4e6b7c8d9e",
        "timestamp": "2026-11-21T12:00:00Z",
        "errors": [field_error] if error.status == 422 else [],
    }
    return {
        "description": error.title,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMA}Problem"}, "example": example}},
        **({"headers": _HEADERS[error.status]} if error.status in _HEADERS else {}),
    }
