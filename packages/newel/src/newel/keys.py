"""``newel keys``: make a secret, and rotate the one in ``.env`` without logging anyone out.

Tokens that were signed with the old key stay good until they expire, because it moves to
``SECRET_KEY_PREVIOUS``, with which the service still verifies and no longer signs.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from newel.errors import ConfigurationError

__all__ = ["KEPT", "keys", "new_secret", "rotate"]

KEPT = 2
"""How many former keys stay in ``SECRET_KEY_PREVIOUS``; the oldest one goes first."""

keys: typer.Typer = typer.Typer()

_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>\w+)\s*=\s*(?P<value>.*?)\s*")


def new_secret() -> str:
    """Return a fresh secret: 256 random bits as 43 characters that need no quoting."""
    return secrets.token_urlsafe(32)


def rotate(path: Path) -> Sequence[str]:
    """Give the .env file at ``path`` a new ``SECRET_KEY``; return the former keys it still has.

    The file is replaced as a whole and belongs to its owner only (0600) afterwards.
    """
    if not path.is_file():
        raise ConfigurationError(
            f"There is no {path}",
            fix="run it in the service's folder, or rotate SECRET_KEY where your platform keeps it",
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    present = _value(lines, "SECRET_KEY")
    if not present:
        raise ConfigurationError(
            f"{path} has no SECRET_KEY", fix="add SECRET_KEY= with the output of `newel keys new`"
        )
    before = [key for key in _value(lines, "SECRET_KEY_PREVIOUS").split(",") if key.strip()]
    kept = [present, *before][:KEPT]
    lines = _with(lines, "SECRET_KEY", new_secret())
    lines = _with(lines, "SECRET_KEY_PREVIOUS", ",".join(kept))
    _replace(path, "\n".join(lines) + "\n")
    return kept


def _value(lines: Sequence[str], name: str) -> str:
    for line in reversed(lines):  # the last one counts, as for the shell
        found = _LINE.fullmatch(line)
        if found and found["name"] == name:
            return found["value"].strip("'\"")
    return ""


def _with(lines: Sequence[str], name: str, value: str) -> list[str]:
    """Return ``lines`` with one line for ``name``, where its first one was or at the end."""
    kept: list[str] = []
    written = False
    for line in lines:
        found = _LINE.fullmatch(line)
        if not found or found["name"] != name:
            kept.append(line)
        elif not written:
            kept.append(f"{name}={value}")
            written = True
    return kept if written else [*kept, f"{name}={value}"]


def _replace(path: Path, text: str) -> None:
    # A temporary file beside it, made 0600, then renamed: a crash leaves the old or the new file.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".env.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@keys.command("new")
def print_new() -> None:
    """Print a fresh secret for SECRET_KEY."""
    typer.echo(new_secret())


@keys.command("rotate")
def rotate_file(
    env_file: Annotated[Path, typer.Option(help="The file that holds SECRET_KEY.")] = Path(".env"),
) -> None:
    """Give .env a new SECRET_KEY; the old one keeps verifying. Restart the service afterwards."""
    kept = rotate(env_file)
    typer.echo(f"{env_file} has a new SECRET_KEY; {len(kept)} former kept in SECRET_KEY_PREVIOUS")
    typer.echo("Restart every process of the service. Tokens that are out stay good.")
