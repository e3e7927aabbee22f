"""What `newel check` takes: time, memory, and the lines a second that it reads without an import.

python -m benchmarks.review
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import markdown, tell
from benchmarks.servers import BenchmarkError
from newel_tools.check.check import review_facts
from newel_tools.check.rule import load_rules
from newel_tools.facts.facts import Facts
from newel_tools.facts.project import find_project
from newel_tools.facts.source import read_source
from newel_tools.facts.source_routes import source_routes

SIZES = ((200, 20_000), (1_000, 100_000), (5_000, 100_000))
"""Routes and lines."""
ROUTES_A_FILE = 10
MAIN = "from fastapi import FastAPI\nfrom shop.sessions import engine\n{imports}\napp = FastAPI()\n"
SESSIONS = """
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

engine = create_engine("sqlite://")
sessions = sessionmaker(engine)
bearer = OAuth2PasswordBearer(tokenUrl="login")


class Base(DeclarativeBase):
    pass


def open_session() -> Iterator[Session]:
    with sessions() as session:
        yield session


CurrentSession = Annotated[Session, Depends(open_session)]
Token = Annotated[str, Depends(bearer)]
"""
HEAD = """
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, mapped_column

from shop.sessions import Base, CurrentSession, Token

router = APIRouter(prefix="/things{n}")


class Thing(Base):
    __tablename__ = "things{n}"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("things{n}.id"))


class ThingIn(BaseModel):
    name: str
    parent_id: int | None = None


class ThingOut(BaseModel):
    id: int
    name: str
"""
ROUTE = """

@router.post("/kind{k}/{{thing_id}}", status_code=201, response_model=ThingOut)
def create_{k}(thing_id: int, data: ThingIn, session: CurrentSession, token: Token) -> Thing:
    found = session.scalars(select(Thing).where(Thing.id == thing_id)).first()
    if found is None:
        raise HTTPException(404, "no such thing")
    thing = Thing(**data.model_dump())
    session.add(thing)
    weigh_{k}_0([thing.id, found.id], data.name)
    session.commit()
    return thing
"""
HELPER = """

def weigh_{k}_{h}(sizes: list[int], name: str) -> dict[str, int]:
    found: dict[str, int] = {{}}
    for number, size in enumerate(sizes):
        if size > {h}:
            found[f"{{name}} {{number}}"] = size * {k}
        elif name in found:
            found[name] += 1
    {call}
    return found
"""
HELPER_LINES = HELPER.count("\n")


def write_project(root: Path, *, routes: int, lines: int) -> int:
    """Write an application of about so many routes and lines; return its lines."""
    package = root / "shop"
    package.mkdir()
    files = routes // ROUTES_A_FILE
    helpers = (lines // routes - ROUTE.count("\n")) // HELPER_LINES
    names = [f"things{n}" for n in range(files)]
    for n, name in enumerate(names):
        (package / f"{name}.py").write_text(HEAD.replace("{n}", str(n)) + _routes(helpers))
    (package / "sessions.py").write_text(SESSIONS)
    imports = "\n".join(f"from shop import {name}" for name in names)
    includes = "\n".join(f"app.include_router({name}.router)" for name in names)
    (root / "main.py").write_text(MAIN.format(imports=imports) + includes + "\n")
    return sum(path.read_text().count("\n") for path in root.rglob("*.py"))


def _routes(helpers: int) -> str:
    parts: list[str] = []
    for k in range(ROUTES_A_FILE):
        parts.append(ROUTE.format(k=k))
        for h in range(max(helpers, 1)):
            following = f"found |= weigh_{k}_{h + 1}(sizes, name)" if h + 1 < helpers else "pass"
            parts.append(HELPER.format(k=k, h=h, call=following))
    return "".join(parts)


def measure() -> str:
    """Return the table: seconds, memory and the lines a second of the static part."""
    rows: list[list[str]] = []
    for routes, lines in SIZES:
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            written = write_project(root, routes=routes, lines=lines)
            seconds, memory = _checked(root, routes=routes)
            rate = written / _read_seconds(root)
        rows.append(
            [
                f"{written:,}",
                f"{routes:,}",
                f"{seconds:.1f}",
                f"{memory / 2**20:.0f}",
                f"{rate:,.0f}",
            ]
        )
    head = ["lines", "routes", "seconds", "memory (MiB)", "lines a second without an import"]
    return markdown(head, rows)


def _checked(root: Path, *, routes: int) -> tuple[float, int]:
    """Run the command; return its seconds and the memory of its largest process, in bytes."""
    command = [str(Path(sys.executable).with_name("newel")), "check", str(root), "--json"]
    began = time.perf_counter()
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen([*command, "--python", sys.executable], stdout=output) as process,
    ):
        _, _, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = 0
        output.seek(0)
        said = json.loads(output.read())
    if not said["imported"] or said["routes"] < routes:
        raise BenchmarkError(f"the project was not imported: {said['notes'][:1]}", "run it by hand")
    return seconds, used.ru_maxrss * 1024


def _read_seconds(root: Path) -> float:
    """Return the CPU seconds of reading the source and of the rules that need no import."""
    project = find_project(root, python=Path(sys.executable))
    rules = [rule for rule in load_rules().values() if rule.how == "source"]
    began = time.process_time()
    source = read_source(project.root, project.files, project.import_paths)
    facts = Facts(routes=source_routes(source))
    review_facts(project, facts, source, baseline={}, rules=rules)
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(tell(measure))
