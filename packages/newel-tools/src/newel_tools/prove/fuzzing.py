"""Schemathesis, an independent judge: started beside the application, for a bounded time."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

__all__ = ["has_schemathesis", "run_schemathesis"]

_EXAMPLES: Final = "25"  # an operation: small applications are done long before their time is up
_START: Final = "from schemathesis.cli import schemathesis; schemathesis()"


def has_schemathesis() -> bool:
    """Tell whether it is installed beside the tools."""
    return importlib.util.find_spec("schemathesis") is not None


def run_schemathesis(document: Mapping[str, Any], url: str, *, seconds: int) -> str:
    """Let it try the operations of an API description at an address; return the end of its report.

    What it does to the application is seen there; nothing is left of its own files.
    """
    with tempfile.TemporaryDirectory(prefix="newel-fuzz-") as name:
        folder = Path(name)
        (folder / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
        arguments = ["run", "openapi.json", "--url", url, "--checks", "not_a_server_error"]
        arguments += ["--max-examples", _EXAMPLES, "--phases", "examples,coverage,fuzzing"]
        arguments += ["--continue-on-failure", "--seed", "1", "--no-color", "--warnings", "off"]
        arguments += ["--request-timeout", "10", "--suppress-health-check", "all"]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter with fixed options
            [sys.executable, "-c", _START, *arguments],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "HOME": name, "TMPDIR": name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            output = "it was ended: its time was up"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return output[-2_000:]
