"""One field as people mention it: ``sku unique``, ``price decimal``, ``size S|M|L``, ``title``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from newel_tools.errors import PlanError
from newel_tools.plan.fields import TYPE_WORDS
from newel_tools.plan.names import snake
from newel_tools.plan.nouns import plural, singular
from newel_tools.planner.lexicon import DETERMINERS

__all__ = ["UNITS", "Mention", "is_modifier", "is_specification", "read_mention"]

_MODIFIER_WORDS: Final = {
    "unique": "unique",
    "optional": "optional",
    "optionally": "optional",
    "nullable": "optional",
    "indexed": "indexed",
    "required": "",
    "mandatory": "",
}
# the last word of these is no type: due date, image url, contact email
_COMPOUNDS: Final = {
    "date": "arrival birth booking checkin checkout completion creation delivery departure due end "
    "enrollment event expiration expiry hire invoice issue join joining last next order payment "
    "publication publish published publishing purchase registration release sale shipping start "
    "visit",
    "email": "billing business company contact customer guest home personal primary private "
    "secondary support work",
    "url": "avatar callback company cover download image logo long original photo picture product "
    "profile repo repository short source target thumbnail video webhook website",
    "text": "alt button full help hint link",
    "string": "connection query",
    "flag": "red",
    "money": "prize",
}
_DEFAULT: Final = re.compile(
    r"\s*(?:(?<![<>])=|\bdefault(?:s to|ing to)?(?=\s)|\bby default\b)\s*"
    r"(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,]+)"
)
_BOUND: Final = re.compile(
    r"(?:\bof\s+)?([><]=?|\b(?:at least|min|minimum|at most|max|maximum|up to)\b)(?:\s+of)?\s*"
    r"(-?\d+(?:\.\d+)?)(?:\s*(?:chars?|characters?|letters?)\b)?"
)
_LOOSE: Final = {
    "array": "json[]", "dict": "json", "list": "json[]", "number": "number", "object": "json",
    "strings": "json[]",
}  # fmt: skip
"""Types as other languages have them; of a ``number`` the name says which."""
_RANGE: Final = re.compile(
    r"\s*\(?\s*(?:between|from)?\s*(-?\d+(?:\.\d+)?)\s*(?:-|\u2013|\.\.|\bto\b|\band\b)"
    r"\s*(-?\d+(?:\.\d+)?)\s*\)?$"
)
_EITHER: Final = r"\s*[|/]\s*|\s*,?\s+or\s+|\s*,\s*"
_CHOICES: Final = re.compile(rf"[A-Za-z][\w-]*(?:(?:{_EITHER})[A-Za-z][\w-]*)+$")
_JOIN: Final = re.compile(
    rf",\s*(?=(?:{'|'.join(_MODIFIER_WORDS)}|max|min|at least|at most|up to)\b)"
)
UNITS: Final = frozenset(
    {"bytes", "cents", "cm", "days", "hours", "kg", "km", "meters", "minutes", "months", "seconds"}
    | {"weeks", "years"}
)
"""``time in minutes`` is called so."""

_IN: Final = re.compile(rf"\s+in\s+(?=(?:{'|'.join(sorted(UNITS))})\b)")
_FLOW: Final = re.compile(
    r"(status|state|stage)\s*:?\s+(?:from\s+)?(\w[\w ]*(?:->|\bto\b|\bthen\b).*)"
)
_NEXT: Final = re.compile(r"\s*->\s*|\s+(?:to|then)\s+")
_BRACKET: Final = re.compile(r"[(\[]([^()\[\]]*)[)\]]$")
_LONGEST_NAME: Final = 4
"""Words; a longer run of them is prose and no name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A field that was mentioned: ``type_text`` is empty when its type was not said.

    ``bounds`` are ``low..high``; ``>0..`` does not include the 0.
    """

    name: str
    type_text: str = ""
    modifiers: tuple[str, ...] = ()
    bounds: str = ""
    unknown: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(slots=True)
class _Tail:
    """What stands behind a name, taken off piece by piece."""

    modifiers: list[str]
    low: str = ""
    high: str = ""

    @property
    def bounds(self) -> str:
        return f"{self.low}..{self.high}" if self.low or self.high else ""


def read_mention(text: str) -> Mention | None:
    """Read one mention; ``None`` when it is prose, ``PlanError`` when it is a field gone wrong."""
    text = _IN.sub(" ", _JOIN.sub(" ", " ".join(text.split())))
    tail = _Tail(modifiers=[])
    if found := _FLOW.fullmatch(text):
        return Mention(name=found[1], type_text=f"state[{_steps(found[2])}]")
    if found := re.fullmatch(r"([\w' -]*?)\s*:?\s*(<->|->)\s*(\w+)(.*)", text):
        return _link(found[1], found[2], found[3], found[4])
    if (found := _BRACKET.search(text)) and is_specification(found[1]):
        text = f"{text[: found.start()].strip()}: {found[1].replace(',', ' ')}"
    text = _take_tail(text, tail).rstrip(", ")
    head, kind = _split_type(text)
    unknown: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    if not kind and (found := _RANGE.search(head)):
        head, tail.low, tail.high = head[: found.start()], found[1], found[2]
    elif not kind:
        head, kind, choices = _guess(head)
        if not kind:
            choices, unknown = (), choices
    else:
        kind, unknown = _clean(kind)
    words = [
        w for w in re.findall(r"[^\W_]\w*", head.replace("'s", "")) if w.lower() not in DETERMINERS
    ]
    name = snake(" ".join(words))
    if not name or len(words) > _LONGEST_NAME or not name[0].isalpha():
        return None
    return Mention(
        name=name,
        type_text=kind,
        modifiers=tuple(dict.fromkeys(tail.modifiers)),
        bounds=tail.bounds,
        unknown=unknown,
        choices=choices,
    )


def is_modifier(text: str) -> bool:
    """Tell whether a text says something of a field and names none: ``required``, ``max 100``."""
    words = re.findall(r"[a-z]+", _BOUND.sub(" ", text.lower()))
    return all(word in _MODIFIER_WORDS for word in words) and bool(text.strip())


def is_specification(text: str) -> bool:
    """Tell whether a bracket says of what kind a field is: ``required, max 100``."""
    rest = _BOUND.sub(" ", _DEFAULT.sub(" ", text.lower()))
    words = [w for w in re.findall(r"[a-z_]+", rest) if w not in {"a", "an", "not", "null", "of"}]
    kinds = [w for w in words if w in TYPE_WORDS or w in _LOOSE]
    said = rest.strip() != text.lower().strip() or bool(words)
    return (
        said
        and len(kinds) <= 1 + ("strings" in kinds)
        and {w for w in words if w not in _MODIFIER_WORDS} == set(kinds)
    )


def _steps(text: str) -> str:
    """Return ``queued -> running -> finished or failed`` as the steps of a plan."""
    stops = [
        [snake(state) for state in re.split(_EITHER, stop) if state] for stop in _NEXT.split(text)
    ]
    steps = (f"{before} -> {'|'.join(after)}" for stop, after in pairwise(stops) for before in stop)
    return ", ".join(steps)


def _link(name: str, arrow: str, target: str, tail: str) -> Mention:
    many = snake(target) if snake(target) == "users" else plural(snake(target))
    words = [_MODIFIER_WORDS.get(w.lower()) for w in tail.split()]
    unknown = tuple(w for w, meant in zip(tail.split(), words, strict=True) if meant is None)
    name = snake(name) or (singular(many) if arrow == "->" else many)
    return Mention(
        name=name,
        type_text=f"{arrow} {many}",
        modifiers=tuple(w for w in words if w),
        unknown=unknown,
    )


def _take_tail(text: str, tail: _Tail) -> str:
    """Take off the default, bounds and modifiers, wherever they stand outside brackets."""
    if found := _DEFAULT.search(text):
        tail.modifiers.append(f"= {found[1]}")
        text = text[: found.start()] + text[found.end() :]
    for found in list(_BOUND.finditer(text)):
        beyond = found[1] if found[1] in {">", "<"} else ""
        if found[1] in {">", ">=", "at least", "min", "minimum"}:
            tail.low = beyond + found[2]
        else:
            tail.high = beyond + found[2]
        text = text.replace(found[0], " ")
    text = re.sub(r"\bnot null\b", " ", text, flags=re.IGNORECASE)
    if (found := _BRACKET.search(text)) and found[1].strip().lower() in _MODIFIER_WORDS:
        text = f"{text[: found.start()]} {found[1]}"
    kept: list[str] = []
    depth = 0
    for word in text.split():
        meant = _MODIFIER_WORDS.get(word.lower().strip(":"))
        if depth == 0 and meant is not None and len(text.split()) > 1:
            tail.modifiers += [meant] if meant else []
        else:
            kept.append(word)
        depth += len(re.findall(r"[(\[]", word)) - len(re.findall(r"[)\]]", word))
    return " ".join(kept).strip()


def _split_type(text: str) -> tuple[str, str]:
    """Cut ``name str(64)`` in two; the second is empty when there is no type in it."""
    if found := re.fullmatch(r"([\w' -]+?)\s*:\s*(\S.*)", text):
        return found[1], _known(found[1], found[2])
    words = list(re.finditer(r"[A-Za-z_]+", text))
    opening = re.search(r"[(\[]", text)
    for before, word in pairwise(words):
        if opening and word.start() > opening.start():
            break
        kind = TYPE_WORDS.get(word[0].lower())
        if kind is None or before[0].lower() in _COMPOUNDS.get(word[0].lower(), "").split():
            continue
        if kind in {"enum", "state"} and not text[word.end() :].lstrip().startswith(("[", "(")):
            continue
        return text[: word.start()], text[word.start() :]
    _refuse_unknown_type(text)
    return text, ""


def _known(name: str, rest: str) -> str:
    """Return what stands behind a colon as a type."""
    word = re.match(r"[A-Za-z_]*", rest)
    if word is None or word[0].lower() in TYPE_WORDS:
        return rest
    if word[0].lower() in _LOOSE:
        return _LOOSE[word[0].lower()]
    if _CHOICES.fullmatch(rest):
        return f"enum[{', '.join(re.split(_EITHER, rest))}]"
    raise PlanError(
        f"'{name}: {rest}' has no type that there is",
        fix=f"write '{name}: str(64)', or only '{name}'; see docs/plan.md for the types",
        word=rest,
    )


def _refuse_unknown_type(text: str) -> None:
    found = re.fullmatch(r"([\w' -]+)\s([A-Za-z]+)(\([\d.,\s-]*\))", text)
    if found and re.search(r"\.\.|,|^\(\d+\)$", found[3]):
        raise PlanError(
            f"'{found[1]}' has the type '{found[2]}', which there is not",
            fix="types are str, text, int, float, decimal, bool, datetime, date, uuid, json, "
            "email, url, enum[...] and state[...]",
            word=found[2],
        )


def _clean(kind: str) -> tuple[str, tuple[str, ...]]:
    """Return the type in the plan's own words, and the words behind it that mean nothing."""
    found = re.match(r"([A-Za-z_]+)\s*([(\[].*[)\]])?\s*(.*)$", kind, re.DOTALL)
    if found is None:
        return kind, ()
    word = TYPE_WORDS.get(found[1].lower(), found[1])
    bracket, behind = found[2] or "", found[3]
    if bracket == "[]" and word not in {"enum", "state"}:
        return "json = []", tuple(behind.split())
    if ranged := _RANGE.fullmatch(bracket or behind):
        bracket, behind = f"({ranged[1]}..{ranged[2]})", behind if bracket else ""
    if word in {"enum", "state"}:
        bracket = re.sub(r"^\((.*)\)$", r"[\1]", re.sub(r"[\"']", "", bracket))
        bracket = re.sub(r"\s*[|/]\s*", ", ", bracket) if "->" not in bracket else bracket
    return word + bracket, tuple(behind.split())


def _guess(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Read ``size S|M|L``, ``type movie or series``, ``state (draft, sent)``."""
    choices: list[str] = []
    head = text
    if found := _BRACKET.search(text):
        head = text[: found.start()].strip()
        choices = [c for c in re.split(r"\s*(?:[,|/]|\bor\b|\band\b)\s*", found[1].strip()) if c]
    elif found := _CHOICES.search(text):
        head = text[: found.start()].strip()
        choices = re.split(_EITHER, found[0])
    if len(choices) < 2 or not head:
        return head, "", tuple(choices)
    return head, f"enum[{', '.join(snake_choice(c) for c in choices)}]", tuple(choices)


def snake_choice(text: str) -> str:
    """Return a choice without spaces: ``in progress`` is ``in_progress``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text.strip()).strip("_")
