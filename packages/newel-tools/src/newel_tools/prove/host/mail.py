"""Mail servers, of which there are none here: what is sent is taken, and read by nobody."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

__all__ = ["take_mails"]

_DONE = (250, b"ok")
_READY = (220, b"ok")
_ENDED = (221, b"ok")
_ANSWERS: dict[str, Any] = {
    **dict.fromkeys(("helo", "ehlo", "login", "noop", "mail", "rcpt", "data", "rset"), _DONE),
    **dict.fromkeys(("connect", "starttls"), _READY),
    **dict.fromkeys(("docmd", "quit"), _ENDED),
    "ehlo_or_helo_if_needed": None,
    "has_extn": True,
    "sendmail": {},
    "send_message": {},
    "close": None,
}


def take_mails() -> None:
    """Let `smtplib` and `aiosmtplib` say that all went well: many a registration sends a mail."""
    module: Any = importlib.import_module("smtplib")
    for kind in (module.SMTP, module.SMTP_SSL, module.LMTP):
        for name, answer in _ANSWERS.items():
            setattr(kind, name, _saying(answer))
    if importlib.util.find_spec("aiosmtplib") is not None:
        kind = importlib.import_module("aiosmtplib").SMTP
        for name in ("connect", "helo", "ehlo", "starttls", "login", "noop", "quit", "rset"):
            setattr(kind, name, _saying_later(_DONE))
        for name in ("sendmail", "send_message"):
            setattr(kind, name, _saying_later(({}, "ok")))


def _saying(answer: Any) -> Any:
    def say(_client: Any, *_arguments: Any, **_options: Any) -> Any:
        return answer

    return say


def _saying_later(answer: Any) -> Any:
    async def say(_client: Any, *_arguments: Any, **_options: Any) -> Any:
        return answer

    return say
