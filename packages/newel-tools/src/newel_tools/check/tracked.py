"""Which files of a project git keeps: asked of git, which runs nothing of the project's for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["tracked_files"]

_SECONDS: Final = 10
# The repository's own configuration could name programs to run; these two are all that would.
_QUIET: Final = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


def tracked_files(root: Path, *patterns: str) -> tuple[Path, ...]:
    """Return the files below ``root`` that git tracks and that match one of the patterns.

    Nothing where there is no git, or where it is no repository.
    """
    git = shutil.which("git")
    if git is None:
        return ()
    try:
        done = subprocess.run(  # noqa: S603 - git itself, with the patterns of our rules
            [git, *_QUIET, "-C", str(root), "ls-files", "-z", "--", *patterns],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    names = done.stdout.decode(errors="surrogateescape").split("\0") if not done.returncode else []
    return tuple(root / name for name in sorted(names) if name)
