"""One valid request, changed in one place at a time: does one of the changes break the server?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from newel_tools.prove.callers import Caller
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.service import Exchange

__all__ = ["Change", "broken_by"]

_SHOWN: Final = 4  # further values that a finding names


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What replaces fields of the body, parts of the path or of the query; ``said`` names it.

    Changes of one ``cause`` are one finding, whatever routes they break.
    """

    said: str
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    path: Mapping[str, Any] = field(default_factory=dict[str, Any])
    query: Mapping[str, Any] = field(default_factory=dict[str, Any])
    cause: str | None = None


def broken_by(
    probe: Probe, lab: Lab, operation: Operation, changes: Iterable[Change]
) -> Iterator[Result]:
    """Send every change as the first caller who is let in; yield what ended in a 5xx, by cause."""
    caller = lab.allowed(operation)
    if caller is None:
        yield probe.skipped(operation.label, "no caller was let in with a valid request")
        return
    broken: dict[str | None, list[tuple[str, Exchange]]] = {}
    for change in changes:
        exchange = _sent(lab, operation, caller, change)
        if exchange is not None and exchange.answer.is_fault:
            broken.setdefault(change.cause, []).append((change.said, exchange))
    if not broken:
        yield probe.kept(operation.label)
    for cause, found in broken.items():
        said, exchange = found[0]
        status = exchange.answer.status or "no answer"
        what = f"{cause or said} ends in {status}"
        more = [one for one, _ in (found if cause else found[1:])]
        details = [f"as {one}" if cause else f"so does {one}" for one in more[:_SHOWN]]
        details += [f"and {len(more) - _SHOWN} more"] if len(more) > _SHOWN else []
        yield probe.broke(operation.label, what, exchange, details=details, cause=cause)


def _sent(lab: Lab, operation: Operation, caller: Caller, change: Change) -> Exchange | None:
    target = lab.target(operation, caller) if operation.method == "DELETE" else None
    request = lab.request(
        operation,
        caller,
        target,
        changes=change.body,
        path_changes=change.path,
        query=change.query,
    )
    return None if request is None else lab.send(request, caller)
