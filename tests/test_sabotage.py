"""Do the tests that `newel new` prints find faults? Each one here is put into a generated service.

A fault is what somebody could change in a line or two and a type checker would not mind. The
service's own tests must fail; a fault they let pass is a hole in them.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.timeout(300)

Service = Callable[[str, str], Any]


class Fault(NamedTuple):
    """A regular expression, what is put in its place, and the imports that this needs."""

    what: str
    old: str
    new: str
    imports: str = ""


OWNED = r'class Agent\(Owned\):\n    __tablename__ = "agents"\n'
OWNED_IN_NAME = """\
class Agent(Entity):
    __tablename__ = "agents"

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
"""
OWNED_IMPORTS = """\
from uuid import UUID
from newel.entity import Entity
from sqlalchemy import ForeignKey
"""
LAX = 'class AgentBase(InputModel):\n    model_config = ConfigDict(extra="ignore")\n'
READ_USER = r'(class UserRead\(AccountRead\):\n(?:    """.*"""\n\n)?)'


def without(line: str, *, inside: str) -> tuple[str, str]:
    """Return what removes the first line that begins so in a method."""
    return rf"(    async def {inside}\((?:.|\n)*?)\n        {line}\(.*", r"\1"


FAULTS: dict[tuple[str, str], list[Fault]] = {
    ("agents", "agents/router"): [
        Fault(
            "anyone reads",
            r'requires\("agents:read"\)',
            "public()",
            "from newel.auth import public",
        ),
        Fault("reading needs no permission", r'requires\("agents:read"\)', "requires()"),
        Fault("writing needs no permission", r'requires\("agents:write"\)', "requires()"),
        Fault("readers write", r'"agents:write"', '"agents:read"'),
        Fault("what is created answers 200", r"    status_code=201,\n", ""),
        Fault("what is created has no address", r"tagged\.new\(", "tagged("),
    ],
    ("agents", "agents/models"): [
        Fault("rows have an owner in name only", OWNED, OWNED_IN_NAME, OWNED_IMPORTS),
    ],
    ("agents", "agents/schemas"): [
        Fault("a text has no greatest length", r"min_length=3, max_length=64", "min_length=3"),
        Fault("a text has no least length", r"min_length=3, max_length=64", "max_length=64"),
        Fault("a text is longer than its column", r"max_length=128", "max_length=129"),
        Fault("a text holds NUL", r"Name = Annotated\[Text", "Name = Annotated[str"),
        Fault(
            "unknown fields are ignored",
            r"class AgentBase\(InputModel\):\n",
            LAX,
            "from pydantic import ConfigDict",
        ),
        Fault("null is a value", r"name: Name = omittable\(\)", "name: Name | None = None"),
        Fault("the oldest come first", r'"-created_at"(?=\n    \)|\n\n|\n    is)', '"created_at"'),
    ],
    ("agents", "agents/service"): [
        Fault("a stale change is made", *without("check_version", inside="_change")),
        Fault("a stale deletion is made", *without("check_version", inside="delete")),
        Fault("PATCH sets what was left out", r"data\.changes\(\)", "data.model_dump()"),
        Fault("nobody hears of a change", r"        self.work.publish\(AgentUpdated.*\n", ""),
    ],
    ("agents", "users/router"): [
        Fault("every user reads users", r'requires\("users:read"\)', "requires()"),
        Fault("every user changes users", r'requires\("users:write"\)', "requires()"),
    ],
    ("agents", "users/schemas"): [
        Fault("the hash of a password leaves", READ_USER, r"\1    password_hash: str\n"),
    ],
    ("agents", "users/service"): [
        Fault("the last one locks the door", *without("await refuse_lockout", inside="deactivate")),
        Fault("a locked account keeps its sessions", r'changes\["epoch"\] = .*', "pass"),
    ],
    ("inventory", "products/models"): [
        Fault("what is unique is so no more", r", unique=True", ""),
    ],
    ("inventory", "products/service"): [
        Fault("nobody hears that stock moved", r"\.stock != stock_before", ".stock is None"),
        Fault("stock moves without moving", r"if product\.stock != stock_before", "if True"),
    ],
    ("inventory", "products/router"): [
        Fault("no worker knows the job", r"jobs=\[nightly_report\],(?:.|\n)*?\],", ""),
        Fault("nobody enqueues the job", r"schedules=\[.*?\],", ""),
    ],
    ("inventory", "products/jobs"): [
        Fault("a failure is the end", r"@job\(", "@job(retries=0, "),
    ],
    ("inventory", "products/schemas"): [
        Fault("a number has no least value", r"Annotated\[Int32, Field\(ge=0\)\]", "Int32"),
        Fault("a number is greater than its column", r"Annotated\[Int32", "Annotated[int"),
        Fault("a price has any number of digits", r"max_digits=12, ", ""),
    ],
    ("blog", "comments/router"): [
        Fault("authors moderate their comments", r'"comments:moderate"', '"comments:write"'),
    ],
    ("blog", "comments/models"): [
        Fault(
            "comments are seen before they are approved", r"return or_\(own, .*\)", "return None"
        ),
    ],
    ("blog", "comments/service"): [
        Fault("a link leads nowhere", r"is None:(?=\n            raise _unknown)", "is False:"),
        Fault("what was rejected is approved", r"if comment.status not in before:", "if False:"),
        Fault("an edited comment stays approved", r'values\["status"\] = "pending".*', "pass"),
    ],
    ("chat", "chat"): [
        Fault(
            "whoever is logged in hears", r'return caller\.can\("messages:read"\)', "return True"
        ),
        Fault("readers speak", r'"messages:write"', '"messages:read"'),
        Fault("nothing is kept", r"await messages\.create\(.*\)", "del message"),
    ],
    ("chat", "messages/router"): [
        Fault("what is posted is not heard", r"    work\.broadcast\(.*\)\n", ""),
    ],
}
OTHER_TESTS = {"chat": "tests/test_chat.py"}
"""Where the faults of a service are found that are not about one resource."""


@pytest.fixture(scope="module")
def copies(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Return a copy of a service to put faults into; each is taken out before the next."""
    made: dict[str, Any] = {}
    folder = tmp_path_factory.mktemp("sabotage")

    def copy(name: str) -> Any:
        if name not in made:
            found = service(name, "features")
            made[name] = found.copied(folder / name)
        return made[name]

    return copy


def plant(text: str, fault: Fault) -> str:
    """Return the source with the fault in it; imports go below its docstring."""
    planted, count = re.subn(fault.old, fault.new, text)
    assert count, f"nothing looks like {fault.old}: bring the fault up to date"
    docstring, _, rest = planted.partition("\n\n")
    return f"{docstring}\n\n{fault.imports}\n{rest}"


def remake_migration(copy: Any) -> None:
    """Bring the tables to the models, as one does who changes a model."""
    (copy.root / "migrations/0001_initial.py").unlink()
    empty = f"sqlite+aiosqlite:///{copy.root}/empty.db"
    done = copy.newel("migrate", "new", "initial", DATABASE_URL=empty)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("place", "fault"),
    [(place, fault) for place, faults in FAULTS.items() for fault in faults],
    ids=lambda value: value.what if isinstance(value, Fault) else value[0],
)
def test_the_tests_of_a_service_find(
    copies: Callable[[str], Any], place: tuple[str, str], fault: Fault
) -> None:
    name, file = place
    copy = copies(name)
    source = copy.package / f"{file}.py"
    migration = copy.root / "migrations/0001_initial.py"
    before, migrated = source.read_text(), migration.read_text()
    source.write_text(plant(before, fault))
    try:
        if file.endswith("models"):
            remake_migration(copy)
        tests = OTHER_TESTS.get(name, f"tests/{file.partition('/')[0]}")
        done = copy.test("-x", tests, "tests/test_guards.py")
    finally:
        source.write_text(before)
        migration.write_text(migrated)

    assert done.returncode == 1, f"nobody minds: {done.stdout[-2_000:]}"
    assert re.search(r"^1 failed", done.stdout, re.MULTILINE), done.stdout[-2_000:]
