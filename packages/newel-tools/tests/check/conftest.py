"""Reviewing small applications: `reviewed` writes files and returns the report."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from newel_tools.check.check import Report, review_facts
from newel_tools.check.rule import Rule, files_of
from newel_tools.facts import process
from newel_tools.facts.environment import base_environment
from newel_tools.facts.facts import Facts
from newel_tools.facts.project import Project, find_project
from newel_tools.facts.source import read_source

Reviewed = Callable[..., Report]
PROBE = Path(process.__file__).with_name("probe")


class Zygote:
    """Loads facts as `load_facts` does, without paying for the imports each time."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._process: subprocess.Popen[str] | None = None

    def facts(self, project: Project) -> Facts:
        with process.copied(project) as (scratch, copy):
            request = process.request_for(project, scratch=scratch, copy=copy, seconds=20)
            request["answer"] = str(scratch / "answer.json")
            request["environment"] = {**base_environment(scratch), **project.environment}
            self._ask(request)
            return Facts.model_validate_json(Path(request["answer"]).read_bytes())

    def _ask(self, request: Mapping[str, object]) -> None:
        if self._process is None:
            program = Path(__file__).with_name("zygote.py")
            self._process = subprocess.Popen(
                [sys.executable, "-B", program, PROBE, *self._modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                # What it imports is other people's: to count its lines halves the speed.
                env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def end(self) -> None:
        if self._process is not None:
            self._process.communicate("")


def write_history(repository: Path, messages: Iterable[str], *, author: str = "Ann") -> None:
    """Commit to `main`: a line of a file for each message, the newest of which is the first."""
    stream: list[str] = []
    for number, message in enumerate(reversed(list(messages))):
        who = f"{author} <{author.lower()}@example.com> {1_700_000_000 + number} +0000"
        stream += [f"commit refs/heads/main\ncommitter {who}", _data(message)]
        stream += ["M 644 inline lines.txt", _data(message)]
    _ = subprocess.run(
        ["git", "fast-import", "--quiet", "--force"],
        cwd=repository,
        input="\n".join([*stream, ""]).encode(),
        check=True,
    )


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}"


@pytest.fixture(scope="session")
def written_history() -> Callable[..., None]:
    """Return `write_history`."""
    return write_history


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Start once what describes applications."""
    started = Zygote()
    yield started
    started.end()


@pytest.fixture(scope="session")
def kernel_zygote() -> Iterator[Zygote]:
    """Start once what describes services on our own kernel: it has imported that too."""
    started = Zygote("newel.app", "newel.accounts", "newel.repository")
    yield started
    started.end()


@pytest.fixture
def reviewed(tmp_path: Path, zygote: Zygote, kernel_zygote: Zygote) -> Reviewed:
    """Return a function that writes an application and reviews it.

    `reviewed(files or text, rules=[...])`; text is an example as rules have it. With a .gitignore
    it is a repository, whose other files git tracks; `git log` holds the messages of its commits,
    newest first, each a line.
    """

    def review(
        files: str | Mapping[str, str],
        *,
        rules: Iterable[Rule] | None = None,
        baseline: Mapping[str, int] | None = None,
    ) -> Report:
        named = dict(files_of(files) if isinstance(files, str) else files)
        history = named.pop("git log", "").splitlines()
        for name, text in named.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if ".gitignore" in named or history:
            subprocess.run(["git", "init", "-q", "-b", "main"], cwd=tmp_path, check=True)
            subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
        if history:
            write_history(tmp_path, history)
        project = find_project(tmp_path)
        source = read_source(project.root, project.files, project.import_paths)
        on_kernel = any("import newel" in text or "from newel" in text for text in named.values())
        facts = (kernel_zygote if on_kernel else zygote).facts(project)
        report = review_facts(project, facts, source, rules=rules, baseline=baseline or {})
        assert not [note for note in report.notes if "failed, please" in note]
        return report

    return review
