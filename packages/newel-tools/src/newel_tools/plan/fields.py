"""The language in which a plan writes one field: ``str(3..64) unique = "new"``.

    type       str(n) str(a..b) text text(a..) int int(a..b) float decimal(p,s) decimal(p,s,a..b)
               bool datetime date uuid json email url enum[a,b] state[a -> b|c by x:y; visible b]
    link       -> posts (many to one)      <-> tags (many to many)
    modifiers  unique optional indexed = default

``read_line`` and ``write_line`` are inverse to each other.
"""

from __future__ import annotations

import difflib
import json
import re
from itertools import pairwise
from typing import Any, Final

from pydantic import ValidationError

from newel_tools.errors import PlanError
from newel_tools.plan.bounds import FIELD_TYPES, INT32, INT64, Default, FieldType, Number
from newel_tools.plan.plan import Field, Relation, States, Transition

__all__ = ["TYPE_WORDS", "Line", "read_line", "refusal", "write_line"]

Line = Field | Relation | States

TYPE_WORDS: Final[dict[str, FieldType | str]] = {
    **{kind: kind for kind in FIELD_TYPES},
    "state": "state",
    "bigint": "bigint",
    "boolean": "bool",
    "char": "str",
    "flag": "bool",
    "integer": "int",
    "money": "decimal",
    "numeric": "decimal",
    "string": "str",
    "timestamp": "datetime",
    "timestamptz": "datetime",
    "varchar": "str",
}
"""Every word that names a type, with the type it means."""

_MODIFIERS: Final = ("unique", "optional", "indexed")
_SPELLINGS: Final = {
    "nullable": "optional",
    "index": "indexed",
    "required": "",
}
_LENGTHS: Final = {"str", "text", "email", "url"}
_NUMBER: Final = r"-?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?"
_RANGE: Final = re.compile(rf"({_NUMBER})?\s*\.\.\s*({_NUMBER})?")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@+{}\[\]-]+")


def read_line(name: str, text: str) -> Line:
    """Read the field ``name`` from its line; ``PlanError`` names the word at fault."""
    try:
        return _Reader(name, text).line()
    except ValidationError as error:
        raise refusal(error) from None


def write_line(line: Line) -> str:
    """Write a field, link or state column without its name, as ``read_line`` reads it."""
    if isinstance(line, States):
        return _state_text(line)
    if isinstance(line, Relation):
        arrow = "->" if line.kind == "many_to_one" else "<->"
        head = f"{arrow} {line.target}"
    else:
        head = _type_text(line)
    words = [head, *(word for word in _MODIFIERS if getattr(line, word, False))]
    if isinstance(line, Field) and line.default is not None:
        words.append(f"= {_default_text(line.default)}")
    return " ".join(words)


def refusal(error: ValidationError) -> PlanError:
    """Return what a model refused as a ``PlanError``; the first refusal when there are several."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, PlanError):
        return cause
    where = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    value = first.get("input")
    if not isinstance(value, str):
        return PlanError(f"{where}: {first['msg']}", fix="see `newel plan --schema` for the form")
    fix = _FORMS.get(first["type"]) or str(first["msg"])
    if where.endswith(("by", "permissions")):
        fix = "write a permission as resource:verb, such as posts:write"
    return PlanError(f"'{value[:80]}' cannot be the {where}", fix=fix, word=value)


_FORMS: Final = {
    "bool_parsing": "write true or false",
    "string_pattern_mismatch": "write it with a-z, 0-9 and single underscores",
}


class _Reader:
    """Reads one line from left to right."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.rest = text.strip()

    def line(self) -> Line:
        if arrow := self.take(r"<->|->"):
            return self.relation(arrow)
        word = self.take(r"[A-Za-z_]+")
        kind = TYPE_WORDS.get((word or "").lower())
        if word is None or kind is None:
            raise _no_type(self.name, word or self.rest)
        if kind == "state":
            return self.states()
        values = self.arguments(kind)
        values |= self.modifiers(str(values["type"]))
        return Field(name=self.name, **values)

    def take(self, pattern: str) -> str | None:
        """Take what matches at the left end, and the space behind it."""
        found = re.match(pattern, self.rest)
        if found is None:
            return None
        self.rest = self.rest[found.end() :].lstrip()
        return found[0]

    def inside(self, ends: str) -> str | None:
        """Take a bracket and return what is in it."""
        if not self.rest.startswith(ends[0]):
            return None
        inner, found, self.rest = self.rest[1:].partition(ends[1])
        if not found:
            raise PlanError(
                f"the '{ends[0]}' of '{self.name}' is never closed",
                fix=f"add the '{ends[1]}'",
                word=self.name,
            )
        self.rest = self.rest.lstrip()
        return inner.strip()

    def arguments(self, kind: str) -> dict[str, Any]:
        if kind == "bigint":
            return {"type": "int", "minimum": INT64[0], "maximum": INT64[1]}
        inner = self.inside("[]" if kind == "enum" else "()")
        values: dict[str, Any] = {"type": kind}
        if kind == "enum":
            return values | {"choices": tuple(c.strip() for c in (inner or "").split(",") if c)}
        if inner is None or inner == "":
            return values
        return values | _bounds(self.name, kind, inner)

    def modifiers(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.rest:
            if self.take(r"=|default\b"):
                found["default"] = self.default(kind)
                continue
            word = self.take(r"not null\b|[^\s=]+") or self.rest
            meant = _SPELLINGS.get(word.lower(), word.lower())
            if meant in _MODIFIERS:
                found[meant] = True
            elif meant not in {"", "not null"}:
                raise _no_modifier(self.name, word)
        return found

    def default(self, kind: str) -> Default:
        text = self.take(r'"(?:[^"\\]|\\.)*"') or self.take(r"'[^']*'") or self.take(r"\S+")
        if text is None:
            raise PlanError(
                f"'{self.name}' has a '=' without a value", fix="write the default behind it"
            )
        if text.startswith('"'):
            return _unquoted(text)
        if text.startswith("'"):
            return text[1:-1]
        return _typed(kind, text)

    def relation(self, arrow: str) -> Relation:
        target = self.take(r"[a-z][a-z0-9_]*")
        if target is None:
            raise PlanError(
                f"'{self.name}' links to nothing",
                fix=f"write the plural of a resource: '{arrow} posts'",
                word=self.name,
            )
        found = self.modifiers("link")
        if "default" in found or "indexed" in found:
            raise PlanError(
                f"'{self.name}' is a link: it is always indexed and has no default",
                fix="use only 'optional' and 'unique'",
                word=self.name,
            )
        kind = "many_to_one" if arrow == "->" else "many_to_many"
        return Relation(name=self.name, target=target, kind=kind, **found)

    def states(self) -> States:
        inner = self.inside("[]")
        if not inner or self.rest:
            raise PlanError(
                f"'{self.name}' is no list of states{': ' + self.rest if self.rest else ''}",
                fix="write state[draft -> published, published -> archived]",
                word=self.rest or self.name,
            )
        return _states(self.name, inner)


def _bounds(name: str, kind: str, inner: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in (p.strip() for p in inner.split(",")):
        found = _RANGE.fullmatch(part)
        if found is not None and kind in {*_LENGTHS, "int", "float", "decimal"}:
            values |= {"minimum": _number(found[1]), "maximum": _number(found[2])}
        elif kind in _LENGTHS and part.isdecimal() and not values:
            values["maximum"] = int(part)
        elif kind == "decimal" and part.isdecimal() and "scale" not in values:
            values["scale" if "precision" in values else "precision"] = int(part)
        else:
            raise PlanError(
                f"'{name}' has '{kind}({inner})', which is no bound of {kind}",
                fix=_BOUNDS.get(kind, f"write {kind} without brackets"),
                word=part,
            )
    if "precision" in values:
        values.setdefault("scale", 0)
    return values


_BOUNDS: Final = {
    "str": "write str(64) or str(3..64)",
    "text": "write text(10..) or text(10..5000)",
    "email": "write email or email(100)",
    "url": "write url or url(500)",
    "int": "write int(0..100) or int(0..)",
    "float": "write float(0..1)",
    "decimal": "write decimal(12,2) or decimal(12,2,0..)",
}


def _number(text: str | None) -> Number | None:
    if text is None:
        return None
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else float(text)


def _typed(kind: str, text: str) -> Default:
    if kind == "bool" and text.lower() in {"true", "false", "yes", "no"}:
        return text.lower() in {"true", "yes"}
    if kind in {"int", "float"} and re.fullmatch(_NUMBER, text):
        number = _number(text)
        return float(text) if kind == "float" or number is None else number
    return text


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]


def _states(name: str, inner: str) -> States:
    chains, *tails = (part.strip() for part in inner.split(";"))
    values: dict[str, None] = {}
    transitions: list[Transition] = []
    for chain in chains.split(","):
        path, _, by = (p.strip() for p in re.sub(r"\s+", " ", chain).partition(" by "))
        steps = [[_state(s) for s in step.split("|")] for step in path.split("->")]
        values |= dict.fromkeys(s for step in steps for s in step)
        for befores, afters in pairwise(steps):
            transitions += [
                Transition(before=b, after=a, by=by or None) for b in befores for a in afters
            ]
    visible: list[str] = []
    for tail in tails:
        word, _, rest = tail.partition(" ")
        if word != "visible":
            raise PlanError(
                f"'{name}' has '{tail}' behind its states", fix="write '; visible published'"
            )
        visible += [_state(s) for s in rest.split(",")]
    return States(
        field=name, values=tuple(values), transitions=tuple(transitions), visible=tuple(visible)
    )


def _state(text: str) -> str:
    return text.strip().lower().replace(" ", "_").replace("-", "_")


def _state_text(states: States) -> str:
    groups: dict[tuple[str, str | None], list[str]] = {}
    for step in states.transitions:
        groups.setdefault((step.before, step.by), []).append(step.after)
    chains = [
        f"{before} -> {'|'.join(afters)}{f' by {by}' if by else ''}"
        for (before, by), afters in groups.items()
    ]
    text = ", ".join(chains)
    tail = f"; visible {', '.join(states.visible)}" if states.visible else ""
    # the order of the states is theirs, the first one being the first of a new row
    if not chains or _states(states.field, text).values != states.values:
        text = ", ".join((*states.values, *chains))
    return f"state[{text}{tail}]"


def _type_text(field: Field) -> str:
    kind = field.type
    low, high = field.minimum, field.maximum
    if kind == "enum":
        return f"enum[{', '.join(field.choices)}]"
    if kind in _LENGTHS:
        return f"{kind}{_length_text(field)}"
    if kind == "int" and (low, high) == INT64:
        return "bigint"
    if kind == "int":
        low = None if low == INT32[0] else low
        high = None if high == INT32[1] else high
    bounds = "" if low is None and high is None else f"{_text(low)}..{_text(high)}"
    if kind == "decimal":
        digits = f"{field.precision},{field.scale}"
        return f"decimal({digits}{', ' + bounds if bounds else ''})"
    return f"{kind}({bounds})" if bounds else kind


def _length_text(field: Field) -> str:
    usual = Field(name=field.name, type=field.type)
    low, high = field.minimum, field.maximum
    if field.type == "str":
        return f"({high})" if low == usual.minimum else f"({low}..{high})"
    if (low, high) == (usual.minimum, usual.maximum):
        return ""
    left = "" if low == usual.minimum else low
    right = "" if high == usual.maximum else high
    return f"({left}..{right})"


def _text(bound: Number | None) -> str:
    return "" if bound is None else repr(bound).replace("e+", "e")


def _default_text(value: Default) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value).replace("e+", "e")
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _no_type(name: str, word: str) -> PlanError:
    near = difflib.get_close_matches(word.lower(), TYPE_WORDS, n=1)
    meant = f"did you mean '{near[0]}'? " if near else ""
    return PlanError(
        f"'{name}' has the type '{word}', which there is not",
        fix=f"{meant}types are {', '.join(FIELD_TYPES)}, state, '->' and '<->'",
        word=word,
    )


def _no_modifier(name: str, word: str) -> PlanError:
    near = difflib.get_close_matches(word.lower(), _MODIFIERS, n=1)
    meant = f"did you mean '{near[0]}'? " if near else ""
    return PlanError(
        f"'{name}' has the word '{word}', which means nothing here",
        fix=f"{meant}behind the type come unique, optional, indexed and '= default'",
        word=word,
    )
