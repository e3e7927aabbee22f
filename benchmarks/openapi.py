"""What making the OpenAPI document costs, once a process."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from benchmarks.databases import SECRET
from benchmarks.report import markdown, tell
from benchmarks.servers import ROOT, BenchmarkError, inherited
from benchmarks.service import newel_service

NAME = "openapi"
ROUNDS = 7
APPS = {
    "hand": "from benchmarks.variants.hand import build; app = build()",
    "newel": (
        "from agent_management.application import build\n"
        "from agent_management.settings import Settings\n"
        "app = build(Settings())"
    ),
}
CODE = """
import time
{app}
start = time.process_time()
document = app.openapi()
print(time.process_time() - start, len(document["paths"]))
"""


def measure() -> str:
    """Return the table."""
    path = os.pathsep.join((str(ROOT), str(newel_service() / "src")))
    environment = {**inherited(), "PYTHONPATH": path, "SECRET_KEY": SECRET}
    samples: dict[str, list[float]] = {name: [] for name in APPS}
    paths: dict[str, str] = {}
    for _ in range(ROUNDS):
        for name, app in APPS.items():
            done = subprocess.run(
                [sys.executable, "-c", CODE.format(app=app)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode:
                raise BenchmarkError(f"{name} makes no document.", "read the lines above")
            seconds, paths[name] = done.stdout.split()[-2:]
            samples[name].append(float(seconds))
    rows = [
        [name, paths[name], f"{median(seconds) * 1000:.0f} ms"] for name, seconds in samples.items()
    ]
    return markdown(["", "paths", "CPU"], rows)


if __name__ == "__main__":
    sys.exit(tell(measure))
