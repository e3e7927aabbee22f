"""What the tools refuse, and how to mend it."""

from __future__ import annotations

__all__ = ["PlanError"]


class PlanError(ValueError):
    """A sentence or a plan that cannot be used.

    ``message`` says what is wrong in one line, ``fix`` how to mend it in one line; ``line`` is the
    line of the plan file (from 1) and ``word`` the words at fault, where they are known.
    ``skeleton`` is YAML to fill in when a sentence was not understood.
    """

    def __init__(
        self,
        message: str,
        *,
        fix: str,
        line: int | None = None,
        word: str | None = None,
        skeleton: str | None = None,
    ) -> None:
        self.message = message
        self.fix = fix
        self.line = line
        self.word = word
        self.skeleton = skeleton
        super().__init__(message)

    def at(self, line: int) -> PlanError:
        """Return the same refusal with the line of the plan file; an inner line is kept."""
        return PlanError(
            self.message,
            fix=self.fix,
            line=line if self.line is None else self.line,
            word=self.word,
            skeleton=self.skeleton,
        )

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}: "
        return f"{where}{self.message}\n  fix: {self.fix}"
