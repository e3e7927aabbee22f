"""The page `docs/probes.md`, rendered from the probes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from newel_tools.prove.probe import Probe

__all__ = ["probes_page"]

_HEAD: Final = """# probes

What [`newel prove`](prove.md) does to an application, and what the application has to keep. Every
finding is *confirmed*: it names a request, and what was answered, or a command that shows it.
`newel prove --explain PROBE` prints a probe with an application that gives way and one that
withstands it. This page is rendered by `python scripts/probes.py`.
"""


def probes_page(probes: Iterable[Probe]) -> str:
    """Return the page: each probe with its reason, its fix and what it leaves out."""
    return "\n".join([_HEAD, *(line for probe in probes for line in _section(probe))])


def _section(probe: Probe) -> Iterator[str]:
    yield f"## {probe.id}"
    yield ""
    yield f"{probe.title} (**{probe.severity}**)"
    yield ""
    yield f"- Why: {probe.why}"
    yield f"- Fix: {probe.fix}"
    yield f"- Left out: {probe.expected}"
    yield f"- Asked for by: {probe.seed}"
    yield ""
