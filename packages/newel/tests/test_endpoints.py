"""A route that is answered directly answers as FastAPI does, and what is unusual is FastAPI's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Annotated, Any, Literal

import fastapi.routing
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
)
from fastapi._compat import ModelField
from fastapi.requests import HTTPConnection
from fastapi.responses import PlainTextResponse
from fastapi.routing import iter_route_contexts
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator
from starlette.types import Message, Receive, Scope, Send

from newel.endpoints import DirectAnswer, answer_directly

pytestmark = pytest.mark.anyio


class Item(BaseModel):
    name: str = Field(max_length=5)
    price: float | None = None
    secret: str = "hidden"


class Shown(BaseModel):
    name: str
    price: float | None = None


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    page: int = 1
    order: Literal["up", "down"] = Field("up", alias="sort")


class Listed(BaseModel):
    tags: list[str] = []
    page: int = 1


class Chosen(BaseModel):
    page: int = Field(1, validation_alias=AliasChoices("page", "p"))


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    page: int = 1


class Log:
    def __init__(self, connection: HTTPConnection) -> None:
        self.lines: list[str] = connection.app.state.log
        self.lines.append("made")


Logged = Annotated[Log, Depends()]


async def marked(log: Logged, x_mark: Annotated[str, Header(max_length=5)] = "") -> str:
    """A dependency that reads parameters and has dependencies."""
    log.lines.append(x_mark)
    return x_mark


async def keeping(log: Logged) -> AsyncIterator[None]:
    """A mistake: what happens within is kept."""
    with suppress(ValueError):
        yield


async def counted(response: Response, x_count: Annotated[int, Header()] = 0) -> int:
    response.headers["X-Counted"] = str(x_count)
    if x_count == 7:
        raise HTTPException(409, "seven")
    return x_count


async def denied(log: Logged) -> None:
    log.lines.append("denied")
    raise HTTPException(401)


def decorated(log: Logged) -> Any:
    return marked(log, "by a decorator")


functools.update_wrapper(decorated, marked)


async def opened(log: Logged) -> AsyncIterator[str]:
    log.lines.append("open")
    yield "opened"
    log.lines.append("closed")


class Unsent(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError


class Refusing(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def refuse(cls, x: int) -> int:
        raise HTTPException(400) if x == 5 else KeyError(x)


def build() -> FastAPI:  # noqa: C901 - one route of each kind
    app, router = FastAPI(), APIRouter()
    app.state.log = []

    @router.get("/items/{number}", response_model=Shown)
    async def read(number: Annotated[int, Path(alias="number", le=9)], log: Logged) -> Item:
        if number == 4:
            raise HTTPException(404, "no fourth", headers={"X-Why": "four"})
        return Item(name=f"n{number}")

    @router.post("/items", status_code=201, response_model=Shown)
    async def create(
        item: Item,
        log: Logged,
        request: Request,
        response: Response,
        count: Annotated[int, Depends(counted)],
    ) -> Item:
        log.lines.append(f"{request.method} {item.name} {count}")
        response.headers.append("X-Name", item.name)
        if item.name == "204":
            response.status_code = 204
        if item.name == "202":
            response.status_code = 202
        return item

    @router.post("/two", response_model_exclude_unset=True)
    async def two(log: Logged, item: Item, size: Annotated[int, Body()]) -> Item:
        return item

    @router.post("/names")
    async def names(log: Logged, found: Annotated[list[str], Body()]) -> list[str]:
        return found

    @router.get("/asked")
    async def asked(log: Logged, asked: Annotated[Asked, Query()]) -> Asked:
        return asked

    @router.get("/listed")
    async def listed(log: Logged, asked: Annotated[Listed, Query()]) -> Listed:
        return asked

    @router.get("/chosen")
    async def chosen(log: Logged, asked: Annotated[Chosen, Query()]) -> Chosen:
        return asked

    @router.get("/loose")
    async def loose(log: Logged, asked: Annotated[Loose, Query()]) -> Loose:
        return asked

    @router.get("/plain")
    async def plain(
        log: Logged,
        limit: int,
        connection: HTTPConnection,
        seen: Annotated[str, Cookie()] = "-",
        tag: Annotated[list[str] | None, Query()] = None,
    ) -> list[Any]:
        return [limit, seen, tag, connection.url.path]

    @router.get("/own")
    async def own(log: Logged) -> Response:
        return PlainTextResponse("own", 203)

    @router.get("/own-model", response_model=Shown)
    async def own_model(log: Logged) -> Any:
        return PlainTextResponse("own", 203)

    @router.get("/wrong", response_model=Shown)
    async def wrong(log: Logged) -> Any:
        return {"price": "none"}

    @router.get("/fails")
    async def fails(log: Logged) -> Shown:
        raise RuntimeError("on purpose")

    @router.post("/form")
    async def form(log: Logged, name: Annotated[str, Form()]) -> str:
        return name

    @router.get("/later")
    async def later(log: Logged, tasks: BackgroundTasks) -> str:
        tasks.add_task(log.lines.append, "later")
        return "soon"

    @router.get("/deep")
    async def deep(mark: Annotated[str, Depends(marked)]) -> str:
        return mark

    @router.get("/partial")
    async def partial(
        mark: Annotated[str, Depends(functools.partial(marked, x_mark="by a partial"))],
        other: Annotated[str, Depends(functools.partial(opened))],
    ) -> list[str]:
        return [mark, other]

    @router.get("/decorated")
    async def by_decorator(mark: Annotated[str, Depends(decorated)]) -> str:
        return mark

    @router.get("/uncached")
    async def uncached(
        first: Annotated[str, Depends(opened, use_cache=False)],
        second: Annotated[str, Depends(opened)],
        third: Annotated[str, Depends(opened, scope="request")],
    ) -> list[str]:
        return [first, second, third]

    @router.get("/no-path")
    async def no_path(log: Logged, x: Annotated[str | None, Path()]) -> str:
        return repr(x)

    @router.post("/handled")
    async def handled(log: Logged, item: Item) -> Shown:
        raise LookupError(item.name)

    @router.post("/unsent")
    async def unsent(log: Logged, item: Item) -> Shown:
        return Unsent()

    @router.get("/raised")
    async def raised(log: Logged) -> Shown:
        raise ZeroDivisionError

    @router.get("/refusing", dependencies=[Depends(denied)])
    async def refusing(asked: Annotated[Refusing, Query()]) -> int:
        return asked.x

    @app.exception_handler(LookupError)
    async def on_lookup(request: Request, error: LookupError) -> Response:
        return PlainTextResponse(await request.body(), 410)

    @app.exception_handler(ZeroDivisionError)
    async def on_zero(request: Request, error: ZeroDivisionError) -> Response:
        raise HTTPException(418, "by a handler")

    @router.get("/kept", dependencies=[Depends(keeping)])
    async def kept(log: Logged) -> str:
        raise ValueError

    app.include_router(router, prefix="/api")
    return app


def direct() -> FastAPI:
    app = build()
    answer_directly(app.routes)
    return app


class Client:
    """What an application sends for a request whose body comes in these pieces."""

    def __init__(
        self, method: str, path: str, *, body: Iterable[bytes | Exception] = (), **headers: str
    ) -> None:
        bare, _, query = path.partition("?")
        self._pieces = list(body) or [b""]
        self.sent: list[Message] = []
        names = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self._scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http",
            "path": f"/api{bare}", "raw_path": f"/api{bare}".encode(), "root_path": "",
            "query_string": query.encode(), "server": ("test", 80), "client": ("test", 1),
            "headers": [(name.encode(), value.encode()) for name, value in names],
        }  # fmt: skip

    async def _receive(self) -> Message:
        if not self._pieces:
            return {"type": "http.disconnect"}
        piece = self._pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def ask(self, app: FastAPI) -> tuple[list[Message], list[str], str]:
        """Return what was sent, what dependencies noted, and what came of it otherwise."""
        raised = ""
        try:
            await app(dict(self._scope), self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - it is what is compared
            raised = repr(error)
        for message in self.sent:
            if "headers" in message:
                message["headers"] = sorted(message["headers"])
        return self.sent, app.state.log, raised


JSON = {"content_type": "application/json"}
GOOD = b'{"name":"red","price":1.5}'

DIRECT: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/items/3", {}),
    ("GET", "/items/4", {}),
    ("POST", "/items", {"body": [GOOD], **JSON}),
    ("POST", "/items", {"body": [GOOD[:7], GOOD[7:]], **JSON}),
    ("POST", "/items", {"body": [GOOD], "content_type": "application/json; charset=utf-8"}),
    ("POST", "/items", {"body": [GOOD], "x_count": "3", **JSON}),
    ("POST", "/items", {"body": [GOOD], "x_count": "7", **JSON}),
    ("POST", "/items", {"body": [b'{"name":"204"}'], **JSON}),
    ("POST", "/items", {"body": [b'{"name":"202"}'], **JSON}),
    ("POST", "/two", {"body": [b'{"item":{"name":"red"},"size":3}'], **JSON}),
    ("POST", "/names", {"body": [b'["a"]'], **JSON}),
    ("GET", "/asked", {}),
    ("GET", "/asked?page=2&sort=down", {}),
    ("GET", "/listed?tags=a&tags=b&page=2", {}),
    ("GET", "/listed?tags=a", {}),
    ("GET", "/chosen?p=4", {}),
    ("GET", "/chosen?page=4", {}),
    ("GET", "/loose?page=4&more=1", {}),
    ("GET", "/plain?limit=3", {"cookie": "seen=yes"}),
    ("GET", "/plain?limit=3&tag=a&tag=b", {}),
    ("GET", "/plain?limit=3&limit=4", {}),
    ("GET", "/own-model", {}),
    ("GET", "/wrong", {}),
    ("GET", "/fails", {}),
    ("GET", "/deep", {"x_mark": "a"}),
    ("GET", "/kept", {}),
    ("GET", "/partial", {}),
    ("GET", "/decorated", {}),
    ("GET", "/uncached", {}),
    ("POST", "/handled", {"body": [GOOD], **JSON}),
    ("POST", "/unsent", {"body": [GOOD], **JSON}),
    ("GET", "/raised", {}),
]

OTHERS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/items/x", {}),
    ("GET", "/items/10", {}),
    ("POST", "/items", {}),
    ("POST", "/items", JSON),
    ("POST", "/items", {"body": [GOOD]}),
    ("POST", "/items", {"body": [GOOD], "content_type": "text/plain"}),
    ("POST", "/items", {"body": [GOOD], "content_type": "application/merge-patch+json"}),
    ("POST", "/items", {"body": [GOOD], "content_type": "APPLICATION/JSON"}),
    ("POST", "/items", {"body": [b'{"name":'], **JSON}),
    ("POST", "/items", {"body": [b"\xff"], **JSON}),
    ("POST", "/items", {"body": [b"[" * 100_000], **JSON}),
    ("POST", "/items", {"body": [b'{"name":"too long"}'], **JSON}),
    ("POST", "/items", {"body": [b'{"name":"too', b' long"}'], "x_count": "7", **JSON}),
    ("POST", "/items", {"body": [GOOD], "x_count": "many", **JSON}),
    ("POST", "/items", {"body": [GOOD[:9], HTTPException(413, "much")], **JSON}),
    ("POST", "/items", {"body": [GOOD[:9], OSError("disk")], **JSON}),
    ("POST", "/two", {"body": [GOOD], **JSON}),
    ("POST", "/names", {"body": [b"null"], **JSON}),
    ("GET", "/asked?page=x", {}),
    ("GET", "/asked?page=2&other=1", {}),
    ("GET", "/asked?page=2&page=3", {}),
    ("GET", "/loose?more=1&more=2", {}),
    ("GET", "/plain", {}),
    ("GET", "/no-path", {}),
    ("GET", "/refusing?x=5", {}),
    ("GET", "/refusing?x=6", {}),
    ("GET", "/own", {}),
    ("POST", "/form", {"body": [b"name=a"], "content_type": "application/x-www-form-urlencoded"}),
    ("GET", "/later", {}),
    ("GET", "/deep", {"x_mark": "a" * 9}),
]


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a ``DirectAnswer`` has begun to answer."""
    found: list[str] = []
    original = DirectAnswer._respond  # pyright: ignore[reportPrivateUsage] - where answers are made

    async def note(self: DirectAnswer, request: Request, *read: Any) -> Response:
        found.append(request.url.path)
        return await original(self, request, *read)

    monkeypatch.setattr(DirectAnswer, "_respond", note)
    return found


@pytest.mark.parametrize(("method", "path", "options"), DIRECT)
async def test_what_is_usual_is_answered_as_fastapi_does(
    method: str, path: str, options: dict[str, Any], answered: list[str]
) -> None:
    expected = await Client(method, path, **options).ask(build())

    sent, log, raised = await Client(method, path, **options).ask(direct())
    assert (sent, log) == expected[:2]
    if "FastAPIError" not in raised:  # whose text is our own
        assert raised == expected[2]
    else:
        assert "FastAPIError" in expected[2]
    assert len(answered) == 1


@pytest.mark.parametrize(("method", "path", "options"), OTHERS)
async def test_what_is_not_is_left_to_fastapi_from_the_beginning(
    method: str, path: str, options: dict[str, Any], answered: list[str]
) -> None:
    expected = await Client(method, path, **options).ask(build())

    assert await Client(method, path, **options).ask(direct()) == expected
    assert answered == []


async def test_with_an_override_everything_is_left_to_fastapi(answered: list[str]) -> None:
    app = direct()
    app.dependency_overrides[counted] = lambda: 5
    _, log, _ = await Client("POST", "/items", body=[GOOD], **JSON).ask(app)

    assert log == ["made", "POST red 5"]
    assert answered == []


async def test_what_is_cancelled_is_not_answered(answered: list[str]) -> None:
    """A client that goes away in the middle of its body."""
    sent, log, _ = await Client("POST", "/items", body=[GOOD[:9], Gone()], **JSON).ask(direct())

    assert [message.get("status") for message in sent] == [400, None]
    assert log == answered == []


class Gone(Exception):
    """Stands for what a server raises when a connection is lost."""


@pytest.mark.parametrize("name", ["get_request_handler", "run_endpoint_function"])
def test_who_watches_what_fastapi_does_sees_every_request(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As trackers of errors and performance do: they put their own in its place."""
    original = getattr(fastapi.routing, name)

    @functools.wraps(original)
    def watched(*given: Any, **named: Any) -> Any:
        return original(*given, **named)

    monkeypatch.setattr(fastapi.routing, name, watched)
    assert not any(isinstance(app, DirectAnswer) for app in _applications(direct()))


async def test_who_guards_a_route_is_asked(answered: list[str]) -> None:
    app = FastAPI()
    app.state.log = []

    async def guard(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise PermissionError

    @app.get("/api/guarded")
    async def guarded() -> str:
        return "seen"

    route: Any = app.routes[-1]
    route.app = guard
    answer_directly(app.routes)
    _, _, raised = await Client("GET", "/guarded").ask(app)

    assert raised.startswith("PermissionError")
    assert answered == []


def test_fastapi_still_has_what_a_direct_answer_stands_on() -> None:
    assert fastapi.routing.get_request_handler.__module__ == "fastapi.routing"
    assert sum(isinstance(app, DirectAnswer) for app in _applications(direct())) == 22
    assert {"include", "exclude", "by_alias", "exclude_unset", "exclude_defaults"} <= set(
        inspect.signature(ModelField.serialize_json).parameters
    )


def _applications(app: FastAPI) -> Iterable[Any]:
    for found in iter_route_contexts(app.routes):
        yield getattr(getattr(found, "_effective_route", found), "app", None)
