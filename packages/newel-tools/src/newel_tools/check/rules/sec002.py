"""SEC002: git keeps the file with the secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.git import tracked_files
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.secret import is_placeholder, secret_kind
from newel_tools.facts.files import read_text

__all__ = ["RULE"]

_FILES: Final = re.compile(r"^\.env(\.(prod|production|live|staging|local|secret|secrets))?$")
_LINE: Final = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*[\"']?([^\s\"'#]+)")
_SECRET_CHARACTERS: Final = 8


def find(review: Review) -> Iterator[Finding]:
    """Find environment files that git tracks and that hold a value which is meant."""
    for path in tracked_files(review.project.root, "*.env", ".env*", "**/.env*"):
        text = read_text(path) if _FILES.match(path.name) else None
        for number, line in enumerate((text or "").splitlines(), start=1):
            found = _LINE.match(line)
            if found is not None and _is_meant(found[1], found[2]):
                yield RULE.found(
                    f"git keeps the value of `{found[1]}`",
                    file=review.project.relative(path),
                    line=number,
                )
                break


def _is_meant(name: str, value: str) -> bool:
    """Tell whether a value is a secret itself, and no placeholder or reference."""
    is_secret = secret_kind(name) is not None
    return is_secret and len(value) >= _SECRET_CHARACTERS and not is_placeholder(value)


RULE = Rule(
    id="SEC002",
    title="Git keeps a file with secrets",
    severity="block",
    how="source",
    why="Whoever has ever cloned the repository has them, and taking the file out of git leaves "
    "them in its "
    "history.",
    fix="`git rm --cached .env`, add it to .gitignore, keep a `.env.example` without values, and "
    "change every "
    "secret in it",
    seed='003 "No secrets in code", "Environment variables"',
    expected="examples and templates by their name, placeholders (`changethis`, `your-key`), "
    "empty values, "
    "what git does not track.",
    bad="""
# file: .gitignore
__pycache__/

# file: .env
DATABASE_URL=postgresql://localhost/shop
SECRET_KEY=9f2c7e51b0aa4e6d8c13  # finding

# file: main.py
from fastapi import FastAPI

app = FastAPI()
""",
    good="""
# file: .gitignore
.env

# file: .env
SECRET_KEY=9f2c7e51b0aa4e6d8c13

# file: .env.example
SECRET_KEY=9f2c7e51b0aa4e6d8c13

# file: deployed/.env
SECRET_KEY=changethis
LOG_LEVEL=info

# file: main.py
from fastapi import FastAPI

app = FastAPI()
""",
    find=find,
)
