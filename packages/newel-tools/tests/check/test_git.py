"""What is asked of git, and that a repository cannot have it run a program."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from newel_tools.check.check import Report, review_facts
from newel_tools.check.git import NoAnswer, recent_commits, tracked_files
from newel_tools.check.rule import load_rules
from newel_tools.facts.facts import Facts
from newel_tools.facts.project import find_project
from newel_tools.facts.source import read_source

APPLICATION = "from fastapi import FastAPI\n\napp = FastAPI()\n"
GIT = shutil.which("git") or "git"
SIGNED = """tree {tree}
author Ann <ann@example.com> 1700000000 +0000
committer Ann <ann@example.com> 1700000000 +0000
gpgsig -----BEGIN PGP SIGNATURE-----
 -----END PGP SIGNATURE-----

Signed
"""


def git(root: Path, *words: str, text: str = "") -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [GIT, *words], cwd=root, input=text, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(root: Path, message: str, *, file: str = "a.txt") -> None:
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text(message)
    git(root, "add", "--", file)
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    git(root, *who, "commit", "-qm", message)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return an empty repository."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    return root


@pytest.fixture
def program(tmp_path: Path) -> tuple[Path, Path]:
    """Return a program that a repository names, and the file that tells that it ran."""
    ran, path = tmp_path / "ran", tmp_path / "program"
    path.write_text(f"#!/bin/sh\ntouch {ran}\n")
    path.chmod(0o755)
    return path, ran


def subjects(root: Path) -> list[str]:
    return [found.subject for found in recent_commits(root, count=9)]


def test_commits_come_newest_first_without_merges(repository: Path) -> None:
    commit(repository, "First\n\nIts reason (#1)")
    git(repository, "checkout", "-q", "-b", "side")
    commit(repository, "Second: ä", file="b.txt")
    git(repository, "checkout", "-q", "main")
    commit(repository, "Third")
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    git(repository, *who, "merge", "-q", "--no-ff", "-m", "Fourth", "side")

    found = recent_commits(repository, count=9)
    first = found[-1]

    assert {one.subject for one in found} == {"First", "Second: ä", "Third"}
    assert (first.parents, first.author) == ((), "Ann <ann@example.com>")
    assert first.message == "First\n\nIts reason (#1)"
    assert [one.parents for one in found[:-1]] == [(git(repository, "rev-parse", first.id),)] * 2
    assert len(recent_commits(repository, count=2)) == 2


def test_only_commits_that_touch_the_folder_count(repository: Path) -> None:
    commit(repository, "The shop", file="shop/a.txt")
    commit(repository, "The desk", file="desk/a.txt")
    (repository / "new").mkdir()

    assert subjects(repository / "desk") == ["The desk"]
    assert subjects(repository / "new") == []


def test_without_a_repository_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SECRET_KEY=9f2c7e51b0aa4e6d8c13\n")

    assert tracked_files(tmp_path, ".env") == ()
    assert recent_commits(tmp_path, count=9) == ()


def test_without_git_there_is_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repository, "First", file=".env")
    assert tracked_files(repository, ".env") == (repository / ".env",)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert tracked_files(repository, ".env") == ()
    assert recent_commits(repository, count=9) == ()


@pytest.fixture
def silent(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with a secret and a habit, once git no longer answers."""
    commit(repository, "SECRET_KEY=9f2c7e51b0aa4e6d8c13", file=".env")
    hanging = tmp_path / "bin/git"
    hanging.parent.mkdir()
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{hanging.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("newel_tools.check.git._SECONDS", 0.2)
    return repository


def review(root: Path) -> Report:
    project = find_project(root)
    source = read_source(project.root, project.files, project.import_paths)
    rules = [load_rules()["SEC002"], load_rules()["GIT001"]]
    return review_facts(project, Facts(), source, baseline={}, rules=rules)


def test_git_that_does_not_answer_is_given_up(silent: Path) -> None:
    with pytest.raises(NoAnswer, match=r"git did not answer within 0\.2 s"):
        recent_commits(silent, count=9)


def test_a_review_says_that_git_did_not_answer(silent: Path) -> None:
    (silent / "main.py").write_text(APPLICATION)

    report = review(silent)

    assert report.findings == ()
    assert report.notes[:2] == (
        "SEC002 did not look: git did not answer within 0.2 s",
        "GIT001 did not look: git did not answer within 0.2 s",
    )
    assert report.as_json()["notes"][:2] == list(report.notes[:2])


def test_a_review_says_why_git_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "main.py").write_text(APPLICATION)
    commit(repository, "SECRET_KEY=9f2c7e51b0aa4e6d8c13", file=".env")
    answered = review(repository)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as in a container

    refused = review(repository)

    assert [found.rule for found in answered.findings] == ["SEC002"]
    assert not any("git" in note for note in answered.notes)
    assert refused.notes[0].startswith("SEC002 did not look: git did not answer: fatal: detected")


def test_a_repository_without_commits_is_no_silence(repository: Path) -> None:
    (repository / "main.py").write_text(APPLICATION)

    assert not any("git" in note for note in review(repository).notes)


def test_a_monitor_of_files_is_not_run(repository: Path, program: tuple[Path, Path]) -> None:
    path, ran = program
    (repository / "a.env").write_text("A=1\n")
    git(repository, "add", "a.env")
    git(repository, "config", "core.fsmonitor", str(path))

    assert tracked_files(repository, "*.env") == (repository / "a.env",)
    assert not ran.exists()
    git(repository, "ls-files")
    assert ran.exists(), "the control: git alone does run it"


def test_what_checks_signatures_is_not_run(repository: Path, program: tuple[Path, Path]) -> None:
    path, ran = program
    (repository / "a.txt").write_text("A")
    git(repository, "add", "a.txt")
    text = SIGNED.format(tree=git(repository, "write-tree"))
    signed = git(repository, "hash-object", "-w", "-t", "commit", "--stdin", text=text)
    git(repository, "update-ref", "refs/heads/main", signed)
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "gpg.program", str(path))

    assert subjects(repository) == ["Signed"]
    assert not ran.exists()
    git(repository, "log")
    assert ran.exists(), "the control: git alone does run it"


def lose(root: Path, objects: Iterable[str]) -> None:
    for name in objects:
        (root / ".git/objects" / name[:2] / name[2:]).unlink()


def test_what_a_partial_clone_lacks_is_not_fetched(
    repository: Path, program: tuple[Path, Path]
) -> None:
    path, ran = program
    commit(repository, "First")
    commit(repository, "Second")
    lose(repository, [git(repository, "rev-parse", "HEAD~1")])
    settings = {
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::{path}",
        "protocol.ext.allow": "always",
        "extensions.partialClone": "origin",
    }
    git(repository, "config", "core.repositoryFormatVersion", "1")
    for name, value in settings.items():
        git(repository, "config", name, value)

    with pytest.raises(NoAnswer):
        recent_commits(repository, count=9)
    assert not ran.exists()
    subprocess.run([GIT, "log"], cwd=repository, check=False, capture_output=True)
    assert ran.exists(), "the control: git alone does run it"
