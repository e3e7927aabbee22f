"""AUTH002: a user's row is served to every other user."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Final

from newel_tools.check.access import Access
from newel_tools.check.finding import Finding
from newel_tools.check.ownership import Owned, Owners, is_user
from newel_tools.check.review import Review
from newel_tools.check.roles import asks_role, text_of
from newel_tools.check.rule import Rule
from newel_tools.facts.calls import Call
from newel_tools.facts.entities import Entity
from newel_tools.facts.routes import Dependency, Route
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_OF_ACCOUNTS: Final = re.compile(r"(user|account|member|customer)s?/\{\w+\}/?$", re.IGNORECASE)
_ROUTING: Final = re.compile(r"^[\w.]+\.(get|post|put|patch|delete|api_route)\(")
_KEYS: Final = re.compile(r"api_?key|secret|internal|service|basic", re.IGNORECASE)
_OF_ALL: Final = re.compile(  # what every user is asked for; the rest is of a bearer's, a request's
    r"active|disabled|enabled|verified|confirmed|banned|blocked|deleted|credentials|scheme|headers"
    r"|cookies|query_params|state$|get$|scalars?$|execute$|query$|exec$|decode$|split$|startswith$"
)
_CARRIED: Final = re.compile(r"(user|principal|caller|actor|identity)\w*\.get\(\)", re.IGNORECASE)
_INVITED: Final = re.compile(
    r"invit|code|token|secret|(^|_)key|setup|bootstrap|install|init|first|seed", re.IGNORECASE
)
_CLOSED: Final = re.compile(  # sign-up that is switched, approved, or of the first user alone
    r"(allow|enable|disable|open|close)\w*_?(regist|sign_?-?up)|(regist|sign_?-?up)\w*(allow|enable|disable"
    r"|open|close)|approv|pending|invit|\bcount\(",
    re.IGNORECASE,
)
_DEPTH: Final = 3  # calls that a user is followed through


def find(review: Review) -> Iterator[Finding]:
    """Find protected routes that fetch an owned row by its id and never look at its owner.

    Only for tables whose owner some other route does look at: there it is meant.
    """
    access, owners = Access(review), Owners(review)
    yield from _accounts(review, access, owners)
    looked_at = _looked_at(review, owners)
    private = _read_privately(review, owners)
    for route in review.http_routes:
        if "{" not in route.path or not access.is_protected(route):
            continue
        for owned, call in _served(review, owners, route):
            table = owned.entity.table
            if not looked_at.get(table) or not (route.writes or table in private):
                continue
            if not _uses_caller(review, access, route) and not asks_role(review, route):
                file, line = review.at(route)
                yield RULE.found(
                    f"any user's {owned.entity.name} is served: "
                    f"`{owned.column.attribute}` is not looked at",
                    file=file,
                    line=line,
                    route=route.label,
                    also=[f"{call.caller.file}:{call.line}"],
                )


def _accounts(review: Review, access: Access, owners: Owners) -> Iterator[Finding]:
    """Find routes that change any account for any user, where anybody may become one.

    Who may change accounts is asked in many ways, so this is no more than suspected.
    """
    routes = [
        route
        for route in review.http_routes
        if route.writes
        and _OF_ACCOUNTS.search(route.path)
        and access.is_protected(route)
        and not access.guarding_middleware
        and not _uses_caller(review, access, route)
        and not asks_role(review, route)
        and not _asks_more(review, access, route)
    ]
    for entity in filter(is_user, review.facts.entities) if routes else ():
        if not any(_signs_up(review, access, owners, r, entity) for r in review.http_routes):
            continue
        for route in routes:
            endpoint = review.function(route.endpoint)
            reached = review.calls.reached(endpoint) if endpoint is not None else ()
            if any(read == entity for inner in reached for _, read in owners.reads(inner)):
                file, line = review.at(route)
                yield RULE.found(
                    f"any user changes another's {entity.name}: who is calling is not looked at",
                    file=file,
                    line=line,
                    route=route.label,
                    severity="change",
                    certainty="suspected",
                )


def _asks_more(review: Review, access: Access, route: Route) -> bool:
    """Tell whether a guard may ask for more than a user that signed up is.

    So may a key that no user has, a guard that looks at the path or at what the user is, and a
    decorator.
    """
    endpoint = review.function(route.endpoint)
    if endpoint is None or any(
        _ROUTING.search(ast.unparse(node)) is None for node in endpoint.node.decorator_list
    ):
        return True
    guards = [node for node in route.dependencies if any(map(access.guards, node.walk()))]
    if any(_KEYS.search(_named(node)) for node in guards) or any(
        param.source == "path" for node in guards for param in node.params
    ):
        return True
    for function in filter(None, map(review.function, (node.call for node in guards))):
        given = {argument.arg for argument in function.arguments}
        for node in function.nodes:
            match node:
                case ast.Attribute(value=ast.Name(id=name), attr=asked) if name in given:
                    if not _OF_ALL.search(asked):
                        return True
                case _:
                    pass
    reached = review.calls.reached(endpoint)
    return any(_CARRIED.search(text_of(function)) for function in reached)


def _named(node: Dependency) -> str:
    return f"{node.call.name if node.call else ''} {node.security.type if node.security else ''}"


def _signs_up(review: Review, access: Access, owners: Owners, route: Route, entity: Entity) -> bool:
    """Tell whether a route makes an account for a stranger, whoever that is.

    Who was invited is none, and neither is who sets the service up.
    """
    endpoint = review.function(route.endpoint)
    if endpoint is None or route.methods != ("POST",) or access.is_protected(route):
        return False
    fields = [field.name for model in review.bodies(route) for field in model.fields]
    named = [route.path, route.name, *fields, *(param.name for param in route.params)]
    reached = review.calls.reached(endpoint)
    said = "\n".join(map(text_of, reached))
    if any(map(_INVITED.search, named)) or _CLOSED.search(said):
        return False
    return any(owners.makes(inner, entity) for inner in reached)


def _looked_at(review: Review, owners: Owners) -> Mapping[str, bool]:
    """Return the tables whose owner some request compares."""
    return {
        owned.entity.table: any(owners.compared_in(f, owned) for f in review.reached)
        for owned in owners.owned
    }


def _read_privately(review: Review, owners: Owners) -> set[str]:
    """Return the tables whose rows are read by their owners alone.

    Some read looks at the owner, and no list is of everybody's rows: who may change a post is asked
    where everybody may read it, too.
    """
    reads = [
        (route, {i for start in review.starts(route) for i in review.calls.reached(start)})
        for route in review.http_routes
        if "GET" in route.methods
    ]
    found: set[str] = set()
    for owned in owners.owned:
        listed = any(
            "{" not in route.path
            and any(e == owned.entity for function in reached for _, e in owners.reads(function))
            and not any(owners.mentioned_in(function, owned) for function in reached)
            and not asks_role(review, route)
            for route, reached in reads
        )
        if not listed and any(owners.compared_in(f, owned) for _, r in reads for f in r):
            found.add(owned.entity.table)
    return found


def _served(review: Review, owners: Owners, route: Route) -> Iterator[tuple[Owned, Call]]:
    """Yield the owned entities that a route fetches without saying whose they are."""
    endpoint = review.function(route.endpoint)
    if endpoint is None:
        return
    starts = list(review.starts(route))
    reached = {inner for start in starts for inner in review.calls.reached(start)}
    for owned in owners.owned:
        if any(owners.mentioned_in(function, owned) for function in reached):
            continue
        reads = (pair for function in reached for pair in owners.reads(function))
        call = next((call for call, entity in reads if entity == owned.entity), None)
        if call is not None:
            yield owned, call


def _uses_caller(review: Review, access: Access, route: Route) -> bool:
    """Tell whether anything is done with what the guards gave the endpoint, or the request asked.

    Handing it to a function that never looks at it is nothing.
    """
    endpoint = review.function(route.endpoint)
    callers = {
        node.name
        for node in route.dependant.dependencies
        if node.name and any(access.guards(inner) for inner in node.walk())
    }
    return endpoint is None or _uses(review, endpoint, callers | {"request"}, depth=_DEPTH)


def _uses(review: Review, function: Function, names: set[str], *, depth: int) -> bool:
    """Tell whether a function does anything with one of its names, or calls what does."""
    handed: dict[int, bool] = {}
    for call in review.calls.of(function):
        if call.function is not None and depth:
            for parameter, value in call.given():
                looked_at = _uses(review, call.function, {parameter}, depth=depth - 1)
                handed |= {id(n): looked_at for n in ast.walk(value) if isinstance(n, ast.Name)}
        if isinstance(call.node.func, ast.Attribute):
            handed[id(call.node.func.value)] = _asks_carried(review, call, call.node.func.value)
    found = (node for node in function.nodes if isinstance(node, ast.Name) and node.id in names)
    return any(handed.get(id(node), True) for node in found)


def _asks_carried(review: Review, call: Call, owner: ast.expr) -> bool:
    """Tell whether a method looks at the user that its object was made with; in doubt it does."""
    name = review.calls.types.type_of(owner, call.caller)
    cls = review.source.classes.get(name or "")
    made = review.source.method(cls, "__init__") if cls is not None else None
    carried = _carried(review, made) if made is not None else set[str]()
    if not carried or call.function is None:
        return True
    return any(
        isinstance(node, ast.Attribute) and node.attr in carried
        for inner in review.calls.reached(call.function)
        for node in inner.nodes
    )


def _carried(review: Review, made: Function) -> set[str]:
    """Return the attributes that an object keeps its user in."""
    users = {entity.full_name for entity in review.facts.entities if is_user(entity)}
    types = review.calls.types
    people = {
        argument.arg
        for argument in made.arguments
        if types.annotated_type(argument.annotation, made.module) in users
    }
    kept: set[str] = set()
    for node in made.nodes:
        match node:
            case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Name(id=given)):
                kept |= {name} if given in people else set()
            case _:
                pass
    return kept


RULE = Rule(
    id="AUTH002",
    title="A user's row is served to every other user",
    severity="block",
    how="import",
    why="Ids are guessed, counted up or read elsewhere: any user reads or changes what belongs to "
    "another.",
    fix="fetch it as the caller's: `select(Note).where(Note.id == id, Note.owner_id == user.id)`, "
    "and answer "
    "404 otherwise",
    seed='003 "Security validated"; 002 passes user_id to every query',
    expected="tables without a foreign key to users; tables whose owner no route looks at "
    "(shared); reads, where a list is of everybody's rows or no read looks at the owner; routes "
    "that use the caller in any way, or ask for a role; accounts, where strangers cannot "
    "sign up, or a guard looks at more than who is calling (any other is a change, suspected).",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy import ForeignKey, create_engine, select
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


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    text: Mapped[str]


def get_user(token: Annotated[str, Depends(bearer)]) -> User:
    return User(id=int(token), email="a@example.com")


@app.get("/notes")
def notes(user: Annotated[User, Depends(get_user)]) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(Note.text).where(Note.owner_id == user.id)))


@app.get("/notes/{note_id}")
def note(note_id: int, user: Annotated[User, Depends(get_user)]) -> str:  # finding
    with Session(engine) as session:
        return session.get_one(Note, note_id).text


def remove(session: Session, note_id: int) -> None:
    session.delete(session.get_one(Note, note_id))
    session.commit()


@app.delete("/notes/{note_id}", status_code=204, dependencies=[Depends(get_user)])
def delete(note_id: int) -> None:  # finding
    with Session(engine) as session:
        remove(session, note_id)


@app.post("/users", status_code=201)
def sign_up(email: str) -> None:
    with Session(engine) as session:
        session.add(User(email=email))
        session.commit()


@app.put("/users/{user_id}", dependencies=[Depends(get_user)])
def change(user_id: int, email: str) -> None:  # finding
    with Session(engine) as session:
        session.get_one(User, user_id).email = email
        session.commit()
""",
    good="""
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy import ForeignKey, create_engine, select
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


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    text: Mapped[str]


class Article(Base):
    __tablename__ = "articles"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))


def get_user(token: Annotated[str, Depends(bearer)]) -> User:
    return User(id=int(token), email="a@example.com")


def require_admin(user: Annotated[User, Depends(get_user)]) -> User:
    if user.id != 1:
        raise HTTPException(403)
    return user


def get_note(note_id: int, user: Annotated[User, Depends(get_user)]) -> Note:
    with Session(engine) as session:
        found = session.get_one(Note, note_id)
    if found.owner_id != user.id:
        raise HTTPException(404)
    return found


@app.get("/notes/{note_id}")
def note(note: Annotated[Note, Depends(get_note)]) -> str:
    return note.text


@app.get("/all/notes/{note_id}", dependencies=[Depends(require_admin)])
def any_note(note_id: int) -> str:
    with Session(engine) as session:
        return session.get_one(Note, note_id).text


@app.get("/articles", dependencies=[Depends(get_user)])
def articles() -> list[int]:
    with Session(engine) as session:
        return list(session.scalars(select(Article.id)))


@app.get("/articles/{article_id}", dependencies=[Depends(get_user)])
def article(article_id: int) -> int:
    with Session(engine) as session:
        return session.get_one(Article, article_id).id


@app.delete("/articles/{article_id}", status_code=204)
def remove(article_id: int, user: Annotated[User, Depends(get_user)]) -> None:
    with Session(engine) as session:
        found = session.get_one(Article, article_id)
        if found.author_id == user.id:
            session.delete(found)


@app.post("/users", status_code=201)
def sign_up(email: str) -> None:
    with Session(engine) as session:
        session.add(User(email=email))
        session.commit()


@app.put("/users/{user_id}")
def change(user_id: int, email: str, user: Annotated[User, Depends(get_user)]) -> None:
    if user_id != user.id:
        raise HTTPException(404)
    with Session(engine) as session:
        session.get_one(User, user_id).email = email
        session.commit()


@app.delete("/users/{user_id}", dependencies=[Depends(require_admin)])
def expel(user_id: int) -> None:
    with Session(engine) as session:
        session.delete(session.get_one(User, user_id))
        session.commit()
""",
    find=find,
)
