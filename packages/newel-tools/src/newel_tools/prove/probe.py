"""A probe: what it does to an application, what has to withstand it, and what came of it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from newel_tools.check.finding import Finding, Severity
from newel_tools.prove.service import Exchange

if TYPE_CHECKING:
    from newel_tools.prove.lab import Lab

__all__ = ["Evidence", "Probe", "Result", "State", "load_probes"]

State = Literal["kept", "broke", "skipped"]
_ANSWER_CHARACTERS = 600
_LINE = re.compile(r"^(?P<file>.+?):(?P<line>\d+)(?: in .*)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How to see it again: ``curl`` are shell lines, ``answer`` what the last one answered.

    ``details`` are further facts: the statement that was repeated, the stack of a stall.
    """

    curl: tuple[str, ...] = ()
    answer: str = ""
    details: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as machines read it."""
        return {"curl": list(self.curl), "answer": self.answer, "details": list(self.details)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a probe did to one route: it was kept, broke, or could not be tried (``why``).

    Results of one ``cause`` are one finding, whatever line or route they are at.
    """

    probe: str
    route: str
    state: State
    why: str = ""
    finding: Finding | None = None
    cause: str | None = None
    evidence: Evidence = Evidence()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe, in a file of its own below `probes/`, named as its ``id`` in lower case.

    ``title`` is what the application promises. ``expected`` says what is left out on purpose.
    ``stage`` says when it runs: those that look at what the others saw run after them.
    ``bad`` and ``good`` are small applications: its tests and its documentation. ``run`` yields
    results made by `kept`, `broke` and `skipped`.
    """

    id: str
    title: str
    severity: Severity
    why: str
    fix: str
    seed: str
    expected: str
    stage: Literal["first", "after", "last"] = "first"
    bad: str = field(repr=False)
    good: str = field(repr=False)
    run: Callable[[Lab], Iterable[Result]] = field(repr=False)

    def kept(self, route: str) -> Result:
        """Return that a route withstood the probe."""
        return Result(probe=self.id, route=route, state="kept")

    def skipped(self, route: str, why: str) -> Result:
        """Return that the probe could not be tried on a route, and why."""
        return Result(probe=self.id, route=route, state="skipped", why=why)

    def broke(
        self,
        route: str,
        what: str,
        *exchanges: Exchange,
        where: str | None = None,
        severity: Severity | None = None,
        fix: str | None = None,
        details: Iterable[str] = (),
        commands: Iterable[str] = (),
        cause: str | None = None,
    ) -> Result:
        """Return that a route gave way; ``exchanges`` show it, the last one's answer is kept.

        ``where`` is the project's line, as `file:line in function`; ``commands`` are further shell
        lines that show it.
        """
        last = exchanges[-1].answer if exchanges else None
        place = _LINE.match(where or (last.where if last is not None else None) or "")
        finding = Finding(
            rule=self.id,
            severity=severity or self.severity,
            certainty="confirmed",
            what=what,
            why=self.why,
            fix=fix or self.fix,
            seed=self.seed,
            file=place["file"] if place else None,
            line=int(place["line"]) if place else 0,
            route=route,
        )
        answer = ""
        if last is not None:
            answer = f"{last.status or last.outcome} {last.text[:_ANSWER_CHARACTERS]}"
        evidence = Evidence(
            curl=(*(exchange.curl for exchange in exchanges), *commands),
            answer=answer,
            details=(*([last.raised] if last and last.raised else []), *details),
        )
        return Result(
            probe=self.id,
            route=route,
            state="broke",
            finding=finding,
            cause=cause,
            evidence=evidence,
        )


def _order(probe: Probe) -> tuple[int, str]:
    return (("first", "after", "last").index(probe.stage), probe.id)


def load_probes() -> dict[str, Probe]:
    """Return every probe of the folder `probes/`, by id, in the order in which they run."""
    package = importlib.import_module("newel_tools.prove.probes")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"newel_tools.prove.probes.{name}") for name in names]
    probes: list[Probe] = [module.PROBE for module in modules]
    return {probe.id: probe for probe in sorted(probes, key=_order)}
