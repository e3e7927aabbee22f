"""Schemathesis, an independent judge: started beside the application, for a bounded time."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from newel_tools.facts.scratch import scratch_folder
from newel_tools.prove.keeper import kept_server

__all__ = ["has_schemathesis", "run_schemathesis"]

_EXAMPLES: Final = "25"  # an operation: small applications are done long before their time is up
_START: Final = "from schemathesis.cli import schemathesis; schemathesis()"


def has_schemathesis() -> bool:
    """Tell whether it is installed beside the tools."""
    return importlib.util.find_spec("schemathesis") is not None


def run_schemathesis(document: Mapping[str, Any], url: str, *, seconds: int) -> None:
    """Let it try the operations of an API description at an address.

    What it does to the application is seen there; nothing is left of its own files.
    """
    with scratch_folder() as folder:
        (folder / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
        arguments = ["run", "openapi.json", "--url", url, "--checks", "not_a_server_error"]
        arguments += ["--max-examples", _EXAMPLES, "--phases", "examples,coverage,fuzzing"]
        arguments += ["--continue-on-failure", "--seed", "1", "--no-color", "--warnings", "off"]
        arguments += ["--request-timeout", "10", "--suppress-health-check", "all"]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder)}
        command = [sys.executable, "-c", _START, *arguments]
        options = {"env": {**environment, "TMPDIR": str(folder)}}
        with (
            kept_server(command, folder=folder, options=options) as process,
            suppress(subprocess.TimeoutExpired),
        ):
            process.wait(seconds)
