"""``newel serve``: uvicorn, run by program, that starts only on the right schema and stops cleanly.

``newel worker`` runs the service's jobs in a process of their own, without serving.

On SIGTERM or Ctrl-C the service says *not ready* (``/ready`` is 503), goes on for
``--drain-seconds`` so that a load balancer notices, stops accepting, finishes the requests that it
has, closes the database and exits with 0. A second Ctrl-C drops what is still running.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import math
import signal
import socket
import time
from contextlib import suppress
from types import FrameType
from typing import Annotated

import structlog
import typer
import uvicorn
from fastapi import FastAPI

from newel.errors import ConfigurationError, Unavailable
from newel.project import Project
from newel.revisions import ensure_current
from newel.settings import Settings

__all__ = ["Server", "run", "serve", "work", "worker"]

_log = structlog.get_logger("newel.serve")


class Server(uvicorn.Server):
    """uvicorn's server with a drain: not ready first, then no new connections, then the end."""

    def __init__(
        self, app: FastAPI, listener: socket.socket, *, drain_seconds: float = 0.0
    ) -> None:
        super().__init__(_config(app))
        self._app = app
        self._listener = listener
        self._drain_seconds = drain_seconds
        self._stop_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and log where.

        What lives by now lives until the end: the garbage collector need not look at it again.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        host, port = self._listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        docs = None if self._app.docs_url is None else f"{address}{self._app.docs_url}"
        _log.info("serving", url=address, docs=docs, stop="Ctrl-C")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the drain; on a second Ctrl-C stop at once.

        uvicorn's own would raise the signal again at the end, and the exit code would not be 0.
        """
        del frame
        if self._stop_at is not None and sig == signal.SIGINT:
            self.force_exit = self.should_exit = True
            return
        self._app.state.draining = True
        # Somebody at a terminal does not wait for a load balancer.
        wait = 0.0 if sig == signal.SIGINT else self._drain_seconds
        self._stop_at = time.monotonic() + wait

    async def on_tick(self, counter: int) -> bool:
        """Tell whether it is time to stop; uvicorn asks ten times a second."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit: bool = True
        return await super().on_tick(counter)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to ``host`` and ``port``; a ``ConfigurationError`` says why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"Port {port} on {host} cannot be used: {_reason(error)}",
            fix=f"stop what uses it, or choose another: newel serve --port {port + 1}"
            if error.errno == errno.EADDRINUSE
            else "choose another --host or --port",
        ) from None


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there"
    return (error.strerror or str(error)).lower()


async def run(app: FastAPI, *, host: str, port: int, drain_seconds: float = 0.0) -> None:
    """Serve ``app`` until SIGTERM or Ctrl-C; raises ``ConfigurationError`` instead of starting."""
    settings: Settings = app.state.settings
    if settings.role == "worker":
        raise ConfigurationError(
            "ROLE=worker does not serve", fix="run `newel worker`, or set ROLE to all or web"
        )
    with suppress(Unavailable):  # it may start before its database, and comes up not ready
        await ensure_current(app.state.database, settings.migrations)
    with _listen(host, port) as listener:
        await Server(app, listener, drain_seconds=drain_seconds).serve(sockets=[listener])


def _config(app: FastAPI) -> uvicorn.Config:
    settings: Settings = app.state.settings
    return uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,  # the service's own logs are set up by its lifespan
        access_log=False,  # so is its access log, with request ids
        proxy_headers=False,  # the client's address comes from TRUSTED_PROXIES alone
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.request_timeout_seconds) + 1,
    )


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    drain_seconds: Annotated[
        float,
        typer.Option(min=0, help="How long to go on, not ready, after SIGTERM."),
    ] = 0.0,
) -> None:
    """Run the service until SIGTERM or Ctrl-C; it starts on a schema it matches, or not at all."""
    app = Project.find().load_app()
    loop = _config(app).get_loop_factory()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run(app, host=host, port=port, drain_seconds=drain_seconds))


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
        runner.run(work(app))
