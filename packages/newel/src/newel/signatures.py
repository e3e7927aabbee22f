"""Signatures of webhooks, both sides, as https://www.standardwebhooks.com says.

    headers = sign([secret], "msg_1", body, at=utc_now())      # who sends
    message_id = verify_webhook("whsec_...", headers, body)    # who receives

``webhooks`` sends; what receives other people's webhooks needs this module alone.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from newel.clock import utc_now
from newel.errors import BadRequest

__all__ = ["show_secret", "sign", "verify_webhook"]

TOLERANCE: Final = timedelta(minutes=5)
"""How far the clocks of the two sides may be apart; an older message is a replay by somebody."""

_SECRET: Final = "whsec_"  # noqa: S105 - how the specification marks one
_UNPROVED: Final = "The webhook is not signed by its sender, or it is too old."


def show_secret(secret: bytes) -> str:
    """Return a secret as people copy it: ``whsec_...``."""
    return _SECRET + base64.b64encode(secret).decode()


def sign(secrets: Sequence[bytes], message_id: str, body: bytes, *, at: datetime) -> dict[str, str]:
    """Return the headers that prove a message: its id, the time, and a signature by each secret.

    There are several while the receiver changes from one to the next.
    """
    seconds = str(int(at.timestamp()))
    signed = f"{message_id}.{seconds}.".encode() + body
    macs = (base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{mac}" for mac in macs),
    }


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, now: datetime | None = None
) -> str:
    """Return the id of a message that somebody sent us, once it is proved; for ``inbox``.

    ``secret`` is the ``whsec_...`` that the sender has shown; ``headers`` are the request's. Raises
    ``BadRequest`` in the same words for whatever is wrong.
    """
    message_id = headers.get("webhook-id", "")
    try:
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), utc_now().tzinfo)
        key = base64.b64decode(secret.removeprefix(_SECRET), validate=True)
    except (KeyError, ValueError, OverflowError, OSError):
        raise BadRequest(_UNPROVED) from None
    wanted = sign([key], message_id, body, at=at)["webhook-signature"].encode()
    given = headers.get("webhook-signature", "").encode("utf-8", "replace").split(b" ")
    matches = [hmac.compare_digest(wanted, each) for each in given]  # several while keys change
    if not message_id or not any(matches) or abs((now or utc_now()) - at) > TOLERANCE:
        raise BadRequest(_UNPROVED)
    return message_id
