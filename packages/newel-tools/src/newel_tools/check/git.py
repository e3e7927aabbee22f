"""What git knows of a project: asked of git, which runs nothing of the project's for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Commit", "NoAnswer", "Published", "published", "recent_commits", "tracked_files"]

_SECONDS: Final = 10
# The repository's own configuration could name programs to run. These settings, and these variables
# for what is missing of a partial clone, are all that would: no command here writes, shows
# differences, or talks to a terminal.
_QUIET: Final = (
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "log.showSignature=false"),
    "--no-pager",
)
_ALONE: Final = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
_ENGLISH: Final = {"LC_ALL": "C"}
_NOTHING: Final = ("not a git repository", "does not have any commits yet")
_DEFAULT_BRANCHES: Final = (
    *("refs/remotes/origin/HEAD", "refs/remotes/origin/main", "refs/remotes/origin/master"),
    *("refs/heads/main", "refs/heads/master"),
)
_NO_MATCH: Final = 1  # what `git grep` ends with
_FIELDS: Final = ("%h", "%P", "%an <%ae>", "%B")


class NoAnswer(Exception):
    """There is a repository, and git did not tell what was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit by its short ``id``. Nothing is known below one without ``parents``."""

    id: str
    parents: tuple[str, ...]
    author: str
    message: str

    @property
    def subject(self) -> str:
        """The first line of its message."""
        return self.message.partition("\n")[0].strip()


def tracked_files(root: Path, *patterns: str) -> tuple[Path, ...]:
    """Return the files below ``root`` that git tracks and that match one of the patterns.

    Nothing where there is no git, or where it is no repository. Raises ``NoAnswer``.
    """
    names = _ask(root, "ls-files", "-z", "--", *patterns).split("\0")
    return tuple(root / name for name in sorted(names) if name)


def recent_commits(root: Path, *, count: int) -> tuple[Commit, ...]:
    """Return the latest commits that changed something below ``root``, newest first; no merges.

    Nothing where there is no git, no repository, or no commit. Raises ``NoAnswer``.
    """
    form = f"--format={'%x00'.join(_FIELDS)}"
    said = _ask(root, "log", "-z", "--no-merges", f"--max-count={count}", form, "--", ".")
    texts = iter(said.split("\0"))
    return tuple(
        Commit(id=name, parents=tuple(parents.split()), author=author, message=message.strip())
        for name, parents, author, message in zip(texts, texts, texts, texts, strict=False)
    )


@dataclass(frozen=True, slots=True)
class Published:
    """The default branch as git knows it: ``files`` are its paths below ``root``."""

    root: Path
    ref: str
    files: frozenset[str]

    def names(self, *words: str) -> bool:
        """Tell whether some Python file of it outside of migrations holds all the words.

        Raises ``NoAnswer``.
        """
        patterns = [part for word in words for part in ("-e", word)]
        asked = [
            "--full-name",
            "--all-match",
            "-l",
            "-i",
            "-w",
            "-F",
            *patterns,
            self.ref,
            "--",
            "*.py",
        ]
        found = _ask(self.root, "grep", *asked, fine=(0, _NO_MATCH)).splitlines()
        return any("down_revision" not in self._text(name) for name in found)

    def _text(self, name: str) -> str:
        return _ask(self.root, "cat-file", "blob", name)


def published(root: Path) -> Published | None:
    """Return the default branch: the remote's, else a local one that is not checked out.

    Nothing where git knows none. Raises ``NoAnswer``.
    """
    said = _ask(root, "for-each-ref", "--format=%(HEAD)%(refname)", "refs/remotes", "refs/heads")
    known = {line[1:] for line in said.splitlines() if not line.startswith("*")}
    ref = next((ref for ref in _DEFAULT_BRANCHES if ref in known), None)
    if ref is None:
        return None
    names = _ask(root, "ls-tree", "-r", "-z", "--name-only", ref).split("\0")
    return Published(root=root, ref=ref, files=frozenset(names))


def _ask(root: Path, *words: str, fine: tuple[int, ...] = (0,)) -> str:
    """Return what git answers in a folder; nothing if there is nothing to ask."""
    git = shutil.which("git")
    if git is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - git itself, with the words of our rules
            [git, *_QUIET, "-C", str(root), *words],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, **_ALONE, **_ENGLISH},
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"git did not answer within {_SECONDS} s") from None
    except OSError as error:
        raise NoAnswer(f"git could not be started: {error.strerror}") from None
    if done.returncode not in fine:
        said = done.stderr.decode(errors="replace").strip() or f"it ended with {done.returncode}"
        if any(reason in said for reason in _NOTHING):
            return ""
        raise NoAnswer(f"git did not answer: {said.splitlines()[0]}")
    return done.stdout.decode(errors="surrogateescape")
