"""Reads what somebody does: ``users upload photos``, ``students can enrol in many courses``.

Whoever does one of the verbs of permissions to something has a role. Any other verb ties two things
that are kept, or leaves a third: who likes photos leaves likes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from newel_tools.plan.names import snake
from newel_tools.plan.nouns import is_plural, plural, singular
from newel_tools.plan.verbs import action_of, is_verb
from newel_tools.planner.clauses import bare
from newel_tools.planner.draft import DraftResource, Grant, Link
from newel_tools.planner.lexicon import (
    DEED_NOUNS,
    DETERMINERS,
    EVERYONE,
    MAKING_VERBS,
    MASS_PLURALS,
    MODERATE_VERBS,
    PATRONS,
    PEOPLE,
    READ_VERBS,
    TIE_VERBS,
    WRITE_VERBS,
)
from newel_tools.planner.phrases import Phrase, head_of, noun_of, read_phrase
from newel_tools.planner.reading import Reading
from newel_tools.planner.rights import grant, publish
from newel_tools.planner.sentence import Span
from newel_tools.planner.ties import are_usual, tie
from newel_tools.planner.vocabulary import SATELLITES, vocabulary

__all__ = ["ONE", "SINGULAR_VERBS", "allowed", "does", "everyone_reads", "verb_inside"]

_RIGHTS: Final = READ_VERBS | WRITE_VERBS | MODERATE_VERBS
_TO: Final = frozenset({"at", "for", "from", "in", "into", "on", "to", "with"})
_ANYONE: Final = EVERYONE | {"user", "users"}
_READS: Final = "|".join(sorted(READ_VERBS))
_EVERYONE: Final = "|".join(sorted(EVERYONE))
_STAFF: Final = frozenset({"admin", "admins", "administrator", "administrators"})

SINGULAR_VERBS: Final = "belong|belongs|contains|has"
"""Behind a noun in the singular they make it a thing, as a pattern of a cursor."""

ONE: Final = frozenset({"a", "an", "each", "every", "one"})
"""Before a noun in the singular: a word with an s behind it is a verb."""


@dataclass(slots=True, kw_only=True)
class _Deed:
    """Who does what, as it is read; ``may``: it was said with a can, as people speak of rights."""

    who: Phrase
    start: Span
    may: bool
    only: bool = False
    verbs: dict[str, Span] = field(default_factory=dict[str, Span])
    objects: list[str] = field(default_factory=list[str])
    single: bool = False

    @property
    def last(self) -> str:
        """The word that says who: ``visitors`` of ``anonymous visitors``."""
        return self.who.words[-1]


def allowed(reading: Reading) -> bool:
    """``lets users create tasks``."""
    cursor = reading.cursor
    start = cursor.match(
        "that|which? lets|let|allows|allow|allowing|letting|enables|enable|wants|want"
    )
    if start is None:
        return False
    who = read_phrase(cursor)
    if who is not None and not cursor.match("to"):
        who = _cut(reading, who, one=False)
    if who is not None and cursor.word():
        _act(reading, _Deed(who=who, start=start, may=True))
    return True


def everyone_reads(reading: Reading) -> bool:
    """``everyone can read posts``."""
    start = reading.cursor.match(f"{_EVERYONE} can|may {_READS}") or reading.cursor.match(
        f"the? public can|may {_READS}"
    )
    if start is None:
        return False
    names = _things(reading)
    publish(reading, names, start.to(reading.cursor.last_span()))
    return True


def does(reading: Reading) -> bool:
    """``users upload photos``, ``viewers only read``, ``each student enrols in many courses``."""
    cursor = reading.cursor
    here = cursor.position
    if _goes_on(reading) and reading.actor is not None:
        _act(reading, _Deed(who=reading.actor, start=cursor.tokens[here].span, may=True))
        return True
    who, may = _doer(reading)
    if who is None or not cursor.word() or (may and cursor.word() in {"be", "have", "has"}):
        cursor.position = here
        return False
    reading.actor = who
    only = here > 0 and cursor.tokens[here - 1].text == "only"
    _act(reading, _Deed(who=who, start=who.span, may=may, only=only))
    return True


def _doer(reading: Reading) -> tuple[Phrase | None, bool]:
    """Take who does something, and tell whether with a can; the cursor is then at the verb."""
    cursor = reading.cursor
    one = cursor.word() in ONE
    who = read_phrase(cursor)
    if who is None or cursor.match("can|may|must|should also|only?"):
        return who, who is not None
    only = cursor.match("only") is not None
    if only and cursor.word() in _RIGHTS:
        return who, False
    if cursor.word() == "like" and PEOPLE.fullmatch(who.words[-1]):
        return who, False  # "things like posts" are no people
    cursor.position -= only
    return _cut(reading, who, one=one), False


def verb_inside(reading: Reading) -> bool:
    """Tell whether the words here are no name, since somebody does something in them."""
    one = reading.cursor.word() in ONE
    phrase = read_phrase(reading.cursor)
    if phrase is None:
        return False
    tied = reading.cursor.length(SINGULAR_VERBS) > 0 or (
        reading.cursor.word() == "from" and phrase.words[-1] in {"go", "goes", "move", "moves"}
    )
    return tied or _cut(reading, phrase, one=one) is not None


def _goes_on(reading: Reading) -> bool:
    """Tell whether whoever was spoken of does one thing more: ``, reply to topics``."""
    before = reading.cursor.word(-1) in {"and", "then"} or reading.cursor.kind(-1) == "comma"
    return before and reading.actor is not None and _verb_ahead(reading)


def _verb_ahead(reading: Reading) -> bool:
    """Tell whether a verb and what it is done to stand here: no compound such as order items."""
    cursor = reading.cursor
    word, after = cursor.word(), cursor.word(1)
    if not _is_verb(word) or not after:
        return False
    if after in _TO | DETERMINERS | {"and", "or", "them", "it"} or cursor.length(_SIGNS):
        return True
    return not reading.draft.knows(f"{word}_{after}") and not vocabulary().knows(f"{word}_{after}")


_SIGNS: Final = "sign|log up|in|out|on"


def _is_verb(word: str) -> bool:
    return word in _RIGHTS | TIE_VERBS or is_verb(word) or _leaves(word) is not None


def _cut(reading: Reading, phrase: Phrase, *, one: bool) -> Phrase | None:
    """Cut ``teachers teach courses`` before its verb and go there; None when there is none.

    A plural within a phrase is its subject, since compounds begin with singulars.
    """
    cursor, words = reading.cursor, phrase.words
    for at in range(1, len(words)):
        before, word, rest = words[at - 1], words[at], words[at + 1 :]
        people = is_plural(before) or PEOPLE.fullmatch(before)
        if one:
            found = is_plural(word) and (bool(rest) or cursor.word() in _TO | {"only"})
        elif not people or before in MASS_PLURALS or is_plural(word):
            continue
        elif rest:
            found = is_plural(rest[-1]) or rest[0] in DETERMINERS or _is_verb(word)
        else:
            found = _is_verb(word) and (cursor.word() in _TO or word in _RIGHTS)
        if found:
            cursor.back_to(phrase.spans[at])
            spans = phrase.spans[:at]
            return Phrase(words=words[:at], span=spans[0].to(spans[-1]), spans=spans)
    return None


def _act(reading: Reading, deed: _Deed) -> None:
    """Read verbs and objects, and note what they mean; what means nothing is not understood."""
    cursor, ledger = reading.cursor, reading.draft.ledger
    signs = cursor.length(_SIGNS) or cursor.length("register|login|signup")
    if signs and cursor.word(signs) in {"", "and", "by", "or", "then", "via", "with"}:
        cursor.position += signs
        span = cursor.last_span()
        ledger.understood(deed.start.to(span))
        reading.draft.features = True
        return
    cursor.position += signs > 1  # "sign up for shifts"
    _read_verbs(reading, deed)
    here = cursor.position
    cursor.match("|".join(_TO))
    _read_objects(reading, deed)
    span = deed.start.to(cursor.last_span())
    if _is_among_users(reading):
        cursor.position = here  # no line of a plan shares a row with some
        return
    if _keeps_from_others(deed):
        _keep_private(reading, deed, span)
        return
    meant = _remark(reading, deed, span)
    meant |= _grant(reading, deed, span, verbs=(deed.verbs.keys() & _RIGHTS) - meant)
    meant |= _tie(reading, deed, span, verbs=deed.verbs.keys() - meant)
    if not meant:
        cursor.position = here
        return
    ledger.understood(span)
    for verb in deed.verbs.keys() - meant:
        ledger.lost(deed.verbs[verb])
    reading.subjects = deed.objects
    reading.named_at = cursor.position
    reading.close()


def _keeps_from_others(deed: _Deed) -> bool:
    """Tell whether some alone may read: ``only admins can see salaries``."""
    reads = bool(deed.verbs.keys() & READ_VERBS)
    return deed.only and reads and deed.last not in _ANYONE


def _keep_private(reading: Reading, deed: _Deed, span: Span) -> None:
    """Let owners read alone: a plan has no words for others, and what was locked is not opened."""
    names = [name for name in deed.objects if name != "users"]
    for resource in (reading.draft.resources[name] for name in names):
        resource.owner = resource.owner or span
        resource.read = ("owner", span)
    if singular(deed.last) in {"author", "creator", "owner"}:
        reading.draft.ledger.understood(span)
    elif names:
        said = "their owners and administrators alone read them; let others do so by hand"
        reading.draft.notes.append(f"{' and '.join(names)}: {said}")
    reading.subjects = deed.objects
    reading.close()


def _is_among_users(reading: Reading) -> bool:
    """Tell whether ``with other users`` stands here."""
    here = reading.cursor.position
    found = False
    if reading.cursor.match("with|among|between"):
        phrase = read_phrase(reading.cursor)
        found = phrase is not None and phrase.words[-1] in _ANYONE | {"friends", "people"}
    reading.cursor.position = here
    return found


def _read_verbs(reading: Reading, deed: _Deed) -> None:
    """Take ``like``, ``like and comment``, ``create, edit and delete``."""
    cursor = reading.cursor
    while True:
        token = cursor.take()
        verb = bare(token.text) if is_plural(token.text) else token.text
        deed.verbs[verb] = token.span
        ahead = 2 if cursor.kind() == "comma" and cursor.word(1) in {"and", "or"} else 1
        joined = cursor.kind() == "comma" or cursor.word() in {"and", "or"}
        if not joined or not _is_verb(cursor.word(ahead)):
            return
        cursor.position += ahead


def _read_objects(reading: Reading, deed: _Deed) -> None:
    """Take what it is done to: ``many courses``, ``a manager``."""
    cursor = reading.cursor
    deed.single = cursor.match("a|an|one") is not None
    if not deed.single:
        deed.objects = _things(reading)
        return
    here = cursor.position
    phrase = read_phrase(cursor)
    noun = noun_of(phrase, reading.draft, singular_too=True) if phrase else None
    if phrase is not None and noun is None and len(phrase.words) == 1 and deed.last not in _ANYONE:
        noun = snake(phrase.words[0]) or None
    if noun is None:
        cursor.position = here
        return
    deed.objects = ["users" if noun == "users" else reading.draft.add(noun, None).name]


def _things(reading: Reading) -> list[str]:
    """Take a list of resources: the subjects for ``them`` or nothing."""
    names: list[str] = []
    cursor = reading.cursor
    if cursor.match("them|it") and _ends(reading):
        reading.take_up()
        return list(reading.subjects)
    if cursor.match("everything|all") and _ends(reading):
        return list(reading.subjects)
    while True:
        here = cursor.position
        if names and not (cursor.kind() == "comma" or cursor.word() in {"and", "or"}):
            break
        if names:
            cursor.take()
        anew = bool(names) and (_verb_ahead(reading) or _clause_ahead(reading))
        phrase = read_phrase(cursor)
        phrase = head_of(cursor, phrase) if phrase else None
        noun = noun_of(phrase, reading.draft, singular_too=not names) if phrase else None
        if phrase is None or noun is None or anew or (names and _begins_anew(reading, phrase)):
            cursor.position = here
            break
        names.append("users" if noun == "users" else reading.draft.add(noun, phrase.span).name)
        _lose_qualities(reading, phrase, noun)
    return names


def _lose_qualities(reading: Reading, phrase: Phrase, noun: str) -> None:
    """Note that ``overdue`` of overdue tasks is no line of a plan; others see the approved."""
    moderated = noun != "users" and reading.draft.add(noun, None).moderated
    for word, span in zip(phrase.words[: -1 - noun.count("_")], phrase.spans, strict=False):
        if not (moderated and word == "approved"):
            reading.draft.ledger.lost(span)


def _clause_ahead(reading: Reading) -> bool:
    here = reading.cursor.position
    found = verb_inside(reading)
    reading.cursor.position = here
    return found


def _begins_anew(reading: Reading, phrase: Phrase) -> bool:
    """Tell whether a phrase is what somebody does: ``and editors review posts``."""
    who, *rest = phrase.words
    return reading.verb_follows() or (len(rest) > 1 and PEOPLE.fullmatch(who) is not None)


def _ends(reading: Reading) -> bool:
    return reading.cursor.kind() != "word" or reading.cursor.word() in {"and", "but"}


def _leaves(verb: str) -> str | None:
    """Return what a verb leaves behind: ``comments`` of ``comment``, ``bookings`` of ``book``."""
    noun = DEED_NOUNS.get(verb, plural(verb))
    return noun if verb in DEED_NOUNS or noun in SATELLITES else None


def _remark(reading: Reading, deed: _Deed, span: Span) -> set[str]:
    """Note ``users like photos``: likes, on photos. What staff reviews is moderated instead."""
    draft = reading.draft
    role = singular(reading.role(deed.who))
    kept = draft.knows(role)
    public = deed.last in _ANYONE | PATRONS and not kept
    meant: set[str] = set()
    for verb in deed.verbs:
        noun = _leaves(verb)
        doer = plural(role)
        things = [x for x in deed.objects if x not in {"users", noun} and not are_usual(x, doer)]
        if noun is None or not things or (verb in _RIGHTS and not public):
            continue
        child = draft.add(noun, span)
        for name in things:
            if not are_usual(child.name, name):
                tie(draft, child, name, span)
        if kept and not are_usual(child.name, draft.name_of(role)):
            tie(draft, child, draft.name_of(role), span)
        meant.add(verb)
    return meant


def _grant(reading: Reading, deed: _Deed, span: Span, *, verbs: set[str]) -> set[str]:
    """Note ``editors can write posts``: a role; users own what they write."""
    role = singular(reading.role(deed.who))
    if not verbs or not deed.objects or reading.draft.knows(role):
        return set()
    if deed.last in {"guests", "visitors"} and role not in {"guest", "visitor"}:
        if verbs <= READ_VERBS:
            publish(reading, deed.objects, span)
            return verbs
        return set()
    if verbs & (MAKING_VERBS | READ_VERBS) and not (deed.may or PEOPLE.fullmatch(deed.last)):
        return set()  # "companies post jobs" are tied to them
    if deed.only and deed.last in _STAFF and verbs & WRITE_VERBS:
        _only_admins(reading, deed, span, verbs=verbs)
    if "upload" in verbs:
        names = " and ".join(deed.objects)
        yours = "the column that names a row's file is yours to add"
        reading.draft.notes.append(f"the files of {names} are uploaded to /files; {yours}")
        reading.draft.files = reading.draft.files or span
    grant(reading, role, verbs, [name for name in deed.objects if name != "users"], span)
    return verbs


def _only_admins(reading: Reading, deed: _Deed, span: Span, *, verbs: set[str]) -> None:
    """Note ``only admins can create products``: they are nobody's; else it could not be held."""
    for name in deed.objects:
        if name != "users" and not verbs <= {"delete", "remove"}:
            reading.draft.resources[name].shared = span
        reading.draft.only_admins.append((name, span))


def _tie(reading: Reading, deed: _Deed, span: Span, *, verbs: set[str]) -> set[str]:
    """Note ``students enrol in courses``: a link between what is kept, and say which was taken."""
    draft = reading.draft
    things = [name for name in deed.objects if name != "users"]
    role = singular(reading.role(deed.who))
    is_role = any(given.role == role for given in draft.grants)
    rights = deed.may and bool(verbs & _RIGHTS)
    noun = noun_of(deed.who, draft, singular_too=True) or plural(snake(" ".join(deed.who.words)))
    if deed.may and (moved := _move(reading, deed, span, verbs=verbs)):
        return moved
    nobody = deed.last in _ANYONE | _STAFF or is_role or not noun.isascii()
    if not verbs or not things or rights or nobody:
        return set()
    doer = draft.add(noun, deed.who.span)
    for name in things:
        _link(reading, doer, name, span, made=bool(verbs & WRITE_VERBS), single=deed.single)
    return verbs


def _move(reading: Reading, deed: _Deed, span: Span, *, verbs: set[str]) -> set[str]:
    """Note ``only admins can close issues``: who leads them to a state; users act on their own."""
    role = singular(reading.role(deed.who))
    meant: set[str] = set()
    if reading.draft.knows(role):
        return meant
    for verb in verbs:
        for resource in (reading.draft.resources[name] for name in deed.objects if name != "users"):
            flow = reading.draft.states_of(resource.name)
            if role == "user" and is_verb(verb):
                resource.actions.append((verb, span))
            elif role != "user" and any(action_of(state) == verb for state in flow):
                given = Grant(role=role, verb=verb, target=resource.name, span=span)
                reading.draft.grants.append(given)
            else:
                continue
            meant.add(verb)
    return meant


def _link(
    reading: Reading, doer: DraftResource, name: str, span: Span, *, made: bool, single: bool
) -> None:
    """Link who does and what it is done to, but for those whose usual link follows anyway."""
    draft = reading.draft
    said = draft.ledger.words(span)
    if are_usual(doer.name, name):
        return
    if single:
        doer.links.append(Link(target=name, kind="many_to_one", span=span))
    elif made:
        tie(draft, draft.resources[name], doer.name, span)
        draft.notes.append(f"{said}: each of {name} is taken to have one of {doer.name}")
    else:
        doer.links.append(Link(target=name, kind="many_to_many", span=span))
        draft.notes.append(f"{said}: taken as many to many")
