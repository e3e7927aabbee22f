"""An answer of the application, with what happened inside while it was made."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Answer", "Commit", "Failure", "Session", "Statement"]

Outcome = Literal["answered", "exception", "no answer", "timeout"]
Phase = Literal["request", "answered", "background"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One SQL statement; ``where`` is the project's line that issued it (`file:line in name`).

    ``numbers`` are the integers among its values.
    """

    sql: str
    writes: bool
    many: bool
    numbers: tuple[int, ...] = ()
    where: str | None
    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit: whether it held writes, whether it was made to fail, and when it was made.

    ``phase`` is `answered` if the status was sent before, `background` in a background task.
    """

    where: str | None
    wrote: bool
    phase: Phase
    failed: bool
    doomed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception that passed through the application.

    ``handled``: it has a handler for exceptions of this very kind.
    """

    type: str
    text: str
    where: str | None
    handled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers and body; ``status`` is 0 if there was none.

    ``body_bytes`` is the size of the whole body, of which the first MiB is kept. ``refused`` lists
    what the guard did not allow: an answer with refusals says little about the application.
    """

    status: int
    outcome: Outcome
    headers: tuple[tuple[str, str], ...]
    body: bytes
    body_bytes: int
    finished: bool
    statement_count: int = 0
    statements: tuple[Statement, ...] = ()
    commits: tuple[Commit, ...] = ()
    errors: tuple[Failure, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        """Tell whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def is_fault(self) -> bool:
        """Tell whether the server failed (5xx, or no answer at all) by its own doing."""
        return (self.status >= 500 or self.status == 0) and not self.refused

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """The body as JSON, or ``None`` if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def header(self, name: str) -> str | None:
        """Return the first header of this name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def where(self) -> str | None:
        """The project's line behind the first error, if one was seen."""
        return next((error.where for error in self.errors if error.where), None)

    @property
    def raised(self) -> str | None:
        """The exception behind a failure, in one line: `KeyError: 'name'`."""
        if not self.errors or not self.is_fault:
            return None
        first = next((error for error in self.errors if error.where), self.errors[0])
        said = next(iter(first.text.splitlines()), "")
        return f"{first.type}: {said}"[:200]

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Answer:
        """Return the answer that the host sent."""
        return cls(
            status=said["status"] or 0,
            outcome=said["outcome"],
            headers=tuple((name, value) for name, value in said["headers"]),
            body=base64.b64decode(said["body"]),
            body_bytes=said["body_bytes"],
            finished=said["finished"],
            statement_count=said["statement_count"],
            statements=tuple(Statement(**item) for item in said["statements"]),
            commits=tuple(Commit(**item) for item in said["commits"]),
            errors=tuple(Failure(**item) for item in said["errors"]),
            refused=tuple(said["refused"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What came of a websocket: ``refusal_status`` if the handshake was answered by HTTP."""

    accepted: bool
    close_code: int | None
    refusal_status: int | None
    messages: tuple[str, ...]
    open_at_end: bool
    errors: tuple[Failure, ...] = ()
    refused: tuple[str, ...] = ()

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Session:
        """Return the session that the host had."""
        return cls(
            accepted=said["accepted"],
            close_code=said["close_code"],
            refusal_status=said["refusal_status"],
            messages=tuple(said["messages"]),
            open_at_end=said["open_at_end"],
            errors=tuple(Failure(**item) for item in said["errors"]),
            refused=tuple(said["refused"]),
        )
