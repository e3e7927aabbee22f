"""The probe as a process: on a copy of the project, with a time limit, and gone afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from newel_tools.facts.environment import base_environment
from newel_tools.facts.files import project_files
from newel_tools.facts.project import Project
from newel_tools.facts.scratch import scratch_folder

__all__ = ["copied", "ended_by", "request_for", "run_probe"]

_PROBE: Final = Path(__file__).with_name("probe")
_COPIED_BYTES: Final = 1024 * 1024  # larger files are linked: they are data
_DATABASE_BYTES: Final = 64 * 1024 * 1024  # a database is opened to be written
_SQLITE: Final = b"SQLite format 3\0"
_COPIED_FILES: Final = 20_000
_GRACE_SECONDS: Final = 5.0  # after the probe's own limit, for code that holds the interpreter lock


def run_probe(
    project: Project, *, timeout_seconds: float, migrations: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Import the application in a process of its own and return the probe's document.

    With ``migrations`` these are printed instead, see ``probe/migrations.py``. If the process dies
    or hangs, the document has only ``failures`` that say so.
    """
    with copied(project) as (scratch, copy), tempfile.TemporaryFile() as answer:
        request = request_for(project, scratch=scratch, copy=copy, seconds=timeout_seconds)
        request |= {"fd": answer.fileno(), "migrations": migrations}
        code = _run(project, request, answer, scratch=scratch, seconds=timeout_seconds)
        answer.seek(0)
        data = answer.read()
    with suppress(ValueError):
        return json.loads(data)
    said = _hung(timeout_seconds) if code is None else f"the process ended {ended_by(code)}"
    failure = {"stage": "import", "class": "ProcessEnded", "message": said, "file": None, "line": 0}
    return {"failures": [failure]}


def ended_by(code: int) -> str:
    """Say how a process ended, by its code as `subprocess` has it."""
    if code >= 0:
        return f"with code {code}"
    return f"by {signal.Signals(-code).name}"


def _hung(seconds: float) -> str:
    return f"it was not done within {seconds:g} s and did not let go"


@contextmanager
def copied(project: Project) -> Generator[tuple[Path, Path]]:
    """Copy a project to a scratch folder; yield that folder and the copy, and remove both.

    Files above 1 MiB are linked instead, but for databases. The probe may write nowhere but in the
    scratch folder.
    """
    with scratch_folder() as scratch:
        copy = scratch / "project" / project.root.name
        _copy(project.root, copy)
        yield scratch, copy


def _copy(root: Path, copy: Path) -> None:
    left = _COPIED_FILES
    for folder, names in project_files(root):
        target = copy / folder.relative_to(root)
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            left -= 1
            _copy_file(folder / name, target / name, link=left < 0)


def _copy_file(source: Path, target: Path, *, link: bool) -> None:
    with suppress(OSError):  # unreadable, a socket, gone: the application cannot read it either
        if link or (source.stat().st_size > _COPIED_BYTES and not _is_database(source)):
            target.symlink_to(source)
        elif source.is_file():
            shutil.copyfile(source, target)


def _is_database(path: Path) -> bool:
    """Tell whether a file is an SQLite database: it may be written to, which a link may not."""
    if path.stat().st_size > _DATABASE_BYTES:
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def request_for(project: Project, *, scratch: Path, copy: Path, seconds: float) -> dict[str, Any]:
    """Return what the probe is asked; where the document goes, ``fd``, is still to be said."""
    app = project.application

    def moved(path: Path) -> str:
        return str(copy / path.relative_to(project.root))

    return {
        "module": app.module,
        "attribute": app.attribute,
        "factory": app.is_factory,
        "root": str(project.root),
        "copy": str(copy),
        "folder": moved(app.import_root),
        "paths": [moved(path) for path in project.import_paths],
        "writable": str(scratch),
        "seconds": seconds,
    }


def _run(
    project: Project,
    request: Mapping[str, Any],
    answer: IO[bytes],
    *,
    scratch: Path,
    seconds: float,
) -> int | None:
    """Run the probe; return its exit code, or ``None`` if it had to be killed."""
    process = subprocess.Popen(  # noqa: S603 - the interpreter of the project, and our own program
        [str(project.python), "-B", str(_PROBE), json.dumps(request)],
        cwd=request["folder"],
        env={**base_environment(scratch), **project.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[answer.fileno()],
        start_new_session=True,
    )
    try:
        return process.wait(seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
