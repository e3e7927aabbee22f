"""A whole run: the application is started, every probe is made, and the results are collected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from newel_tools.check.finding import Finding, Verdict, verdict_of
from newel_tools.facts.project import Project
from newel_tools.prove.client import HostEnded
from newel_tools.prove.lab import Lab, open_lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.sandbox import sandbox
from newel_tools.prove.service import Service
from newel_tools.prove.settings import Settings

__all__ = ["Report", "prove_project", "try_probes"]

Progress = Callable[[str], None]
_ODD_REQUESTS: Final = "ERR007"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a run. ``routes`` are all operations, in the order of the API description.

    ``results`` are what each probe did to each route; ``notes`` are sentences for the reader.
    ``ways_in`` are the shell lines that registered and logged in a caller; ``is_locked_out``: there
    was none, and the application asks for one.
    """

    application: str
    routes: tuple[str, ...]
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()
    requests: int = 0
    seconds: float = 0.0
    callers: tuple[str, ...] = ()
    ways_in: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict[str, str])
    is_locked_out: bool = False

    @property
    def broken(self) -> tuple[Result, ...]:
        """The results with a finding, the gravest first; one for each cause."""
        return tuple(sorted(_merged(self.results), key=lambda result: _finding(result).order))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings, the gravest first."""
        return tuple(_finding(result) for result in self.broken)

    @property
    def verdict(self) -> Verdict:
        """The verdict over all findings; what let nobody in is not approved."""
        verdict = verdict_of(self.findings)
        return "REQUEST CHANGES" if verdict == "APPROVE" and self.is_locked_out else verdict

    def as_json(self) -> dict[str, Any]:
        """Return the report as machines read it."""
        return {
            "format": 1,
            "verdict": self.verdict,
            "application": self.application,
            "routes": list(self.routes),
            "callers": list(self.callers),
            "ways_in": list(self.ways_in),
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "findings": [
                {**_finding(result).as_json(), "evidence": result.evidence.as_json()}
                for result in self.broken
            ],
            "results": [
                {"probe": r.probe, "route": r.route, "state": r.state, "why": r.why}
                for r in self.results
            ],
            "notes": list(self.notes),
        }


def _finding(result: Result) -> Finding:
    if result.finding is None:
        raise ValueError("the result has no finding")
    return result.finding


def _merged(results: Iterable[Result]) -> list[Result]:
    """Return one result for each cause: what was said to be one, or a line of the project."""
    by_cause: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        if result.finding is not None:
            by_cause.setdefault(_cause(result, result.finding, by_cause), []).append(result)
    return [_joined(group) for group in by_cause.values()]


def _cause(
    result: Result, finding: Finding, known: Mapping[tuple[object, ...], list[Result]]
) -> tuple[object, ...]:
    if result.cause is not None:
        return (finding.rule, result.cause)
    if finding.file is None:
        return (finding.rule, finding.route, finding.what)
    place = (finding.file, finding.line)
    if finding.rule == _ODD_REQUESTS:
        # What odd requests break at a line, another probe may have broken there with a reason.
        same = (cause for cause in known if cause[1:] == place)
        return next(same, (finding.rule, *place))
    return (finding.rule, *place)


def _joined(group: list[Result]) -> Result:

    first = group[0]
    routes = dict.fromkeys(result.route for result in group[1:] if result.route != first.route)
    finding = replace(_finding(first), also=tuple(routes))
    return replace(first, finding=finding)


def prove_project(
    project: Project, settings: Settings, probes: Iterable[Probe], *, progress: Progress
) -> Report:
    """Start a project's application on a throw-away database and make the probes.

    Raises ``ProveError`` if it does not start.
    """
    started, wanted = time.monotonic(), list(probes)
    with sandbox(project, settings) as place:
        place.set_up(progress)
        progress("start the application")
        with place.started_host() as process:
            lab = open_lab(
                Service.of(process, process.started()["started"]),
                settings,
                secrets=place.secrets,
                differences=place.differences,
            )
            results = try_probes(lab, wanted, progress=progress)
        return Report(
            application=project.application.name,
            routes=tuple(op.label for op in lab.operations),
            results=tuple(results),
            notes=(*place.notes, *lab.missing, *lab.notes, *lab.failures),
            requests=lab.service.exchanges,
            seconds=time.monotonic() - started,
            callers=tuple(caller.name for caller in lab.callers),
            ways_in=lab.ways_in,
            titles={probe.id: probe.title for probe in wanted},
            is_locked_out=lab.is_locked_out,
        )


def try_probes(lab: Lab, probes: Iterable[Probe], *, progress: Progress) -> list[Result]:
    """Make every probe; one that the application's end interrupts says so, and ends the run."""
    results: list[Result] = []
    for probe in probes:
        progress(f"{probe.id} {probe.title}")
        try:
            results += list(probe.run(lab))
        except HostEnded as ended:
            results.append(probe.skipped("", str(ended)))
            lab.notes.append(f"{probe.id}: {ended}; the probes after it were not made")
            break
    return results
