"""The pipe: reads what is asked, one JSON document a line, and answers each by its number."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import resource
import signal
import sys
import threading
from contextlib import AbstractContextManager
from typing import Any

from .boot import (
    BootError,
    Lifespan,
    api_description,
    load,
    mark_background,
    note_errors,
    run_command,
)
from .clock import Clock
from .exchange import call, converse
from .guard import Guard, leave_network, limit_memory, redirect_sqlite
from .mail import take_mails
from .migrations import differences
from .record import Places, Record
from .rows import Rows
from .servers import lead_postgres, lead_redis, replace_mysql
from .stalls import Watchdog
from .standstill import Standstill, standstill_told
from .statements import Meeting, Statements

__all__ = ["Host", "Pipe", "converse_with", "main"]

_LINE_BYTES = 64 * 1024 * 1024


class Host:
    """Answers what it is asked about one application."""

    def __init__(self, app: Any, *, places: Places, statements: Statements, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._places = places
        self._statements = statements
        self._lifespan = Lifespan(app)
        self._rows = Rows()
        self._watchdog = Watchdog(places)
        self._meetings: dict[str, Meeting] = {}

    async def start(self) -> dict[str, Any]:
        """Start the application and make the tables that are missing; return what it is."""
        await self._lifespan.start(self._places)
        self._rows.look(self._places)
        try:
            made = await self._rows.create_missing()
        except Exception as error:
            raise BootError("create the tables", error, self._places) from error
        self._watchdog.start()
        return {"created": made, **self._rows.describe(), **api_description(self._app)}

    async def stop(self) -> None:
        """End the application."""
        self._watchdog.stop()
        await self._lifespan.stop()

    async def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked; an error of ours is an answer too."""
        action = getattr(self, "_do_" + asked["do"])
        return await action(asked)

    async def _do_call(self, asked: dict[str, Any]) -> dict[str, Any]:
        record = Record(fail_commits=bool(asked.get("fail_commits")), meeting=self._meeting(asked))
        number = asked["number"]
        self._watchdog.begin(number, f"{asked['method']} {asked['path']}")
        try:
            said = await call(
                self._app, asked, record=record, places=self._places, state=self._lifespan.state
            )
        finally:
            self._watchdog.end(number)
        return {**said, **record.as_json()}

    def _meeting(self, asked: dict[str, Any]) -> Meeting | None:
        name = asked.get("meeting")
        if name is None:
            return None
        return self._meetings.setdefault(name, Meeting(size=2))

    async def _do_websocket(self, asked: dict[str, Any]) -> dict[str, Any]:
        record = Record()
        said = await converse(
            self._app, asked, record=record, places=self._places, state=self._lifespan.state
        )
        return {**said, **record.as_json()}

    async def _do_select(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"rows": await self._rows.select(asked["table"], asked["where"])}

    async def _do_update(self, asked: dict[str, Any]) -> dict[str, Any]:
        changed = await self._rows.update(asked["table"], asked["where"], asked["values"])
        return {"changed": changed}

    async def _do_lose_database(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._statements.database_is_lost = bool(asked["lost"])
        return {}

    async def _do_advance(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._clock.advance(float(asked["seconds"]))
        self._watchdog.forget()
        return {}

    async def _do_stalls(self, _asked: dict[str, Any]) -> dict[str, Any]:
        return {"stalls": await self._watchdog.take()}

    async def _do_memory(self, _asked: dict[str, Any]) -> dict[str, Any]:
        return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


class Pipe:
    """One socket, lines of JSON both ways."""

    def __init__(self, descriptor: int) -> None:
        self._incoming = os.fdopen(os.dup(descriptor), "rb")
        self._outgoing = os.fdopen(descriptor, "wb")
        self._lock = threading.Lock()

    def read(self) -> dict[str, Any] | None:
        line = self._incoming.readline(_LINE_BYTES)
        return json.loads(line) if line else None

    def close(self) -> None:
        """Close both ends of ours."""
        self._incoming.close()
        self._outgoing.close()

    def write(self, said: dict[str, Any]) -> None:
        line = json.dumps(said, default=str).encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            self._outgoing.write(line)
            self._outgoing.flush()


def main() -> None:
    """Serve the parent process: its first line says what to load, each further one what to do."""
    pipe = Pipe(int(sys.argv[1]))
    wanted = pipe.read()
    if wanted is None:
        return
    places = _prepare(wanted)
    statements = Statements(places)
    try:
        # Here, before the project's own modules can be taken for those of a library.
        statements.install()
        if wanted.get("postgres"):
            lead_postgres(wanted["postgres"])
        if wanted.get("redis"):
            lead_redis(wanted["redis"])
        take_mails()
        replace_mysql(os.path.join(wanted["databases"], "instead-of-mysql.db"))  # noqa: PTH118 - a text is wanted
        if "command" in wanted:
            with _watched(pipe, wanted, places, step=" ".join(wanted["command"])):
                run_command(wanted["command"], places)
            pipe.write({"done": True})
        elif "compare" in wanted:
            with _watched(pipe, wanted, places, step="alembic check"):
                found = differences(places)
            pipe.write({"differences": found})
        else:
            mark_background()
            note_errors(places)
            clock = Clock()
            clock.install()
            _serve(pipe, wanted, places, statements, clock)
    except BootError as error:
        pipe.write({"failed": error.said})
    # Threads that the application left running would keep the process alive.
    os._exit(0)


def _prepare(wanted: dict[str, Any]) -> Places:
    limit_memory(memory_bytes=wanted["memory_bytes"])
    leave_network()
    redirect_sqlite(folder=wanted["scratch"], databases=wanted["databases"])
    server = wanted.get("postgres")
    os.chdir(wanted["folder"])
    sys.path[:0] = wanted["path"]
    sys.argv = [wanted.get("target", "newel-prove")]
    # What hangs says where: the parent asks for the stacks before it ends the process.
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    sockets = [server["host"]] if server else []
    sockets += [wanted["redis"]] if wanted.get("redis") else []
    guard = Guard(folder=wanted["scratch"], sockets=sockets)
    guard.install()
    return Places(wanted["copy"], wanted["root"])


def _serve(
    pipe: Pipe, wanted: dict[str, Any], places: Places, statements: Statements, clock: Clock
) -> None:
    # Not the loop that the project prefers: the guard sees Python's own loop only.
    loop = asyncio.SelectorEventLoop()
    asyncio.set_event_loop(loop)
    with _watched(pipe, wanted, places, step="import"):
        app = load(wanted["target"], places)
    host = Host(app, places=places, statements=statements, clock=clock)
    loop.run_until_complete(converse_with(pipe, host, loop))


def _watched(
    pipe: Pipe, wanted: dict[str, Any], places: Places, *, step: str
) -> AbstractContextManager[None]:
    """Say where a step stands still, and end: nothing else would."""

    def tell(error: Standstill) -> None:
        said = {"step": step, "type": "Standstill", "text": str(error), "where": error.where}
        pipe.write({"failed": {**said, "settings": [], "stack": error.stack}})
        os._exit(1)

    return standstill_told(places, seconds=wanted["still_seconds"], tell=tell)


async def converse_with(pipe: Pipe, host: Host, loop: asyncio.AbstractEventLoop) -> None:
    """Start the application and answer what comes through the pipe until it is closed."""
    pipe.write({"started": await host.start()})
    ended = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def work(asked: dict[str, Any]) -> None:
        if asked["do"] == "die":
            os._exit(137)
        try:
            said = await host.answer(asked)
        except Exception as error:  # noqa: BLE001 - the parent decides what to make of it
            said = {"error": f"{type(error).__name__}: {error}"}
        pipe.write({"number": asked["number"], **said})

    def accept(asked: dict[str, Any] | None) -> None:
        if asked is None:
            ended.set()
            return
        task = loop.create_task(work(asked))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def read() -> None:
        while True:
            asked = pipe.read()
            loop.call_soon_threadsafe(accept, asked)
            if asked is None:
                return

    threading.Thread(target=read, name="newel-pipe", daemon=True).start()
    await ended.wait()
    await host.stop()
