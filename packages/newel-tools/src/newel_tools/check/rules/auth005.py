"""AUTH005: a user decides what only the service may decide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.access import Access
from newel_tools.check.finding import Finding
from newel_tools.check.ownership import is_user
from newel_tools.check.review import Review
from newel_tools.check.roles import asks_role, text_of
from newel_tools.check.rule import Rule
from newel_tools.check.stores import Store
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Field

__all__ = ["RULE"]

_PRIVILEGES: Final = re.compile(
    r"^(is_)?(super_?user|super_?admin|admin|staff|root|moderator)$|^(role|roles|role_ids?|role_name|user_role"
    r"|permissions?|scopes?|access_level|privileges?|is_verified|email_verified|is_email_verified"
    r"|balance|credits?|wallet_balance)$",
    re.IGNORECASE,
)
_OWNERS: Final = re.compile(r"^(owner|user|author|creator|created_by)(_id|_by_id)?$", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find body fields that are written, as the client sent them, to columns that grant rights."""
    access = Access(review)
    for store in review.stores:
        for field, column in store.pairs:
            if not _grants(store, field) or column.attribute != field.name:
                continue
            for route in store.routes:
                if _is_open(review, access, route, field, store):
                    file, line = review.field_place(store.model, field.name)
                    yield RULE.found(
                        f"whoever calls the route sets {store.entity.name}.{column.attribute}: "
                        f"{store.model.name}.{field.name} is written as it comes",
                        file=file,
                        line=line,
                        route=route.label,
                    )


def _grants(store: Store, field: Field) -> bool:
    if is_user(store.entity):
        return _PRIVILEGES.match(field.name) is not None
    return _OWNERS.match(field.name) is not None and bool(_refers_to_user(store, field))


def _refers_to_user(store: Store, field: Field) -> bool:
    column = store.entity.column(field.name)
    tables = [reference.table for reference in column.references] if column is not None else []
    return any(re.search(r"users?$|accounts?$|members?$", table, re.IGNORECASE) for table in tables)


def _is_open(review: Review, access: Access, route: Route, field: Field, store: Store) -> bool:
    """Tell whether no code on the way looks at a role or at this field, and a user may call it."""
    if access.guarding_middleware or asks_role(review, route, aside=_copy_of(field)):
        return False
    if not access.has_authentication or (
        not is_user(store.entity) and not access.is_protected(route)
    ):
        return False
    word = re.compile(rf"\b{re.escape(field.name)}\b")
    reached = {inner for start in review.starts(route) for inner in review.calls.reached(start)}
    copy = _copy_of(field)
    return not any(word.search(copy.sub("", text_of(function))) for function in reached)


def _copy_of(field: Field) -> re.Pattern[str]:
    """Return what matches the plain copy `name=body.name` of the field."""
    name = re.escape(field.name)
    return re.compile(rf"\b{name}\s*=\s*[\w.]+\.{name}\b")


RULE = Rule(
    id="AUTH005",
    title="A user sets what only the service may set",
    severity="block",
    how="import",
    why="One more field in the JSON body makes its sender an administrator, rich, or the owner of "
    "another's row.",
    fix="take the field out of the model that users send, and set it in the code; administrators "
    "get a model and"
    " a route of their own",
    seed='003 "Pydantic validates all inputs", "UserCreate / UserUpdate"',
    expected="routes that ask for a role; fields that the code looks at, overwrites or leaves out "
    "(`exclude={...}`); fields that reach no column.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
bearer = OAuth2PasswordBearer(tokenUrl="login")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    is_superuser: Mapped[bool] = mapped_column(default=False)


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    text: Mapped[str]


class UserCreate(BaseModel):
    email: str
    is_superuser: bool = False  # finding


class NoteCreate(BaseModel):
    text: str
    owner_id: int  # finding


def get_user(token: Annotated[str, Depends(bearer)]) -> int:
    return int(token)


@app.post("/register", status_code=201)
def register(body: UserCreate) -> None:
    with Session(engine) as session:
        session.add(User(**body.model_dump()))
        session.commit()


@app.post("/notes", status_code=201)
def create(body: NoteCreate, user: Annotated[int, Depends(get_user)]) -> None:
    with Session(engine) as session:
        session.add(Note(text=body.text, owner_id=body.owner_id))
        session.commit()
""",
    good="""
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
bearer = OAuth2PasswordBearer(tokenUrl="login")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    is_superuser: Mapped[bool] = mapped_column(default=False)


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    text: Mapped[str]


class UserCreate(BaseModel):
    email: str
    is_superuser: bool = False


class NoteCreate(BaseModel):
    text: str
    owner_id: int


def get_user(token: Annotated[str, Depends(bearer)]) -> int:
    return int(token)


def require_admin(user: Annotated[int, Depends(get_user)]) -> int:
    if user != 1:
        raise HTTPException(403)
    return user


def save(row: Base) -> None:
    with Session(engine) as session:
        session.add(row)
        session.commit()


@app.post("/users", status_code=201, dependencies=[Depends(require_admin)])
def create_user(body: UserCreate) -> None:
    save(User(**body.model_dump()))


@app.post("/register", status_code=201)
def register(body: UserCreate) -> None:
    save(User(**body.model_dump(exclude={"is_superuser"})))


@app.post("/notes", status_code=201)
def create(body: NoteCreate, user: Annotated[int, Depends(get_user)]) -> None:
    if body.owner_id != user:
        raise HTTPException(404)
    save(Note(**body.model_dump()))
""",
    find=find,
)
