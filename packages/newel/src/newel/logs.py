"""Logs: one line an event, JSON by default, without secrets and without a way to forge a line.

``structlog.get_logger()`` and the standard library's ``logging`` come out the same way:

    {"timestamp": "2026-11-21T12:00:00.000000Z", "level": "info", "logger": "agents_service.agents",
     "event": "agent_created", "request_id": "0190...", "agent_id": "0190..."}

Everything passes ``_Redactor`` first: it replaces secrets, by the name of their key, by their value
and by their form, and escapes control characters. Depth, number and length are bounded.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Final, Literal, TextIO, cast
from urllib.parse import quote, quote_plus

import structlog
from pydantic import SecretStr
from pydantic_core import to_json
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger

from newel.context import request_id, trace_ids

__all__ = ["LogFormat", "LogLevel", "configure_logs", "log_request"]

_compact: Final = partial(json.dumps, separators=(",", ":"))

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LogFormat = Literal["json", "console"]

_MAX_LINE_BYTES: Final = 16_384
_MAX_TEXT: Final = 4096
_MIN_TEXT: Final = 128
_MAX_TRACE: Final = 8192
_MAX_NAME: Final = 128
_MAX_ITEMS: Final = 64
_MAX_DEPTH: Final = 5
_MAX_VALUES: Final = 512
_MAX_FRAMES: Final = 40
_MAX_BITS: Final = 256
_MIN_SECRET_LENGTH: Final = 8
"""A shorter text stands in too many harmless ones to be replaced wherever it does."""

_REDACTED: Final = "[redacted]"
_CUT: Final = "..."
_FIRST: Final = ("timestamp", "level", "logger", "event", "request_id", "trace_id", "span_id")

_NAMES: Final = (
    r"(?:passw(?:or)?d|passphrase|secret|token|authorization|cookie|credential"
    r"|(?:api|private|access|signing|encryption)[_-]?key)"
)
_SECRET_NAME: Final = re.compile(_NAMES, re.IGNORECASE)
_MEASURE: Final = re.compile(r"(?:tokens|count|_seconds|_minutes|_days|_bytes)$", re.IGNORECASE)
"""``max_tokens=512`` and ``access_token_expire_minutes=15``: a number under it is no secret."""

# What looks like a secret inside a longer text: an address with a password, an Authorization
# header, a JWT, a parameter or member with a secret's name. The quantifiers are possessive or
# bounded: the texts are a client's, and must not be able to make this slow.
_VALUE: Final = r"""(?:"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|[^\s&;,"')]++)"""
_FORMS: Final = (
    (re.compile(r"(://[^/\s:@]{0,256}+:)[^/\s@]{1,1024}+(?=@)"), rf"\1{_REDACTED}"),
    (re.compile(r"\b(bearer)\s{1,8}+[\w.~+/=-]{8,}+", re.IGNORECASE), rf"\1 {_REDACTED}"),
    (re.compile(r"\beyJ[\w-]{8,}+\.[\w-]++\.[\w-]*+"), _REDACTED),
    (re.compile(rf"({_NAMES}[\w-]{{0,40}}+=){_VALUE}", re.IGNORECASE), rf"\1{_REDACTED}"),
    (
        re.compile(rf"({_NAMES}[\w-]{{0,40}}+[\"']\s{{0,8}}+:\s{{0,8}}+){_VALUE}", re.IGNORECASE),
        rf'\1"{_REDACTED}"',
    ),
)
# What has none of these forms and no control character: most values, so that a usual line costs one
# look a value.
_HARMLESS: Final = re.compile(r"(?!.*(?:eyJ|bearer|://))[\w\- ./,:{}]*", re.ASCII | re.IGNORECASE)

# C0, DEL and C1 (line feeds, ANSI sequences), what is invisible or turns the direction of text, the
# line ends of Unicode, and lone surrogates, which cannot be encoded.
_CONTROL: Final = (
    *(*range(0x20), *range(0x7F, 0xA0), *range(0x200B, 0x2010), *range(0x2028, 0x202F)),
    *(*range(0x2060, 0x2070), 0xFEFF, *range(0xD800, 0xE000)),
)
_ESCAPES: Final = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROL}
_ESCAPES_IN_TRACE: Final = {code: text for code, text in _ESCAPES.items() if code != ord("\n")}


def configure_logs(
    *,
    level: LogLevel = "INFO",
    format: LogFormat = "json",
    secrets: Sequence[SecretStr | str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send structlog, ``logging`` and uvicorn through one handler, to standard output.

    ``secrets`` are replaced wherever they stand, if they have 8 characters or more. ``stream`` is
    for tests. Only the composition root calls it; calling it again replaces what it set up. A
    handler that somebody else put on the root logger stays, and must do its own redaction.
    """
    handler = _LineHandler(stream, writes_json=format == "json")
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.ExtraAdder(),
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
            ],
            processors=[
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _add_context,
                _Cleaner(_Redactor(secrets)),
                _JsonLine() if format == "json" else _ConsoleLine(colors=handler.is_terminal),
            ],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.StackInfoRenderer(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Not remembered: a logger made at import must follow when this is called again.
        cache_logger_on_first_use=False,
    )
    _replace_handlers(handler, level=level)


def log_request(**facts: str | float | None) -> None:
    """Write the line of a request to a route of ours, which is the most frequent one by far.

    ``facts`` are ids, numbers and names that the service made, so they are not searched for
    secrets. When nobody but this module's handler listens, the line goes there directly.
    """
    handler = _sole_listener()
    if handler is None:
        _access.info("request", **facts)
        return
    timestamp = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    head = {"timestamp": f"{timestamp}Z", "level": "info", "logger": _ACCESS_LOGGER}
    line = to_json({**head, "event": "request", **facts}, ensure_ascii=True)
    handler.write(line.decode())


_ACCESS_LOGGER: Final = "newel.access"
_access = structlog.get_logger(_ACCESS_LOGGER)
_access_of_logging: Final = logging.getLogger(_ACCESS_LOGGER)


def _sole_listener() -> _LineHandler | None:
    """Return the handler of ``configure_logs`` if the line of a request would end there alone."""
    # Who wants errors alone, such as an error tracker, does not listen to this.
    handlers = [handler for handler in logging.root.handlers if handler.level <= logging.INFO]
    if len(handlers) != 1 or _access_of_logging.handlers or structlog.contextvars.get_contextvars():
        return None
    handler = handlers[0]
    if not isinstance(handler, _LineHandler) or not handler.writes_json:
        return None
    return handler if _access_of_logging.isEnabledFor(logging.INFO) else None


def _replace_handlers(handler: logging.Handler, *, level: LogLevel) -> None:
    root = logging.getLogger()
    for old in root.handlers[:]:
        # Ours of an earlier call, and what `logging.basicConfig` made. Not those of others, such
        # as a test's capture or an error tracker's.
        if isinstance(old, _LineHandler) or type(old) is logging.StreamHandler:
            root.removeHandler(cast("logging.Handler", old))
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # It would tell each address that is called, with the keys in it: telemetry has the host.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # The middleware writes the line of a request, with its id. Without a handler uvicorn does not
    # even make its own.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False


class _Trace(str):
    """A text that keeps its line feeds and, where it is too long, its end: there it happened."""

    __slots__ = ()


def _add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the request's id, and turn ``exc_info`` into text."""
    event.pop("color_message", None)  # uvicorn's event again, with ANSI sequences
    present = request_id.get()
    if present is not None:
        event["request_id"] = present
    event.update(trace_ids())
    stack = event.pop("stack_info", None) or event.pop("stack", None)
    if stack:
        event["stack"] = _Trace(stack)
    error = _error_of(event.pop("exc_info", None))
    if error is not None:
        event["exception"] = {
            "type": f"{type(error).__module__}.{type(error).__qualname__}",
            "message": _text_of(error),
            "trace": _Trace("".join(traceback.format_exception(error, limit=-_MAX_FRAMES))),
        }
    return event


def _error_of(exc_info: object) -> BaseException | None:
    """Return the exception that ``exc_info`` stands for, in any of the forms that loggers take."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        triple = cast("tuple[type | None, BaseException | None, TracebackType | None]", exc_info)
        return triple[1]
    return sys.exc_info()[1] if exc_info else None


def _text_of(value: object) -> str:
    """Return ``value`` as text, also if its class cannot say."""
    try:
        return value.isoformat() if isinstance(value, date) else str(value)
    except Exception as error:  # noqa: BLE001 - somebody's __str__ must not make a log line fail
        return f"<{type(value).__name__}, whose text raises {type(error).__name__}>"


class _Redactor:
    """Makes texts harmless: no secrets, no control characters, a bounded length."""

    def __init__(self, secrets: Iterable[SecretStr | str] = ()) -> None:
        plain = (s.get_secret_value() if isinstance(s, SecretStr) else s for s in secrets)
        # Also as they stand in an address. The longest first: one may be the beginning of another.
        forms = sorted(
            {
                form
                for secret in plain
                if len(secret) >= _MIN_SECRET_LENGTH
                for form in (secret, quote(secret, safe=""), quote_plus(secret))
            },
            key=len,
            reverse=True,
        )
        self._secrets = re.compile("|".join(map(re.escape, forms))) if forms else None
        # What is cut off beside the bound, since half a secret is found by nothing.
        self._margin = len(forms[0]) if forms else 0
        # The names are mostly those in the source, the same on each line: 20 us of a line's 75.
        self.name = lru_cache(maxsize=1024)(self._name)

    def _name(self, name: str) -> tuple[str, bool]:
        """Return a member's ``name`` as text, and whether it names a secret."""
        clean = self.text(name, limit=_MAX_NAME)
        return clean, _SECRET_NAME.search(clean) is not None

    def text(self, text: str, *, limit: int = _MAX_TEXT) -> str:
        """Return ``text`` on one line, its beginning if it is long."""
        if len(text) <= limit and self._is_harmless(text):
            return text
        # Cut before searching, so that a long text costs little.
        seen = text[: limit + self._margin]
        clean = self._redacted(seen)
        if len(seen) < len(text):
            clean = clean[: max(0, len(clean) - self._margin)]
        clean = clean.translate(_ESCAPES)
        is_whole = len(seen) == len(text) and len(clean) <= limit
        return clean if is_whole else clean[:limit] + _CUT

    def trace(self, trace: str) -> _Trace:
        """Return ``trace`` with its line feeds, its end if it is long."""
        seen = trace[-_MAX_TRACE - self._margin :]
        clean = self._redacted(seen)
        if len(seen) < len(trace):
            clean = clean[self._margin :]
        clean = clean.translate(_ESCAPES_IN_TRACE)
        is_whole = len(seen) == len(trace) and len(clean) <= _MAX_TRACE
        return _Trace(clean if is_whole else _CUT + clean[-_MAX_TRACE:])

    def _is_harmless(self, text: str) -> bool:
        return _HARMLESS.fullmatch(text) is not None and not (
            self._secrets is not None and self._secrets.search(text)
        )

    def _redacted(self, text: str) -> str:
        if self._secrets is not None:
            text = self._secrets.sub(_REDACTED, text)
        for form, replacement in _FORMS:
            text = form.sub(replacement, text)
        return text


class _Cleaner:
    """Copies an event so that nothing in it is secret, unbounded or unknown to JSON."""

    def __init__(self, redactor: _Redactor) -> None:
        self._redactor = redactor

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        first = {name: event.pop(name) for name in _FIRST if name in event}
        return _Copy(self._redactor).mapping({**first, **event}, depth=0)


_Container = Mapping[Any, object] | AbstractSet[object] | Sequence[object]


class _Copy:
    """One copy of one event: text, finite numbers, booleans, None, lists and dictionaries."""

    def __init__(self, redactor: _Redactor) -> None:
        self._redactor = redactor
        self._left = _MAX_VALUES
        # Once there is text for a whole line, the rest is looked at only as far as it may stay.
        self._room = _MAX_LINE_BYTES

    def mapping(self, mapping: Mapping[Any, object], *, depth: int) -> dict[str, object]:
        clean: dict[str, object] = {}
        for key, value in mapping.items():
            if len(clean) >= _MAX_ITEMS or self._left <= 0:
                clean[_CUT] = f"{len(mapping) - len(clean)} more"
                break
            name, is_secret = self._redactor.name(_text_of(key)[:_MAX_TEXT])
            if is_secret and not _is_measure(name, value):
                clean[name] = _REDACTED
            else:
                clean[name] = self._value(value, depth=depth)
        return clean

    def _items(self, items: Iterable[object], *, depth: int) -> list[object]:
        clean: list[object] = []
        for item in items:
            if len(clean) >= _MAX_ITEMS or self._left <= 0:
                clean.append(_CUT)
                break
            clean.append(self._value(item, depth=depth))
        return clean

    def _value(self, value: object, *, depth: int) -> object:
        self._left -= 1
        if type(value) is str:
            return self._text(value)
        if value is None or isinstance(value, int | float):
            return value if value is None or isinstance(value, bool) else _number(value)
        if isinstance(value, Mapping | AbstractSet | list | tuple):
            return self._container(cast("_Container", value), depth=depth + 1)
        if isinstance(value, _Trace):
            return self._redactor.trace(value)
        return self._text(_text_of(value))

    def _text(self, text: str) -> str:
        limit = min(_MAX_TEXT, max(_MIN_TEXT, self._room))
        clean = self._redactor.text(text, limit=limit)
        self._room -= len(clean)
        return clean

    def _container(self, container: _Container, *, depth: int) -> object:
        if depth > _MAX_DEPTH:
            return _CUT
        if isinstance(container, Mapping):
            return self.mapping(container, depth=depth)
        return self._items(container, depth=depth)


def _is_measure(name: str, value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _MEASURE.search(name) is not None
    return value is None or isinstance(value, bool)


def _number(value: float) -> float | str:
    if isinstance(value, int):
        # Python refuses to write integers of more than 4,300 digits.
        return int(value) if value.bit_length() <= _MAX_BITS else f"<{value.bit_length()} bits>"
    return float(value) if math.isfinite(value) else repr(float(value))  # JSON has no infinity


class _JsonLine:
    """Renders an event as one line of ASCII JSON."""

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        return _fitting(event, render=_compact)


class _ConsoleLine:
    """Renders an event for people: one line, and a trace below it, indented."""

    _COLORS: Final = {"debug": 34, "info": 32, "warning": 33, "error": 31, "critical": 31}

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        return _fitting(event, render=self._render)

    def _render(self, event: Mapping[str, Any]) -> str:
        rest = dict(event)
        head = {name: str(rest.pop(name, "")) for name in ("timestamp", "level", "logger", "event")}
        below = [rest.pop("stack", "")]
        if isinstance(exception := rest.get("exception"), dict):
            below.append(cast("dict[str, Any]", exception).pop("trace", ""))
        level = f"{head['level']:<8}"
        if self._colors:
            level = f"\x1b[{self._COLORS.get(head['level'], 0)}m{level}\x1b[0m"
        members = "".join(f" {name}={_shown(value)}" for name, value in rest.items())
        line = f"{head['timestamp']} {level} {head['event']:<24}{members} ({head['logger']})"
        # No trace begins a line of its own: its text may be a client's, and look like ours.
        return "\n    | ".join([line, *(part for each in below for part in each.splitlines())])


def _shown(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[^\s\"'=]+", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _fitting(event: Mapping[str, Any], *, render: Callable[[Mapping[str, Any]], str]) -> str:
    """Return the line of ``event``, with its texts cut as far as a line may be long."""
    line = render(event)
    for limit in (2048, 512, _MIN_TEXT):
        if len(line.encode()) < _MAX_LINE_BYTES:
            return line
        line = render({**_shortened(event, limit=limit), "truncated": True})
    if len(line.encode()) < _MAX_LINE_BYTES:
        return line
    first = {name: event[name] for name in _FIRST if name in event}
    return render({**_shortened(first, limit=_MIN_TEXT), "truncated": True})


def _shortened(event: Mapping[str, Any], *, limit: int) -> dict[str, Any]:
    return {name: _shorter(value, limit=limit) for name, value in event.items()}


def _shorter(value: object, *, limit: int) -> object:
    if isinstance(value, str) and len(value) > limit:
        is_trace = isinstance(value, _Trace)
        return _Trace(_CUT + value[-limit:]) if is_trace else value[:limit] + _CUT
    if isinstance(value, dict):
        return _shortened(cast("dict[str, Any]", value), limit=limit)
    if isinstance(value, list):
        return [_shorter(each, limit=limit) for each in cast("list[object]", value)]
    return value


class _LineHandler(logging.Handler):
    """Writes each line with one call; a line that cannot be written is no error of the caller."""

    def __init__(self, stream: TextIO | None, *, writes_json: bool) -> None:
        super().__init__()
        self._stream = stream
        self.writes_json = writes_json

    @property
    def is_terminal(self) -> bool:
        return self._target.isatty()

    @property
    def _target(self) -> TextIO:
        # Looked up each time: tests and supervisors replace standard output.
        return self._stream or sys.stdout

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a handler never raises to who logs
            line = _failure(record, error)
        self.write(line)

    def write(self, line: str) -> None:
        """Write one line; if the stream is closed or full, there is nowhere left to say so."""
        with suppress(OSError, ValueError):
            self._write(line)

    def _write(self, line: str) -> None:
        encoding = self._target.encoding or "utf-8"
        self._target.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._target.flush()


def _failure(record: logging.LogRecord, error: Exception) -> str:
    """Return the line that says which one is missing; nothing of it, since nothing is redacted."""
    at = f"{record.filename}:{record.lineno}"[-_MAX_NAME:]
    head = {"level": "error", "logger": record.name[:_MAX_NAME], "event": "log_line_failed"}
    return _compact({**head, "at": at, "exception": {"type": type(error).__name__}})
