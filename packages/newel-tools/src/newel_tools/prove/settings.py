"""The few lines of ``[tool.newel.prove]`` that a project may need, and reading them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from newel_tools.prove.errors import ProveError

__all__ = ["Account", "LogIn", "Settings", "read_settings"]


class _Lines(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Account(_Lines):
    """Somebody who is there after the set-up, with a password for this trial only."""

    username: str
    password: str


class LogIn(_Lines):
    """How to log in: the request, and where in the answer the token is.

    ``json`` or ``form`` are the body's fields, with ``{username}`` and ``{password}`` in them.
    ``token`` names the answer's field (`data.access_token` for one inside another); left out, it is
    looked for, and cookies are kept in any case.
    """

    path: str
    json_: dict[str, Any] | None = None
    form: dict[str, str] | None = None
    token: str | None = None

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=lambda name: name.rstrip("_")
    )


class Settings(_Lines):
    """All that can be said; nothing of it is needed by most projects.

    ``app``: `package.module:attribute`. ``env``: variables. ``setup``: commands that run before the
    application starts, after the migrations (`python -m app.seed`). ``database``: for which the
    project is run. ``users``: two who may not see each other's rows; ``admin``: one who sees all.
    ``headers``: sent with every request of a caller, `{token}` stands for the log-in's.
    ``values``: for fields that only the project knows values for (`country = "NL"`).
    ``skip``: routes that are left alone (`POST /shutdown`). ``fuzz_seconds``: how long schemathesis
    tries; 0 leaves it out.
    """

    app: str | None = None
    env: dict[str, str] = {}
    setup: tuple[str, ...] | None = None
    database: Literal["sqlite", "postgresql"] | None = None
    users: tuple[Account, ...] = ()
    admin: Account | None = None
    login: LogIn | None = None
    headers: dict[str, str] = {}
    values: dict[str, Any] = {}
    skip: tuple[str, ...] = ()
    fuzz_seconds: int = 30


def read_settings(folders: tuple[Path, ...]) -> Settings:
    """Return what the first pyproject.toml of ``folders`` with such a table says.

    Raises ``ProveError`` for a line that is not understood.
    """
    for folder in folders:
        path = folder / "pyproject.toml"
        table = _table(path)
        if table is not None:
            try:
                return Settings.model_validate(table)
            except ValidationError as error:
                raise _refusal(path, error) from None
    return Settings()


def _table(path: Path) -> Mapping[str, Any] | None:
    try:
        data: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError as error:
        raise ProveError(f"{path}: {error}", fix="mend the file: it may say how to start") from None
    for name in ("tool", "newel", "prove"):
        data = cast("dict[str, Any]", data).get(name)
        if not isinstance(data, dict):
            return None
    return cast("dict[str, Any]", data)


def _refusal(path: Path, error: ValidationError) -> ProveError:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    known = ", ".join(Settings.model_fields)
    fix = f"known are {known}" if first["type"] == "extra_forbidden" else "see docs/prove.md"
    return ProveError(f"{path}: [tool.newel.prove] {name}: {first['msg']}", fix=fix)
