"""``newel serve``: uvicorn, run by program, that starts only on the right schema and stops cleanly.

With ``--workers`` or ``WEB_CONCURRENCY`` it is several processes: see ``newel.workers``.
``newel worker`` runs the service's jobs in a process of their own, without serving.

On SIGTERM or Ctrl-C the service says *not ready* (``/ready`` is 503), goes on for
``--drain-seconds`` so that a load balancer notices, stops accepting, finishes the requests that it
has, closes the database and exits with 0. A second Ctrl-C drops what is still running.
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import gc
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Annotated, Final

import structlog
import typer
import uvicorn
from fastapi import FastAPI

from newel.connections import ConnectionConfig
from newel.errors import ConfigurationError, Unavailable
from newel.logs import configure_logs
from newel.ports import secrets_of
from newel.project import Project
from newel.refusals import Refusals
from newel.revisions import ensure_current
from newel.settings import Settings
from newel.workers import RETIRE, Workers, hear_hangup, inherited, show_life

__all__ = ["Server", "run", "serve", "work", "worker"]

_BACKLOG: Final = 2048
_IDLE_SECONDS: Final = 75
"""Longer than proxies keep a connection (60 seconds at most): else they ask when it has ended."""

_UNREAD_MILLISECONDS: Final = 20_000
"""How long a client may leave unread, or its network undelivered, what it was sent."""

_LAST_ANSWERS_SECONDS: Final = 1.0
"""How long a replaced process goes on, so that no client's next request meets a closed door."""

_JOBS_SECONDS: Final = 40.0
"""How long a process may take at its end besides: jobs have 25 seconds."""

_GARBAGE_OBJECTS: Final = 10_000
"""How many are made until the collector looks for cycles: at 700, Python's own number, it looks at
what a hundred requests under way hold again and again."""

_TURN_SECONDS: Final = 0.0005
"""How long one thread may keep others from Python: at Python's 5 ms each statement of SQLite, which
is a thread's, waits so long beside a loop that is busy."""

_NOTHING_TO_REPLACE: Final = (
    "restart it for new code or settings; newel serve --workers 2 replaces its processes on SIGHUP"
)
_log = structlog.get_logger("newel.serve")


class Server(uvicorn.Server):
    """uvicorn's server with a drain: not ready first, then no new connections, then the end."""

    def __init__(
        self,
        app: FastAPI,
        *,
        drain_seconds: float = 0.0,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._bounds = _config(app)
        super().__init__(self._bounds)
        self._app = app
        self._drain_seconds = drain_seconds
        self._on_ready = on_ready
        self._stop_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell that it serves.

        What lives by now lives until the end: the garbage collector need not look at it again.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE_OBJECTS)
        sys.setswitchinterval(_TURN_SECONDS)
        if self._on_ready is not None:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the drain; on a second Ctrl-C stop at once.

        uvicorn's own would raise the signal again at the end, and the exit code would not be 0.
        """
        del frame
        if self._stop_at is not None and sig == signal.SIGINT:
            self.force_exit = self.should_exit = True
            return
        # Somebody at a terminal does not wait for a load balancer.
        self.drain(0.0 if sig == signal.SIGINT else self._drain_seconds)

    def drain(self, seconds: float) -> None:
        """Say *not ready*, end connections with their next answer, and stop in so many seconds."""
        self._app.state.draining = True
        self.retire(seconds)

    def retire(self, seconds: float) -> None:
        """Do so without a word of *not ready*: others serve on this socket, the host is fine."""
        if self._stop_at is None:
            self._bounds.draining = True
            self._stop_at = time.monotonic() + seconds

    async def on_tick(self, counter: int) -> bool:
        """Tell whether it is time to stop; uvicorn asks ten times a second."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self._app.state.draining = True  # streams end; nobody can ask whether it is ready
            self.should_exit: bool = True
        return await super().on_tick(counter)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to ``host`` and ``port``; a ``ConfigurationError`` says why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Port {port} on {host} cannot be used: {_reason(error)}",
            fix=f"stop what uses it, or choose another: newel serve --port {port + 1}"
            if error.errno == errno.EADDRINUSE
            else "choose another --host or --port",
        ) from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MILLISECONDS)
    return listener


def _many(listener: socket.socket) -> list[socket.socket]:
    """Return a socket that is listened on, several times.

    The loop takes one connection a turn from each: who connects to a busy process would wait for
    seconds, and not be told that it is busy.
    """
    return [listener, *(listener.dup() for _ in range(15))]


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there"
    return (error.strerror or str(error)).lower()


async def run(app: FastAPI, *, host: str, port: int, drain_seconds: float = 0.0) -> None:
    """Serve ``app`` until SIGTERM or Ctrl-C; raises ``ConfigurationError`` instead of starting."""
    await _check(app)
    with _listen(host, port) as listener:
        say = partial(_say_where, app, listener)
        server = Server(app, drain_seconds=drain_seconds, on_ready=say)
        await server.serve(sockets=_many(listener))


async def _check(app: FastAPI) -> None:
    settings: Settings = app.state.settings
    if settings.role == "worker":
        raise ConfigurationError(
            "ROLE=worker does not serve", fix="run `newel worker`, or set ROLE to all or web"
        )
    with suppress(Unavailable):  # it may start before its database, and comes up not ready
        await ensure_current(app.state.database, settings.migrations)


def _say_where(app: FastAPI, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    docs = None if app.docs_url is None else f"{address}{app.docs_url}"
    processes = app.state.settings.web_concurrency
    _log.info("serving", url=address, docs=docs, processes=processes, stop="Ctrl-C")


async def _run_as_worker(app: FastAPI, *, channel: int, drain_seconds: float) -> None:
    """Serve on the socket that comes by ``channel``, until told to stop or nobody is there."""
    end, listener = inherited(channel)

    def say() -> None:
        _log.info("process_serves")
        show_life(end)

    def hear() -> None:
        asyncio.get_running_loop().remove_reader(end)
        with suppress(ConnectionResetError):  # it died without having read all that we said
            if end.recv(1) == RETIRE:
                server.retire(max(drain_seconds, _LAST_ANSWERS_SECONDS))
                return
        signal.raise_signal(signal.SIGTERM)

    server = Server(app, drain_seconds=drain_seconds, on_ready=say)
    structlog.contextvars.bind_contextvars(process=os.getpid())
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - it may be closed
        faulthandler.register(signal.SIGQUIT)
    with end, listener:
        await _check(app)
        asyncio.get_running_loop().add_reader(end, hear)
        await server.serve(sockets=_many(listener))


async def _run_workers(app: FastAPI, *, host: str, port: int, drain_seconds: float) -> int:
    settings: Settings = app.state.settings
    configure_logs(
        level=settings.log_level, format=settings.log_format, secrets=list(secrets_of(settings))
    )

    def command(channel: int) -> list[str]:
        # -P: nothing is imported from the working directory by accident.
        newel = [sys.executable, "-P", "-m", "newel", "serve"]
        return [*newel, "--channel", str(channel), "--drain-seconds", str(drain_seconds)]

    with _listen(host, port) as listener:
        stop_seconds = drain_seconds + settings.request_timeout_seconds + _JOBS_SECONDS
        workers = Workers(
            command, listener, count=settings.web_concurrency, stop_seconds=stop_seconds
        )
        return await workers.run(on_ready=partial(_say_where, app, listener))


def _say_why_not(channel: int | None = None) -> None:
    """Tell who sent SIGHUP to one process that it is none to replace."""
    if channel is None:
        _log.warning("nothing_to_replace", fix=_NOTHING_TO_REPLACE)
    else:
        _log.info("hangup_left_to_parent", parent=os.getppid())


def _config(app: FastAPI) -> ConnectionConfig:
    settings: Settings = app.state.settings
    return ConnectionConfig(
        app,
        header_seconds=settings.header_timeout_seconds,
        most=settings.max_connections,
        websocket_bytes=settings.websocket_max_bytes,
        refusals=Refusals.of(app),
        lifespan="on",
        log_config=None,  # the service's own logs are set up by its lifespan
        access_log=False,  # so is its access log, with request ids
        proxy_headers=False,  # the client's address comes from TRUSTED_PROXIES alone
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.request_timeout_seconds) + 1,
    )


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    drain_seconds: Annotated[
        float,
        typer.Option(min=0, help="How long to go on, not ready, after SIGTERM."),
    ] = 0.0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; without it WEB_CONCURRENCY.")
    ] = None,
    channel: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C; it starts on a schema it matches, or not at all."""
    if workers is not None:
        os.environ["WEB_CONCURRENCY"] = str(workers)  # for its settings, and those of the processes
    app = Project.find().load_app()
    settings: Settings = app.state.settings
    if channel is None and settings.web_concurrency > 1:
        running = _run_workers(app, host=host, port=port, drain_seconds=drain_seconds)
        raise typer.Exit(asyncio.run(running))
    with asyncio.Runner(loop_factory=_config(app).get_loop_factory()) as runner:
        hear_hangup(runner.get_loop(), partial(_say_why_not, channel))
        if channel is None:
            runner.run(run(app, host=host, port=port, drain_seconds=drain_seconds))
        else:
            runner.run(_run_as_worker(app, channel=channel, drain_seconds=drain_seconds))


async def work(app: FastAPI) -> None:
    """Run the jobs of ``app`` until SIGTERM or Ctrl-C, whatever its role is, without serving.

    What runs then has 25 seconds to finish; the rest is handed back. A second Ctrl-C ends it at
    once. Raises ``ConfigurationError`` instead of starting.
    """
    settings: Settings = app.state.settings
    if not app.state.background.jobs:
        raise ConfigurationError(
            "No module of this service has jobs, handlers or schedules",
            fix="list them in a module: Module(..., jobs=[...])",
        )
    with suppress(Unavailable):
        await ensure_current(app.state.database, settings.migrations)
    app.state.runs_jobs = True
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with app.router.lifespan_context(app):
        _log.info("working", stop="Ctrl-C")
        await stop.wait()
        loop.remove_signal_handler(signal.SIGINT)


def worker() -> None:
    """Run the service's jobs, without serving, until SIGTERM or Ctrl-C."""
    app = Project.find().load_app()
    with asyncio.Runner(loop_factory=_config(app).get_loop_factory()) as runner:
        hear_hangup(runner.get_loop(), _say_why_not)
        runner.run(work(app))
