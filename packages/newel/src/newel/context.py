"""What belongs to one request and must reach far places: its id and its deadline.

Context variables, because log lines and outgoing calls need them without being passed them.
Who is calling is *not* here: that is a value, ``Principal``, and an argument.
"""

from __future__ import annotations

import re
import time
from contextvars import ContextVar

from newel.ids import uuid7

__all__ = ["accepted_request_id", "deadline", "remaining_seconds", "request_id"]

request_id: ContextVar[str | None] = ContextVar("newel_request_id", default=None)
"""The id of the present request or job run, or ``None`` outside of one."""

deadline: ContextVar[float | None] = ContextVar("newel_deadline", default=None)
"""When the present request must be over, in seconds of ``time.monotonic()``."""

_SAFE_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}")


def accepted_request_id(offered: str | None) -> str:
    """Return the client's request id if it is harmless in a log line, else a new one."""
    if offered is not None and _SAFE_ID.fullmatch(offered):
        return offered
    return uuid7().hex


def remaining_seconds() -> float | None:
    """Return the seconds until the deadline (never negative), or ``None`` without one."""
    end = deadline.get()
    return None if end is None else max(0.0, end - time.monotonic())
