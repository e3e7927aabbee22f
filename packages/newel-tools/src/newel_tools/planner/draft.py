"""What has been gathered of a sentence so far: the nouns it names and what it says of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from newel_tools.plan.names import resource_conflict, snake
from newel_tools.plan.nouns import plural
from newel_tools.plan.plan import Broker, Job, Visibility
from newel_tools.planner.mentions import Mention
from newel_tools.planner.sentence import Ledger, Span
from newel_tools.planner.vocabulary import Usual, vocabulary

__all__ = ["Draft", "DraftResource", "Errand", "Fact", "Flow", "Grant", "Link", "Rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """``posts -> users`` or ``posts <-> tags``, as said; ``span`` is None when it is implied."""

    target: str
    kind: Literal["many_to_one", "many_to_many"]
    span: Span | None
    name: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """States by name, in the order they were said; ``steps``: said to follow each other."""

    values: tuple[str, ...]
    span: Span
    name: str = "status"
    steps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """``editors can write posts``: a role, a verb of permissions, what it is about.

    Besides ``read``, ``write`` and ``moderate`` it may be a verb that leads to a state.
    """

    role: str
    verb: str
    target: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``sku is unique``: a word about fields of that name wherever they are."""

    field: str
    word: Literal["unique", "optional"]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """``order.paid``, as words; one word alone means all that happens to such a thing."""

    words: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """``nightly report job``: a job by name, and the words that say what it is about.

    ``after`` are the words of the fact that it waits for.
    """

    job: Job
    about: tuple[str, ...]
    after: tuple[str, ...]
    span: Span


@dataclass(slots=True, kw_only=True)
class DraftResource:
    """One resource as far as it was spoken of; spans say where."""

    name: str
    span: Span | None
    mentions: list[tuple[Mention, Span]] = field(default_factory=list[tuple[Mention, Span]])
    links: list[Link] = field(default_factory=list[Link])
    flow: Flow | None = None
    owner: Span | None = None
    shared: Span | None = None
    read: tuple[Visibility, Span] | None = None
    moderated: Span | None = None
    soft_delete: Span | None = None
    actions: list[tuple[str, Span]] = field(default_factory=list[tuple[str, Span]])
    events: list[tuple[str, Span]] = field(default_factory=list[tuple[str, Span]])
    jobs: list[tuple[Job, Span]] = field(default_factory=list[tuple[Job, Span]])


@dataclass(slots=True, kw_only=True)
class Draft:
    """All that was gathered. ``topic`` is what the service is called; empty until it is known."""

    ledger: Ledger
    topic: str = ""
    topic_span: Span | None = None
    candidates: tuple[str, ...] = ()
    about_users: bool = False
    features: bool = False
    resources: dict[str, DraftResource] = field(default_factory=dict[str, DraftResource])
    users: list[tuple[Mention, Span]] = field(default_factory=list[tuple[Mention, Span]])
    roles: list[tuple[str, Span]] = field(default_factory=list[tuple[str, Span]])
    grants: list[Grant] = field(default_factory=list[Grant])
    rules: list[Rule] = field(default_factory=list[Rule])
    facts: list[Fact] = field(default_factory=list[Fact])
    errands: list[Errand] = field(default_factory=list[Errand])
    jobs_of_users: list[tuple[Job, Span]] = field(default_factory=list[tuple[Job, Span]])
    broker: tuple[Broker, Span] | None = None
    webhooks: Span | None = None
    chat: Span | None = None
    files: Span | None = None
    only_admins: list[tuple[str, Span]] = field(default_factory=list[tuple[str, Span]])
    all_public: Span | None = None
    all_soft: Span | None = None
    notes: list[str] = field(default_factory=list[str])

    def add(self, noun: str, span: Span | None) -> DraftResource:
        """Return the resource of that noun (snake_case, any number); a new one when it is new."""
        name, reason = self._place(noun)
        if name not in self.resources:
            self.resources[name] = DraftResource(name=name, span=span)
            if reason is not None:
                self.notes.append(f"{plural(noun)} are called {name}: {reason}")
        return self.resources[name]

    def name_of(self, noun: str) -> str:
        """Return what a noun is called as a resource: its plural, or what it was called before.

        ``items`` are ``order_items`` when those are the only ones there are. A name that is taken
        gets the service's in front of it.
        """
        return self._place(noun)[0]

    def knows(self, noun: str) -> bool:
        """Tell whether a noun was named as a resource before."""
        return self.name_of(noun) in self.resources

    def usual(self, name: str) -> Usual:
        """Return what a resource usually keeps, beside the others there are."""
        return vocabulary().usual(name, beside=self.resources)

    def verbs_of(self, name: str) -> set[str]:
        """Return the verbs that somebody was granted on a resource."""
        return {given.verb for given in self.grants if given.target == name}

    def states_of(self, name: str) -> tuple[str, ...]:
        """Return the states that a resource was said to have, else the usual ones."""
        flow = self.resources[name].flow
        usual = [line for line in self.usual(name).fields if ": state[" in line]
        return flow.values if flow else tuple(re.findall(r"[a-z_]+", "".join(usual)))

    def fields_of(self, name: str) -> set[str]:
        """Return the names of the fields that a resource was said to have, else the usual ones."""
        said = {mention.name for mention, _ in self.resources[name].mentions}
        return said or {line.partition(":")[0] for line in self.usual(name).fields}

    def _place(self, noun: str) -> tuple[str, str | None]:
        many = plural(noun)
        if many in self.resources:
            return many, None
        longer = [name for name in self.resources if name.endswith(f"_{many}")]
        if len(longer) == 1:
            return longer[0], None
        topic = snake(self.topic.lower())
        reason = resource_conflict(many)
        if many == "rooms" and self.chat is not None:
            reason = "the kernel's rooms carry the chats"
            topic = "chat" if "chat" in topic.split("_") or not topic else topic
        if reason is None:
            return many, None
        name = f"{topic}_{many}"
        if plural(topic) == many or resource_conflict(name) is not None:
            name = f"{many[:20].rstrip('_')}_entries"
        return name, reason
