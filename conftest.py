"""Runs the ```python examples of README.md and docs/*.md; a page is one module and one test run.

And sees to it that no test holds up all others.
"""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, cast

import pytest
from coverage import Coverage
from sybil import Sybil
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

GRACE_SECONDS = 60
WATCHER = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    """Start who ends this process should a test of it never end."""
    watcher = Path(__file__).parent / "scripts" / "end_if_stuck.py"
    config.stash[WATCHER] = subprocess.Popen(  # noqa: S603 - a program of this repository
        [sys.executable, "-I", "-S", str(watcher)],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # nothing that stops the tests stops it
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let it go; to count lines may take long."""
    session.config.stash[WATCHER].communicate()


@pytest.hookimpl(trylast=True)
def pytest_sessionstart() -> None:
    """Let coverage look at what the garbage collector calls while it looks at something else.

    It looks at each new file under a lock, and where it makes an object there a callback of a weak
    reference may run, in a file that is new: it would wait for itself.
    """
    counting = Coverage.current()
    if counting is not None and counting._collector is not None:  # noqa: SLF001 - no public name
        counting._collector.data_lock = threading.RLock()  # noqa: SLF001 - no public name


@contextlib.contextmanager
def uncounted(item: pytest.Item) -> Iterator[None]:
    """Count no lines while a test is set up or torn down that is marked `no_cover`.

    pytest-cov itself leaves out the call alone. To count takes as long as to run.
    """
    counting = getattr(item.config.pluginmanager.get_plugin("_cov"), "cov_controller", None)
    if counting is None or item.get_closest_marker("no_cover") is None:
        yield
        return
    counting.pause()
    try:
        yield
    finally:
        counting.resume()


def allow(item: pytest.Item, seconds: float) -> None:
    """Have this process ended if nothing else is allowed until a while after ``seconds``."""
    line = cast("IO[bytes]", item.config.stash[WATCHER].stdin)
    line.write(struct.pack("d", seconds + GRACE_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    limit = item.get_closest_marker("timeout")
    allow(item, float(limit.args[0] if limit else item.config.getini("timeout") or 60))
    with uncounted(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    allow(item, GRACE_SECONDS)  # the test's own limit may have passed
    with uncounted(item):
        yield


class Page(Document):
    """A page with a module of its own: annotations are looked up by the name of their module."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text, path)
        module = ModuleType(f"page_{Path(path).stem}")
        sys.modules[module.__name__] = module
        self.namespace = module.__dict__


@pytest.fixture(scope="module")
def scratch_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let a page's examples write their files where they do not lie about."""
    with contextlib.chdir(tmp_path_factory.mktemp("page")):
        yield


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["docs/*.md", "README.md"],
    fixtures=["scratch_directory"],
    document_types={".md": Page},
).pytest()
