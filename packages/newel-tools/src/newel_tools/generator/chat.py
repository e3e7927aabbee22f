"""What chats need to know that keep their words: the rows, and where each was said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from newel_tools.generator.links import LinkView
from newel_tools.generator.view import ResourceView
from newel_tools.plan.chat import LIVE, kept_in
from newel_tools.plan.plan import Plan

__all__ = ["ChatView", "view_chat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatView:
    """Rows of ``kept`` hold what is said, as their field ``text``; ``link`` leads to ``place``."""

    kept: ResourceView
    place: ResourceView
    link: LinkView
    text: str


def view_chat(plan: Plan, views: Mapping[str, ResourceView]) -> ChatView | None:
    """Return the view of the chats of a plan; ``None`` if there are none that keep their words."""
    if plan.chat in {None, LIVE}:
        return None
    text, relation = kept_in(str(plan.chat), plan.resources)
    kept = views[str(plan.chat)]
    [link] = [link for link in kept.links if link.name == relation.name]
    return ChatView(kept=kept, place=views[relation.target], link=link, text=text.name)
