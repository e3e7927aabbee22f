"""One valid request, changed in one place at a time: does one of the changes break the server?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from newel_tools.prove.callers import Caller
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.service import Exchange

__all__ = ["broken_by"]

_SHOWN: Final = 4  # further values that a finding names
Change = tuple[Mapping[str, Any], str]


def broken_by(
    probe: Probe,
    lab: Lab,
    operation: Operation,
    changes: Iterable[Change],
    *,
    paths: Iterable[Change] = (),
    queries: Iterable[Change] = (),
) -> Result:
    """Send every change as the first caller who is let in; the result names what ended in a 5xx.

    A change is what replaces fields of the body (parts of the path, of the query) and its name.
    """
    caller = lab.allowed(operation)
    if caller is None:
        return probe.skipped(operation.label, "no caller was let in with a valid request")
    wanted = [("changes", *change) for change in changes]
    wanted += [("path_changes", *change) for change in paths]
    wanted += [("query", *change) for change in queries]
    broken: list[tuple[str, Exchange]] = []
    for kind, change, said in wanted:
        exchange = _sent(lab, operation, caller, kind, change)
        if exchange is not None and exchange.answer.is_fault:
            broken.append((said, exchange))
    if not broken:
        return probe.kept(operation.label)
    said, exchange = broken[0]
    status = exchange.answer.status or "no answer"
    more = [one for one, _ in broken[1:]]
    details = [f"so does {one}" for one in more[:_SHOWN]]
    details += [f"and {len(more) - _SHOWN} more"] if len(more) > _SHOWN else []
    return probe.broke(operation.label, f"{said} ends in {status}", exchange, details=details)


def _sent(
    lab: Lab, operation: Operation, caller: Caller, kind: str, change: Mapping[str, Any]
) -> Exchange | None:
    target = lab.target(operation, caller) if operation.method == "DELETE" else None
    parts: dict[str, Any] = {kind: change}
    request = lab.request(operation, caller, target, **parts)
    return None if request is None else lab.send(request, caller)
