"""The composition root: ``create_app`` puts settings, ports, middleware and modules together.

    app = create_app(Settings(), accounts.module(User), agents.module)

It does no I/O and returns a real ``FastAPI``. What a running service needs from outside (the
database and its schema) is checked when the lifespan starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.params import Form
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from newel import health, metrics, problems
from newel.auth import CallerFirst
from newel.clock import Clock, SystemClock
from newel.db import Database
from newel.endpoints import answer_directly
from newel.errors import ConfigurationError, InsufficientStorage, Unavailable
from newel.events import Audience
from newel.handlers import Handler
from newel.logs import configure_logs
from newel.mail import preview_router
from newel.middleware import default_middleware
from newel.modules import Module
from newel.ports import check_storage, close_ports, open_ports, secrets_of
from newel.rooms import RoomKinds
from newel.routing import RouteIndex
from newel.settings import Settings, unsafe_settings
from newel.storage import get_storage
from newel.telemetry import Traces, open_traces, track_errors
from newel.versions import Version, VersionedPaths, prefixes, serve_document
from newel.worker import Background, working

__all__ = ["access_of", "create_app"]


def create_app(
    settings: Settings,
    *modules: Module,
    title: str | None = None,
    description: str = "",
    version: str = "0.1.0",
    middleware: Sequence[Middleware] | None = None,
    versions: Sequence[Version] = (),
    clock: Clock | None = None,
    traces: Traces | None = None,
) -> FastAPI:
    """Return the application made of ``modules``.

    ``middleware`` replaces ``default_middleware(settings)``, outermost first. With ``versions``,
    each has its own path beside ``api_prefix``. ``traces`` replaces what ``TRACES_URL`` asks for.
    Raises ``ConfigurationError`` for unsafe settings, for a route without ``requires`` or
    ``public``, and for a second authenticator.
    """
    for problem in unsafe_settings(settings):
        raise problem
    counted = metrics.RequestMetrics()
    traces = traces or _traces(settings)
    if middleware is None:
        middleware = default_middleware(settings, metrics=counted, traces=traces)
    app = FastAPI(
        title=title or settings.service_name,
        description=description,
        version=version,
        lifespan=_lifespan,
        **_addresses_of_docs(settings),
        openapi_tags=[{"name": m.name, "description": m.description} for m in modules],
        middleware=list(middleware),
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        swagger_ui_oauth2_redirect_url=None,  # the password flow needs none
        telemetry=traces.of_requests(),
    )
    open_ports(app, settings, clock=clock or SystemClock(), traces=traces)
    app.state.metrics = counted
    app.state.background = _background(modules)
    app.state.room_kinds = RoomKinds(app, [room for module in modules for room in module.rooms])
    app.state.database.audience = _audience(app)
    _include_own(app, settings)
    by_prefix = prefixes(versions, settings.api_prefix)
    _refuse_unknown_versions(modules, versions)
    for module in modules:
        _mount(app, module, by_prefix or {settings.api_prefix: None})
        _take_authenticator(app, module)
    problems.install(app)
    _document(app, next(iter(by_prefix), settings.api_prefix))
    for prefix, one in by_prefix.items() if settings.serves_docs else ():
        serve_document(app, prefix, _version_of(app, modules, prefix, one).openapi)
    _refuse_undeclared_routes(app)
    _ask_callers_first(app)
    if any(_depends_on(dependant, get_storage) for _, dependant in _dependants(app)):
        app.state.checks["storage"] = partial(check_storage, app.state)
    answer_directly(app.routes)
    index = RouteIndex(app)
    app.router.middleware_stack = VersionedPaths(index, by_prefix) if by_prefix else index
    return app


def access_of(dependant: Dependant) -> tuple[str, ...] | None:
    """Return the permissions a route asks for: ``()`` if public, ``None`` if undeclared."""
    found: tuple[str, ...] | None = getattr(dependant.call, "__newel_access__", None)
    for dependency in dependant.dependencies:
        inner = access_of(dependency)
        if inner is not None:
            found = (*(found or ()), *inner)
    return found


def _traces(settings: Settings) -> Traces:
    url, ratio = settings.traces_url, settings.traces_ratio
    return open_traces(url, ratio=ratio, service=settings.service_name)


def _addresses_of_docs(settings: Settings) -> Mapping[str, Any]:
    names = ("docs_url", "redoc_url", "openapi_url")
    return {name: getattr(settings, name) if settings.serves_docs else None for name in names}


def _include_own(app: FastAPI, settings: Settings) -> None:
    """Add the routes that every service has."""
    app.include_router(health.router)
    app.include_router(metrics.router)
    if settings.environment == "development":
        app.include_router(preview_router())


def _background(modules: Sequence[Module]) -> Background:
    """Collect what the modules do in the background."""
    handlers: dict[str, list[Handler[Any]]] = {}
    for handler in (handler for module in modules for handler in module.handlers):
        handlers.setdefault(handler.event.__name__, []).append(handler)
    schedules = [schedule for module in modules for schedule in module.schedules]
    jobs = [job for module in modules for job in module.jobs]
    jobs += [handler.job for same in handlers.values() for handler in same]
    names = {
        "job": [job.name for job in dict.fromkeys(jobs)],
        "schedule": [schedule.name for schedule in schedules],
    }
    for kind, given in names.items():
        if twice := [name for name, times in Counter(given).items() if times > 1]:
            raise ConfigurationError(
                f"There are two {kind}s that are called {twice[0]}",
                fix=f"give one of them another name: name='{twice[0]}_2'",
            )
    for schedule in schedules:
        if schedule.job.name not in names["job"]:
            raise ConfigurationError(
                f"The schedule {schedule.name} is of the job {schedule.job.name}, which no module "
                "lists",
                fix=f"add it to its module: Module(..., jobs=[{schedule.job.name}])",
            )
    return Background(jobs={job.name: job for job in jobs}, handlers=handlers, schedules=schedules)


def _audience(app: FastAPI) -> Audience:
    """Return who is known to wait for this process's events.

    A web process may be older than the workers, or composed without some of their modules: it
    knows of no event that nobody handles it.
    """
    handled = app.state.background.handlers.keys() if app.state.runs_jobs else None
    return Audience(handled=handled, has_broker=app.state.broker is not None)


def _mount(app: FastAPI, module: Module, by_prefix: Mapping[str, Version | None]) -> None:
    dependencies = list(module.dependencies)
    for prefix, version in by_prefix.items():
        if version is not None and module.versions and version.name not in module.versions:
            continue
        for router in module.routers:
            app.include_router(
                router,
                prefix=prefix,
                dependencies=dependencies,
                deprecated=True if version is not None and version.deprecated else None,
                # Clients are generated from it: the same route of two versions is two functions.
                generate_unique_id_function=_operation_id
                if len(by_prefix) == 1
                else partial(_versioned_id, prefix.rpartition("/")[2]),
            )
    for router in module.root_routers:
        app.include_router(router, dependencies=dependencies)


def _version_of(app: FastAPI, modules: Sequence[Module], prefix: str, version: Version) -> FastAPI:
    """Return an application, never run, that has the routes of one version: for its document."""
    view = FastAPI(
        title=app.title,
        description=app.description,
        version=app.version,
        openapi_url=None,
        openapi_tags=app.openapi_tags,
        generate_unique_id_function=_operation_id,
    )
    for module in modules:
        _mount(view, module, {prefix: version})
    _document(view, prefix)
    return view


def _refuse_unknown_versions(modules: Sequence[Module], versions: Sequence[Version]) -> None:
    known = {version.name for version in versions}
    for module in modules:
        if unknown := sorted(set(module.versions) - known):
            raise ConfigurationError(
                f"the module {module.name} is of the version {unknown[0]}, which there is not",
                fix=f'add it: create_app(..., versions=[Version("{unknown[0]}"), ...])',
            )


def _take_authenticator(app: FastAPI, module: Module) -> None:
    if module.authenticator is None:
        return
    if hasattr(app.state, "authenticator"):
        raise ConfigurationError(
            f"the module {module.name} brings a second authenticator",
            fix="keep one module with an authenticator",
        )
    app.state.authenticator = module.authenticator(app)


def _document(app: FastAPI, prefix: str) -> None:
    """Describe every status, and where the docs page's log-in form sends the password."""
    problems.document(app)
    generate, url = app.openapi, f"{prefix}/auth/login"

    def openapi() -> dict[str, Any]:
        schema = generate()
        schemes = schema["components"].get("securitySchemes", {})
        if "BearerAuth" in schemes:
            schemes["BearerAuth"]["flows"]["password"]["tokenUrl"] = url
        return schema

    app.openapi = openapi


def _versioned_id(version: str, route: APIRoute) -> str:
    return f"{route.name}_{version}"


def _operation_id(route: APIRoute) -> str:
    # Clients are generated from it: the function's name is stable when paths move.
    return route.name


def _dependants(app: FastAPI) -> Iterator[tuple[object, Dependant]]:
    """Yield every route that has dependencies, with them."""
    for route in iter_route_contexts(app.routes):
        dependant: Dependant | None = getattr(route, "dependant", None)
        if dependant is not None:
            yield route, dependant


def _depends_on(dependant: Dependant, call: Callable[..., Any]) -> bool:
    inner = dependant.dependencies
    return dependant.call is call or any(_depends_on(each, call) for each in inner)


def _refuse_undeclared_routes(app: FastAPI) -> None:
    for route, dependant in _dependants(app):
        if access_of(dependant) is None:
            path: Any = getattr(route, "path", "?")
            raise ConfigurationError(
                f"the route {path} ({getattr(route, 'name', '?')}) does not say who may call it",
                fix='add requires("resource:verb") or public() to it',
            )


def _ask_callers_first(app: FastAPI) -> None:
    """Let routes that take forms, or more than usual, read nothing of who may not call them."""
    for found, dependant in _dependants(app):
        route: Any = getattr(found, "_effective_route", None)
        limited, body = getattr(route, "app", None), getattr(route, "body_field", None)
        if not access_of(dependant):
            continue
        if isinstance(limited, RequestBodyLimitMiddleware):
            limited.app = CallerFirst(limited.app, dependant)
        elif limited is not None and body is not None and isinstance(body.field_info, Form):
            route.app = CallerFirst(limited, dependant)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings: Settings = app.state.settings
    database: Database = app.state.database
    configure_logs(
        level=settings.log_level, format=settings.log_format, secrets=list(secrets_of(settings))
    )
    traces: Traces = app.state.traces
    tracked = track_errors(settings.sentry_dsn, environment=settings.environment)
    async with traces.sending(), tracked:
        try:
            _refuse_undeclared_routes(app)  # those, too, that came after `create_app`
            await _check_schema(app)
            # Tests run jobs when they want to: newel.testing.run_jobs.
            jobs = nullcontext() if settings.environment == "test" else working(app)
            async with (
                database.watching(),
                database.cache.listening(),
                database.rooms.running(),
                jobs,
            ):
                yield
        finally:
            await close_ports(app)


async def _check_schema(app: FastAPI) -> None:
    """Refuse to start on another schema; start without a database, not ready until it is there."""
    try:
        await app.state.checks["database"]()
    except (Unavailable, InsufficientStorage) as error:
        why = str(error.__cause__ or error.detail)
        structlog.get_logger("newel.app").warning("database_unavailable_at_start", why=why)
