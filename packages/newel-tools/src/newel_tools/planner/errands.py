"""Reads what is done in the background: ``nightly report job``, ``send a mail when ...``."""

from __future__ import annotations

import re
from typing import Final

from newel_tools.errors import PlanError
from newel_tools.plan.jobs import read_argument
from newel_tools.plan.names import job_conflict
from newel_tools.plan.nouns import singular
from newel_tools.plan.plan import Argument, Job
from newel_tools.planner.clauses import NAME, Clause, bare, clauses_at, name_of, take
from newel_tools.planner.draft import Draft, Errand
from newel_tools.planner.events import fact_words, place_fact
from newel_tools.planner.lexicon import WORK_NOUNS, WORK_VERBS
from newel_tools.planner.reading import Reading
from newel_tools.planner.sentence import Span
from newel_tools.planner.times import explain, find_time

__all__ = ["errand", "place"]

_MAILS: Final = r"e-?mails?|mails?|messages?|notifications?|reminders?|receipts?|alerts?|invoices?"
_PHRASE: Final = rf"{NAME}(?:\s+(?:{NAME}|a|all|an|by|each|every|for|from|in|of|the|their|to))*"
_LEAD: Final = (
    r"(?:(?:an?|the|that|which|it|also|should|must|will|to|run|have|has|needs?|there is)\s+)*"
)
_KIND: Final = r"(?:(?:background|scheduled|recurring|periodic|async|asynchronous|cron)\s+)*"
_JOB: Final = r"(?P<job>jobs?|tasks?|cron\s?jobs?)"
_FORMS: Final = tuple(
    re.compile(rf"{_LEAD}(?P<kind>{_KIND}){pattern}")
    for pattern in (
        # job that expires unpaid orders; task to resize photos; job called sync
        rf"{_JOB}\s+(?:that|which|to|for|called|named)\s+(?P<said>{_PHRASE})",
        rf"(?P<said>{_PHRASE})\s+{_JOB}(?:\s+(?:that|which|to)\s+(?P<does>{_PHRASE}))?",
        rf"{_JOB}\s*:?\s+(?P<said>{_PHRASE})",
    )
)
_BARE: Final = re.compile(rf"{_LEAD}{_KIND}(?P<said>{_PHRASE})")
_TRIGGER: Final = re.compile(
    r"(?P<what>.+?)\s+(?:when|whenever|after|once|on|upon|as soon as|every time|each time)\s+"
    r"(?P<fact>.+)"
)
_ACCOUNTS: Final = re.compile(
    r"(?:send(?:s|ing)?\s+)?(?:an?\s+|the\s+)?(?:welcome|verification|confirmation|password reset)"
    rf"\s+(?:{_MAILS})(?:\s+(?:on|after|when|upon|to)\s+(?P<fact>.+))?"
)


_BEHIND: Final = re.compile(r"\s+(?:in (?:the )?background|asynchronously)$")
_BEHIND_NOUN: Final = re.compile(r"(?:async(?:hronous)?|background)\s+(?!jobs?\b|tasks?\b)")


def errand(reading: Reading) -> bool:
    """``nightly report job``, ``expire orders every hour``, ``send a mail when one is paid``."""
    for clause in clauses_at(reading):
        if _of_accounts(reading, clause) or _of_features(reading, clause):
            return True
        if (found := _read(clause.text)) is not None:
            job, about, after = found
            span = take(reading, clause, len(clause.text))
            reading.draft.errands.append(Errand(job=job, about=about, after=after, span=span))
            return True
    return False


def place(draft: Draft) -> None:
    """Give facts and errands to the resources that they are about; what is about none is lost."""
    for fact in draft.facts:
        found = place_fact(draft, fact.words)
        if len(fact.words) == 1 and draft.knows(fact.words[0]):
            continue  # all that happens to it is published anyway
        if found is None:
            draft.ledger.lost(fact.span)
        elif found[0] == "users":
            draft.notes.append("accounts publish UserRegistered for who registers")
        else:
            _add_event(draft, *found, fact.span)
    for one in draft.errands:
        _place_errand(draft, one)


def _place_errand(draft: Draft, one: Errand) -> None:
    job, owner = one.job, _owner(draft, one.about)
    if one.after:
        found = place_fact(draft, one.after)
        if found is None:
            draft.ledger.lost(one.span)
            return
        owner, event = found
        job = job.model_copy(update={"event": event})
        if owner != "users":
            _add_event(draft, owner, event, one.span)
    named = owner is not None
    owner = owner or next(iter(draft.resources), "users")
    kept = draft.jobs_of_users if owner == "users" else draft.resources[owner].jobs
    everywhere = [draft.jobs_of_users, *(r.jobs for r in draft.resources.values())]
    if any(other.name == job.name for jobs in everywhere for other, _ in jobs):
        return  # said twice
    kept.append((job, one.span))
    if not named:
        draft.notes.append(f"{job.name} lies with {owner}, since nothing says whose it is")
    if job.cron is not None:
        draft.notes.append(f"{job.name} runs {explain(job.cron)}, in UTC: cron({job.cron})")
    draft.notes.append(f"what {job.name} does is yours to write")


def _add_event(draft: Draft, name: str, event: str, span: Span) -> None:
    events = draft.resources[name].events
    if all(event != other for other, _ in events):
        events.append((event, span))


def _owner(draft: Draft, about: tuple[str, ...]) -> str | None:
    for count in (2, 1):
        for start in range(len(about) - count + 1):
            noun = "_".join(about[start : start + count])
            if draft.knows(noun):
                return draft.name_of(noun)
    return "users" if {"user", "users", "account", "accounts"} & set(about) else None


def _of_accounts(reading: Reading, clause: Clause) -> bool:
    """Take ``a welcome mail on sign-up``: accounts send it."""
    found = _ACCOUNTS.fullmatch(clause.text)
    if found is None or (found["fact"] and not _is_newcomer(found["fact"])):
        return False
    take(reading, clause, len(clause.text))
    reading.draft.features = True
    reading.draft.notes.append("accounts mail a welcome to who registers, and links for passwords")
    return True


def _is_newcomer(text: str) -> bool:
    return fact_words(text) == ("user", "registered") or bool(
        re.fullmatch(r"(?:all\s+|every\s+|the\s+|new\s+)*(?:users?|members?|customers?)", text)
    )


def _of_features(reading: Reading, clause: Clause) -> bool:
    """Take ``background jobs``: every service can have them."""
    if clause.text not in {"background jobs", "background tasks", "job queue", "scheduled jobs"}:
        return False
    take(reading, clause, len(clause.text))
    reading.draft.features = True
    return True


def _read(text: str) -> tuple[Job, tuple[str, ...], tuple[str, ...]] | None:
    """Read a clause as the job, the words it is about, and the words of the fact it waits for."""
    after: tuple[str, ...] = ()
    if found := _TRIGGER.fullmatch(text):
        after = fact_words(found["fact"])
        text = found["what"] if after else text
    text, arguments = _arguments(text)
    if arguments is None or not text:
        return None
    behind = _BEHIND.search(text) or _BEHIND_NOUN.match(text)
    text = text if behind is None else text.replace(behind[0], " ").strip()
    time, adjective = None if after else find_time(text), ""
    if time is not None:
        said = text[time.start : time.end]
        lead = re.match(_LEAD, text)
        adjective = said if lead and lead.end() == time.start and " " not in said else ""
        text = " ".join((text[: time.start] + " " + text[time.end :]).strip(" :,").split())
        if (again := find_time(text)) is not None:
            if not time.refined_by(again):
                return None
            time, text = again, text[: again.start].strip()
    name = _job_name(text, sure=bool(time or after or behind), told=bool(arguments))
    if not name:
        return None
    about = tuple(name.split("_"))
    if adjective and len(about) == 1:
        name = f"{adjective}_{name}"
    if job_conflict(name) is not None:
        name += "_job"
    if after or (time is not None and arguments):
        arguments = ()
    job = Job(name=name, cron=None if time is None else time.cron, arguments=arguments)
    return job, about, after


def _arguments(text: str) -> tuple[str, tuple[Argument, ...] | None]:
    """Cut ``(photo_id uuid, width int)`` off the end; None instead of what is no arguments."""
    found = re.fullmatch(r"([^()]*)\(([^()]*)\)", text)
    if found is None:
        return text, ()
    try:
        told = tuple(read_argument(item) for item in found[2].split(",") if item.strip())
    except PlanError:
        return text, None
    return found[1].strip(), told


def _job_name(text: str, *, sure: bool, told: bool) -> str:
    """Return what a job is called that these words name; empty when they name none.

    ``sure``: it has a time or waits for something; ``told``: it has arguments. Without, ``tasks``
    and ``job postings`` are things to keep.
    """
    for number, form in enumerate(_FORMS):
        found = form.fullmatch(text)
        if found is None:
            continue
        certain = sure or bool(found["kind"].strip())
        if not certain and (found["job"] != "job" or (number == _NAMED_LAST and not told)):
            continue
        return name_of(_as_order(found["said"], always=number == 0))
    if sure and (found := _BARE.fullmatch(text)) and _is_work(found["said"]):
        return name_of(_as_order(found["said"], always=False))
    return ""


_NAMED_LAST: Final = len(_FORMS) - 1


def _as_order(said: str, *, always: bool) -> str:
    """Return ``expires orders`` as one says it to somebody: ``expire orders``."""
    first, space, rest = said.partition(" ")
    return bare(first) + space + rest if always or bare(first) in WORK_VERBS else said


def _is_work(said: str) -> bool:
    words = said.split()
    return bare(words[0]) in WORK_VERBS or any(singular(word) in WORK_NOUNS for word in words)
