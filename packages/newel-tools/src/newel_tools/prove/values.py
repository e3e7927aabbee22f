"""Valid values, made from JSON schemas: what a client that means well would send."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from newel_tools.prove.documents import object_of
from newel_tools.prove.operations import Schemas
from newel_tools.prove.patterns import matching

__all__ = ["PASSWORD", "Maker", "Wish"]

# newel: allow SEC001 - of accounts that live for seconds, on a throw-away database
PASSWORD: Final = "Vq7!winding-Stair-Post"  # noqa: S105 - of accounts that live for seconds
Wish = Callable[[str, Mapping[str, Any]], Any]
"""Asked for a field's value before one is made, by its name and schema; ``None``: make one."""

_DEPTH: Final = 6
_TEXTS: Final[tuple[tuple[str, str], ...]] = (
    (r"e?mail", "prove{n}@example.com"),
    (r"pass(word|phrase|wd)|^pwd$|secret$", PASSWORD),
    (r"user_?name|login|nick|handle", "prove{n}"),
    (r"phone|mobile|^tel$", "+3120{n:07d}"),
    (r"ur[li]$|website|link$|href|avatar|image$|photo$|homepage", "https://example.com/{n}"),
    (r"slug", "prove-{n}"),
    (r"colou?r", "#336699"),
    (r"country(_code)?$", "NL"),
    (r"currency", "EUR"),
    (r"(^|_)lang(uage)?(_code)?$|locale", "en"),
    (r"time_?zone|^tz$", "Europe/Amsterdam"),
    (r"(^|_)ip(_address)?$", "192.0.2.1"),
    (r"(^|_)mac(_address)?$", "02:00:00:00:00:01"),
    (r"version$", "1.0.{n}"),
    (r"cron|schedule$", "0 4 * * *"),
    (r"(^|_)date$|birthday|_on$", "2031-05-17"),
    (r"datetime|timestamp|_at$", "2031-05-17T10:00:00Z"),
    (r"(^|_)time$", "10:00:00"),
    (r"post_?code|zip", "1012 AB"),
    (r"iban", "NL91ABNA0417164300"),
    (r"uuid|guid", "{uuid}"),
    (r"price|amount|cost|balance", "12.50"),
    (r"first_?name|last_?name|surname|full_?name", "Prove Name"),
    (r"gender|sex$", "female"),
)
_FORMATS: Final[Mapping[str, str]] = {
    "email": "prove{n}@example.com",
    "idn-email": "prove{n}@example.com",
    "uuid": "{uuid}",
    "uuid4": "{uuid}",
    "date": "2031-05-17",
    "date-time": "2031-05-17T10:00:00Z",
    "time": "10:00:00",
    "duration": "PT1H",
    "uri": "https://example.com/{n}",
    "url": "https://example.com/{n}",
    "uri-reference": "/example/{n}",
    "hostname": "host{n}.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "ipvanyaddress": "192.0.2.1",
    "ipvanynetwork": "192.0.2.0/24",
    "password": PASSWORD,
    "phone": "+31201234567",
    "json-string": "{{}}",
    "color": "#336699",
    "byte": "cHJvdmU=",
}
_TIMID: Final = ("user", "member", "customer", "viewer", "reader", "guest", "basic", "student")


class Maker:
    """Makes values; every call gives others, so that unique columns stay content.

    ``tries`` counts, by field name, how often the application refused the value that was made: each
    try makes another kind of it (the example of the schema, a word, a number in a text).
    """

    def __init__(self, *, wish: Wish | None = None) -> None:
        self._serials = itertools.count(1)
        self._wish = wish
        self.tries: dict[str, int] = {}

    def wishing(self, wish: Wish) -> Maker:
        """Return a maker of the same series that asks ``wish`` first."""
        other = Maker(wish=wish)
        other._serials, other.tries = self._serials, self.tries
        return other

    def serial(self) -> int:
        """Return a number that was not used before."""
        return next(self._serials)

    def body(self, schemas: Schemas, schema: Any, *, full: bool = False) -> Any:
        """Return a valid body; ``full``: with the optional fields, too."""
        return self.value(schemas, schema, full=full)

    def value(
        self, schemas: Schemas, schema: Any, *, name: str = "", full: bool = False, depth: int = 0
    ) -> Any:
        """Return a value of a schema; ``name`` is the field's, which often says what is meant."""
        parts = schemas.alternatives(schema)
        wished = self._wish(name, parts[0] if parts else {}) if self._wish and name else None
        if wished is not None:
            return wished
        if not parts:
            return None
        part = parts[self.tries.get(name, 0) % len(parts)]
        if "const" in part or part.get("enum"):
            return part["const"] if "const" in part else _timid(part["enum"])
        kind = part.get("type") or ("object" if part.get("properties") or not name else "string")
        if kind == "object":
            return self._object(schemas, part, full=full, depth=depth)
        if kind == "array":
            return self._array(schemas, part, name=name, full=full, depth=depth)
        return self._plain(part, str(kind), name=name)

    def _plain(self, schema: dict[str, Any], kind: str, *, name: str) -> bool | float | str:
        if kind == "boolean":
            return bool(schema.get("default", False))
        number = kind in ("integer", "number")
        return self._number(schema, name=name) if number else self._text(schema, name=name)

    def _object(
        self, schemas: Schemas, schema: dict[str, Any], *, full: bool, depth: int
    ) -> dict[str, Any]:
        required = {*schema.get("required", ())}
        made: dict[str, Any] = {}
        for name, inner in object_of(schema.get("properties")).items():
            if name in required or (full and depth < _DEPTH and not _is_privilege(name)):
                made[name] = self.value(schemas, inner, name=name, full=full, depth=depth + 1)
        return made

    def _array(
        self, schemas: Schemas, schema: dict[str, Any], *, name: str, full: bool, depth: int
    ) -> list[Any]:
        least = int(schema.get("minItems", 0))
        count = least or (1 if depth < _DEPTH and self.tries.get(name, 0) % 2 else 0)
        items = object_of(schema.get("items"))
        single = name.removesuffix("s")
        return [
            self.value(schemas, items, name=single, full=full, depth=depth + 1)
            for _ in range(count)
        ]

    def _number(self, schema: dict[str, Any], *, name: str) -> int | float:
        least, most = _bounds(schema)
        wanted: float = 1 + self.tries.get(name, 0)
        if re.search(r"year", name, re.IGNORECASE):
            wanted = 2024
        low = least if least is not None else min(1.0, most if most is not None else 1.0)
        value = max(low, wanted if most is None or wanted <= most else most)
        step = schema.get("multipleOf")
        if step:
            value = -(-value // step) * step
        return int(value) if schema.get("type") == "integer" else float(value)

    def _text(self, schema: dict[str, Any], *, name: str) -> str:
        serial = self.serial()
        tries = self.tries.get(name, 0)
        least = int(schema.get("minLength", 0))
        most = int(schema.get("maxLength", 10_000))
        choices = [self._likely(schema, name, serial), *_examples(schema)]
        choices += [f"prove{serial}", f"Prove {serial}", str(serial), "A1"]
        fitted = [_fitted(text, serial, least=least, most=most) for text in choices]
        if pattern := schema.get("pattern"):
            written = matching(str(pattern), serial=serial, min_length=least)
            fitted = [text for text in fitted if _matches(str(pattern), text)]
            fitted = [*fitted, *([written] if written is not None else [])] or choices
        return fitted[min(tries, len(fitted) - 1)]

    @staticmethod
    def _likely(schema: dict[str, Any], name: str, serial: int) -> str:
        values = {"n": serial, "uuid": str(uuid.uuid4())}
        form = _FORMATS.get(str(schema.get("format", "")).lower())
        if form is not None:
            return form.format(**values)
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        for pattern, text in _TEXTS:
            if re.search(pattern, snake):
                return text.format(**values)
        return f"prove {snake or 'text'} {serial}".replace("_", " ")


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # another dialect's
        return True


def _fitted(text: str, serial: int, *, least: int, most: int) -> str:
    if len(text) > most:
        tail = str(serial)[-most:] if most else ""
        text = text[: most - len(tail)] + tail
    return text + "x" * (least - len(text))


def _bounds(schema: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the least and the greatest number that a schema allows."""
    step = 1 if schema.get("type") == "integer" else 0.01
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if isinstance(above, int | float) and not isinstance(above, bool):
        least = above + step
    if isinstance(below, int | float) and not isinstance(below, bool):
        most = below - step
    return least, most


def _examples(schema: Mapping[str, Any]) -> list[str]:
    found = [schema.get("example"), *(schema.get("examples") or ()), schema.get("default")]
    return [value for value in found if isinstance(value, str) and value]


def _timid(values: list[Any]) -> Any:
    """Choose from an enumeration; a role that gives no power, where there is one."""
    known = {str(value).lower(): value for value in values if value is not None}
    return next((known[word] for word in _TIMID if word in known), values[0])


def _is_privilege(name: str) -> bool:
    return re.search(r"^(is_)?(admin|super_?user|staff)|^roles?$|^id$|^scopes?$", name) is not None
