"""What failed, to Sentry or what speaks its protocol, with its SDK (the extra ``newel[sentry]``).

An event says the class of an exception and where in the code it was raised, and which request or
job it was: no text of it, no values, no headers, no body, no user. Those are in the log, under the
same request id. The SDK's own patches of other libraries stay off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from sentry_sdk import Client
from sentry_sdk.utils import BadDsn, event_from_exception

from newel.context import request_id, trace_ids
from newel.errors import ConfigurationError
from newel.telemetry import act_within

__all__ = ["track"]

CLOSE_SECONDS: Final = 2.0
MOST_A_SECOND: Final = 10
"""An event costs milliseconds, and when everything fails each of them says the same."""

_SAID: Final = ("route", "job", "job_id", "attempt", "error", "endpoint")
"""What of a log line is a tag: names and ids that the service made."""


@asynccontextmanager
async def track(dsn: str, *, environment: str) -> AsyncGenerator[None]:
    """Send what the kernel logs as an error, as long as the block lasts.

    Raises ``ConfigurationError`` for what is no DSN.
    """
    try:
        client: Any = cast("Any", Client)(
            dsn,
            environment=environment,
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            max_request_body_size="never",
            send_client_reports=False,
        )
    except BadDsn:
        raise ConfigurationError(
            "SENTRY_DSN is not the address of a project in Sentry",
            fix="copy it from the project's settings: https://key@host/number; or leave it out",
        ) from None
    tracker = _Tracker(client)
    logging.root.addHandler(tracker)
    try:
        yield
    finally:
        logging.root.removeHandler(tracker)
        await act_within(lambda: client.close(timeout=CLOSE_SECONDS), seconds=CLOSE_SECONDS)


class _Tracker(logging.Handler):
    """Makes an event of each error of the kernel: an answer of 500, or a job that is dead."""

    def __init__(self, client: Any) -> None:
        super().__init__(logging.ERROR)
        self._client = client
        self._second = 0.0
        self._left = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = cast("object", record.msg)
        if not isinstance(line, Mapping) or not record.name.startswith("newel."):
            return
        if self._may_send():
            try:
                self._client.capture_event(self._event(cast("Mapping[str, Any]", line)))
            except Exception:  # noqa: BLE001 - a handler never raises to who logs
                self.handleError(record)

    def _may_send(self) -> bool:
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._left = now, MOST_A_SECOND
        self._left -= 1
        return self._left >= 0

    def _event(self, line: Mapping[str, Any]) -> dict[str, Any]:
        event: dict[str, Any] = {"message": line["event"]}
        error = line.get("exc_info")
        if isinstance(error, BaseException):
            made, _ = event_from_exception(error, client_options=self._client.options)
            event = cast("dict[str, Any]", made)
            for one in event["exception"]["values"]:
                one["value"] = ""  # an exception's text may be anything
        tags = {name: str(line[name]) for name in _SAID if line.get(name) is not None}
        trace = trace_ids()
        return event | {
            "level": "error",
            "transaction": tags.get("route") or tags.get("job"),
            "tags": {"event": line["event"], "request_id": request_id.get(), **tags},
            "contexts": {"trace": trace} if trace else {},
        }
