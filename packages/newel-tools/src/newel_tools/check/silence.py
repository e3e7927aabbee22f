"""What a team has decided to live with: comments in the code, and a baseline file."""

from __future__ import annotations

import io
import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from newel_tools.check.finding import Finding
from newel_tools.facts.project import ProjectError
from newel_tools.facts.source import Module, Source

__all__ = ["Allowance", "allowances", "apart", "read_baseline", "silenced", "write_baseline"]

_COMMENT: Final = re.compile(r"#\s*newel:\s*allow\s+([A-Z]+\d+)\s*(?:[-:]\s*(.*))?$")
_REASON_CHARACTERS: Final = 8
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Allowance:
    """A comment `# newel: allow RULE - reason`.

    It counts for its own line, for the line below if it stands alone, and for the whole function or
    class if it stands at its `def` or `class`, or at a decorator.
    """

    file: str
    line: int
    rule: str
    reason: str
    alone: bool

    @property
    def is_reasoned(self) -> bool:
        """Tell whether it says why."""
        return len(self.reason) >= _REASON_CHARACTERS


def allowances(source: Source) -> list[Allowance]:
    """Return every allowance in the project's source."""
    return [found for module in source.files.values() for found in _in_module(module)]


def _in_module(module: Module) -> Iterable[Allowance]:
    if "newel:" not in module.text:
        return
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(module.text).readline))
    except (tokenize.TokenError, SyntaxError):
        return
    for token in tokens:
        found = _COMMENT.search(token.string) if token.type == tokenize.COMMENT else None
        if found is not None:
            yield Allowance(
                file=module.file,
                line=token.start[0],
                rule=found[1],
                reason=(found[2] or "").strip(),
                alone=not token.line[: token.start[1]].strip(),
            )


def silenced(finding: Finding, comments: Iterable[Allowance], source: Source) -> bool:
    """Tell whether a comment with a reason allows this finding."""
    return any(
        allowance.rule == finding.rule
        and allowance.is_reasoned
        and allowance.file == finding.file
        and _covers(allowance, finding.line, source)
        for allowance in comments
    )


def _covers(allowance: Allowance, line: int, source: Source) -> bool:
    marked = allowance.line + 1 if allowance.alone else allowance.line
    if line in (allowance.line, marked):
        return True
    for function in source.functions.values():
        if function.file == allowance.file and _spans(function.node, marked, line):
            return True
    return any(
        cls.module.file == allowance.file and _spans(cls.node, marked, line)
        for cls in source.classes.values()
    )


def _spans(node: Any, marked: int, line: int) -> bool:
    """Tell whether ``marked`` lies in a definition's head and ``line`` in the definition."""
    first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    return first <= marked < node.body[0].lineno and first <= line <= (node.end_lineno or 0)


def write_baseline(path: Path, findings: Iterable[Finding]) -> None:
    """Write the findings of today, so that the next review shows only what is new."""
    counts: dict[str, dict[str, Any]] = {}
    for finding in sorted(findings, key=lambda found: found.order):
        entry = counts.setdefault(
            finding.fingerprint,
            {"rule": finding.rule, "file": finding.file, "what": finding.what, "count": 0},
        )
        entry["count"] += 1
    text = json.dumps({"format": _FORMAT, "findings": counts}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_baseline(path: Path) -> Mapping[str, int]:
    """Return how often each fingerprint was accepted. Raises ``ProjectError``."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        entries = cast("dict[str, dict[str, int]]", data["findings"])
        return {fingerprint: int(entry["count"]) for fingerprint, entry in entries.items()}
    except OSError as error:
        said = f"{path} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        said = f"{path} is no baseline"
    raise ProjectError(said, fix="write it with --write-baseline")


def apart(
    findings: Iterable[Finding], baseline: Mapping[str, int]
) -> tuple[list[Finding], list[Finding]]:
    """Split findings into new ones and those that the baseline accepts."""
    left = dict(baseline)
    new: list[Finding] = []
    known: list[Finding] = []
    for finding in findings:
        if left.get(finding.fingerprint, 0) > 0:
            left[finding.fingerprint] -= 1
            known.append(finding)
        else:
            new.append(finding)
    return new, known
