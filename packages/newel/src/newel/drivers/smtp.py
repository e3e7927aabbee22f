"""Mail by SMTP, with aiosmtplib (the extra ``newel[smtp]``)."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from functools import partial
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from newel.errors import ConfigurationError, Invalid, UpstreamError

__all__ = ["SmtpMailer"]

TIMEOUT_SECONDS: Final = 20.0


class SmtpMailer:
    """Sends by ``smtp://`` (STARTTLS, port 587) or ``smtps://`` (TLS from the start, port 465).

    ``?tls=none`` sends in the clear, for a server on the same machine. One connection a mail.
    """

    def __init__(self, url: str, *, tls_context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        tls = parse_qs(parts.query).get("tls", ["required"])[0]
        if tls not in {"required", "none"}:
            raise ConfigurationError(
                "MAIL_URL has a tls= that means nothing", fix="write ?tls=none, or leave it out"
            )
        is_implicit = parts.scheme == "smtps"
        self._send = partial(
            aiosmtplib.send,
            hostname=parts.hostname,
            port=parts.port or (465 if is_implicit else 587),
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            use_tls=is_implicit,
            # Never "if the server offers it": who sits in between would take the offer away.
            start_tls=tls == "required" and not is_implicit,
            tls_context=tls_context,
            timeout=TIMEOUT_SECONDS,
        )

    async def send(self, message: EmailMessage) -> None:
        """Send ``message``; raises ``Invalid`` if refused for good, else ``UpstreamError``."""
        try:
            await self._send(message)
        except (aiosmtplib.SMTPException, OSError) as error:
            if _is_final(error):
                raise Invalid("The mail server refuses this mail.") from error
            raise UpstreamError("mail", "The mail server did not take the mail.") from error

    async def recent(self) -> Sequence[EmailMessage]:
        """Return nothing: what was sent is gone."""
        return ()


def _is_final(error: Exception) -> bool:
    """Tell whether the server said 5xx about this mail; about a log-in it may be mended."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(refused.code >= 500 for refused in error.recipients)
    about_mail = (
        aiosmtplib.SMTPRecipientRefused,
        aiosmtplib.SMTPSenderRefused,
        aiosmtplib.SMTPDataError,
    )
    return isinstance(error, about_mail) and error.code >= 500
