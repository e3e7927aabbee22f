"""English verbs, as far as actions are called after them: ``approve`` leads to ``approved``."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["action_of", "is_participle", "is_verb"]

# verbs of which the participle is regular; nothing is guessed beyond them
_REGULAR: Final = (
    "accept acknowledge activate allocate answer approve archive arrive assign authorize ban "
    "block book call cancel capture charge check_in check_out claim clear close collect "
    "complete confirm convert create deactivate decline delete deliver deploy disable dismiss "
    "dispatch display edit enable enroll escalate evaluate execute expire export fail favorite "
    "finalize finish flag follow fulfil fulfill grade hire inspect install invite invoice "
    "issue join launch list load lock log mail mark mention merge moderate move mute notify "
    "open order pack pause pick pin place plan prepare print process promote publish purchase "
    "qualify queue rank rate reactivate receive reconcile record refund register reject "
    "release remove rename renew reopen repair replace reply report request reserve resolve "
    "restore resume retry review revoke scan schedule score settle share ship sign skip solve "
    "start stop submit subscribe suspend tag terminate test track transfer triage unpublish update "
    "upload validate verify view visit void vote waive watch"
)
_IRREGULAR: Final = {
    "active": "activate",
    "begun": "begin",
    "bought": "buy",
    "canceled": "cancel",
    "cancelled": "cancel",
    "done": "finish",
    "driven": "drive",
    "frozen": "freeze",
    "given": "give",
    "held": "hold",
    "hidden": "hide",
    "in_progress": "start",
    "inactive": "deactivate",
    "lent": "lend",
    "lost": "lose",
    "made": "make",
    "open": "reopen",
    "paid": "pay",
    "processing": "process",
    "public": "publish",
    # a method cannot be called return
    "returned": "give_back",
    "running": "run",
    "sent": "send",
    "shown": "show",
    "sold": "sell",
    "starred": "star",
    "taken": "take",
    "won": "win",
    "written": "write",
}
_ADJECTIVES: Final = {
    "active",
    "in_progress",
    "inactive",
    "open",
    "processing",
    "public",
    "running",
}


def action_of(state: str) -> str:
    """Return the verb that leads to a state: ``approve``; ``mark_on_hold`` where none is known."""
    return _participles().get(state, f"mark_{state}")


def is_participle(word: str) -> bool:
    """Tell whether ``word`` is a known verb's participle, such as ``shipped``."""
    return word in _participles() and word not in _ADJECTIVES


def is_verb(word: str) -> bool:
    """Tell whether ``word`` is a known verb as one says it to somebody, such as ``ship``."""
    return word in _participles().values()


def _participles() -> dict[str, str]:
    return {**{_participle(verb): verb for verb in _REGULAR.split()}, **_IRREGULAR}


def _participle(verb: str) -> str:
    head, cut, last = verb.partition("_")
    if head.endswith("e"):
        bent = head + "d"
    elif re.search(r"[^aeiou]y$", head):
        bent = head[:-1] + "ied"
    # ship - shipped, but open - opened, reject - rejected
    elif re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnpt]|.*(mit|cel|fer|fil)", head):
        bent = head + head[-1] + "ed"
    else:
        bent = head + "ed"
    return bent + cut + last
