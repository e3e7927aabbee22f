"""Applications that wait for the next test, which needs the same: to build one takes 0.2 s.

So does `newel.testing.built_app` for the tests of a service.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from typing import TypeVar

from fastapi import FastAPI

from newel.limits import MemoryLimiter
from newel.mail import open_mailer
from newel.settings import Settings
from newel.testing import FrozenClock

T = TypeVar("T", bound=Hashable)
_WAITING: dict[Hashable, list[FastAPI]] = defaultdict(list)


@contextmanager
def borrowed(build: Callable[[T], FastAPI], choices: T) -> Generator[FastAPI]:
    """Yield an application that nobody else uses, as ``build(choices)`` returns it.

    What a test puts on ``app.state`` or into ``dependency_overrides`` ends with the block, and so
    does the time that went by. One that a test ended with an error is not used again.
    """
    waiting = _WAITING[build, choices]
    app = waiting.pop() if waiting else build(choices)
    kept = vars(app.state)["_state"]  # Starlette cannot list a State
    before = kept.copy()
    app.state.limiter = MemoryLimiter()
    settings: Settings = app.state.settings
    shows_text = settings.environment != "production"
    app.state.mailer = open_mailer(settings.mail_url, shows_text=shows_text)
    app.state.database.cache.clear()
    yield app
    kept.clear()
    kept.update(before)
    app.dependency_overrides.clear()
    clock: FrozenClock = app.state.clock
    clock.move(seconds=(FrozenClock().now() - clock.now()).total_seconds())
    waiting.append(app)
