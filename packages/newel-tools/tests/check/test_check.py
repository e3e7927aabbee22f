"""The review as a whole: one finding a cause, what is allowed, what is known, the verdict."""

import os
from dataclasses import replace

import pytest

from newel_tools.check.check import check_project, merged, review_facts
from newel_tools.check.finding import Finding, verdict_of
from newel_tools.check.rule import load_rules
from newel_tools.facts.project import find_project
from newel_tools.facts.source import read_source

RULES = load_rules()
BLOCKING = RULES["ASYNC001"]

SLEEPS = """
import time

from fastapi import FastAPI

app = FastAPI()


@app.get("/one")
@app.get("/two")
async def slow() -> None:
    time.sleep(1){comment}
"""


def finding(**changes) -> Finding:
    given = {
        "rule": "A1",
        "severity": "change",
        "certainty": "proved",
        "what": "it is",
        "why": "so",
        "fix": "it",
        "seed": "s",
        "file": "a.py",
        "line": 3,
        "route": "GET /a",
    }
    return Finding(**{**given, **changes})


def test_one_cause_is_one_finding_with_all_its_routes():
    found = merged([finding(), finding(route="GET /b"), finding(route="GET /b"), finding(line=4)])

    assert [(item.line, item.route, item.also) for item in found] == [
        (3, "GET /a", ("GET /b",)),
        (4, "GET /a", ()),
    ]


def test_a_cause_without_a_place_is_one_finding_too():
    found = merged([finding(file=None, line=0), finding(file=None, line=0, route="GET /b")])

    assert [item.also for item in found] == [("GET /b",)]


@pytest.mark.parametrize(
    ("severities", "verdict"),
    [
        ([], "APPROVE"),
        (["note"], "APPROVE"),
        (["note", "change"], "REQUEST CHANGES"),
        (["change", "block"], "BLOCK"),
    ],
)
def test_the_gravest_finding_decides(severities, verdict):
    assert verdict_of(finding(severity=severity) for severity in severities) == verdict


def test_a_finding_is_known_by_its_words_not_its_line():
    assert finding(line=9).fingerprint == finding().fingerprint
    for change in ({"file": "b.py"}, {"what": "else"}, {"route": None}, {"rule": "A2"}):
        assert finding(**change).fingerprint != finding().fingerprint


def test_a_report_counts_routes_of_one_endpoint_once(reviewed):
    report = reviewed(SLEEPS.format(comment=""), rules=[BLOCKING])

    (found,) = report.findings
    assert {found.route, *found.also} == {"GET /one", "GET /two"} or found.route == "GET /two"
    assert report.verdict == "REQUEST CHANGES"


@pytest.mark.parametrize(
    "comment",
    [
        "  # newel: allow ASYNC001 - measured, it is a fixture",
        "  # newel: allow ASYNC001: measured, it is a fixture",
    ],
)
def test_a_comment_with_a_reason_allows(reviewed, comment: str):
    report = reviewed(SLEEPS.format(comment=comment), rules=[BLOCKING])

    assert report.findings == ()
    assert [item.rule for item in report.allowed] == ["ASYNC001"]
    assert report.verdict == "APPROVE"


@pytest.mark.parametrize(
    "comment",
    ["  # newel: allow ASYNC001", "  # newel: allow ASYNC001 - ok", "  # newel: allow ASYNC001 -"],
)
def test_a_comment_without_a_reason_is_a_finding(reviewed, comment: str):
    report = reviewed(SLEEPS.format(comment=comment), rules=[BLOCKING])

    assert [item.rule for item in report.findings] == ["ASYNC001", "ALLOW001"]
    assert report.allowed == ()


def test_a_comment_for_another_rule_allows_nothing(reviewed):
    comment = "  # newel: allow ASYNC003 - another rule altogether"

    assert len(reviewed(SLEEPS.format(comment=comment), rules=[BLOCKING]).findings) == 1


@pytest.mark.parametrize(
    ("place", "allowed"),
    [("@app.get", True), ("async def", True), ("    time", True), ("app =", False)],
)
def test_a_comment_above_a_line_or_a_definition_counts(reviewed, place: str, allowed: bool):
    said = "# newel: allow ASYNC001 - measured, it is a fixture\n"
    indent = "    " if place.startswith("    ") else ""
    text = SLEEPS.format(comment="").replace(place, f"{indent}{said}{place}", 1)

    assert bool(reviewed(text, rules=[BLOCKING]).allowed) is allowed


def test_a_baseline_leaves_what_is_new(reviewed):
    report = reviewed(SLEEPS.format(comment=""), rules=[BLOCKING])
    accepted = {item.fingerprint: 1 for item in report.findings}
    more = SLEEPS.format(comment="") + "    time.sleep(2)\n"

    again = reviewed(SLEEPS.format(comment="") + "\n# moved\n", rules=[BLOCKING], baseline=accepted)
    grown = reviewed(more, rules=[BLOCKING], baseline=accepted)

    assert (again.findings, len(again.known), again.verdict) == ((), 1, "APPROVE")
    assert (len(grown.findings), len(grown.known)) == (1, 1)


def write(folder, text: str):
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(text)
    return find_project(folder)


def test_what_cannot_be_imported_is_read_and_not_approved(tmp_path):
    text = "import not_there\n" + SLEEPS.format(comment="")

    report = check_project(write(tmp_path, text))

    assert [item.rule for item in report.findings] == ["ASYNC001"]
    assert {item.certainty for item in report.findings} == {"suspected"}
    assert "No module named 'not_there'" in report.notes[0]
    assert report.notes[1].startswith("not approved: without an import")
    assert report.notes[1].endswith("name its interpreter with --python")


def test_an_import_that_does_what_a_review_forbids_is_told_how_to_go_on(tmp_path):
    text = "import subprocess\nsubprocess.run(['true'])\n" + SLEEPS.format(comment="")

    report = check_project(write(tmp_path, text))

    assert "no programs in a review" in report.notes[0]
    assert "without programs, network and files outside the project" in report.notes[1]
    assert "--python" not in report.notes[1]


def test_nothing_found_without_an_import_is_no_approval(tmp_path):
    report = check_project(
        write(tmp_path, "import not_there\nfrom fastapi import FastAPI\napp = FastAPI()\n")
    )

    assert report.findings == ()
    assert report.verdict == "REQUEST CHANGES"


def test_files_that_cannot_be_read_are_named(tmp_path):
    project = write(tmp_path, "from fastapi import FastAPI\napp = FastAPI()\n")
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "latin.py").write_bytes(b"name = '\xe9'\n")
    (tmp_path / "declared.py").write_bytes(b"# coding: latin-1\nname = '\xe9'\n")
    (tmp_path / "deep.py").write_text("(" * 5000 + ")" * 5000)
    chain = "".join(f"    elif a == {number}: return a\n" for number in range(1_200))
    (tmp_path / "elif.py").write_text(f"def f(a):\n    if a: return 0\n{chain}")
    (tmp_path / "sum.py").write_text("x = " + " + ".join("1" * 1_200))
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    os.mkfifo(tmp_path / "pipe.py")

    report = check_project(find_project(tmp_path))

    assert project.application.name == "main:app"
    assert report.facts.is_imported
    assert {unread.file: unread.reason for unread in report.unread} == {
        "broken.py": "invalid syntax",
        "deep.py": "too many nested parentheses",
        "elif.py": "nested more than 100 deep",
        "latin.py": "it is no text in its declared encoding",
        "sum.py": "nested more than 100 deep",
    }
    assert "broken.py:1 could not be read: invalid syntax" in report.notes
    assert report.notes[-1].startswith("not reviewed: 2 of the files cannot be read as Python 3.")


def test_of_many_files_that_cannot_be_read_some_are_named(tmp_path, zygote):
    (tmp_path / "main.py").write_text("from fastapi import FastAPI\n\napp = FastAPI()\n")
    for number in range(13):
        (tmp_path / f"broken{number:02}.py").write_text("x = = 1")
    project = find_project(tmp_path)
    source = read_source(project.root, project.files, project.import_paths)

    report = review_facts(project, zygote.facts(project), source, baseline={}, rules=[])

    said = [note for note in report.notes if "could not be read" in note]
    assert said[-2:] == [
        "broken09.py:1 could not be read: invalid syntax",
        "3 more files could not be read",
    ]
    assert len(said) == 11
    assert len(report.unread) == 13


def test_a_rule_that_fails_costs_only_itself(tmp_path):
    def fail(_review):
        yield BLOCKING.found("before")
        raise RecursionError("too deep")

    failing = replace(BLOCKING, id="BAD001", find=fail)
    project = write(tmp_path, SLEEPS.format(comment=""))

    report = check_project(project, rules=[failing, BLOCKING])

    assert {item.what for item in report.findings} > {"before"}
    assert report.notes[0].startswith("BAD001 failed, please report it: RecursionError at test_ch")


def test_the_json_says_all_of_it(reviewed):
    said = reviewed(SLEEPS.format(comment=""), rules=[BLOCKING]).as_json()

    assert (said["verdict"], said["imported"]) == ("REQUEST CHANGES", True)
    assert said["findings"][0]["rule"] == "ASYNC001"
    assert said["findings"][0]["fingerprint"]
    assert said["application"] == "main:app"


SWITCHED = {
    "main.py": """
import os

from fastapi import FastAPI

from shop import reports
from shop.orders import router

app = FastAPI()
app.include_router(router, prefix="/v1")
if os.getenv("WITH_REPORTS") == "yes":
    app.include_router(reports.router)
""".lstrip(),
    "shop/__init__.py": "",
    "shop/orders.py": """
import functools

from fastapi import APIRouter

router = APIRouter(prefix="/orders")


def plain(function):
    def wrapper():
        return function()

    return wrapper


@router.get("/")
def orders() -> None: ...


@router.get("/wrapped")
@plain
def wrapped() -> None: ...
""".lstrip(),
    "shop/reports.py": """
from fastapi import APIRouter

router = APIRouter()


@router.get("/reports")
def reports() -> None: ...
""".lstrip(),
    "shop/old.py": """
from fastapi import APIRouter

old = APIRouter(prefix="/old")


@old.post("/orders")
def order() -> None: ...
""".lstrip(),
    "examples/one.py": "from main import app\n\n\n@app.get('/one')\ndef one() -> None: ...\n",
    "tests/test_one.py": "from main import app\n\n\n@app.get('/two')\ndef two() -> None: ...\n",
}


def test_routes_that_the_application_lacks_are_named(reviewed):
    report = reviewed(SWITCHED, rules=[])

    assert report.verdict == "APPROVE"
    assert report.notes[-1].startswith("2 routes were reviewed, and 2 that the source declares")
    assert report.notes[-1].endswith(
        "POST /old/orders (shop/old.py:7), GET /reports (shop/reports.py:7)"
    )
    listed = [(item["route"], item["file"]) for item in report.as_json()["unseen_routes"]]
    assert listed == [("POST /old/orders", "shop/old.py"), ("GET /reports", "shop/reports.py")]


def test_a_whole_application_lacks_no_route(reviewed):
    files = {"main.py": SWITCHED["main.py"].replace('os.getenv("WITH_REPORTS") == "yes"', "True")}
    report = reviewed({**SWITCHED, **files, "shop/old.py": ""}, rules=[])

    assert report.unseen == ()
    assert not [note for note in report.notes if "reviewed" in note]


LATE = """
from contextlib import asynccontextmanager

from fastapi import FastAPI

from shop.orders import router


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.include_router(router, prefix="/v1")
    yield


app = FastAPI(lifespan=lifespan)
""".lstrip()


def test_an_application_that_is_empty_until_it_starts_is_read_and_not_approved(tmp_path):
    for name, text in {**SWITCHED, "main.py": LATE}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    report = check_project(find_project(tmp_path), rules=[])

    assert report.verdict == "REQUEST CHANGES"
    assert {"GET /v1/orders/", "GET /v1/orders/wrapped"} < {r.label for r in report.facts.routes}
    assert report.notes[0].startswith("import: no route: the source declares 2, and none is there")


def test_an_application_without_any_route_is_no_failure(tmp_path):
    (tmp_path / "main.py").write_text("from fastapi import FastAPI\n\napp = FastAPI()\n")

    report = check_project(find_project(tmp_path), rules=[])

    assert report.verdict == "APPROVE"
    assert report.facts.is_imported


def test_routes_that_were_only_read_are_counted(tmp_path):
    for name, text in {**SWITCHED, "shop/broken.py": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace("import functools", "import not_there"))

    report = check_project(find_project(tmp_path), rules=[])

    said = "no route of the application was seen: 4 were read in the source, and 1 left out"
    assert report.notes[-1].startswith(said), report.notes
