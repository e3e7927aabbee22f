"""A duplicate is a conflict, not a failure of the server."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.resources import Resource

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    yield from _registered_twice(lab)
    for resource in lab.world.resources:
        if resource.create is not None:
            yield _made_twice(lab, resource)
            yield from _changed_to_another(lab, resource)


def _registered_twice(lab: Lab) -> Iterator[Result]:
    form = lab.entrance.registration
    if form is None:
        return
    first = lab.last_success(form.operation)
    if first is None:
        return
    again = lab.send(first.request, first.caller)
    if again.answer.is_fault:
        said = f"a name that is taken is answered with {again.answer.status}"
        yield PROBE.broke(form.operation.label, said, first, again)
    else:
        yield PROBE.kept(form.operation.label)


def _made_twice(lab: Lab, resource: Resource) -> Result:
    label = resource.label
    maker = lab.maker_for(resource)
    made = lab.world.make(resource, maker)
    if made is None or made.exchange is None:
        return PROBE.skipped(label, "no such thing could be made")
    again = lab.send(made.exchange.request, maker)
    if again.answer.is_fault:
        said = f"the same request a second time is answered with {again.answer.status or 'nothing'}"
        return PROBE.broke(label, said, made.exchange, again)
    return PROBE.kept(label)


def _changed_to_another(lab: Lab, resource: Resource) -> Iterator[Result]:
    """Change one thing so that it has a unique value of another."""
    update = resource.item("PATCH", "PUT")
    maker = lab.maker_for(resource)
    kept = lab.world.kept(resource, maker)
    if update is None or kept is None or update not in lab.operations:
        return
    tables = [lab.service.tables[name] for name in kept.tables if name in lab.service.tables]
    unique = {name for table in tables[:1] for names in table.unique for name in names}
    names = [name for name in update.fields if name in unique and name in kept.body]
    if not names:
        return
    second = lab.world.make(resource, maker)
    changes = {name: kept.body[name] for name in names}
    own = None if second is None else lab.request(update, maker, second)
    request = None if second is None else lab.request(update, maker, second, changes=changes)
    if own is None or request is None:
        return
    if lab.send(own, maker).answer.is_fault:
        yield PROBE.skipped(update.label, "a change to what nobody has ends in a 5xx, too")
        return
    exchange = lab.send(request, maker)
    if exchange.answer.is_fault:
        said = f"the {' and '.join(names)} of another is answered with {exchange.answer.status}"
        yield PROBE.broke(update.label, said, exchange)
    else:
        yield PROBE.kept(update.label)


_BAD = f"""{DATABASE}
# file: main.py
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from database import Base, Db, engine


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class TagCreate(BaseModel):
    name: str


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/tags", status_code=201)
def create_tag(data: TagCreate, session: Db) -> dict[str, int]:
    tag = Tag(name=data.name)
    session.add(tag)
    session.commit()
    return {{"id": tag.id}}
"""
PROBE = Probe(
    id="ERR006",
    title="A duplicate is answered with 409",
    severity="block",
    why="The caller can mend a conflict; a 500 says that nobody but the operators can.",
    fix="let the unique constraint decide, and turn its IntegrityError into a 409",
    seed='"409 Conflict (Duplicate)"',
    expected="requests that may be repeated: any answer but a 5xx is fine",
    bad=_BAD,
    good=_BAD.replace(
        "    session.commit()\n    return",
        "    try:\n        session.commit()\n    except IntegrityError:\n"
        "        raise HTTPException(409) from None\n    return",
    ),
    run=_run,
)
