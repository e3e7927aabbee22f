"""What the runner tells a variant, by environment variables of its process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The database's address, and how access tokens are signed (HS256)."""

    database_url: str
    token_key: bytes
    issuer: str

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Environment:
        """Read what ``as_variables`` wrote."""
        return cls(
            database_url=environ["DATABASE_URL"],
            token_key=bytes.fromhex(environ["BENCH_TOKEN_KEY"]),
            issuer=environ["BENCH_ISSUER"],
        )

    def as_variables(self) -> dict[str, str]:
        """Return the environment variables that ``read`` reads."""
        return {
            "DATABASE_URL": self.database_url,
            "BENCH_TOKEN_KEY": self.token_key.hex(),
            "BENCH_ISSUER": self.issuer,
        }
