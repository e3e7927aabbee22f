"""Whether the load generator can be trusted: beside wrk, on the fastest server there is.

WRK=/path/to/wrk python -m benchmarks.generator
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.databases import prepared
from benchmarks.load import PATH, load_command
from benchmarks.report import markdown, tell
from benchmarks.servers import ROOT, VARIANTS, BenchmarkError, Server, pinned, serving
from benchmarks.service import newel_service

ROUNDS = 7
SECONDS = 2
CONNECTIONS = 16
SCRIPT = """
local paths, n = {{ {paths} }}, 0
request = function()
  n = n % #paths + 1
  return wrk.format("GET", paths[n], {{ ["Authorization"] = "Bearer {token}" }})
end
"""


def measure() -> str:
    """Return the table: requests a second, and the server's CPU a request, under both."""
    service = newel_service()
    [floor] = [variant for variant in VARIANTS if variant.name == "floor"]
    with (
        pinned() as (core, _),
        tempfile.TemporaryDirectory() as temporary,
        prepared("postgresql", service=service, directory=Path(temporary)) as database,
        serving(floor, variables=database.environment(), directory=ROOT, core=core) as server,
    ):
        script = Path(temporary, "get.lua")
        user = json.loads(database.workload.read_text())["users"][0]
        paths = ", ".join(f'"{PATH}/{agent}"' for agent in user["agents"])
        script.write_text(SCRIPT.format(paths=paths, token=user["token"]))
        load = load_command(
            database.workload,
            "get",
            port=server.port,
            connections=CONNECTIONS,
            seconds=SECONDS,
        )
        wrk = [os.environ.get("WRK", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}"]
        wrk += ["-s", str(script), f"http://127.0.0.1:{server.port}"]
        rounds = [(_run(load, server), _run(wrk, server)) for _ in range(ROUNDS)]
    rows = [
        [name, *(f"{median(one[place][figure] for one in rounds):.0f}" for figure in (0, 1))]
        for place, name in enumerate(("load.py", "wrk"))
    ]
    return markdown(["", "requests/s", "server CPU us"], rows)


def _run(command: list[str], server: Server) -> tuple[float, float]:
    """Return the requests a second and the server's CPU a request, in microseconds."""
    before = server.cpu_seconds()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        fix = "install wrk (Debian: apt install wrk), or name it: WRK=/path/to/wrk"
        raise BenchmarkError(f"{command[0]} cannot be run: {error}", fix) from None
    spent = server.cpu_seconds() - before
    if found := re.search(r"(\d+) requests in ([\d.]+)s", done.stdout):
        count, seconds = int(found[1]), float(found[2])
    else:
        seen = json.loads(done.stdout)
        count, seconds = seen["requests"], seen["seconds"]
    return count / seconds, spent / count * 1e6


if __name__ == "__main__":
    sys.exit(tell(measure))
