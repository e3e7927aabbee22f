"""What resources of well-known names usually keep, and what a field of a well-known name is.

The words are in ``vocabulary.toml``. Everything in it is an assumption: it is used where a
sentence says nothing, and listed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from newel_tools.plan.nouns import plural

__all__ = ["SATELLITES", "Keeping", "Usual", "Vocabulary", "vocabulary"]

Keeping = Literal["shared", "authored", "private"]
"""Shared by all; owned and read by all who are signed in; owned and read by the owner only."""

SATELLITES: Final = frozenset(
    {
        "attachments",
        "bookmarks",
        "categories",
        "comments",
        "favorites",
        "labels",
        "likes",
        "ratings",
        "replies",
        "reviews",
        "tags",
        "votes",
    }
)
"""They hang on something else: a sentence that names only these is about another thing too."""


class Usual(BaseModel):
    """What a resource usually keeps: lines ``name: type`` and links ``name: -> target``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keeping: Keeping = "shared"
    fields: tuple[str, ...] = ("name: str(255)", "description: text(..5000) optional")
    links: tuple[str, ...] = ()


class Vocabulary(BaseModel):
    """The known resources by plural, what services keep by their name, fields by pattern."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resources: dict[str, Usual]
    domains: dict[str, tuple[str, ...]]
    names: dict[str, str]

    def usual(self, resource: str, *, beside: Iterable[str] = ()) -> Usual:
        """Return what ``resource`` usually keeps: a name and a description when it is unknown.

        ``tickets@events`` are what tickets are beside events. ``product_categories`` are taken for
        ``categories`` when nothing else is known about them.
        """
        for name in (resource, resource.rpartition("_")[2]):
            for other in beside:
                if f"{name}@{other}" in self.resources:
                    return self.resources[f"{name}@{other}"]
            if name in self.resources:
                return self.resources[name]
        return Usual()

    def knows(self, noun: str) -> bool:
        """Tell whether ``noun`` (singular or plural, snake_case) is a known resource."""
        return plural(noun) in self.resources

    def domain(self, words: str) -> tuple[str, tuple[str, ...]] | None:
        """Return the longest known name of a service in ``words``, and what such a one keeps."""
        padded = f" {words} "
        for name in sorted(self.domains, key=len, reverse=True):
            if f" {name} " in padded or f" {name}s " in padded:
                return name, self.domains[name]
        return None

    def line(self, field: str) -> str:
        """Return the usual type of a field by its name: ``str(255)`` when it is unknown."""
        for pattern, line in self.names.items():
            if re.fullmatch(pattern, field):
                return line
        return "str(255)"

    def is_field(self, name: str) -> bool:
        """Tell whether a field of that name is known, such as ``notes`` or ``pages``."""
        return any(re.fullmatch(pattern, name) for pattern in self.names)


@cache  # the file never changes while a process runs
def vocabulary() -> Vocabulary:
    """Return what is known."""
    text = files("newel_tools.planner").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return Vocabulary.model_validate(tomllib.loads(text))
