"""Many places of one cause are one finding, in every form of the report."""

import json

import pytest
import typer
from typer.testing import CliRunner

from newel_tools.check.command import check
from newel_tools.check.rule import load_rules

ROUTES = 8
LINES = [12 + 7 * number for number in range(ROUTES)]
HEAD = """\
from fastapi import APIRouter
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from models import Note

engine = create_engine("sqlite://")
router = APIRouter()
"""
ROUTE = """

@router.post("/PATH", status_code=201)
def NAME(text: str) -> None:
    with Session(engine) as session:
        session.add(Note(text=text))
        session.commit()
"""


def router(*paths: str) -> str:
    """Return a module with a route for each path, none of which asks who is calling."""
    return HEAD + "".join(
        ROUTE.replace("PATH", path).replace("NAME", path.replace("/", "_")) for path in paths
    )


NOTES = [f"notes/{number}" for number in range(ROUTES)]
FILES = {
    "models.py": """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
""",
    "notes.py": router(*NOTES),
    "lists.py": router("lists/0"),
    "main.py": """\
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer

import lists
import notes

app = FastAPI()
app.include_router(notes.router)
app.include_router(lists.router)


@app.get("/mine")
def read(token: Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl="login"))]) -> str:
    return token
""",
}


@pytest.fixture
def told(tmp_path, monkeypatch, zygote):
    """Review the two routers for AUTH001 and return what the command printed."""
    only = {"AUTH001": load_rules()["AUTH001"]}
    monkeypatch.setattr("newel_tools.check.check.load_rules", lambda: only)
    monkeypatch.setattr(
        "newel_tools.check.check.load_facts", lambda project, **_: zygote.facts(project)
    )
    folder = tmp_path / "desk"
    folder.mkdir()

    def tell(*words: str, **changed: str) -> str:
        for name, text in (FILES | {f"{key}.py": text for key, text in changed.items()}).items():
            (folder / name).write_text(text)
        program = typer.Typer()
        program.command()(check)
        return CliRunner(env={"COLUMNS": "200"}).invoke(program, [str(folder), *words]).stdout

    return tell


def test_people_see_the_first_place_and_where_the_others_are(told):
    said = told()

    assert "POST /lists/0 changes data and does not ask who is calling\n" in said
    assert "calling; the same in 7 more places\n" in said
    assert f"also notes.py:{LINES[1]}  POST /notes/1 changes data" in said
    assert f"also notes.py:{LINES[6]}, {LINES[7]}\n" in said
    assert "BLOCK: 2 to block" in said


def test_machines_see_every_place(told):
    lists, notes = json.loads(told("--json"))["findings"]

    assert (lists["file"], lists["places"]) == ("lists.py", [])
    assert (notes["file"], notes["line"], notes["route"]) == ("notes.py", LINES[0], "POST /notes/0")
    assert [place["line"] for place in notes["places"]] == LINES[1:]
    assert notes["places"][6]["route"] == "POST /notes/7"


def test_code_hosts_see_related_places_under_a_name_that_stays(told):
    _, notes = json.loads(told("--format", "sarif"))["runs"][0]["results"]
    guarded = router(*NOTES).replace(
        "def notes_0(", "# newel: allow AUTH001 - the gateway asks\ndef notes_0("
    )
    _, fewer = json.loads(told("--format", "sarif", notes=guarded))["runs"][0]["results"]

    places = [place["physicalLocation"] for place in notes["relatedLocations"]]
    assert [place["region"]["startLine"] for place in places] == LINES[1:]
    assert {place["artifactLocation"]["uri"] for place in places} == {"notes.py"}
    assert (len(places), len(fewer["relatedLocations"])) == (7, 6)
    assert notes["partialFingerprints"] == fewer["partialFingerprints"]


def test_a_pull_request_sees_one_annotation_a_cause(told):
    lines = [line for line in told("--format", "github").splitlines() if "AUTH001" in line]

    assert len(lines) == 2
    assert f"Also at notes.py:{LINES[1]}, notes.py:{LINES[2]}, " in lines[1]


def test_a_baseline_keeps_places_apart(told, tmp_path):
    file = str(tmp_path / "baseline.json")
    told("--write-baseline", file)

    said = told("--baseline", file, notes=router(*NOTES, "notes/new"))

    assert "POST /notes/new changes data and does not ask who is calling\n" in said
    assert "1 to block, 9 in the baseline" in said
