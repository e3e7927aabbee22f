"""A host for small applications in this process: no copy, no guard, no second interpreter."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from alembic import command
from alembic.config import Config

from newel_tools.check.rule import files_of
from newel_tools.prove.client import HostClient
from newel_tools.prove.host import rows
from newel_tools.prove.host.boot import load, mark_background, note_errors
from newel_tools.prove.host.clock import Clock
from newel_tools.prove.host.migrations import differences
from newel_tools.prove.host.record import Places
from newel_tools.prove.host.statements import Statements
from newel_tools.prove.host.wire import Host, Pipe, converse_with
from newel_tools.prove.lab import Lab, open_lab
from newel_tools.prove.service import Difference, Service
from newel_tools.prove.settings import Settings

Laboratory = Callable[..., Lab]


@contextmanager
def modules_of(folder: Path) -> Iterator[None]:
    """Let the files of a folder be imported, and forget them afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


@contextmanager
def hosted(folder: Path) -> Iterator[HostClient]:
    """Run the host's own code on the application `main:app` of a folder, in a thread."""
    ours, theirs = socket.socketpair()
    places, statements = Places(str(folder)), None
    statements = Statements(places)
    clock = Clock()

    def serve() -> None:
        loop = asyncio.new_event_loop()
        with theirs:
            pipe = Pipe(theirs.detach())
            try:
                app = load("main:app", places)
                host = Host(app, places=places, statements=statements, clock=clock)
                loop.run_until_complete(converse_with(pipe, host, loop))
            finally:
                pipe.close()
                loop.close()

    with modules_of(folder):
        statements.install()
        mark_background()
        note_errors(places)
        clock.install()
        thread = threading.Thread(target=serve)
        client = HostClient(ours, give_up=lambda: None)
        thread.start()
        try:
            yield client
        finally:
            client.hang_up()
            thread.join(10)
            client.close()
            clock.remove()
            statements.remove()


def migrated(folder: Path) -> tuple[Difference, ...]:
    """Run an example's migrations, and return how its models differ from what they made."""
    with modules_of(folder):
        command.upgrade(Config("alembic.ini"), "heads")
        return tuple(Difference(**one) for one in differences(Places(str(folder))))


@contextmanager
def laboratories(folder: Path) -> Iterator[Laboratory]:
    """Yield a function that starts the application of an example and opens a laboratory on it."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        # In this process, what lies about outside of the example's modules is another test's.
        patch.setattr(rows, "gc", SimpleNamespace(get_objects=list))

        def start(example: str | Mapping[str, str], **settings: object) -> Lab:
            files = files_of(example) if isinstance(example, str) else example
            here = folder / f"app{len(list(folder.iterdir()))}"
            for name, text in files.items():
                (here / name).parent.mkdir(parents=True, exist_ok=True)
                (here / name).write_text(text)
            patch.chdir(here)
            differences = migrated(here) if (here / "alembic.ini").exists() else None
            client = stack.enter_context(hosted(here))
            said = client.first(30)
            assert "started" in said, said
            service = Service.of(client, said["started"])
            return open_lab(service, Settings(**settings), differences=differences)

        yield start


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[Laboratory]:
    """Return a function that starts the application of an example and opens a laboratory on it."""
    with laboratories(tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def laboratory_at() -> Callable[[Path], AbstractContextManager[Laboratory]]:
    """Return what `laboratory` is made by, for a test that keeps the results of one for others."""
    return laboratories
