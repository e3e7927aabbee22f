"""GIT001: commits that name no issue, where the others do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.git import Commit, recent_commits
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.files import read_text
from newel_tools.facts.project import Project

__all__ = ["RULE"]

_COMMITS: Final = 120
_LATEST: Final = 10  # what is older can no longer be told otherwise
_BEFORE: Final = 20  # commits that show a habit, at least
_HABIT: Final = 0.8
_ISSUE: Final = re.compile(
    r"#\d+|\b(?:GH|[A-Z][A-Z0-9_]+)-\d+|/(?:issues|pull|merge_requests|work_items)/\d+"
    r"|\b(?i:issue|ticket|bug)s? +\d+"
)
_ROBOT: Final = re.compile(r"\bbot\b|dependabot|renovate|github.actions", re.IGNORECASE)
_KIND: Final = r"^\W*(?:[a-z]+(?:\([^)]*\))?!?: *)?"  # an emoji, `chore(deps): `
_ROUTINE: Final = re.compile(
    rf"{_KIND}(?:revert|merge|fixup!|squash!|amend!|releas(?:e|ing)|bump|version|v?\d+\.\d+"
    r"|prepare (?:for )?(?:the )?(?:next )?(?:release|version)"
    r"|update (?:the )?(?:release notes|changelog))(?!\w)",
    re.IGNORECASE,
)

_GUIDE: Final = re.compile(
    r"^(?:contributing|agents|pull_request_template)\.(?:md|rst|txt)$", re.IGNORECASE
)
_FOLDERS: Final = ("", ".github", "docs")
_CHARACTERS: Final = 100_000
_SENTENCE: Final = re.compile(
    r"(?:[^.\n]|\.(?=\S)|\n(?!\s*\n|\s*[-*+#]|\s*\d+\.))+"  # a paragraph or an item ends one too
)
_SENTENCE_CHARACTERS: Final = 400
_NAME: Final = (
    r"(?:names?|references?|mentions?|includes?|contains?|cites?|carr(?:y|ies)|links?|starts? with)"
)
_TICKET: Final = r"(?:issue|ticket)s?\b"
_ASKS: Final = re.compile(
    rf"\b(?:each|every|all)\b.{{0,30}}\bcommits?\b.{{0,40}}\b{_NAME}\b.{{0,40}}\b{_TICKET}"
    rf"|\bcommits?\b.{{0,20}}\b(?:must|should|ha(?:s|ve) to)\b.{{0,20}}\b{_NAME}\b.{{0,40}}\b"
    rf"{_TICKET}"
    rf"|\b{_TICKET}.{{0,20}}\b(?:referenced|named|mentioned|cited|linked) in\b.{{0,25}}\bcommit"
    rf"|\b{_NAME}\b.{{0,30}}\b{_TICKET}.{{0,25}}\b(?:in|to) (?:each|every|all|your|the) commit",
    re.IGNORECASE,
)
_LEAVES: Final = re.compile(
    r"\b(?:if|where|when|whenever|unless|may|might|can|could|not|never|optional|optionally|possible"
    r"|applicable|relevant|appropriate|liberally|try|encourage[ds]?|prefer(?:red|ably)?)\b|n't\b",
    re.IGNORECASE,
)


def find(review: Review) -> Iterator[Finding]:
    """Find the latest commits without an issue, if the guide or the earlier ones ask for it."""
    written = [one for one in recent_commits(review.project.root, count=_COMMITS) if _counts(one)]
    bare = [one for one in written[:_LATEST] if not _ISSUE.search(one.message)]
    if not bare:
        return
    listed = [f"{one.id} {one.subject}" for one in bare]
    for name, file, line in _asking(review.project):
        what = f"commits name no issue, and {name} asks for it"
        yield RULE.found(what, file=file, line=line, also=listed)
        return
    if _is_habit(written[_LATEST:]):
        yield RULE.found("commits name no issue, and those before them do", also=listed)


def _counts(commit: Commit) -> bool:
    """Tell whether somebody wrote it for a reason that an issue could hold."""
    routine = _ROBOT.search(commit.author) or _ROUTINE.search(commit.subject)
    return bool(commit.parents) and routine is None


def _is_habit(commits: Sequence[Commit]) -> bool:
    named = sum(_ISSUE.search(one.message) is not None for one in commits)
    return len(commits) >= _BEFORE and named >= _HABIT * len(commits)


def _asking(project: Project) -> Iterator[tuple[str, str | None, int]]:
    """Yield where a guide asks for an issue in every commit: its name, its file, the line."""
    for path in _guides(project):
        text = (read_text(path) or "")[:_CHARACTERS]
        file = project.relative(path) if path.is_relative_to(project.root) else None
        for found in _SENTENCE.finditer(text):
            words = " ".join(found[0].split())
            short = len(words) <= _SENTENCE_CHARACTERS
            if short and _ASKS.search(words) and not _LEAVES.search(words):
                start = found.end() - len(found[0].lstrip())
                yield path.name, file, text.count("\n", 0, start) + 1 if file else 0


def _guides(project: Project) -> Iterator[Path]:
    for root in dict.fromkeys([project.root, project.boundary]):
        for folder in (root / name for name in _FOLDERS):
            if folder.is_dir():
                yield from sorted(p for p in folder.iterdir() if _GUIDE.match(p.name))


_MAIN: Final = """
# file: main.py
from fastapi import FastAPI

app = FastAPI()
"""
RULE = Rule(
    id="GIT001",
    title="Commits name no issue",
    severity="note",
    how="difference",
    why="Who asks in a year why a line is as it is finds what was changed, and not what for.",
    fix="name it in the message of the next one (`Refuse empty names (#12)`); what was not pushed "
    "yet can be told otherwise by `git commit --amend` or `git rebase -i`",
    seed='003 "Issue referenced in commits", "Commit without issue reference"',
    expected="repositories without this habit: neither does a guide for contributors ask for it "
    "without reserve, nor do four in five of the earlier commits; merges, reverts, releases, "
    "robots' commits, the first one; what is older than ten commits; histories too short to tell.",
    bad=f"""
# file: CONTRIBUTING.md
# Contributing

Each commit names the issue that it is for, as in `Show what is left (#7)`. # finding
{_MAIN}
# file: git log
Sort what is left
Show what is left (#7)
Begin
""",
    good=f"""
# file: CONTRIBUTING.md
# Contributing

Each commit names the issue that it is for, as in `Show what is left (#7)`.
{_MAIN}
# file: git log
Revert "Sort what is left (SHOP-9)"
Release 1.2.0
Sort what is left (SHOP-9)
Show what is left (#7)
Begin
""",
    find=find,
)
