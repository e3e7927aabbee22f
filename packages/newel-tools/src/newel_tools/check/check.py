"""The review of a project: every rule over its facts, what was silenced, and the verdict."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from newel_tools.check.causes import Cause, causes
from newel_tools.check.finding import Finding, Verdict, verdict_of
from newel_tools.check.git import NoAnswer
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule, load_rules
from newel_tools.check.silence import Allowance, allowances, apart, silenced
from newel_tools.facts.application import is_aside
from newel_tools.facts.facts import Facts, Failure, load_facts
from newel_tools.facts.interpreter import interpreter_advice
from newel_tools.facts.project import Project
from newel_tools.facts.source import Function, Source, Unread, read_source
from newel_tools.facts.source_routes import source_routes, unseen_routes

__all__ = ["Report", "check_project", "review_facts"]

_UNREASONED: Final = "ALLOW001"
_EMPTY: Final = "no route"
_UNREAD: Final = 10  # files that could not be read and are named
_ALSO: Final = 20  # places of one cause that a finding lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a review found. ``known`` is what the baseline accepts, ``allowed`` what comments do.

    ``notes`` are sentences about what could not be looked at. ``unread`` files are not part of it,
    ``unseen`` routes neither: the source declares them, and the application lacks them.
    """

    project: Project
    source: Source = field(repr=False)
    facts: Facts = field(repr=False)
    findings: tuple[Finding, ...]
    known: tuple[Finding, ...] = ()
    allowed: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    unread: tuple[Unread, ...] = ()
    unseen: tuple[tuple[Function, str], ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The verdict over what is new; what could not be imported or described is not approved."""
        verdict = verdict_of(self.findings)
        unproved = verdict == "APPROVE" and bool(self.facts.failures)
        return "REQUEST CHANGES" if unproved else verdict

    @property
    def causes(self) -> list[Cause]:
        """The findings as they are shown: one for each cause."""
        return causes(self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report as machines read it."""
        return {
            "format": 1,
            "verdict": self.verdict,
            "application": self.project.application.name,
            "imported": self.facts.is_imported,
            "routes": len(self.facts.routes),
            "unseen_routes": [
                {"route": label, "file": function.file, "line": function.line}
                for function, label in self.unseen
            ],
            "lines": self.source.lines,
            "seconds": round(self.seconds, 3),
            "findings": [cause.as_json() for cause in self.causes],
            "known": len(self.known),
            "allowed": len(self.allowed),
            "notes": list(self.notes),
        }


def check_project(
    project: Project,
    *,
    timeout_seconds: float = 30.0,
    baseline: Mapping[str, int] | None = None,
    rules: Iterable[Rule] | None = None,
) -> Report:
    """Import and read a project and return what the rules find; nothing of it is changed.

    What cannot be imported or read becomes a note, not an exception.
    """
    started = time.monotonic()
    facts = load_facts(project, timeout_seconds=timeout_seconds)
    source = read_source(project.root, project.files, project.import_paths)
    return review_facts(
        project,
        _routed(facts, source),
        source,
        baseline=baseline or {},
        rules=rules,
        started=started,
    )


def review_facts(
    project: Project,
    facts: Facts,
    source: Source,
    *,
    baseline: Mapping[str, int],
    rules: Iterable[Rule] | None = None,
    started: float | None = None,
) -> Report:
    """Return what the rules find in facts that have been loaded."""
    began = time.monotonic() if started is None else started
    review = Review(project, facts, source)
    chosen = list(load_rules().values() if rules is None else rules)
    found: list[Finding] = []
    faults: list[str] = []
    for rule in chosen:
        if facts.is_imported or rule.how != "import":
            faults += _tried(rule, review, found)
    comments = allowances(source)
    kept, allowed = _allowed(merged(found), comments, source)
    unseen = tuple(
        pair for pair in unseen_routes(source, facts.routes) if not is_aside(Path(pair[0].file))
    )
    new, known = apart([*kept, *_unreasoned(comments)], baseline)
    return Report(
        project=project,
        source=source,
        facts=facts,
        findings=tuple(sorted(new, key=lambda finding: finding.order)),
        known=tuple(known),
        allowed=tuple(allowed),
        notes=(*faults, *_notes(review, chosen), *_coverage(facts, unseen)),
        unread=source.unread,
        unseen=unseen,
        seconds=time.monotonic() - began,
    )


def _routed(facts: Facts, source: Source) -> Facts:
    """Return the facts with the source's routes, if the application has none of its own.

    One that includes its routers when it starts looks empty when it is imported: it is no more
    known than one that cannot be imported.
    """
    if any(route.kind in ("http", "websocket") for route in facts.routes):
        return facts
    routes = source_routes(source)
    if not facts.is_imported:
        return facts.model_copy(update={"routes": routes})
    own = [
        r for r in routes if r.endpoint and r.endpoint.file and not is_aside(Path(r.endpoint.file))
    ]
    if not own:
        return facts
    empty = Failure.model_validate(
        {
            "stage": "import",
            "class": _EMPTY,
            "message": f"the source declares {len(own)}, and none is there until the application "
            "starts, or they are of another one: include the routers where it is made, or name it "
            "with --app",
        }
    )
    failures = (*facts.failures, empty)
    return facts.model_copy(update={"routes": routes, "application": None, "failures": failures})


def _tried(rule: Rule, review: Review, found: list[Finding]) -> list[str]:
    """Add what a rule finds; return a sentence if it failed, so that the others still count."""
    try:
        found.extend(rule.find(review))
    except NoAnswer as error:
        return [f"{rule.id} did not look: {error}"]
    except Exception as error:  # noqa: BLE001 - a fault of ours must not cost the reader the review
        where = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{Path(where.filename).name}:{where.lineno}"
        return [f"{rule.id} failed, please report it: {type(error).__name__} at {at}: {error}"]
    return []


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return one finding for each cause: the same rule at the same place, with all its routes."""
    by_place: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        place = (finding.rule, finding.file, finding.line, finding.what)
        if finding.file is None:
            place = (finding.rule, finding.what)
        first = by_place.setdefault(place, finding)
        if first is not finding and finding.route and finding.route != first.route:
            also = dict.fromkeys([*first.also, finding.route])
            by_place[place] = replace(first, also=tuple(also)[:_ALSO])
    return list(by_place.values())


def _allowed(
    findings: Iterable[Finding], comments: list[Allowance], source: Source
) -> tuple[list[Finding], list[Finding]]:
    kept: list[Finding] = []
    allowed: list[Finding] = []
    for finding in findings:
        (allowed if silenced(finding, comments, source) else kept).append(finding)
    return kept, allowed


def _unreasoned(comments: Iterable[Allowance]) -> Iterable[Finding]:
    for comment in comments:
        if not comment.is_reasoned:
            yield Finding(
                rule=_UNREASONED,
                severity="note",
                certainty="proved",
                what=f"{comment.rule} is allowed without a reason, so it is not",
                why="The next reader cannot tell a decision from an oversight.",
                fix=f"write `# newel: allow {comment.rule} - why this is right here`",
                seed="Quality standards",
                file=comment.file,
                line=comment.line,
            )


def _notes(review: Review, rules: Iterable[Rule]) -> Iterable[str]:
    facts, source = review.facts, review.source
    for failure in facts.failures:
        yield str(failure)
    if not facts.is_imported:
        skipped = sum(rule.how == "import" for rule in rules)
        yield (
            f"not approved: without an import {skipped} rules that need the application did not "
            f"run; {_to_import(review)}"
        )
    elif not facts.entities:
        yield "no mapped tables were found: the rules about the database have nothing to go by"
    for unread in source.unread[:_UNREAD]:
        yield f"{unread.file}:{unread.line} could not be read: {unread.reason}"
    if len(source.unread) > _UNREAD:
        yield f"{len(source.unread) - _UNREAD} more files could not be read"
    if unparsed := sum(unread.line > 0 for unread in source.unread):
        own = ".".join(map(str, sys.version_info[:2]))
        yield (
            f"not reviewed: {unparsed} of the files cannot be read as Python {own}, which newel "
            "runs on; if "
            "the project is for a newer one, install newel-tools with that"
        )


def _coverage(facts: Facts, unseen: Sequence[tuple[Function, str]]) -> Iterable[str]:
    """Say how many routes were reviewed, and which that the source declares were not."""
    seen = sum(route.kind in ("http", "websocket") for route in facts.routes)
    named = [f"{label} ({function.file}:{function.line})" for function, label in unseen]
    more = f" and {len(named) - _UNREAD} more" if len(named) > _UNREAD else ""
    listed = ", ".join(named[:_UNREAD]) + more
    if not facts.is_imported:
        rest = f", and {len(named)} left out that no router includes: {listed}" if named else ""
        yield f"no route of the application was seen: {seen} were read in the source{rest}"
    elif named:
        yield (
            f"{seen} routes were reviewed, and {len(named)} that the source declares were not: a "
            "setting switches them off, no router includes them, or they are of another "
            f"application: {listed}"
        )


def _to_import(review: Review) -> str:
    """Say how the import is made to succeed: what is not installed is mended otherwise."""
    advice = (
        interpreter_advice(review.project, error=item.class_) for item in review.facts.failures
    )
    if any(item.class_ == _EMPTY for item in review.facts.failures):
        return "mend the failure above"
    return next(
        (line for line in advice if line is not None),
        "mend the failure above: a review imports without programs, network and files outside "
        "the project, with the values of .env.example; what needs more belongs in the lifespan",
    )
