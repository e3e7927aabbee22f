"""The typed model of routes: dependencies, security, parameters, answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

from pydantic import Field as Default

from newel_tools.facts.shapes import Fact, Field, Place, Shape

__all__ = ["Dependency", "Response", "Route", "Security"]

_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Security(Fact):
    """A security scheme of FastAPI's that a route depends on.

    ``type`` is OpenAPI's (`http`, `oauth2`, `apiKey`, `openIdConnect`); ``refuses``: it answers
    401 or 403 itself when the credentials are missing (FastAPI's `auto_error`).
    """

    class_: str = Default("", alias="class")
    type: str = ""
    scheme: str | None = None
    place: str | None = None
    parameter: str | None = None
    name: str = ""
    refuses: bool = True


class Dependency(Fact):
    """One dependency with everything that it depends on.

    ``scope`` is FastAPI's (`function`, `request` or ``None`` for the default). ``wants`` says
    which of the framework's own objects the callable takes: `request`, `websocket`, `response`,
    `background_tasks`, `http_connection`, `security_scopes`. ``values`` are the permissions, roles
    and scopes that the callable was made with, by attribute or enclosed variable; a rank such as
    ``superuser`` is ``True``.
    """

    name: str | None = None
    call: Place | None = None
    scope: str | None = None
    use_cache: bool = True
    security: Security | None = None
    oauth_scopes: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    params: tuple[Field, ...] = ()
    values: dict[str, Any] = Default(default_factory=dict[str, Any])
    dependencies: tuple[Dependency, ...] = ()

    def walk(self) -> Iterator[Dependency]:
        """Yield this dependency and all below it, each once a place where it stands."""
        yield self
        for inner in self.dependencies:
            yield from inner.walk()


class Response(Fact):
    """What a route answers. ``model`` is ``None`` if it declares none.

    ``answer`` is the response class's full name; ``documented`` the further statuses in OpenAPI.
    """

    model: Shape | None = None
    options: dict[str, Any] = Default(default_factory=dict[str, Any])
    answer: str | None = None
    media_type: str | None = None
    documented: dict[str, Any] = Default(default_factory=dict[str, Any])


class Route(Fact):
    """A route as requests see it: includes, prefixes and mounts are resolved.

    ``kind``: `http` and `websocket` are FastAPI's; `plain` is a Starlette route without
    dependencies (the documentation's own among them); `mount` hands a whole path to ``mounted``.
    ``dependant`` is the endpoint itself with its parameters; its dependencies are the route's.
    """

    kind: str
    path: str
    methods: tuple[str, ...] = ()
    name: str = ""
    endpoint: Place | None = None
    in_schema: bool = True
    dependant: Dependency = Dependency()
    body: Shape | None = None
    status_code: int | None = None
    tags: tuple[str, ...] = ()
    summary: str | None = None
    description: str = ""
    deprecated: bool = False
    operation_id: str | None = None
    unique_id: str = ""
    max_body_size_bytes: int | None = None
    response: Response = Response()
    mounted: str | None = None

    @property
    def label(self) -> str:
        """Return the route as people write it: `GET /users/{id}`."""
        method = "WS" if self.kind == "websocket" else ",".join(self.methods) or "ANY"
        return f"{method} {self.path}"

    @property
    def writes(self) -> bool:
        """Tell whether one of its methods changes something."""
        return not _WRITES.isdisjoint(self.methods)

    @cached_property
    def dependencies(self) -> tuple[Dependency, ...]:
        """All dependencies of the route, the nested ones too, without the endpoint itself."""
        return tuple(self.dependant.walk())[1:]

    @cached_property
    def params(self) -> tuple[Field, ...]:
        """All parameters, also those that dependencies declare."""
        return tuple(param for node in self.dependant.walk() for param in node.params)

    @cached_property
    def security(self) -> tuple[Security, ...]:
        """The security schemes anywhere in the tree."""
        return tuple(node.security for node in self.dependencies if node.security is not None)
