"""GIT001: whose habit it is to name issues, who may be without one, and that it is one finding."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from newel_tools.check.check import review_facts
from newel_tools.check.finding import Finding
from newel_tools.check.rules.git001 import RULE
from newel_tools.facts.facts import Facts
from newel_tools.facts.project import find_project
from newel_tools.facts.source import read_source

APP = "from fastapi import FastAPI\n\napp = FastAPI()\n"
GUIDE = "# Contributing\n\nBe kind.\n\nEvery commit names its issue.\n"
NAMED = [f"Change number {n} (#{n})" for n in range(60, 0, -1)]
Found = Callable[..., tuple[Finding, ...]]


@pytest.fixture
def found(tmp_path: Path, written_history: Callable[..., None]) -> Found:
    """Return a function that writes a repository with commits, newest first, and reviews it."""

    def review(
        messages: Sequence[str], *, guide: str = "", name: str = "CONTRIBUTING.md", author: str = ""
    ) -> tuple[Finding, ...]:
        (tmp_path / "main.py").write_text(APP)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(guide)
        subprocess.run(["git", "init", "-q", "-b", "main"], cwd=tmp_path, check=True)
        written_history(tmp_path, messages, author=author or "Ann")
        return reviewed_at(tmp_path)

    return review


def reviewed_at(root: Path) -> tuple[Finding, ...]:
    project = find_project(root)
    source = read_source(project.root, project.files, project.import_paths)
    report = review_facts(project, Facts(), source, baseline={}, rules=[RULE])
    assert not [note for note in report.notes if "failed, please" in note]
    return report.findings


def test_a_lapse_of_those_who_name_them_is_one_note(found: Found) -> None:
    [finding] = found(["Mend it", "Mend more", *NAMED])

    assert (finding.severity, finding.file, finding.line) == ("note", None, 0)
    assert finding.what == "commits name no issue, and those before them do"
    assert [one.partition(" ")[2] for one in finding.also] == ["Mend it", "Mend more"]


def test_who_has_no_such_habit_is_left_alone(found: Found) -> None:
    other = [f"Change number {n}" for n in range(15)]

    assert found([*other, *NAMED[:45]]), "the control: five in fifty without one are a habit"
    assert found([*other[:13], *NAMED[:12], *other]) == ()
    assert found(other * 4) == ()
    assert found(NAMED) == ()


def test_a_short_history_shows_no_habit(found: Found) -> None:
    assert found(["Mend it", *NAMED[:31]])
    assert found(["Mend it", *NAMED[:29]]) == ()


def test_what_is_long_past_is_past(found: Found) -> None:
    assert found([*NAMED[:9], "Mend it", *NAMED])
    assert found([*NAMED[:10], "Mend it", *NAMED]) == ()


@pytest.mark.parametrize(
    "message",
    [
        "Mend it (#12)",
        "Mend it, GH-12",
        "SHOP-12: mend it",
        "Mend it: https://example.com/shop/issues/12",
        "Mend it for ticket 12",
        'Revert "Mend it"',
        "Release 1.2",
        "chore(release): 1.2.0",
        "🔖 v1.2.0",
        "Bump jinja2 from 3.1.3 to 3.1.4",
        "Update release notes",
        "fixup! Mend it",
    ],
)
def test_who_names_one_or_needs_none_is_no_finding(found: Found, message: str) -> None:
    assert found([message, "Begin"], guide=GUIDE) == ()


@pytest.mark.parametrize("message", ["Mend it", "Versions of it", "Mend PART2", "Reverting paths"])
def test_others_are_one(found: Found, message: str) -> None:
    [finding] = found([message, "Begin"], guide=GUIDE)

    assert (finding.file, finding.line) == ("CONTRIBUTING.md", 5)
    assert finding.what == "commits name no issue, and CONTRIBUTING.md asks for it"


def test_robots_have_no_issues(found: Found) -> None:
    assert found(["Mend it", "Begin"], guide=GUIDE, author="mender[bot]") == ()


@pytest.mark.parametrize(
    ("sentence", "asks"),
    [
        ("Every commit names its issue.", True),
        ("Commit messages must\nreference an issue.", True),
        ("- [ ] Issue referenced in commits", True),
        ("Mention the ticket number in your commit message.", True),
        ("Plain words, one change a commit; the issue's number where there is one.", False),
        ("Every commit names its issue where there is one.", False),
        ("You may reference issues in your commits.", False),
        ("Reference issues liberally in the commit message.", False),
        ("Commits should not mention issues.", False),
        ("Before you commit, search the issues. Every test names what it is for.", False),
        ("Every commit counts.\n\nName the issue.", False),
        ("Nobody but the kernel commits.", False),
    ],
)
def test_a_guide_asks_without_reserve(found: Found, sentence: str, asks: bool) -> None:
    assert bool(found(["Mend it", "Begin"], guide=f"# Guide\n\n{sentence}\n")) is asks


@pytest.mark.parametrize(
    "name", ["AGENTS.md", ".github/pull_request_template.md", "docs/contributing.rst"]
)
def test_guides_have_several_names(found: Found, name: str) -> None:
    [finding] = found(["Mend it", "Begin"], guide=GUIDE, name=name)

    assert (finding.file, finding.line) == (name, 5)


def test_the_guide_of_the_repository_counts_for_a_folder_of_it(
    found: Found, tmp_path: Path
) -> None:
    found(["Mend it", "Begin"], guide=GUIDE)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/main.py").write_text(APP)
    assert reviewed_at(tmp_path / "new") == (), "no commit has touched it"
    subprocess.run(["git", "add", "new"], cwd=tmp_path, check=True)
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    subprocess.run(["git", *who, "commit", "-qm", "Third"], cwd=tmp_path, check=True)

    [finding] = reviewed_at(tmp_path / "new")
    assert (finding.file, finding.line) == (None, 0)
    assert "CONTRIBUTING.md asks" in finding.what


def test_a_clone_without_history_says_nothing(found: Found, tmp_path: Path) -> None:
    assert found(["Mend it", *NAMED], guide=GUIDE)
    clone = tmp_path / "clone"
    words = ["git", "clone", "-q", "--depth", "1", "--no-checkout", tmp_path.as_uri(), str(clone)]
    subprocess.run(words, check=True)
    (clone / "main.py").write_text(APP)
    (clone / "CONTRIBUTING.md").write_text(GUIDE)

    assert reviewed_at(clone) == ()
