"""What keeps an application from being proved, and the line that mends it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProveError", "Setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that an application did not get, or not as it should be.

    ``fault`` is pydantic's type of the error (`missing`, `int_parsing`), ``expected`` its words.
    """

    name: str
    fault: str
    expected: str = ""


class ProveError(Exception):
    """An application that cannot be proved: ``message`` says what, ``fix`` how, a line each.

    ``details`` are further lines, such as the end of the application's log; ``settings``
    are those that the application asked for; ``error`` is the class of the exception behind it.
    """

    def __init__(
        self,
        message: str,
        *,
        fix: str,
        details: tuple[str, ...] = (),
        settings: tuple[Setting, ...] = (),
        error: str = "",
    ) -> None:
        self.message = message
        self.fix = fix
        self.details = details
        self.settings = settings
        self.error = error
        super().__init__(message)

    def __str__(self) -> str:
        lines = "".join(f"\n  {line}" for line in self.details)
        return f"{self.message}{lines}\n  fix: {self.fix}"
