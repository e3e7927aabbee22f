"""Writing a service's files to disk: all or nothing, and never over somebody's edits.

A tree is built in a directory beside its place (``staged``) and moved there at the end
(``settle``). ``.newel.json`` in it holds a digest of each file, so that a second run knows what was
edited since.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from newel_tools.generator.files import File

__all__ = [
    "MANIFEST",
    "TreeError",
    "ensure_usable",
    "files_of",
    "keep",
    "settle",
    "staged",
    "write",
]

MANIFEST: Final = ".newel.json"
_SECRETS: Final = ".env"  # kept as it is once it exists, and no part of the digests
_NAMED: Final = 5  # files that a message names


class TreeError(Exception):
    """A directory that cannot be written to; ``fix`` says in one line what to do instead."""

    def __init__(self, message: str, *, fix: str) -> None:
        self.message = message
        self.fix = fix
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}"


def ensure_usable(directory: Path) -> None:
    """Raise ``TreeError`` unless ``directory`` is missing, empty, or generated and not edited."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise TreeError(f"{directory} is a file", fix="name another directory")
    if not any(directory.iterdir()):
        return
    digests = _digests_in(directory)
    if digests is None:
        raise TreeError(
            f"{directory} is not empty, and `newel new` did not make it",
            fix="name another directory, or empty this one",
        )
    edited = [
        name
        for name, digest in digests.items()
        if (directory / name).is_file() and _digest(directory / name) != digest
    ]
    grown = [path.name for path in directory.glob("migrations/*.py")]
    edited += [f"migrations/{n}" for n in sorted(grown) if f"migrations/{n}" not in digests]
    _refuse_edited(directory, edited)


def write(files: Iterable[File], root: Path) -> None:
    """Write ``files`` below ``root``, each with its mode from the first byte on."""
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as opened:
            opened.write(file.text)


@contextmanager
def staged(directory: Path) -> Generator[Path]:
    """Yield a new directory on the disk of ``directory``; gone after the block, unless moved."""
    beside = directory.parent
    while not beside.exists():
        beside = beside.parent
    staging = beside / f".{directory.name}.{secrets.token_hex(4)}"
    try:
        staging.mkdir()
    except OSError as error:
        raise TreeError(
            f"{beside} cannot be written to ({error.strerror})", fix="name another directory"
        ) from error
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def settle(staging: Path, directory: Path, *, made_by: str) -> None:
    """Move the tree at ``staging`` to ``directory``; files of the user's own stay as they are.

    ``made_by`` is the version for the manifest. Raises ``TreeError``, and then has moved nothing,
    when a file would be lost that somebody wrote since ``ensure_usable`` looked.
    """
    digests = _digests_of(staging)
    manifest = {"newel": made_by, "files": digests}
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    if directory.is_dir() and any(directory.iterdir()):
        ensure_usable(directory)
        _merge(staging, directory, digests)
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.rename(directory)
    except OSError as error:
        raise TreeError(
            f"{directory} could not be made ({error.strerror})", fix="name another directory"
        ) from error


def keep(staging: Path, directory: Path) -> Path:
    """Move a tree that failed beside ``directory``, for somebody to look at; return its place."""
    place = directory.with_name(f"{directory.name}.failed-{secrets.token_hex(2)}")
    staging.rename(place)
    return place


def files_of(root: Path) -> list[str]:
    """Return the paths of what was generated below ``root``: all files without a manifest."""
    digests = _digests_in(root)
    if digests is None:
        digests = _digests_of(root)
    secret = [_SECRETS] if (root / _SECRETS).is_file() else []
    return sorted([*secret, *(name for name in digests if (root / name).is_file())])


def _merge(staging: Path, directory: Path, digests: Mapping[str, str]) -> None:
    earlier = _digests_in(directory) or {}
    taken = [
        name
        for name, digest in digests.items()
        if name not in earlier
        and (directory / name).exists()
        and _digest(directory / name) != digest
    ]
    _refuse_edited(directory, taken)
    _refuse_foreign_database(directory, earlier, digests)
    for name in earlier.keys() - digests.keys():
        (directory / name).unlink(missing_ok=True)
    for name in digests:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(directory / name)
    if (staging / _SECRETS).exists() and not (directory / _SECRETS).exists():
        (staging / _SECRETS).replace(directory / _SECRETS)
    (staging / MANIFEST).replace(directory / MANIFEST)


def _refuse_edited(directory: Path, edited: list[str]) -> None:
    if not edited:
        return
    more = f" and {len(edited) - _NAMED} more" if len(edited) > _NAMED else ""
    raise TreeError(
        f"{directory} has files of yours that would be lost: {', '.join(edited[:_NAMED])}{more}",
        fix="name another directory, and take over from there what you want",
    )


def _refuse_foreign_database(
    directory: Path, earlier: Mapping[str, str], digests: Mapping[str, str]
) -> None:
    """Both histories call their first revision 0001: nothing else would tell them apart."""

    def history(of: Mapping[str, str]) -> dict[str, str]:
        return {name: digest for name, digest in of.items() if name.startswith("migrations/")}

    databases = sorted(path.name for path in directory.glob("*.db"))
    if databases and history(earlier) != history(digests):
        raise TreeError(
            f"{directory}/{databases[0]} has the tables of another plan",
            fix="remove it if its rows may go, or name another directory",
        )


def _digests_in(directory: Path) -> dict[str, str] | None:
    """Return what the manifest says; ``None`` without one that can be read."""
    try:
        manifest: Any = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in manifest["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _digests_of(root: Path) -> dict[str, str]:
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    names = ((path.relative_to(root).as_posix(), path) for path in paths)
    return {name: _digest(path) for name, path in names if name not in {MANIFEST, _SECRETS}}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
