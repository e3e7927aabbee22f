"""The measuring: it counts right, finds variants that differ, and says what it cannot do."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from benchmarks import instructions
from benchmarks.bench import Cell, measure
from benchmarks.callgrind import Callgrind, Request
from benchmarks.conformance import conforms
from benchmarks.databases import AGENTS_OF_A_USER, USERS, Prepared, prepared
from benchmarks.load import Stopped, requests, run
from benchmarks.report import Measured, Report, Sample, write_section
from benchmarks.servers import ROOT, VARIANTS, BenchmarkError, Server, pinned, serving
from benchmarks.service import newel_service
from benchmarks.statements import statements

# A service is generated once, with its own tests; callgrind takes 50 times the time.
pytestmark = pytest.mark.timeout(600)

CORE = min(os.sched_getaffinity(0))
[FLOOR] = [variant for variant in VARIANTS if variant.name == "floor"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    directory = tmp_path_factory.mktemp("benchmarks")
    with prepared("postgresql", service=newel_service(), directory=directory) as filled:
        yield filled


@pytest.fixture(scope="module")
def workload(database: Prepared) -> dict:
    return json.loads(database.workload.read_text())


def serve_floor(database: Prepared, **variables: str) -> AbstractContextManager[Server]:
    environment = database.environment(FLOOR.name) | variables
    return serving(FLOOR, variables=environment, directory=ROOT, core=CORE)


@pytest.fixture(scope="module")
def floor(database: Prepared) -> Iterator[Server]:
    with serve_floor(database) as server:
        yield server


@pytest.fixture(autouse=True)
def _the_same_rows(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "database" in request.fixturenames:
        request.getfixturevalue("database").reset()


def test_the_floor_answers_as_it_should(floor: Server, workload: dict) -> None:
    conforms(floor, workload)


def test_the_floor_answers_as_it_should_on_sqlite(tmp_path: Path) -> None:
    with (
        prepared("sqlite", service=newel_service(), directory=tmp_path) as sqlite,
        serve_floor(sqlite) as server,
    ):
        conforms(server, json.loads(sqlite.workload.read_text()))
        sqlite.reset()


def test_a_variant_that_refuses_good_tokens_is_found(database: Prepared, workload: dict) -> None:
    with (
        serve_floor(database, BENCH_ISSUER="somebody else") as server,
        pytest.raises(BenchmarkError, match="the status of a list is 401, not 200"),
    ):
        conforms(server, workload)


def test_a_variant_that_takes_any_token_is_found(floor: Server, workload: dict) -> None:
    lenient = workload | {"ended_token": workload["users"][0]["token"]}

    with pytest.raises(BenchmarkError, match="a token of an ended session is 200, not 401"):
        conforms(floor, lenient)


def test_a_variant_that_misses_a_row_is_found(floor: Server, workload: dict) -> None:
    [user, *_] = workload["users"]
    one_row = workload | {"users": [user | {"agents": user["agents"][:1]}]}
    run("delete", one_row, port=floor.port, connections=1, seconds=5)

    with pytest.raises(BenchmarkError, match="a page's numbers is"):
        conforms(floor, workload)


def test_cpu_is_of_the_server_alone(floor: Server, database: Prepared) -> None:
    cell = Cell(server=floor, operation="get", connections=4)

    sample = measure(cell, database, core=CORE, seconds=0.3)

    assert sample.requests > 0
    assert 10 < sample.cpu_us < 1.1e6 * sample.seconds / sample.requests
    assert sample.p50_ms <= sample.p99_ms


def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)

    for _ in range(2):  # a whole run pins itself several times
        with pinned() as (core, load_core):
            assert os.sched_getaffinity(0) == {load_core}
            assert core != load_core

    assert os.sched_getaffinity(0) == before


def test_idle_time_costs_nothing(floor: Server) -> None:
    before = floor.cpu_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)

    assert floor.cpu_seconds() - before < 0.01
    assert floor.resident_bytes() > 10_000_000


@pytest.mark.parametrize("operation", ["get", "list", "post", "patch", "delete"])
def test_statements_are_counted_exactly(floor: Server, database: Prepared, operation: str) -> None:
    assert statements(floor, database, operation) == (2.0, 0.0)


def test_a_wrong_answer_ends_the_load(floor: Server, workload: dict) -> None:
    [user, *_] = workload["users"]
    stranger = dict(workload, users=[user | {"token": workload["ended_token"]}])

    with pytest.raises(Stopped, match="401"):
        run("get", stranger, port=floor.port, connections=2, seconds=0.1)


def test_the_load_is_the_same_each_time_and_deletes_each_row_once(workload: dict) -> None:
    once, again = (list(islice(requests("list", workload), 50)) for _ in range(2))
    deletes = list(requests("delete", workload))

    assert once == again
    assert len(set(deletes)) == len(deletes) == USERS * AGENTS_OF_A_USER


def measured(variant: str, *cpu_us: float) -> Measured:
    samples = [Sample(cpu_us=cpu, requests=1, seconds=1, p50_ms=1, p99_ms=1) for cpu in cpu_us]
    return Measured(
        backend="postgresql",
        variant=variant,
        operation="get",
        connections=16,
        samples=samples,
        resident_bytes=1,
        statements=None,
    )


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was three times slower in the last two rounds: the medians' ratio would be 4.
    floor = measured("floor", 100, 100, 100, 300, 300)
    slow = measured("hand", 200, 200, 400, 600, 600)
    report = Report(measured=[floor, slow])

    assert report.ratio(slow, "floor") == 2.0
    assert report.ratio(slow, "newel") is None


def test_a_ratio_needs_the_same_load() -> None:
    floor, slow = replace(measured("floor", 100), connections=1), measured("hand", 200)

    assert Report(measured=[floor, slow]).ratio(slow, "floor") is None


def test_a_table_is_written_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    markers = "<!-- begin here: printed by benchmarks/ -->\nold\n<!-- end here -->"
    page.write_text(f"# Title\n\n{markers}\n\nwords\n")

    write_section("here", "| new |", page=page)
    write_section("here", "| newer |", page=page)

    text = page.read_text()
    assert "| newer |" in text
    assert "old" not in text
    assert "| new |" not in text
    assert text.startswith("# Title\n\n<!-- begin here")
    assert text.endswith("<!-- end here -->\n\nwords\n")


def test_a_page_without_the_place_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n")

    with pytest.raises(BenchmarkError, match="has no place for here"):
        write_section("here", "| new |", page=page)


def test_an_unknown_variant_is_refused_in_two_lines() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench", "--variant", "nobody's"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "There is no variant nobody's."
    assert done.stderr.splitlines()[1].strip().startswith("fix: take of floor, hand, ")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(platform.machine() != "x86_64", reason="callgrind is asked on x86-64 only")
def test_asking_callgrind_without_callgrind_does_nothing() -> None:
    Callgrind().send(Request.ZERO)


def test_what_the_clock_starts_in_between_is_not_counted() -> None:
    # N and 2N requests in turn, at 10 each and 3 around them; twice something else came in between.
    assert instructions._difference([13, 23, 913, 23, 13, 523]) == 10


def test_more_instructions_than_allowed_are_found() -> None:
    committed = {"get": 1_000_000, "list": 1_000_000}

    assert instructions.exceeded({"get": 1_030_000, "list": 900_000}, committed) == []
    [line] = instructions.exceeded({"get": 1_030_001, "list": 900_000}, committed)
    assert line.startswith("get takes 1,030,001 instructions, +3.0% of 1,000,000")


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_another_build_of_python_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = tmp_path / "instructions.json"
    figures.write_text(json.dumps({"figures": {"build": "another", "instructions": {"get": 1}}}))
    monkeypatch.setattr(instructions, "FIGURES", figures)

    assert instructions.compare() == (
        [],
        f"not compared: the figures are of another, this is {instructions.build()}",
    )


def test_a_request_takes_no_more_instructions_than_committed() -> None:
    """The gate: +3 % of benchmarks/results/instructions.json, for the same build of Python."""
    faults, told = instructions.compare()
    if told.startswith("not compared"):
        pytest.skip(told)

    assert not faults, "\n".join([*faults, "meant? python -m benchmarks.instructions --accept"])
