"""SEC003: the environment is read in the middle of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_PLACES: Final = re.compile(
    r"(settings?|config|configuration|conf|env|environment|constants?|consts|cli|__main__|manage|logging|logs"
    r"|gunicorn\w*|celery\w*|worker|telemetry|tracing|sentry)(/|\.py$)",
    re.IGNORECASE,
)
_READS: Final = re.compile(r"^(os\.)?(getenv|environ\.get|environ\[.*\])$", re.DOTALL)


def find(review: Review) -> Iterator[Finding]:
    """Find files whose functions read the environment while a request is served, once each."""
    if not review.facts.settings and not any(_PLACES.search(file) for file in review.source.files):
        return
    seen: set[str] = set()
    for function, reach in review.served.items():
        if function.file not in seen and not _PLACES.search(function.file):
            for line in _reads(function):
                seen.add(function.file)
                yield RULE.found(
                    "the environment is read where a request is served, beside the settings",
                    file=function.file,
                    line=line,
                    route=reach.route,
                )
                break


def _reads(function: Function) -> Iterator[int]:
    for node in function.nodes:
        match node:
            case ast.Call(func=read, lineno=line) | (
                ast.Subscript(ctx=ast.Load(), lineno=line) as read
            ) if _READS.match(ast.unparse(read)):
                yield line
            case _:
                pass


RULE = Rule(
    id="SEC003",
    title="The environment is read in the middle of the code",
    severity="note",
    how="source",
    why="A variable that is missing or misspelt is noticed by the first request that needs it, "
    "and no file "
    "says what the service can be told.",
    fix="make it a field of the settings class, which is read and validated once, at the start",
    seed='003 "Environment variables"',
    expected="settings, configuration, logging and command-line files; reading on import; "
    "projects without "
    "settings.",
    bad="""
import os

from fastapi import FastAPI
from pydantic_settings import BaseSettings

app = FastAPI()


class Settings(BaseSettings):
    region: str = "eu"


@app.get("/region")
def region() -> str:
    return os.getenv("REGION", "eu")  # finding
""",
    good="""
# file: config.py
import os

from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    region: str = "eu"


def is_quiet() -> bool:
    return os.environ.get("QUIET") == "1"

# file: main.py
import os

from config import Settings, is_quiet
from fastapi import FastAPI

app = FastAPI(title=os.environ.get("TITLE", "shop"))
settings = Settings()


@app.get("/region")
def region() -> str:
    return "" if is_quiet() else settings.region


def never_called() -> str:
    return os.environ["HOME"]
""",
    find=find,
    is_habit=True,
)
