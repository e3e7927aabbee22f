"""Mending what a rule can mend for certain: the source is changed by libcst, comments and all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import libcst
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import AddImportsVisitor
from libcst.metadata import MetadataWrapper, PositionProvider

from newel_tools.check.finding import Finding
from newel_tools.check.rule import Mend, Rule

__all__ = ["LineTransformer", "mend"]


class LineTransformer(libcst.CSTTransformer):
    """Changes nodes that begin on certain lines; a rule's own transformer asks `is_marked`.

    ``mended`` are the lines of those that it changed.
    """

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, lines: frozenset[int]) -> None:
        super().__init__()
        self._lines = lines
        self.imports: set[tuple[str, str | None]] = set()
        self.mended: set[int] = set()

    def needs(self, module: str, name: str | None = None) -> None:
        """Have ``import module`` or ``from module import name`` added, after all rules."""
        self.imports.add((module, name))

    def is_marked(self, node: libcst.CSTNode) -> bool:
        """Tell whether a node begins on one of the lines."""
        return self.first_line(node) in self._lines

    def note(self, node: libcst.CSTNode) -> None:
        """Remember that a node was mended."""
        self.mended.add(self.first_line(node))

    def first_line(self, node: libcst.CSTNode) -> int:
        """Return the line that a node begins on."""
        found: Any = self.get_metadata(PositionProvider, node)
        return found.start.line


def mend(root: Path, findings: Iterable[Finding], rules: dict[str, Rule]) -> dict[str, int]:
    """Mend the files of findings whose rules can; return how many findings each file had mended.

    A file is written only if it changed and can still be parsed.
    """
    mended: dict[str, int] = {}
    by_file: dict[str, list[Finding]] = {}
    for finding in findings:
        rule = rules.get(finding.rule)
        if finding.file is not None and rule is not None and rule.mend is not None:
            by_file.setdefault(finding.file, []).append(finding)
    for file, found in by_file.items():
        path = root / file
        changed, number = _mended(path.read_bytes(), found, rules)
        if number:
            path.write_bytes(changed)
            mended[file] = number
    return mended


def _mended(data: bytes, findings: Iterable[Finding], rules: dict[str, Rule]) -> tuple[bytes, int]:
    """Return the new text, and how much of it was mended.

    A rule must keep the number of lines, or the next one looks in the wrong place: imports are
    added at the end, therefore.
    """
    module = libcst.parse_module(data)
    by_rule: dict[str, set[int]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, set()).add(finding.line)
    context = CodemodContext()
    number = 0
    for name, lines in by_rule.items():
        change: Mend | None = rules[name].mend
        if change is not None:
            transformer = change(frozenset(lines))
            module = MetadataWrapper(module).visit(transformer)
            number += len(transformer.mended)
            for origin, imported in transformer.imports:
                AddImportsVisitor.add_needed_import(context, origin, imported)
    return AddImportsVisitor(context).transform_module(module).bytes, number
