"""The errors a service raises on purpose; each carries its HTTP status and what to do next.

    AppError                      500  server_error
    ├── Invalid                   422  validation_failed
    ├── BadRequest                400  bad_request
    ├── Unauthorized              401  unauthorized
    ├── Forbidden                 403  forbidden
    ├── NotFound                  404  not_found
    ├── Conflict                  409  conflict
    │   ├── Duplicate             409  duplicate
    │   └── StaleVersion          409  stale_version
    ├── PreconditionFailed        412  precondition_failed
    ├── ContentTooLarge           413  content_too_large
    ├── UnsupportedMediaType      415  unsupported_media_type
    ├── PreconditionRequired      428  precondition_required
    ├── TooManyRequests           429  too_many_requests
    ├── UpstreamError             502  upstream_error
    │   └── GatewayTimeout        504  gateway_timeout
    ├── Unavailable               503  unavailable
    ├── InsufficientStorage       507  insufficient_storage
    └── ConfigurationError        500  configuration_error

A service raises them below the router and never an ``HTTPException``; ``problems`` turns them
into RFC 9457 answers. ``detail`` is written by us and may be shown to a client. What caused the
error belongs into ``raise ... from``: it reaches the log, never the answer.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = [
    "AppError",
    "BadRequest",
    "ConfigurationError",
    "Conflict",
    "ContentTooLarge",
    "Duplicate",
    "FieldError",
    "Forbidden",
    "GatewayTimeout",
    "InsufficientStorage",
    "Invalid",
    "NotFound",
    "PreconditionFailed",
    "PreconditionRequired",
    "StaleVersion",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMediaType",
    "UpstreamError",
    "disk_error",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One field that was refused.

    ``pointer`` is a JSON pointer into the body (``#/name``) or names the parameter
    (``query/page``); ``code`` is for machines, ``message`` for people. Never holds the input.
    """

    pointer: str
    code: str
    message: str


class AppError(Exception):
    """An expected failure of the service, answered as a problem with ``status``.

    ``detail`` is one sentence a client may read; ``extra`` are members added to the problem body;
    ``headers`` are added to the answer.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "server_error"
    title: ClassVar[str] = "Server error"
    advice: ClassVar[str] = "Try again later; report the request id if it happens again."

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        self.detail: str = detail or self.advice
        self.errors: tuple[FieldError, ...] = tuple(errors)
        self.headers: dict[str, str] = dict(headers or {})
        self.extra: dict[str, Any] = extra
        super().__init__(self.detail)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let jobs and caches keep the error: pickled and copied without calling ``__init__``.

        An exception is otherwise made again of ``args`` alone, which no constructor with its own
        parameters would take.
        """
        return _remade, (type(self), *self.args), self.__dict__.copy()


def _remade(kind: type[AppError], *args: object) -> AppError:
    return kind.__new__(kind, *args)


class Invalid(AppError):
    """The input was understood and breaks a rule."""

    status = 422
    code = "validation_failed"
    title = "Validation failed"
    advice = "Correct the named fields and send the request again."


class BadRequest(AppError):
    """The request itself is malformed."""

    status = 400
    code = "bad_request"
    title = "Bad request"
    advice = "Correct the form of the request; it was not understood."


class Unauthorized(AppError):
    """Nobody, or nobody we can trust, is calling. Always carries ``WWW-Authenticate``."""

    status = 401
    code = "unauthorized"
    title = "Not authenticated"
    advice = "Log in and send the access token as 'Authorization: Bearer <token>'."

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"}, **extra)


class Forbidden(AppError):
    """The caller is known, sees the thing, and may not do this with it."""

    status = 403
    code = "forbidden"
    title = "Not allowed"
    advice = "Ask an administrator for the permission."


class NotFound(AppError):
    """The thing does not exist, or the caller must not know that it does.

    >>> raise NotFound("agent", agent_id)
    """

    status = 404
    code = "not_found"
    title = "Not found"
    advice = "Check the address; what it names does not exist or is not yours."

    def __init__(self, resource: str | None = None, id: object | None = None) -> None:
        if resource is None:
            super().__init__()
        else:
            super().__init__(f"There is no such {resource}.", resource=resource)
        self.id = id


class Conflict(AppError):
    """The request contradicts the present state."""

    status = 409
    code = "conflict"
    title = "Conflict"
    advice = "Read the present state and decide again."


class Duplicate(Conflict):
    """Another row has this value already.

    >>> raise Duplicate("user", "email")
    """

    code = "duplicate"
    title = "Already exists"

    def __init__(self, resource: str, field: str) -> None:
        message = f"Another {resource} has this {field} already."
        super().__init__(
            message,
            errors=[FieldError(pointer=f"#/{field}", code="duplicate", message=message)],
            resource=resource,
            field=field,
        )


class StaleVersion(Conflict):
    """The row was changed by somebody else between reading and writing."""

    code = "stale_version"
    title = "Changed meanwhile"
    advice = "Read it again and repeat the change."


class PreconditionFailed(AppError):
    """``If-Match`` names a version that is not the present one."""

    status = 412
    code = "precondition_failed"
    title = "Changed meanwhile"
    advice = "Read it again and repeat the change with the version you get."


class ContentTooLarge(AppError):
    """The body, or a file in it, is larger than what is taken here."""

    status = 413
    code = "content_too_large"
    title = "Body too large"
    advice = "Send a smaller body."


class UnsupportedMediaType(AppError):
    """The body, or a file in it, is of a type that is not taken here."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"
    advice = "Send the body in a type the operation documents, named in Content-Type."


class PreconditionRequired(AppError):
    """The route asks for ``If-Match`` and there was none."""

    status = 428
    code = "precondition_required"
    title = "Version required"
    advice = "Send the version you have read as 'If-Match'."


class TooManyRequests(AppError):
    """A limit is used up; ``retry_after`` is in seconds."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"
    advice = "Wait as many seconds as Retry-After says."

    def __init__(
        self,
        detail: str | None = None,
        *,
        retry_after_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.retry_after_seconds = retry_after_seconds
        wait = str(max(1, -int(-retry_after_seconds // 1)))
        super().__init__(detail, headers={"Retry-After": wait, **(headers or {})})


class UpstreamError(AppError):
    """A service we call failed; R30's ``ServiceConnection`` and ``LLM`` errors are this one."""

    status = 502
    code = "upstream_error"
    title = "Upstream failed"
    advice = "A service behind this one failed; try again later."

    def __init__(self, service: str, detail: str | None = None) -> None:
        super().__init__(detail or f"{service} did not answer as expected.", service=service)


class GatewayTimeout(UpstreamError):
    """A service we call did not answer in time; whether it did the work is unknown."""

    status = 504
    code = "gateway_timeout"
    title = "Upstream too slow"
    advice = "A service behind this one was too slow; try again later."

    def __init__(self, service: str, detail: str | None = None) -> None:
        super().__init__(service, detail or f"{service} did not answer in time.")


class Unavailable(AppError):
    """A dependency is away or we are full; the request was not carried out."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"
    advice = "Nothing was changed. Try again after the seconds in Retry-After."

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 2) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class InsufficientStorage(AppError):
    """The disk behind us is full: nothing can be stored, reading goes on."""

    status = 507
    code = "insufficient_storage"
    title = "Storage is full"
    advice = "Nothing was changed. Reading still works; try to write again later."


class ConfigurationError(AppError):
    """The service is put together or configured wrongly; stops the start-up.

    ``fix`` is one sentence that says what to change; the command line prints it as its second line.
    """

    code = "configuration_error"
    title = "Configuration error"

    def __init__(self, detail: str, *, fix: str) -> None:
        self.fix = fix
        super().__init__(detail)

    def __str__(self) -> str:
        return f"{self.detail}\n  fix: {self.fix}"


def disk_error(error: OSError) -> InsufficientStorage | Unavailable:
    """Return the error of a disk that does not take a file, which ``error`` is the cause of."""
    is_full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    told = InsufficientStorage() if is_full else Unavailable("Files cannot be stored.")
    told.__cause__ = error
    return told
