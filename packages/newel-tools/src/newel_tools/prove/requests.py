"""Requests as values: made of an operation, sent to the host, written down as a curl line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from newel_tools.prove.operations import Operation

__all__ = ["BASE_URL", "Request", "build", "curl"]

BASE_URL: Final = "http://127.0.0.1:8000"
_BOUNDARY: Final = "newel-prove-7d1f"
_START: Final = b"--newel-prove-"
_CURL_BODY: Final = 2_000
_RUN: Final = re.compile(r"([!-~])\1{499,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: ``path`` includes the query; ``label`` is its operation's.

    ``parts`` are what curl is told instead of a multipart body.
    """

    method: str
    path: str
    label: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    fill_bytes: int = 0
    tail: bytes = b""
    parts: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def with_headers(self, headers: Mapping[str, str]) -> Request:
        """Return the request with further headers; one of the same name is replaced."""
        names = {name.lower() for name in headers}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=(*kept, *headers.items()))

    def only(self, headers: Iterable[tuple[str, str]]) -> Request:
        """Return the request with these headers alone."""
        return replace(self, headers=tuple(headers))

    def with_options(self, **options: Any) -> Request:
        """Return the request with options of the host, such as ``fail_commits``."""
        return replace(self, options={**self.options, **options})


def build(
    operation: Operation,
    *,
    path_values: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    files: Mapping[str, tuple[str, str, bytes]] | None = None,
) -> Request:
    """Return the request of an operation; ``body`` is encoded as its media type asks.

    ``files`` are parts of a multipart body: file name, content type and content, by field.
    """
    path = operation.path
    for name, value in (path_values or {}).items():
        written = quote(_text(value), safe="")
        path = path.replace("{" + name + "}", written).replace("{" + name + ":path}", written)
    if query:
        pairs = [(name, _text(value)) for name, value in query.items() if value is not None]
        path += "?" + urlencode(pairs)
    said = dict(headers or {})
    content = b""
    if files or (body is not None and operation.media == "multipart/form-data"):
        content = _multipart(body or {}, files or {})
        said["Content-Type"] = f"multipart/form-data; boundary={_BOUNDARY}"
    elif body is not None and operation.media == "application/x-www-form-urlencoded":
        content = urlencode([(name, _text(value)) for name, value in dict(body).items()]).encode()
        said["Content-Type"] = operation.media
    elif body is not None:
        content = json.dumps(body).encode()
        said["Content-Type"] = "application/json"
    if content:
        said["Content-Length"] = str(len(content))
    return Request(
        method=operation.method,
        path=path,
        label=operation.label,
        headers=tuple(said.items()),
        body=content,
        parts=tuple(_parts(body or {}, files or {})) if content.startswith(_START) else (),
    )


def _parts(fields: Mapping[str, Any], files: Mapping[str, tuple[str, str, bytes]]) -> Iterator[str]:
    for name, value in fields.items():
        yield shlex.quote(f"{name}={_text(value)}")
    for name, (file_name, kind, _) in files.items():
        yield shlex.quote(f"{name}=@-;filename={file_name};type={kind}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _multipart(fields: Mapping[str, Any], files: Mapping[str, tuple[str, str, bytes]]) -> bytes:
    parts: list[bytes] = []
    for name, value in fields.items():
        head = f'Content-Disposition: form-data; name="{name}"'
        parts.append(f"--{_BOUNDARY}\r\n{head}\r\n\r\n{_text(value)}\r\n".encode())
    for name, (file_name, kind, content) in files.items():
        head = f'Content-Disposition: form-data; name="{name}"; filename="{file_name}"'
        start = f"--{_BOUNDARY}\r\n{head}\r\nContent-Type: {kind}\r\n\r\n".encode()
        parts.append(start + content + b"\r\n")
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


def curl(request: Request, *, secrets: Mapping[str, str] | None = None) -> str:
    """Return the shell line that sends the same request to an instance at `127.0.0.1:8000`.

    ``secrets`` maps what is not to be written down to the variable that stands for it.
    """
    words = ["curl", "-sS", "-i"]
    if request.method != "GET":
        words += ["-X", request.method]
    words.append(shlex.quote(BASE_URL + request.path))
    for name, value in request.headers:
        if name.lower() != "content-length" and not value.startswith("multipart/"):
            words += ["-H", _header(name, value, secrets or {})]
    if request.parts:
        return _with_files(request, words)
    if request.body:
        text = request.body.decode("utf-8", "backslashreplace")
        if _RUN.search(text):
            return f"{_piped(text)} | {' '.join(words)} --data-binary @-"
        if len(text) > _CURL_BODY:
            text = f"{text[:_CURL_BODY]}... ({len(text)} characters)"
        words += ["--data-binary", _quoted(text)]
    return " ".join(words)


def _header(name: str, value: str, secrets: Mapping[str, str]) -> str:
    for secret, word in secrets.items():
        if secret in value:
            return f'"{name}: {value.replace(secret, word)}"'
    return shlex.quote(f"{name}: {value}")


def _piped(text: str) -> str:
    """Return shell commands that print a text; a character that is repeated often is counted."""
    parts: list[str] = []
    end = 0
    for run in _RUN.finditer(text):
        parts.append(f"printf %s {_quoted(text[end : run.start()])}")
        parts.append(f"head -c {run.end() - run.start()} /dev/zero | tr '\\0' {_quoted(run[1])}")
        end = run.end()
    parts.append(f"printf %s {_quoted(text[end:])}")
    return f"{{ {'; '.join(parts)}; }}"


def _quoted(text: str) -> str:
    """Quote for a POSIX shell; line ends need bash's `$'...'`."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + text.encode("unicode_escape").decode("ascii").replace("'", "\\'") + "'"


def _with_files(request: Request, words: list[str]) -> str:
    """Return the line with the body as curl's `-F`; a file comes from its standard input."""
    size = request.fill_bytes or 64
    has_file = any("=@-" in part for part in request.parts)
    source = [f"head -c {size} /dev/zero", "|"] if has_file else []
    return " ".join([*source, *words, *(f"-F {part}" for part in request.parts)])
