"""Runs pages of the documentation, each in a fork of this process, which has imported libraries.

To import them takes longer than a page; the kernel's own modules, which declare tables, each page
imports itself. Reads JSON lines with the `root` of a repository, a
`page` and the `log` to write; answers each with pytest's exit code.
"""

import importlib
import json
import os
import sys

import pytest

LIBRARIES = (
    *("alembic.command", "fastapi", "fastapi.openapi.utils", "httpx2", "jwt", "pydantic_settings"),
    *("sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite", "sqlalchemy.ext.asyncio"),
    *("sqlalchemy.orm", "starlette.testclient", "structlog"),
)
# The plugins that are not asked for take four times as long to load as a page to run.
OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "pytest_timeout"]


def run(root, page, log):
    """Run the examples of a page; return pytest's exit code."""
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(root)
        code = pytest.main([*OPTIONS, page])
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main():
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        sys.stdout.write(f"{run(**json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
