"""Every probe breaks its bad application, and not its good one."""

from collections.abc import Callable

import pytest

from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, load_probes

PROBES = load_probes()


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_it_breaks_the_bad_application(probe: Probe, laboratory: Callable[..., Lab]) -> None:
    results = list(probe.run(laboratory(probe.bad, fuzz_seconds=20)))

    broken = [result for result in results if result.state == "broke"]
    assert broken, results
    finding = broken[0].finding
    assert finding is not None
    assert finding.rule == probe.id
    assert finding.certainty == "confirmed"
    shown = {"DATA007": "alembic check"}.get(probe.id, "127.0.0.1:8000")
    assert shown in broken[0].evidence.curl[-1], broken[0]


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_the_good_application_withstands_it(probe: Probe, laboratory: Callable[..., Lab]) -> None:
    assert probe.good != probe.bad
    results = list(probe.run(laboratory(probe.good, fuzz_seconds=20)))

    assert [result.finding for result in results if result.state == "broke"] == []
    assert any(result.state == "kept" for result in results), results


KEYED = """
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class Text(BaseModel):
    text: str


app = FastAPI()
notes = {"1": "water the plants"}


@app.post("/notes", status_code=201)
def create_note(data: Text) -> dict[str, str]:
    notes[str(len(notes) + 1)] = data.text
    return {"id": str(len(notes))}


@app.get("/notes/{note_id}")
def read_note(note_id: str) -> dict[str, str]:
    if note_id not in notes:
        raise HTTPException(404)
    return {"text": notes[note_id]}


@app.METHOD("/notes/{note_id}")
def change_note(note_id: str, data: Text) -> dict[str, str]:
    BODY
    return {"text": data.text}


@app.delete("/notes/{note_id}", status_code=204)
def delete_note(note_id: str) -> None:
    notes.pop(note_id, None)
"""


@pytest.mark.parametrize(
    ("method", "body", "severity"),
    [
        ("put", "notes[note_id] = data.text", None),  # it is made
        ("put", "notes.update({note_id: data.text} if note_id in notes else {})", "change"),
        ("patch", "notes.update({note_id: data.text} if note_id in notes else {})", "change"),
        ("patch", "notes[note_id] = notes[note_id] and data.text", "block"),
    ],
)
def test_a_change_of_an_unknown_id_either_makes_it_or_says_so(
    laboratory: Callable[..., Lab], method: str, body: str, severity: str | None
) -> None:
    text = KEYED.replace("METHOD", method).replace("BODY", body)

    results = list(PROBES["ERR005"].run(laboratory(text, fuzz_seconds=0)))

    said = {result.route: result.finding and result.finding.severity for result in results}
    assert said == {
        "GET /notes/{note_id}": None,
        f"{method.upper()} /notes/{{note_id}}": severity,
        "DELETE /notes/{note_id}": "note",
    }


WORDED = """
from fastapi import Depends, FastAPI, HTTPException


def connect() -> None:
    raise HTTPException(500, "no connection")


app = FastAPI(dependencies=[Depends(connect)])


@app.get("/notes")
def notes() -> list[str]:
    return []


@app.get("/tags")
def tags() -> list[str]:
    return []
"""


def test_a_failure_that_the_application_words_itself_is_one_cause(
    laboratory: Callable[..., Lab],
) -> None:
    results = list(PROBES["ERR007"].run(laboratory(WORDED, fuzz_seconds=0)))

    causes = [result.cause for result in results if result.state == "broke"]
    assert causes == ['{"detail":"no connection"}'] * 2


def test_readiness_in_words_is_known(laboratory: Callable[..., Lab]) -> None:
    probe = PROBES["OBS001"]
    worded = probe.good.replace(
        "raise HTTPException(503) from None", 'return {"status": "unhealthy"}'
    )

    states = {result.state for result in probe.run(laboratory(worded, fuzz_seconds=0))}

    assert worded != probe.good
    assert states == {"kept"}


def test_a_change_to_what_is_there_already_is_no_race(laboratory: Callable[..., Lab]) -> None:
    """Of the two texts that are changed at once first, one alone is; then it is changed again."""
    probe = PROBES["RACE001"]
    fields = "text: str | None = None\n    title: str | None = None"
    two = (
        probe.good.replace("@app.put", "@app.patch")
        .replace("(BaseModel):\n    text: str", f"(BaseModel):\n    {fields}")
        .replace("note.text = data.text", REFUSING)
    )

    results = list(probe.run(laboratory(two, fuzz_seconds=0)))

    assert [result.state for result in results] == ["kept"], results


REFUSING = """\
if data.title is not None:
        raise HTTPException(409)
    note.text = data.text
"""


CHANGED = """
@app.put("/tags/{tag_id}")
def change_tag(tag_id: int, data: TagCreate, session: Db) -> dict[str, int]:
    tag = session.get(Tag, tag_id)
    if tag is None:
        raise HTTPException(404)
    tag.name = data.name
    session.commit()
    return {"id": VALUE}
"""


@pytest.mark.parametrize(
    ("value", "state"), [("tag.id", "broke"), ("int('none')", "skipped")], ids=["own", "any"]
)
def test_a_change_that_always_fails_is_no_duplicates_matter(
    value: str, state: str, laboratory: Callable[..., Lab]
) -> None:
    probe = PROBES["ERR006"]

    results = list(probe.run(laboratory(probe.good + CHANGED.replace("VALUE", value))))

    assert [result.state for result in results if result.route.startswith("PUT")] == [state]


LOOKED_UP = """
from newel_tools.prove.host.guard import Guard

guard = Guard(folder=".")


@app.get("/archive")
def archive() -> None:
    guard.check("socket.getaddrinfo", ("archive.example.com", 443))
"""


def test_what_the_guard_refused_is_no_text_of_the_applications(
    laboratory: Callable[..., Lab],
) -> None:
    probe = PROBES["ERR001"]

    results = list(probe.run(laboratory(probe.bad + LOOKED_UP, fuzz_seconds=0)))

    assert {result.route: result.state for result in results} == {"GET /report": "broke"}


COMPUTED = """
@app.post("/notes/{note_id}/sums")
def add(note_id: str) -> int:
    return len(VALUE)
"""


@pytest.mark.parametrize(
    ("value", "state"), [("notes[note_id]", "broke"), ("notes['none']", "skipped")]
)
def test_a_post_that_fails_for_known_ids_says_nothing_of_unknown_ones(
    value: str, state: str, laboratory: Callable[..., Lab]
) -> None:
    text = KEYED.replace("METHOD", "put").replace("BODY", "notes[note_id] = data.text")
    text += COMPUTED.replace("VALUE", value)

    results = list(PROBES["ERR005"].run(laboratory(text, fuzz_seconds=0)))

    assert [result.state for result in results if result.route.startswith("POST")] == [state]
