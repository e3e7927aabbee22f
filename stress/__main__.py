"""Run a scenario: ``python -m stress crash``, or ``make stress``; ``--help`` names the others."""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import uvloop
from benchmarks.report import write_section
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from newel.errors import ConfigurationError
from stress.abuse import Abuse
from stress.assaults import ASSAULTS
from stress.blows import Kind
from stress.clients import CLIENTS
from stress.crash import Crash, Progress
from stress.databases import Backend
from stress.depot.sabotage import SABOTAGES as DEPOT_SABOTAGES
from stress.desk.sabotage import SABOTAGES as DESK_SABOTAGES
from stress.faults import FAULTS, LONG_CYCLES, Faults, as_rows
from stress.figures import Result, as_table, show
from stress.fleet import ROOT
from stress.overload import Overload
from stress.rolling import Part, Rolling
from stress.shop.sabotage import SABOTAGES

PAGE: Final = ROOT / "docs/reliability.md"
BACKENDS: Final[Sequence[Backend]] = get_args(Backend)
KILLS: Final[dict[Backend, int]] = {"sqlite": 100, "postgresql": 60}
SYSCALLS: Final[dict[Backend, int]] = {"sqlite": 60, "postgresql": 30}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stress",
        description="Break a running service and check that it keeps its promises. Exits with 1 "
        "when it does not.",
    )
    scenarios = parser.add_subparsers(dest="scenario", required=True)
    _crash_options(scenarios.add_parser("crash", help="kill its processes and its database"))
    _rolling_options(scenarios.add_parser("rolling", help="replace its processes under load"))
    _overload_options(scenarios.add_parser("overload", help="ask twice of it what it can do"))
    _abuse_options(scenarios.add_parser("abuse", help="do to it what a stranger can"))
    _faults_options(scenarios.add_parser("faults", help="take away what it depends on"))
    return parser.parse_args()


def _crash_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", choices=BACKENDS, action="append", help="both without it")
    parser.add_argument("--kills", type=_count, help="at random moments; 100 on SQLite, 60")
    parser.add_argument("--syscalls", type=_count, help="at a system call; 60 on SQLite, 30")
    parser.add_argument("--only", choices=get_args(Kind), action="append", help="what is hit")
    _common_options(parser)


def _rolling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--releases", type=_count, default=10, help="10 without it")
    parser.add_argument("--only", choices=get_args(Part), action="append", help="what is replaced")
    parser.add_argument("--clients", type=_count, default=CLIENTS, help=f"{CLIENTS} without it")
    _common_options(parser)


def _overload_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", choices=BACKENDS, action="append", help="both without it")
    parser.add_argument("--seconds", type=_count, default=30, help="of overload; 30 without it")
    _common_options(parser)


def _abuse_options(parser: argparse.ArgumentParser) -> None:
    keys = [one.key for one in ASSAULTS]
    parser.add_argument("--database", choices=BACKENDS, action="append", help="sqlite without it")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of their size; 1 is whole")
    parser.add_argument("--only", choices=keys, action="append", help="one of them")
    _common_options(parser)


def _faults_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cycles", type=_some, default=LONG_CYCLES, help="20 without it")
    parser.add_argument("--only", choices=FAULTS, action="append", help="what befalls it")
    _common_options(parser)


def _common_options(parser: argparse.ArgumentParser) -> None:
    scenario = parser.prog.rpartition(" ")[2]
    known = {**SABOTAGES, **DESK_SABOTAGES, **DEPOT_SABOTAGES}
    sabotages = sorted(name for name, one in known.items() if one.scenario == scenario)
    parser.add_argument(
        "--seed", type=int, default=1, help="decides what is asked and hit, and when"
    )
    parser.add_argument(
        "--sabotage", choices=sabotages, action="append", help="a defect to be found"
    )
    parser.add_argument("--folder", type=Path, help="where logs stay; without it they go away")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each database")
    parser.add_argument("--write", action="store_true", help="the table of docs/reliability.md")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than none")
    return number


def _some(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("nothing would be seen")
    return number


def main() -> int:
    """Run what was asked for; return the exit code."""
    options = _options()
    # Our own connections die with the server that is crashed: no news to anybody.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    results: list[Result] = []
    try:
        if options.scenario == "faults":
            results = _take_away(options)
        for backend in _backends(options):
            results.append(_run(options, backend))
            show(results[-1], as_json=options.json)
        if options.write:
            table = as_rows(results) if options.scenario == "faults" else as_table(results)
            write_section(options.scenario, table, page=PAGE, by="stress")
    except ConfigurationError as error:
        print(f"error: {error.detail}\nfix:   {error.fix}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # everything has been ended on the way here
        return 130
    return int(any(one.missed for one in results))


def _backends(options: argparse.Namespace) -> Sequence[Backend]:
    """Return where to run it: several processes need PostgreSQL, a fault what it says itself."""
    if options.scenario == "faults":
        return ()
    if options.scenario == "rolling":
        return ("postgresql",)
    return options.database or (("sqlite",) if options.scenario == "abuse" else BACKENDS)


def _take_away(options: argparse.Namespace) -> list[Result]:
    with _folder(options.folder) as folder, _bar() as progress:
        faults = Faults(
            cycles=options.cycles,
            seed=options.seed,
            folder=folder,
            sabotage=",".join(options.sabotage or ()) or None,
            only=options.only or (),
        )
        return asyncio.run(faults.run(progress, partial(show, as_json=options.json)))


def _run(options: argparse.Namespace, backend: Backend) -> Result:
    with _folder(options.folder) as folder, _bar() as progress:
        sabotage = ",".join(options.sabotage or ()) or None
        if options.scenario == "overload":
            overload = Overload(
                database=backend, seconds=options.seconds, folder=folder, sabotage=sabotage
            )
            return uvloop.run(overload.run(progress))
        if options.scenario == "abuse":
            abuse = Abuse(
                database=backend,
                folder=folder,
                sabotage=sabotage,
                only=options.only or (),
                scale=options.scale,
            )
            return uvloop.run(abuse.run(progress))
        if options.scenario == "rolling":
            rolling = Rolling(
                releases=options.releases,
                seed=options.seed,
                folder=folder,
                sabotage=sabotage,
                only=options.only or (),
                clients=options.clients,
            )
            return asyncio.run(rolling.run(progress))
        crash = Crash(
            database=backend,
            kills=KILLS[backend] if options.kills is None else options.kills,
            syscalls=SYSCALLS[backend] if options.syscalls is None else options.syscalls,
            seed=options.seed,
            folder=folder,
            sabotage=sabotage,
            only=options.only or (),
        )
        return asyncio.run(crash.run(progress))


@contextmanager
def _folder(wanted: Path | None) -> Generator[Path]:
    """Yield a new folder for one run; below ``wanted`` it stays."""
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="newel-stress-", dir=wanted)).resolve()
    try:
        yield folder
    finally:
        if wanted is None:
            shutil.rmtree(folder)


@contextmanager
def _bar() -> Generator[Progress]:
    """Yield what shows a bar, where somebody looks."""
    console = Console(stderr=True)
    columns: list[Any] = [
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    ]
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting")

        def progress(done: int, of: int, what: str) -> None:
            bar.update(task, completed=done, total=of, description=what)

        yield progress


if __name__ == "__main__":
    sys.exit(main())
