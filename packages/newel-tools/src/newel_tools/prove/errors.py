"""What keeps an application from being proved, and the line that mends it."""

from __future__ import annotations

__all__ = ["ProveError"]


class ProveError(Exception):
    """An application that cannot be proved: ``message`` says what, ``fix`` how, a line each.

    ``details`` are further lines, such as the end of the application's log; ``missing`` names the
    settings that the application asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        fix: str,
        details: tuple[str, ...] = (),
        missing: tuple[str, ...] = (),
    ) -> None:
        self.message = message
        self.fix = fix
        self.details = details
        self.missing = missing
        super().__init__(message)

    def __str__(self) -> str:
        lines = "".join(f"\n  {line}" for line in self.details)
        return f"{self.message}{lines}\n  fix: {self.fix}"
