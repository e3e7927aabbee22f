"""Null into NOT NULL: the ways in which a body ends in a column, and those in which it does not."""

import pytest

from newel_tools.check.rule import load_rules

RULE = load_rules()["DATA001"]

APP = """
from typing import Any, Generic, TypeVar

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, model_validator
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import String, TypeDecorator

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Lowered(TypeDecorator):
    impl = String
    cache_ok = True


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    lowered: Mapped[str] = mapped_column(Lowered, default="")


class Body(BaseModel):
    title: str | None = None


class Checked(Body):
    @model_validator(mode="after")
    def whole(self) -> "Checked":
        return self


class Other(BaseModel):
    title: str | None = None
    lowered: str | None = None


def load(session: Session, note_id: int) -> Note | None:
    return session.get(Note, note_id)
"""
ROUTE = """

class Body{number}(Body):
    title: str | None = None


@app.patch("/{number}/{{note_id}}")
def change{number}(note_id: int, body: Body{number}) -> None:
    with Session(engine) as session:
        note = {note}
        {code}
        session.commit()
"""
LOADED = "session.get_one(Note, note_id)"
LOOP = "for name, value in {data}.items():\n    setattr(note, name, value)"
SAID = "`title` may be null, `notes.title` may not"


def found(reviewed, rest: str) -> list[str]:
    report = reviewed(APP + rest, rules=[RULE])

    assert report.facts.is_imported, report.notes
    return [finding.what for finding in report.findings]


def faulty(reviewed, codes: list[str], *, notes: list[str] | None = None) -> list[str]:
    """Review one application with a route for each piece of code; return those with a finding."""
    routes = [
        ROUTE.format(number=number, code=code.replace("\n", "\n        "), note=note)
        for number, (code, note) in enumerate(
            zip(codes, notes or [LOADED] * len(codes), strict=True)
        )
    ]
    report = reviewed(APP + "".join(routes), rules=[RULE])
    assert report.facts.is_imported, report.notes
    numbers = [int(finding.route.split("/")[1]) for finding in report.findings]
    return [(notes or codes)[number] for number in sorted(numbers)]


INSERTS = [
    "session.add(Note(**body.model_dump()))",
    "session.add(Note(**body.dict()))",
    "session.add(Note(title=body.title))",
    "session.add(Note(**{**body.model_dump(), 'id': 1}))",
    "session.add(Note(**(body.model_dump() | {'id': 1})))",
    "data = body.model_dump()\nsession.add(Note(**data))",
    "data: dict[str, Any] = jsonable_encoder(body)\nsession.add(Note(**data))",
    "session.add(Note(**{k: v for k, v in body.model_dump().items()}))",
    "session.execute(insert(Note).values(**body.model_dump()))",
    "session.execute(insert(Note).values(body.model_dump()))",
]


def test_finds_what_is_inserted(reviewed):
    assert faulty(reviewed, INSERTS) == INSERTS


NOT_INSERTED = [
    "session.add(Note(**body.model_dump(exclude_none=True)))",
    "session.add(Note(**body.model_dump(exclude={'title'})))",
    "session.add(Note(**body.model_dump(include={'id'})))",
    "session.add(Note(**body.model_dump(), title='x'))",
    "session.add(Note(**{**body.model_dump(), 'title': 'x'}))",
    "session.add(Note(**(body.model_dump() | {'title': 'x'})))",
    "session.add(Note(**{k: v for k, v in body.model_dump().items() if v is not None}))",
    "session.add(Note(title=body.title or 'untitled'))",
    "session.add(Note(title='x' if body.title is None else body.title))",
    "data = body.model_dump()\ndata['title'] = 'x'\nsession.add(Note(**data))",
    "data = body.model_dump()\ndata.pop('title')\nsession.add(Note(**data))",
    "assert body.title\nsession.add(Note(**body.model_dump()))",
    "data = {'title': 'x'}\nsession.add(Note(**data))",
    "session.add(Note(**dict(title='x')))",
    "print(body.model_dump())",
    "session.execute(select(Note).where(Note.title == body.title))",
]


def test_is_silent_where_null_is_not_inserted(reviewed):
    assert faulty(reviewed, NOT_INSERTED) == []


ROWS = [
    "session.get_one(Note, note_id)",
    "load(session, note_id)",
    "session.query(Note).filter(Note.id == note_id).first()",
    "session.query(Note).get(note_id)",
    "session.scalars(select(Note).where(Note.id == note_id)).one()",
    "session.execute(select(Note).where(Note.id == note_id)).scalar_one_or_none()",
    "session.scalar(select(Note).where(Note.id == note_id)) or Note()",
]
UNKNOWN = "next(iter(session.scalars(select(Note))))"


def test_knows_rows_by_how_they_were_loaded(reviewed):
    loop = LOOP.format(data="body.model_dump(exclude_unset=True)")
    notes = [*ROWS, UNKNOWN]

    assert faulty(reviewed, [loop] * len(notes), notes=notes) == ROWS


UPDATES = [
    "note.title = body.title",
    LOOP.format(data="body.model_dump()") + "\nif note_id:\n    note.title = 'x'",
    "note.title = 'x'\n" + LOOP.format(data="body.model_dump()"),
    LOOP.format(data="body.model_dump()") + "\nother = Note()\nother.title = 'x'",
    "session.execute(update(Note).where(Note.id == note_id).values(**body.model_dump()))",
    "session.query(Note).filter(Note.id == note_id).update(body.model_dump())",
    "data = body.model_dump()\nfor name in data:\n    setattr(note, name, data[name])",
    (
        "data = body.model_dump()\nfor name in vars(note):\n    if name in data:\n"
        "        setattr(note, name, data[name])"
    ),
    (
        "for name, value in body.model_dump().items():\n    if hasattr(note, name):\n"
        "        setattr(note, name, value)"
    ),
]


def test_finds_what_is_updated(reviewed):
    assert faulty(reviewed, UPDATES) == UPDATES


NOT_UPDATED = [
    "if body.title:\n    note.title = body.title",
    "if body.title is not None:\n    note.title = body.title",
    (
        "for name, value in body.model_dump().items():\n    if value:\n"
        "        setattr(note, name, value)"
    ),
    (
        "for name, value in body.model_dump().items():\n    if name != 'id' and value:\n"
        "        setattr(note, name, value)"
    ),
    LOOP.format(data="body.model_dump()") + "\nnote.title = 'x'",
    LOOP.format(data="body.model_dump()") + "\nsetattr(note, 'title', 'x')",
    "for name, value in {'title': 'x'}.items():\n    setattr(note, name, value)",
    "note.title = 'x'",
    "note.other = body.title",
    "note.title, note.other = body.title, 1",
    "print(note.title)",
]


def test_is_silent_where_null_is_not_written(reviewed):
    assert faulty(reviewed, NOT_UPDATED) == []


TWO = """

@app.patch("/other/{note_id}")
def other(note_id: int, body: Other) -> None:
    with Session(engine) as session:
        note = session.get_one(Note, note_id)
        for name, value in body.model_dump().items():
            setattr(note, name, value)


@app.patch("/checked/{note_id}")
def checked(note_id: int, body: Checked) -> None:
    with Session(engine) as session:
        note = session.get_one(Note, note_id)
        note.title = body.title
"""


def test_types_of_the_project_and_validators_of_the_whole_model_are_trusted(reviewed):
    assert found(reviewed, TWO) == [SAID]  # `Other.title`


GENERIC = """
Entity = TypeVar("Entity")
Update = TypeVar("Update")


class Crud(Generic[Entity, Update]):
    def __init__(self, model: type[Entity]) -> None:
        self.model = model

    def create(self, session: Session, body: Update) -> Entity:
        row = self.model(**body.model_dump())
        session.add(row)
        return row

    def update(self, session: Session, row: Entity, body: Update | dict[str, Any]) -> Entity:
        data = body if isinstance(body, dict) else body.model_dump(exclude_unset=True)
        for name in data:
            setattr(row, name, data[name])
        return row


class Notes(Crud[Note, {bound}]):
    pass


class Unbound(Crud[int, str]):
    pass


notes = Notes(Note)


@app.post("/notes")
def create(body: {bound}) -> None:
    with Session(engine) as session:
        {call}
        session.commit()
"""


@pytest.mark.parametrize(
    ("bound", "expected"),
    [("Body", [SAID]), ("Checked", [])],
)
def test_follows_a_generic_repository(reviewed, bound: str, expected: list[str]):
    rest = GENERIC.format(bound=bound, call="notes.create(session, body)")

    assert found(reviewed, rest) == expected


GUARDED = """
from fastapi import Depends, HTTPException, status
from sqlalchemy.exc import SQLAlchemyError


def opened():
    with Session(engine) as session:
        try:
            yield session
        except SQLAlchemyError as error:
            session.rollback()
            raise {raised}


@app.post("/notes")
def create(body: Body, session: Session = Depends(opened)) -> None:
    session.add(Note(**body.model_dump()))
    session.flush()
"""


@pytest.mark.parametrize(
    ("raised", "severity"),
    [
        ("HTTPException(400, 'refused')", "change"),
        ("HTTPException(status_code=status.HTTP_409_CONFLICT)", "change"),
        ("HTTPException(500, 'no')", "block"),
        ("HTTPException(status_code=status.HTTP_500_INTERNAL_SERVER_ERROR)", "block"),
        ("", "block"),
        ("error", "block"),
    ],
)
def test_a_dependency_that_answers_for_the_database_makes_it_a_change(
    reviewed, raised: str, severity: str
):
    report = reviewed(APP + GUARDED.format(raised=raised), rules=[RULE])

    assert [(item.what, item.severity) for item in report.findings] == [(SAID, severity)]


HANDLED = """
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError


@app.exception_handler(SQLAlchemyError)
def failed(request: Any, error: Exception) -> JSONResponse:
    return JSONResponse({{"detail": "no"}}, status_code={status})


@app.post("/notes")
def create(body: Body) -> None:
    with Session(engine) as session:
        session.add(Note(**body.model_dump()))
        session.commit()
"""


@pytest.mark.parametrize(("status", "severity"), [(409, "change"), (500, "block")])
def test_a_handler_makes_it_a_change_only_where_it_answers_with_another_status(
    reviewed, status: int, severity: str
):
    report = reviewed(APP + HANDLED.format(status=status), rules=[RULE])

    assert [item.severity for item in report.findings] == [severity]


NEVER_SENT = """

@app.post("/notes")
def create() -> None:
    body = Body(title="x")
    with Session(engine) as session:
        session.add(Note(**body.model_dump()))


@app.patch("/notes/{note_id}")
def rename(note_id: int, body: Other) -> None:
    with Session(engine) as session:
        note = session.get_one(Note, note_id)
        note.title = body.title


@app.get("/other")
def other(title: str) -> None:
    rename(1, Other(title=title))
"""


def test_only_what_clients_send_counts_and_only_the_routes_that_take_it(reviewed):
    report = reviewed(APP + NEVER_SENT, rules=[RULE])

    (finding,) = report.findings
    assert (finding.what, finding.route, finding.also) == (SAID, "PATCH /notes/{note_id}", ())
