"""The frame of the pages for people below ``/admin``: how they look, and how they fail.

    router = APIRouter(prefix="/admin/reports", dependencies=[as_page()], include_in_schema=False)

    @router.get("", dependencies=[requires("reports:all")])
    async def show_reports(request: Request) -> HTMLResponse:
        return page(request, "Reports", "<p>There are none.")

Rendered on the server, without scripts. A browser sends no header of its own, so these routes take
the log-in from a cookie, whatever ``AUTH_COOKIES`` says for the API; their forms are guarded by the
check of the Origin like every change by cookie. Who is not logged in comes to ``account_pages``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Annotated, Any, Final, Protocol
from urllib.parse import urlencode

from fastapi import Depends
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field
from starlette.requests import HTTPConnection

from newel.errors import AppError

__all__ = [
    "HOME",
    "LOGIN_PAGE",
    "Failure",
    "PagePath",
    "as_page",
    "error_page",
    "is_page",
    "page",
    "said_by",
    "turn_to",
    "url_of",
]

HOME: Final = "/admin/jobs"
"""Where the title of every page leads, and a log-in that nothing else was asked for before."""

LOGIN_PAGE: Final = "/admin/login"
"""Where who is not logged in is sent, in a service whose ``app.state.has_login_page`` is true."""

_PAGE: Final = re.compile(r"^/admin/[A-Za-z0-9_/-]*(\?[A-Za-z0-9_=&%.+*-]*)?$")

PagePath = Annotated[str, Field(max_length=2048, pattern=_PAGE.pattern)]
"""A page of ours, as a parameter that says where to go next: never another site's."""

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    # With the API's `no-referrer` a browser says `Origin: null` in our own forms.
    "Referrer-Policy": "same-origin",
}
_STYLE: Final = """
:root{color-scheme:light dark;--line:light-dark(#ccc,#444);--dim:light-dark(#595959,#a6a6a6);
  --bad:light-dark(#b3261e,#ff8a80);--good:light-dark(#256029,#81c784);
  --busy:light-dark(#1a56b0,#8ab4f8)}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:75rem;padding:1rem}
body>header{display:flex;justify-content:space-between;gap:1rem;padding-bottom:.5rem;
  border-bottom:1px solid var(--line)}
h1{font-size:1.5rem;overflow-wrap:anywhere}
nav a{display:inline-block;margin-right:1rem}
nav a[aria-current]{font-weight:bold;text-decoration:none;color:inherit}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{border-bottom:1px solid var(--line);padding:.4rem .6rem;text-align:left;vertical-align:top;
  overflow-wrap:anywhere}
th{overflow-wrap:normal}
small,.dim,dt{color:var(--dim)}.dead,.wrong{color:var(--bad)}.done{color:var(--good)}
.running{color:var(--busy)}
pre,code{white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem}
dd{margin:0;overflow-wrap:anywhere}
form{display:inline}form.log-in{display:grid;gap:.8rem;max-width:22rem}
form.log-in label{display:grid;gap:.2rem}
button,input{font:inherit;padding:.3rem .7rem;max-width:100%}progress{width:8rem;max-width:100%}
@media(max-width:40rem){
  thead{position:absolute;clip-path:inset(50%)}
  table,tbody,tr,td{display:block}tr{border-bottom:1px solid var(--line);padding:.6rem 0}
  td{border:0;padding:.1rem 0}
  td[data-of]:not(:empty)::before{content:attr(data-of)": ";color:var(--dim)}
  dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}
"""


class Failure(Protocol):
    """What a page says about an error; every ``AppError`` is one."""

    @property
    def status(self) -> int: ...
    @property
    def title(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


def as_page() -> Any:
    """Make a router's routes pages: log-in by cookie, errors as pages.

    It is the first of the router's ``dependencies``; the routes still say who may call them.
    """
    return Depends(_as_page)


async def _as_page(connection: HTTPConnection) -> None:
    connection.scope["newel.page"] = True


def is_page(connection: HTTPConnection) -> bool:
    """Tell whether the route is one for people, made so by ``as_page``."""
    return "newel.page" in connection.scope


def page(
    connection: HTTPConnection,
    title: str,
    body: str,
    *,
    status_code: int = 200,
    headers: Mapping[str, str] | None = None,
    reload_seconds: int | None = None,
) -> HTMLResponse:
    """Return a page with ``body``, which is HTML; ``title`` is text.

    ``reload_seconds`` has the browser ask for it again after so many seconds.
    """
    app = connection.app
    reload = log_out = ""
    if reload_seconds is not None:
        reload = f'<meta http-equiv="refresh" content="{reload_seconds}">'
    if _has_login_page(connection) and getattr(connection.state, "principal", None) is not None:
        action = f'action="{url_of(connection, "/admin/logout")}"'
        log_out = f'<form method="post" {action}><button>Log out</button></form>'
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{escape(title)} - {escape(app.title)}</title>{reload}"
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f'<style>{_STYLE}</style><header><a href="{url_of(connection, HOME)}">'
        f"{escape(app.title)}</a>{log_out}</header>"
        f"<main><h1>{escape(title)}</h1>{body}</main></html>",
        status_code=status_code,
        headers={**(headers or {}), **_HEADERS},
    )


def url_of(connection: HTTPConnection, path: str) -> str:
    """Return the address of one of our pages (``path`` with its query), escaped for HTML."""
    return escape(_below_root(connection, path))


def turn_to(connection: HTTPConnection, path: str) -> RedirectResponse:
    """Return the answer that sends the browser to one of our pages."""
    target = _below_root(connection, path)
    return RedirectResponse(target, status_code=303, headers=_HEADERS)


def _below_root(connection: HTTPConnection, path: str) -> str:
    return f"{connection.scope.get('root_path', '')}{path}"


def error_page(
    connection: HTTPConnection, error: Failure
) -> HTMLResponse | RedirectResponse | None:
    """Return an error for people; ``None`` where, or for whom, pages are not what is asked for."""
    if not is_page(connection) or "text/html" not in connection.headers.get("accept", ""):
        return None
    login_page = f"{LOGIN_PAGE}?{urlencode({'next': _here(connection)})}"
    if error.status == 401 and _has_login_page(connection):
        return turn_to(connection, login_page)
    body = f'<p>{said_by(error)}</p><p><a href="{url_of(connection, HOME)}">Back</a></p>'
    if error.status == 403 and _has_login_page(connection):
        link = url_of(connection, login_page)
        body += f'<p><a href="{link}">Log in as somebody else</a></p>'
    return page(connection, error.title, body, status_code=error.status, headers=error.headers)


def said_by(error: Failure | AppError) -> str:
    """Return what an error says, as HTML; in a browser nobody sees its headers."""
    seconds = error.headers.get("Retry-After")
    return escape(error.detail if seconds is None else f"Try again in {seconds} seconds.")


def _here(connection: HTTPConnection) -> str:
    """Return the page that was asked for; after a form, where its forms are."""
    url = connection.url
    path = url.path.removeprefix(connection.scope.get("root_path", ""))
    here = f"{path}?{url.query}" if url.query else path
    return here if connection.scope["method"] == "GET" and _PAGE.fullmatch(here) else HOME


def _has_login_page(connection: HTTPConnection) -> bool:
    return getattr(connection.app.state, "has_login_page", False)
