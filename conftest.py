"""Runs the ```python examples of README.md and docs/*.md; a page is one module and one test run.

And sees to it that no test holds up all others.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Sybil
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

TEAR_DOWN_SECONDS = 120
STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep where errors go while nothing is captured: a test may put anything there."""
    config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """End a process of several that does not get a test out of the way, so that it fails by name.

    pytest's own `faulthandler_timeout` is switched off by a failure; the test's limit has passed.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        stderr = item.config.stash[STDERR]
        faulthandler.dump_traceback_later(TEAR_DOWN_SECONDS, exit=True, file=stderr)


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
