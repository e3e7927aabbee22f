"""Settings of a service without tables, whose database is a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from newel.settings import Settings

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"


def settings(tmp_path: Path, **values: Any) -> Settings:
    tmp_path.joinpath("migrations").mkdir(exist_ok=True)
    return Settings(
        **{
            "_env_file": None,
            "secret_key": SECRET,
            "environment": "test",
            "database_url": f"sqlite+aiosqlite:///{tmp_path}/app.db",
            "migrations": tmp_path / "migrations",
            **values,
        }
    )
