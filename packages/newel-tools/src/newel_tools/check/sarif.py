"""A report for machines of others: SARIF 2.1.0, and GitHub's workflow commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from newel_tools import __version__
from newel_tools.check.causes import Cause, causes
from newel_tools.check.check import Report
from newel_tools.check.finding import Finding, Severity

__all__ = ["github_lines", "sarif"]

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final[dict[Severity, Literal["error", "warning", "note"]]] = {
    "block": "error",
    "change": "warning",
    "note": "note",
}
_COMMANDS: Final[dict[Severity, str]] = {"block": "error", "change": "warning", "note": "notice"}


def sarif(report: Report) -> dict[str, Any]:
    """Return the report as one SARIF run; what the baseline accepts is marked as suppressed.

    What could not be looked at is told as notifications of the run.
    """
    findings = [*report.findings, *report.known]
    first = {finding.rule: finding for finding in reversed(findings)}
    results = [_result(cause, suppressed=False) for cause in report.causes]
    results += [_result(cause, suppressed=True) for cause in causes(report.known)]
    driver = {
        "name": "newel check",
        "version": __version__,
        "rules": [_rule(first[name]) for name in sorted(first)],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(report)],
        "results": results,
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _invocation(report: Report) -> dict[str, Any]:
    level = _LEVELS[_gravity(report)]
    return {
        "executionSuccessful": not report.facts.failures,
        "toolExecutionNotifications": [
            {"level": level, "message": {"text": note}} for note in report.notes
        ],
    }


def _gravity(report: Report) -> Severity:
    """Return how grave the notes are: without an import, or all facts, nothing is approved."""
    return "change" if report.facts.failures else "note"


def _rule(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.rule,
        "shortDescription": {"text": finding.why},
        "help": {"text": finding.fix},
        "defaultConfiguration": {"level": _LEVELS[finding.severity]},
    }


def _result(cause: Cause, *, suppressed: bool) -> dict[str, Any]:
    finding = cause.finding
    found: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(cause)},
        "partialFingerprints": {"newel/v1": cause.fingerprint},
    }
    if finding.file is not None:
        found["locations"] = [_location(finding)]
    if cause.others:
        found["relatedLocations"] = [
            {**_location(other), "message": {"text": cause.said_of(other)}}
            for other in cause.others
        ]
    if suppressed:
        found["suppressions"] = [{"kind": "external", "justification": "in the baseline"}]
    return found


def _location(finding: Finding) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": finding.file}}
    if finding.line:
        place["region"] = {"startLine": finding.line}
    return {"physicalLocation": place}


def _message(cause: Cause) -> str:
    finding = cause.finding
    where = f"{finding.route}: " if finding.route else ""
    return f"{where}{cause.what}. {finding.why} Fix: {finding.fix}"


def github_lines(report: Report) -> Iterator[str]:
    """Yield a workflow command for each cause, so that a pull request shows it at its first line.

    Notes follow: a review that could not look must not look like one that found nothing.
    """
    for cause in report.causes:
        finding = cause.finding
        properties = {"title": f"{finding.rule} ({finding.certainty})"}
        if finding.file is not None:
            properties = {"file": finding.file, "line": str(max(finding.line, 1))} | properties
        said = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
        text = _data(_message(cause) + _elsewhere(cause))
        yield f"::{_COMMANDS[finding.severity]} {said}::{text}"
    for note in report.notes:
        yield f"::{_COMMANDS[_gravity(report)]} title=newel check::{_data(note)}"


def _elsewhere(cause: Cause) -> str:
    places = ", ".join(f"{other.file}:{other.line}" for other in cause.others)
    return f" Also at {places}" if places else ""


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
