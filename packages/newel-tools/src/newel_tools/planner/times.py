"""Times as people say them, as cron in UTC: ``nightly``, ``every 5 minutes``, ``mondays at 9``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

__all__ = ["Time", "explain", "find_time"]

_PERIODS: Final = {
    **dict.fromkeys(("minute", "minutely"), "* * * * *"),
    **dict.fromkeys(("hour", "hourly"), "0 * * * *"),
    **dict.fromkeys(("day", "daily", "night", "nightly"), "0 3 * * *"),
    "morning": "0 7 * * *",
    "evening": "0 19 * * *",
    "weekday": "0 3 * * 1-5",
    "weekend": "0 3 * * 6",
    **dict.fromkeys(("week", "weekly"), "0 3 * * 1"),
    **dict.fromkeys(("month", "monthly"), "0 3 1 * *"),
    **dict.fromkeys(("quarter", "quarterly"), "0 3 1 */3 *"),
    **dict.fromkeys(("year", "yearly", "annually", "annual"), "0 3 1 1 *"),
}
"""What is usual where no hour is said: at 3 at night, when nobody is in the way."""

_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_COUNTS: Final = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10, "twelve": 12}
_WHOLE: Final = {"minute": 60, "hour": 24}
"""A step that does not divide these would not be the same each time."""

_UNITS: Final = "minute|hour|day|night|morning|evening|weekday|weekend|week|month|quarter|year"
_NAMES: Final = "sun|mon|tue|wed|thu|fri|sat|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_FIELD: Final = rf"(?:[\d*/,#-]|l\b|{_NAMES})+(?!\w)"
_CLOCK: Final = r"(?:at|@)\s+(?:(\d{1,2})(?::(\d\d))?\s*(am|pm)?|(midnight|noon))(?:\s+utc)?\b"
_PERIOD: Final = (
    r"(hourly|nightly|daily|weekly|monthly|quarterly|yearly|annually|annual)\b"
    rf"|(?:(?:once\s+)?(?:every|each|per)|once\s+an?|on)\s+(?:(\d+|{'|'.join(_COUNTS)})\s+)?"
    rf"({_UNITS}|{'|'.join(_DAYS)})s?\b"
    r"|(twice)\s+(?:a|per)\s+day\b"
    r"|on\s+the\s+(first|1st)(?:\s+day)?\s+of\s+(?:every|each|the)\s+month\b"
)
_CRON: Final = re.compile(
    rf"\bcron\s*(?:expression|job|schedule)?\s*[:=]?\s*[\"'`(]*((?:{_FIELD}\s+){{4}}{_FIELD})[\"'`)]*"
)
_TIME: Final = re.compile(rf"(?<![\w-])(?:{_CLOCK}\s+)?(?:{_PERIOD})(?:\s+{_CLOCK})?")
_HOUR: Final = re.compile(rf"(?<![\w-]){_CLOCK}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """A time in a text: where it stands, and the five fields of cron that it means."""

    start: int
    end: int
    cron: str

    def refined_by(self, other: Time) -> bool:
        """Tell whether ``other`` says the same more exactly: ``weekly``, ``on mondays at 9``."""
        parts, exact = self.cron.split(), other.cron.split()
        is_usual = parts[:2] == _PERIODS["day"].split()[:2]
        same = all(a in {"*", b} for a, b in zip(parts[2:], exact[2:], strict=True))
        return self.cron == other.cron or (is_usual and same and _takes_hour(other.cron))


def find_time(text: str) -> Time | None:
    """Return the first time in ``text`` (lower case); ``None`` when cron has no word for it."""
    if found := _CRON.search(text):
        cron = " ".join(found[1].split())
        return _time(found, cron) if _is_cron(cron) else None
    if found := _TIME.search(text):
        cron = _period(found[5] or found[7], found[6], twice=found[8], first=found[9])
        clock = next(
            (found.group(*part) for part in (_BEFORE, _BEHIND) if any(found.group(*part))), None
        )
        if cron is None or (clock is not None and not _takes_hour(cron)):
            return None
        return _time(found, cron if clock is None else _at(cron, *clock))
    if found := _HOUR.search(text):
        return _time(found, _at(_PERIODS["day"], *found.groups()))
    return None


_BEFORE: Final = (1, 2, 3, 4)
_BEHIND: Final = (10, 11, 12, 13)


def explain(cron: str) -> str:
    """Return in words when that is: ``at 03:00 every day``."""
    said = CronSim(cron, datetime.now(UTC)).explain()
    return said[:1].lower() + said[1:]


def _time(found: re.Match[str], cron: str | None) -> Time | None:
    return None if cron is None else Time(start=found.start(), end=found.end(), cron=cron)


def _is_cron(text: str) -> bool:
    try:
        CronSim(text, datetime.now(UTC))
    except CronSimError:
        return False
    return True


def _period(
    unit: str | None, count: str | None, *, twice: str | None, first: str | None
) -> str | None:
    if twice:
        return "0 0,12 * * *"
    if first:
        return _PERIODS["month"]
    unit = unit or ""
    number = int(_COUNTS.get(count or "", count or 1))
    if unit in _DAYS:
        return f"0 3 * * {_DAYS.index(unit)}" if number == 1 else None
    if number == 1:
        return _PERIODS[unit]
    if unit not in _WHOLE or number < 1 or _WHOLE[unit] % number or number == _WHOLE[unit]:
        return None
    return f"*/{number} * * * *" if unit == "minute" else f"0 */{number} * * *"


def _takes_hour(cron: str) -> bool:
    return cron.split()[1].isdigit()


def _at(
    cron: str, hour: str | None, minute: str | None, half: str | None, named: str | None
) -> str | None:
    number = {"midnight": 0, "noon": 12}.get(named or "", int(hour or 0))
    if half is not None:
        if not 1 <= number <= 12:
            return None
        number = number % 12 + (12 if half == "pm" else 0)
    if number > 23 or int(minute or 0) > 59:
        return None
    return " ".join((str(int(minute or 0)), str(number), *cron.split()[2:]))
