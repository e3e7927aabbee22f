"""What can keep the words of a chat: rows that hold them, each linked to where it was said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from newel_tools.errors import PlanError

if TYPE_CHECKING:
    from newel_tools.plan.plan import Field, Relation, Resource

__all__ = ["LIVE", "LONGEST", "check_chat", "kept_in"]

LIVE: Final = "live"
"""The chat of which nothing is kept."""

LONGEST: Final = 4000
"""The characters of what is said at once: ``newel.chat.ChatMessage``."""


def check_chat(chat: str, resources: Sequence[Resource]) -> None:
    """Raise ``PlanError`` unless there can be chats whose words ``chat`` keeps."""
    if any(resource.name == "rooms" for resource in resources):
        reason = "'rooms' are the kernel's in a service with chats"
        raise PlanError(reason, fix="call them chat_rooms", word="rooms")
    if chat != LIVE:
        kept_in(chat, resources)


def kept_in(name: str, resources: Sequence[Resource]) -> tuple[Field, Relation]:
    """Return the text that is said, and the link to where, of the resource ``name``.

    Raises ``PlanError``: such a row needs something else, or not everybody in a chat may read it.
    """
    known = {resource.name: resource for resource in resources}
    if name not in known:
        raise _refused(f"there are no {name} to keep them", f"add them, or write 'chat: {LIVE}'")
    kept = known[name]
    texts = [field for field in kept.fields if not (field.optional or field.default is not None)]
    links = [link for link in kept.relations if link.kind == "many_to_one" and not link.optional]
    if [(f.type, f.minimum, f.maximum) for f in texts] != [("text", 1, LONGEST)]:
        raise _refused(
            f"{name} need something else than one text of 1 to {LONGEST} characters",
            f"leave one 'text(..{LONGEST})', and make other fields optional",
        )
    if len(links) != 1 or links[0].target not in known or links[0].unique:
        raise _refused(
            f"{name} do not say where they were said",
            "link them to one resource, and make other links optional",
        )
    if kept.owner is None or _hides(kept) or _hides(known[links[0].target]):
        raise _refused(
            f"not everybody in a chat may read {name}, or nobody says them",
            f"write 'owner: users' and 'read: signed_in', or 'chat: {LIVE}'",
        )
    return texts[0], links[0]


def _hides(resource: Resource) -> bool:
    return resource.read == "owner" or bool(resource.states and resource.states.visible)


def _refused(reason: str, fix: str) -> PlanError:
    return PlanError(f"a chat cannot keep its words: {reason}", fix=fix, word="chat")
