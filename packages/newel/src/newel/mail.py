"""Mail: written from templates as text and HTML, sent by a job, never while somebody waits.

    REMINDER = MailTemplate(subject="$title is due", text="Hello $name, $link")

    mail = REMINDER.fill(to=user.email, title=task.title, name=user.full_name, link=url)
    work.enqueue(send_mail, mail)  # a row of this transaction: sent after the commit, or never

``MAIL_URL`` says how: ``log:`` (the default), ``file:./mails`` or ``smtp://user:password@host``.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from html import escape
from pathlib import Path
from string import Template
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from newel.auth import public
from newel.clock import utc_now
from newel.errors import ConfigurationError, Invalid, NotFound
from newel.extras import import_driver
from newel.ids import uuid7
from newel.jobs import GiveUp, JobRun, job

__all__ = [
    "FileMailer",
    "LogMailer",
    "Mail",
    "MailTemplate",
    "Mailer",
    "deliver",
    "open_mailer",
    "preview_router",
    "send_mail",
]

_KEPT: Final = 50
"""How many mails the preview shows."""

_FIX: Final = "write log:, file:./mails, smtp://user:password@host or smtps://user:password@host"
_LINK: Final = re.compile(r"https?://[^\s<>]+")


# ------------------------------------------------------------------------------------------ writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail to one address; without ``html`` it is made of the text."""

    to: str
    subject: str
    text: str
    html: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailTemplate:
    """A mail with places to fill: ``$name`` or ``${name}``, and ``$$`` for a dollar sign.

    In ``html`` the values are escaped. Without it, the HTML part is the text in paragraphs.
    """

    subject: str
    text: str
    html: str | None = None

    def fill(self, *, to: str, **values: str) -> Mail:
        """Return the mail to ``to``; raises ``KeyError`` for a place without a value."""
        escaped = {name: escape(value) for name, value in values.items()}
        return Mail(
            to=to,
            subject=" ".join(Template(self.subject).substitute(values).split()),
            text=Template(self.text).substitute(values),
            html=None if self.html is None else Template(self.html).substitute(escaped),
        )


def _message(mail: Mail, *, sender: str, identity: str) -> EmailMessage:
    """Return ``mail`` as it travels; ``ValueError`` for an address that would add headers."""
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = sender
    message["To"] = Address(addr_spec=mail.to)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = f"<{identity}@{parseaddr(sender)[1].rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # no out-of-office answers (RFC 3834)
    message.set_content(mail.text)
    message.add_alternative(mail.html or _as_html(mail.text), subtype="html")
    return message


def _as_html(text: str) -> str:
    paragraphs = [escape(part).replace("\n", "<br>") for part in text.strip().split("\n\n")]
    linked = [_LINK.sub(r'<a href="\g<0>">\g<0></a>', part) for part in paragraphs]
    return "<!doctype html><html><body>" + "".join(f"<p>{p}</p>" for p in linked) + "</body></html>"


@job(name="send_mail", retries=8, timeout_seconds=60)
async def send_mail(run: JobRun, mail: Mail) -> None:
    """Send a mail. It stands in the job's row until then: nothing secret may be in it."""
    await deliver(run, mail)


async def deliver(run: JobRun, mail: Mail) -> None:
    """Send ``mail`` now, inside a job; for mails with a secret, which the job makes itself.

    Each attempt has the same Message-ID, so that a mailbox can tell a mail that comes twice.
    """
    mailer: Mailer = run.app.state.mailer
    try:
        message = _message(mail, sender=run.app.state.mail_from, identity=str(run.id))
        await mailer.send(message)
    except (Invalid, ValueError) as error:  # no retry makes the address a good one
        raise GiveUp from error


# ------------------------------------------------------------------------------------------ sending


class Mailer(Protocol):
    """What sends a mail: the port behind ``MAIL_URL``."""

    async def send(self, message: EmailMessage) -> None:
        """Send ``message``.

        Raises ``Invalid`` when it is refused for good, ``UpstreamError`` when a retry may help.
        """
        ...

    async def recent(self) -> Sequence[EmailMessage]:
        """Return what was sent lately, the newest first; empty if that is not kept."""
        ...


class LogMailer:
    """Sends nothing: writes a line in the log and remembers the last mails for the preview.

    With ``shows_text`` the line has the text, and with it what links in it can do: for development.
    """

    def __init__(self, *, shows_text: bool) -> None:
        self._shows_text = shows_text
        self._recent: deque[EmailMessage] = deque(maxlen=_KEPT)

    async def send(self, message: EmailMessage) -> None:
        """See ``Mailer.send``."""
        fields = {"to": str(message["To"]), "subject": str(message["Subject"])}
        if self._shows_text:
            fields["text"] = _part(message, "plain")
            self._recent.appendleft(message)
        structlog.get_logger("newel.mail").warning("mail_not_sent", **fields)

    async def recent(self) -> Sequence[EmailMessage]:
        """See ``Mailer.recent``."""
        return list(self._recent)


class FileMailer:
    """Writes each mail to a file ``<time-ordered id>.eml`` in ``directory``, for its owner only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def send(self, message: EmailMessage) -> None:
        """See ``Mailer.send``."""
        await asyncio.to_thread(self._write, message.as_bytes())

    async def recent(self) -> Sequence[EmailMessage]:
        """See ``Mailer.recent``."""
        return await asyncio.to_thread(self._read)

    def _write(self, content: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = self._directory / f"{uuid7()}.part"
        partial.touch(mode=0o600)
        partial.write_bytes(content)
        partial.rename(partial.with_suffix(".eml"))

    def _read(self) -> list[EmailMessage]:
        newest = sorted(self._directory.glob("*.eml"), reverse=True)[:_KEPT]
        return [message_from_bytes(path.read_bytes(), policy=policy.default) for path in newest]


def open_mailer(url: str, *, shows_text: bool) -> Mailer:
    """Return what ``MAIL_URL`` asks for; connects to nothing yet. Raises ``ConfigurationError``."""
    parts = urlsplit(url)
    if parts.scheme == "log":
        return LogMailer(shows_text=shows_text)
    if parts.scheme == "file" and parts.path:
        return FileMailer(Path(unquote(parts.path)))
    if parts.scheme in {"smtp", "smtps"} and parts.hostname:
        driver = import_driver("smtp", extra="smtp", asked="MAIL_URL asks for SMTP")
        mailer: Mailer = driver.SmtpMailer(url)
        return mailer
    raise ConfigurationError("MAIL_URL is not an address of a mail service", fix=_FIX)


# ------------------------------------------------------------------------------------------ preview

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'"


def preview_router() -> APIRouter:
    """Return the pages ``/dev/mail``, which show what was sent; ``create_app`` mounts them.

    In development only: they show everybody's mail to everybody.
    """
    router = APIRouter(prefix="/dev/mail", dependencies=[public()], include_in_schema=False)

    @router.get("")
    async def list_mails(request: Request) -> HTMLResponse:
        mails = await _mailer(request).recent()
        rows = "".join(
            f"<tr><td>{escape(str(m['Date']))}<td>{escape(str(m['To']))}"
            f'<td><a href="{request.url.path}/{number}">{escape(str(m["Subject"]))}</a>'
            for number, m in enumerate(mails)
        )
        return _page(f"<h1>Mail</h1><table>{rows or '<tr><td>Nothing was sent yet.'}</table>")

    @router.get("/{number}")
    async def show_mail(request: Request, number: int) -> HTMLResponse:
        mails = await _mailer(request).recent()
        if not 0 <= number < len(mails):
            raise NotFound("mail", number)
        mail = mails[number]
        # An empty sandbox: no scripts, no forms, no page of ours that it could reach.
        return _page(
            f"<h1>{escape(str(mail['Subject']))}</h1><p>To {escape(str(mail['To']))}</p>"
            f'<iframe sandbox="" srcdoc="{escape(_part(mail, "html"))}"></iframe>'
            f"<pre>{escape(_part(mail, 'plain'))}</pre>"
        )

    return router


def _mailer(request: Request) -> Mailer:
    mailer: Mailer = request.app.state.mailer
    return mailer


def _part(message: EmailMessage, kind: str) -> str:
    found = message.get_body((kind,))
    return "" if found is None else found.get_content()


def _page(body: str) -> HTMLResponse:
    style = (
        "body{font-family:sans-serif;margin:2em}td{padding:.3em 1em}iframe{width:100%;height:20em}"
    )
    html = f"<!doctype html><title>Mail</title><style>{style}</style>{body}"
    return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY})
