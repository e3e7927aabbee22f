"""How commands refuse: one line what, one line how to mend it, and exit code 2."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager

import typer

from newel_tools.facts.project import ProjectError
from newel_tools.openapi.document import DocumentError

__all__ = ["refused"]


@contextmanager
def refused(*, as_json: bool) -> Generator[None]:
    """Turn what the user has to mend into two lines and exit code 2."""
    try:
        yield
    except (ProjectError, DocumentError) as error:
        typer.echo(f"{error.message}\n  fix: {error.fix}", err=True)
        if as_json:
            typer.echo(json.dumps({"ok": False, "error": error.message, "fix": error.fix}))
        raise typer.Exit(2) from None
