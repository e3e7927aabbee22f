"""The variants, each as a server process of its own on the first core of this machine."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".benchmarks"
"""What the benchmarks make and keep between runs: the peers' environment, the newel service."""

PEERS_PYTHON = STATE / "peers" / "bin" / "python"
START_SECONDS = 60.0

Home = Literal["workspace", "peers", "newel", "program"]


class BenchmarkError(Exception):
    """What went wrong, in one line, and how to mend it, in another."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}\n  fix: {fix}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to write the service.

    ``home`` says what runs it: this workspace's environment, the peers' own, ``newel serve`` unless
    a module changes the service, or nothing but itself: a program that is told its port.
    """

    name: str
    home: Home
    module: str = ""
    variables: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)

    def command(self, port: int) -> list[str]:
        """Return the command that serves it on ``port``."""
        if self.home == "newel" and not self.module:
            newel = Path(sysconfig.get_path("scripts"), "newel")
            return [str(newel), "serve", "--port", str(port)]
        if self.home == "program":
            return [sys.executable, "-m", f"benchmarks.{self.module}", str(port)]
        python = str(PEERS_PYTHON) if self.home == "peers" else sys.executable
        target = f"benchmarks.{self.module}:build"
        return [python, "-m", "benchmarks.uvicorn_server", target, str(port)]


VARIANTS = (
    Variant(name="floor", home="workspace", module="variants.floor"),
    Variant(name="hand", home="workspace", module="variants.hand"),
    Variant(name="hand+", home="peers", module="peers.hand_plus"),
    Variant(name="newel", home="newel"),
    # As one deploys it under load: jobs and events run in another process, `newel worker`.
    Variant(name="newel-web", home="newel", variables={"ROLE": "web"}),
    Variant(name="fastcrud", home="peers", module="peers.fastcrud_service"),
    Variant(name="advanced-alchemy", home="peers", module="peers.alchemy_service"),
    Variant(name="fastapi-restly", home="peers", module="peers.restly_service"),
    Variant(name="litestar", home="peers", module="peers.litestar_service"),
    Variant(name="django-ninja", home="peers", module="peers.ninja_service"),
)

LIBRARIES = ("fastcrud", "advanced-alchemy", "fastapi-restly", "litestar", "django-ninja")
"""The variants on other projects' packages that take the place of hand-written CRUD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running variant."""

    variant: Variant
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Return the CPU time, user and system, of all its threads so far, in nanosecond steps.

        The kernel's clock of another process; see clock_getcpuclockid(3) for how it is named.
        """
        return time.clock_gettime(~self.pid << 3 | 2)

    def resident_bytes(self) -> int:
        """Return how much memory it holds now."""
        return self._memory_bytes("VmRSS")

    def peak_bytes(self) -> int:
        """Return the most memory that it has held so far."""
        return self._memory_bytes("VmHWM")

    def _memory_bytes(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        [kib] = [line.split()[1] for line in status.splitlines() if line.startswith(name)]
        return int(kib) * 1024


def cores() -> tuple[int, int]:
    """Return the core of the server, and the core of the load and the database."""
    if not sys.platform.startswith("linux"):
        raise BenchmarkError(
            "The measuring reads Linux's clocks and pins processes to cores.",
            "run it on Linux",
        )
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchmarkError(
            "One core is not enough: load and database would run in the server's time.",
            "run it on a machine, or in a container, with two cores",
        )
    return usable[0], usable[1]


@contextmanager
def pinned() -> Generator[tuple[int, int]]:
    """Keep this process, and what it starts, on the core of the load; yield ``cores()``."""
    before = os.sched_getaffinity(0)
    core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    try:
        yield core, load_core
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def serving(
    variant: Variant,
    *,
    variables: Mapping[str, str],
    directory: Path,
    core: int,
) -> Generator[Server]:
    """Run ``variant`` as long as the block lasts; both of its outputs go to a file."""
    port = _free_port()
    log = STATE / "logs" / f"{variant.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("wb") as output,
        subprocess.Popen(
            variant.command(port),
            cwd=directory,
            env={**inherited(), "PYTHONPATH": _with_root(), **variables, **variant.variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no threads here
        ) as process,
    ):
        try:
            _wait_until_it_answers(process, port, variant, log)
            yield Server(variant=variant, port=port, pid=process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def inherited() -> dict[str, str]:
    """Return this process's variables but for those by which coverage would slow down a child."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def _with_root() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_answers(
    process: subprocess.Popen[bytes], port: int, variant: Variant, log: Path
) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/api/v1/agents")
            connection.getresponse()
        except OSError:
            time.sleep(0.02)
        else:
            return
        finally:
            connection.close()
    last = log.read_text().strip().splitlines()[-1:] or ["it said nothing"]
    raise BenchmarkError(f"The variant {variant.name} did not start: {last[0]}", f"read {log}")
