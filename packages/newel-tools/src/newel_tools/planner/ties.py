"""Reads how resources hang together: ``posts belong to users``, ``orders have many items``."""

from __future__ import annotations

import re
from typing import Final

from newel_tools.plan.names import snake
from newel_tools.plan.nouns import is_plural, plural
from newel_tools.planner.draft import Draft, DraftResource, Link
from newel_tools.planner.lexicon import API_NOUNS, DETERMINERS, PREPOSITIONS
from newel_tools.planner.phrases import is_feature, noun_of, read_phrase
from newel_tools.planner.reading import Reading
from newel_tools.planner.rights import mark
from newel_tools.planner.sentence import Span
from newel_tools.planner.vocabulary import vocabulary

__all__ = ["about", "are_usual", "arrow", "assigned", "belongs", "many", "tie"]

_MADE: str = "owned|written|created|posted|made|submitted by"
_OWNERS: str = "user|users|creator|creators|author|authors|owner|owners"


def belongs(reading: Reading) -> bool:
    """``posts belong to users``, ``owned by users``, ``written by their author``."""
    cursor = reading.cursor
    after_comma = cursor.kind(-1) == "comma"
    if start := cursor.match(_MADE):
        reading.take_up()
        about = reading.resources() if after_comma else reading.nearest()
    else:
        relative = cursor.word() in {"that", "which"}
        verb = (
            cursor.match("that|which? belong|belongs|belonging to")
            or cursor.match(f"that|which? are|is|was|were {_MADE}")
            or cursor.match("can|may be part|member|members of")
            or cursor.match("can|may be in|on")
        )
        if verb is None:
            return False
        start = verb if relative else reading.from_subject(verb)
        about = reading.resources()[-1:] if relative else reading.resources()
    _targets(reading, about, start)
    if span := cursor.match("and private|public|moderated|shared"):
        mark(reading, cursor.word(-1), start.to(span))
        reading.draft.ledger.understood(span)
    reading.close()
    return True


def assigned(reading: Reading) -> bool:
    """``tasks are assigned to users``: a link that may be missing."""
    cursor = reading.cursor
    verb = cursor.match("that|which? are|is|be? assigned to")
    if verb is None:
        return False
    phrase = read_phrase(cursor)
    if phrase is None or not " ".join(phrase.words).isascii() or len(phrase.words) > 3:
        return True
    noun = snake(" ".join(phrase.words))
    span = reading.from_subject(verb).to(phrase.span)
    is_user = plural(noun) == "users"
    target = "users" if is_user else reading.draft.add(noun, phrase.span).name
    for resource in reading.resources()[-1:]:
        name = "assignee" if is_user else ""
        link = Link(target=target, kind="many_to_one", span=span, name=name, optional=True)
        resource.links.append(link)
    reading.close(span)
    return True


def many(reading: Reading) -> bool:
    """``posts have many tags``, ``each order has many items``, ``users have many posts``."""
    cursor = reading.cursor
    here = cursor.position
    direct = here == reading.named_at and cursor.word(-1) not in API_NOUNS
    with_them = cursor.word() == "with" and direct
    verb = cursor.match("that|which? can|may? has|have|having|contain|contains") or cursor.match(
        "consist|consists of" if not with_them else "with"
    )
    if verb is not None and _has_one(reading, verb):
        return True
    many_of = verb is not None and _match_many(reading)
    if verb is None or not reading.subjects or not (many_of or reading.things_follow()):
        cursor.position = here
        return False
    parent = reading.subjects[-1] if reading.subjects else None
    start = reading.from_subject(verb)
    while parent is not None:
        here = cursor.position
        phrase = read_phrase(cursor)
        noun = noun_of(phrase, reading.draft, singular_too=False) if phrase else None
        service = phrase is not None and is_feature(phrase, alone=False)
        if phrase is None or noun is None or noun == "users" or service or reading.verb_follows():
            cursor.position = here
            break
        child = reading.draft.add(noun, phrase.span)
        span = start.to(phrase.span)
        reading.draft.ledger.understood(span)
        reading.group(child.name)
        if parent == "users":
            child.owner = span
        elif not (with_them and are_usual(parent, child.name)):
            tie(reading.draft, child, parent, span)
        if with_them or (not cursor.match("and") and cursor.kind() != "comma"):
            break
        if cursor.kind() == "comma":
            cursor.take()
    reading.close()
    return True


def arrow(reading: Reading) -> bool:
    """``posts <-> tags`` and ``comments -> posts`` outside brackets."""
    token = reading.cursor.token()
    about = reading.resources()[-1:]
    if token is None or token.text not in {"->", "<->"} or not about:
        return False
    reading.cursor.take()
    phrase = read_phrase(reading.cursor)
    if phrase is None:
        return True
    span = reading.from_subject(token.span).to(phrase.span)
    noun = snake(" ".join(phrase.words))
    if noun in {"user", "users"}:
        about[0].owner = span
    else:
        target = reading.draft.add(noun, phrase.span).name
        kind = "many_to_many" if token.text == "<->" else "many_to_one"
        about[0].links.append(Link(target=target, kind=kind, span=span))
    reading.close(span)
    return True


def about(reading: Reading) -> bool:
    """``comments on posts``: a preposition right behind a noun, and another resource."""
    cursor = reading.cursor
    named = reading.resources()[-1:]
    if cursor.word() not in PREPOSITIONS or not named or cursor.position != reading.named_at:
        return False
    here = cursor.position
    cursor.take()
    phrase = read_phrase(cursor)
    noun = noun_of(phrase, reading.draft, singular_too=True) if phrase else None
    vague = noun is not None and cursor.position == here + 2 and not is_plural(noun)
    if phrase is None or noun is None or reading.draft.name_of(noun) == named[0].name:
        cursor.position = here
        return False
    if vague and not reading.draft.knows(noun):  # "in order", "on time"
        cursor.position = here
        return False
    span = (named[0].span or phrase.span).to(phrase.span)
    reading.draft.ledger.understood(span)
    if noun == "users":
        named[0].owner = span
        return True
    is_new = not reading.draft.knows(noun)
    target = reading.draft.add(noun, phrase.span).name
    if _is_many(named[0].name, target):
        tie(reading.draft, named[0], target, span)
    else:
        named[0].links.append(Link(target=target, kind="many_to_one", span=span))
    theirs = named[0].mentions or (is_new and _sounds_like(reading, target, named[0].name))
    reading.group(target if theirs else named[0].name)
    return True


def _sounds_like(reading: Reading, one: str, other: str) -> bool:
    """Tell whether a bracket has more of the usual fields of ``one`` than of ``other``.

    ``comments on posts (title, body)`` says what a post has, ``comments on posts (text)`` does not.
    """
    token = reading.cursor.token()
    words = set(re.findall(r"\w+", token.text.lower())) if token else set[str]()
    usual = reading.draft.usual
    usually = [
        sum(line.partition(":")[0] in words for line in usual(name).fields) for name in (one, other)
    ]
    return usually[0] > usually[1]


def _targets(reading: Reading, about: list[DraftResource], start: Span) -> None:
    """Read whom or what the resources belong to; ``a pet and a vet`` are two."""
    cursor = reading.cursor
    while about:
        here = cursor.position
        if not (_own(reading, about, start) or _link(reading, about, start)):
            cursor.position = here
            return
        here = cursor.position
        if not cursor.match("and") or not _target_ahead(reading):
            cursor.position = here
            return


def _own(reading: Reading, about: list[DraftResource], start: Span) -> bool:
    """Read users: in those words, or as authors and owners nobody made a resource of."""
    cursor = reading.cursor
    here = cursor.position
    theirs = cursor.match("their|its|his|her") is not None
    cursor.match("a|an|the|one|each|exactly|single")
    word = cursor.word()
    others = word and (
        reading.draft.knows(word) or any(are_usual(each.name, plural(word)) for each in about)
    )
    plain = word in {"user", "users"} or theirs or not others
    if not plain or not cursor.match(_OWNERS):
        cursor.position = here
        return False
    span = start.to(cursor.last_span())
    reading.draft.ledger.understood(span)
    for resource in about:
        resource.owner = span
    return True


def _link(reading: Reading, about: list[DraftResource], start: Span) -> bool:
    several = _match_many(reading)
    phrase = read_phrase(reading.cursor)
    if phrase is None or len(phrase.words) > 3 or not " ".join(phrase.words).isascii():
        return False
    target = reading.draft.add(snake(" ".join(phrase.words)), phrase.span).name
    span = start.to(phrase.span)
    reading.draft.ledger.understood(span)
    for resource in about:
        linked = any(link.target == target for link in resource.links)
        if several and target != resource.name:
            _untie(reading.draft, resource.name, target)
            linked = False
        if not linked and target != resource.name:
            kind = "many_to_many" if several else "many_to_one"
            resource.links.append(Link(target=target, kind=kind, span=span))
    return True


def _target_ahead(reading: Reading) -> bool:
    """Tell whether one more target follows, rather than the next subject."""
    cursor = reading.cursor
    here = cursor.position
    if cursor.word() not in DETERMINERS:
        return False
    phrase = read_phrase(cursor)
    follows = reading.verb_follows()
    cursor.position = here
    return phrase is not None and not follows and not is_plural(phrase.words[-1])


def tie(draft: Draft, child: DraftResource, parent: str, span: Span) -> None:
    """Note that ``parent`` has many of ``child``: many to many when the reverse was said too."""
    above = draft.resources[parent]
    back = [link for link in above.links if link.target == child.name]
    if not back and not _is_many(parent, child.name):
        if not any(link.target == parent for link in child.links):
            child.links.append(Link(target=parent, kind="many_to_one", span=span))
        return
    _untie(draft, parent, child.name)
    above.links.append(Link(target=child.name, kind="many_to_many", span=span))


def _untie(draft: Draft, one: str, other: str) -> None:
    """Forget the links between two resources: they are many to many."""
    for name, target in ((one, other), (other, one)):
        resource = draft.resources[name]
        resource.links = [link for link in resource.links if link.target != target]


def _match_many(reading: Reading) -> bool:
    found = reading.cursor.match("one|zero or more") or reading.cursor.match(
        "many|multiple|several"
    )
    return found is not None


def _has_one(reading: Reading, verb: Span) -> bool:
    """Take ``exactly one teacher`` behind ``classes have``: a link, unless its fields follow."""
    cursor = reading.cursor
    here = cursor.position
    phrase = read_phrase(cursor) if cursor.match("exactly? one") else None
    noun = snake(" ".join(phrase.words)) if phrase is not None else ""
    resources = reading.resources()[-1:]
    if not noun or not resources or len(noun) > _LONGEST or cursor.word() in {"or", "with"}:
        cursor.position = here
        return False
    span = reading.from_subject(verb).to(cursor.last_span())
    target = reading.draft.add(noun, span).name
    resources[0].links.append(Link(target=target, kind="many_to_one", span=span))
    reading.close(span)
    return True


_LONGEST: Final = 30


def are_usual(one: str, other: str) -> bool:
    """Tell whether two resources are usually linked, so that the link follows unsaid."""
    known = vocabulary()
    return any(
        line.partition("> ")[2].partition(" ")[0] == b
        for a, b in ((one, other), (other, one))
        for line in known.usual(a).links
    )


def _is_many(one: str, other: str) -> bool:
    """Tell whether two resources are usually linked many to many, such as posts and tags."""
    known = vocabulary()
    return bool({one, other} & {"labels", "tags"}) or any(
        line.endswith(f"<-> {b}")
        for a, b in ((one, other), (other, one))
        for line in known.usual(a).links
    )
