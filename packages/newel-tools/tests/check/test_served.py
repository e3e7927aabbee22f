"""Websockets, uploads, limits, caches, health, debugging, dependencies."""

import pytest

from newel_tools.check.causes import causes
from newel_tools.check.review import Review
from newel_tools.check.rule import load_rules

RULES = load_rules()
HEAD = """
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, File, HTTPException, Request, Response, UploadFile
from fastapi import WebSocket, WebSocketDisconnect
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware

app = FastAPI()
bearer = HTTPBearer()


@app.get("/me")
def me(user: Annotated[Any, Depends(bearer)]) -> None:
    return None


"""


def routes(report) -> list[str]:
    assert report.facts.is_imported, report.notes
    return sorted(item.route or "" for item in report.findings)


def test_sockets_that_wait_for_messages(reviewed):
    text = f"""{HEAD}
@app.websocket("/loop")
async def loop(websocket: WebSocket) -> None:
    while True:
        await websocket.receive_json()


@app.websocket("/other")
async def other(websocket: WebSocket) -> None:
    try:
        while True:
            await websocket.receive_json()
    except KeyError:
        pass


@app.websocket("/bare")
async def bare(websocket: WebSocket) -> None:
    try:
        while True:
            await websocket.receive_json()
    except:
        pass


@app.websocket("/inside")
async def inside(websocket: WebSocket) -> None:
    while True:
        try:
            await websocket.receive_json()
        except (WebSocketDisconnect, KeyError):
            return


@asynccontextmanager
async def joined(websocket: WebSocket) -> Any:
    yield


@app.websocket("/managed")
async def managed(websocket: WebSocket) -> None:
    async with joined(websocket):
        while True:
            await websocket.receive_json()


@app.websocket("/once")
async def once(websocket: WebSocket) -> None:
    await websocket.receive_json()
"""
    assert routes(reviewed(text, rules=[RULES["WS002"]])) == ["WS /loop", "WS /other"]


def test_sockets_that_are_open(reviewed):
    text = f"""{HEAD}
@app.websocket("/rooms/{{room}}")
async def rooms(websocket: WebSocket, room: str) -> None:
    await websocket.accept()


@app.websocket("/ticker/{{token}}")
async def ticker(websocket: WebSocket, token: str) -> None:
    await websocket.accept()


@app.websocket("/public/rooms")
async def shown(websocket: WebSocket) -> None:
    await websocket.accept()


@app.websocket("/guarded")
async def guarded(websocket: WebSocket, user: Annotated[Any, Depends(bearer)]) -> None:
    await websocket.accept()
"""
    assert routes(reviewed(text, rules=[RULES["WS001"]])) == ["WS /rooms/{room}"]


def test_without_any_log_in_open_sockets_are_no_finding(reviewed):
    text = HEAD.replace(": Annotated[Any, Depends(bearer)]", ": str") + (
        "@app.websocket('/rooms')\nasync def rooms(websocket: WebSocket) -> None:\n    pass\n"
    )
    assert routes(reviewed(text, rules=[RULES["WS001"]])) == []


GUARDED = """
class Pages:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if {test}:
            {refuse}
            return
        await self.app(scope, receive, send)


class Requests(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        if request.headers.get("origin") not in app.extra:
            return JSONResponse({{}}, status_code=403)
        return await call_next(request)


app.add_middleware({name})


@app.websocket("/rooms/{{room}}")
async def room(websocket: WebSocket, room: str) -> None:
    await websocket.accept()


@app.websocket("/halls/{{hall}}")
async def hall(websocket: WebSocket, hall: str) -> None:
    await websocket.accept()
"""
ORIGIN = "HTTPConnection(scope).headers.get('origin') not in app.extra"
CLOSE = "await send({'type': 'websocket.close', 'code': 4403})"
ANSWER = "await JSONResponse({}, status_code=403)(scope, receive, send)"


@pytest.mark.parametrize(
    ("name", "test", "refuse", "open_"),
    [
        ("Pages", ORIGIN, ANSWER, False),
        ("Pages", f"scope['type'] == 'websocket' and {ORIGIN}", CLOSE, False),
        ("Pages", f"scope['type'] in {{'http', 'websocket'}} and {ORIGIN}", ANSWER, False),
        ("Pages", "HTTPConnection(scope).headers.get('authorization') is None", ANSWER, False),
        ("Pages", f"scope['type'] == 'http' and {ORIGIN}", ANSWER, True),
        ("Pages", "HTTPConnection(scope).headers.get('original') is None", ANSWER, True),
        ("Pages", ORIGIN, "print('from elsewhere')", True),
        ("Requests", ORIGIN, ANSWER, True),
    ],
)
def test_a_middleware_guards_websockets_only_if_it_sees_and_refuses_them(
    reviewed, name: str, test: str, refuse: str, open_: bool
):
    text = (
        "from starlette.requests import HTTPConnection\n"
        "from starlette.responses import JSONResponse\n"
        + HEAD
        + GUARDED.format(name=name, test=test, refuse=refuse)
    )
    report = reviewed(text, rules=[RULES["WS001"]])

    assert routes(report) == (["WS /halls/{hall}", "WS /rooms/{room}"] if open_ else [])
    assert len(causes(report.findings)) == open_


def test_uploads_without_a_limit(reviewed):
    text = f"""{HEAD}
@app.post("/bytes")
def as_bytes(data: Annotated[bytes, File()]) -> None:
    return None


@app.post("/checked")
def checked(file: UploadFile) -> None:
    validate_image_file(file)


def validate_image_file(file: UploadFile) -> None:
    return None


def require_admin() -> None:
    raise HTTPException(403)


@app.post("/admin", dependencies=[Depends(require_admin)])
def of_administrators(file: UploadFile) -> None:
    return None


@app.post("/text")
def text(name: str) -> None:
    return None
"""
    assert routes(reviewed(text, rules=[RULES["UP001"]])) == ["POST /bytes"]


LIMITING_CLASS = """
class LimitUploadSize(BaseHTTPMiddleware):
    pass


app.add_middleware(LimitUploadSize)
"""


@pytest.mark.parametrize("guard", ["app = FastAPI(max_body_size=1000)\n", LIMITING_CLASS])
def test_the_application_may_limit_every_body(reviewed, guard: str):
    route = "@app.post('/files')\ndef files(file: UploadFile) -> None:\n    return None\n"

    assert routes(reviewed(HEAD + route, rules=[RULES["UP001"]])) == ["POST /files"]
    assert routes(reviewed(HEAD + guard + route, rules=[RULES["UP001"]])) == []


LIMITED = {
    "a class's middleware": (
        "class RateLimitMiddleware(BaseHTTPMiddleware):\n    pass\n\n\n"
        "app.add_middleware(RateLimitMiddleware)\n"
    ),
    "a function that answers 429": (
        "@app.middleware('http')\nasync def count(request: Request, call_next: Any) -> Any:\n"
        "    return Response(status_code=429)\n"
    ),
    "a function named for it": (
        "@app.middleware('http')\nasync def throttle(request: Request, call_next: Any) -> Any:\n"
        "    return await call_next(request)\n"
    ),
    "the router": (
        "def rate_limit() -> None:\n    return None\n\n\n"
        "app.router.dependencies.append(Depends(rate_limit))\n"
        "@app.get('/a')\ndef a() -> None:\n    return None\n\n\n"
        "@app.get('/b')\ndef b() -> None:\n    return None\n"
    ),
    "the document": (
        "@app.get('/a', responses={429: {'description': 'later'}})\ndef a() -> None:\n"
        "    return None\n"
    ),
}


@pytest.mark.parametrize("guard", LIMITED.values(), ids=LIMITED)
def test_limits_by_default(reviewed, guard: str):
    assert len(reviewed(HEAD + guard, rules=[RULES["RATE001"]]).findings) == 0


def test_a_limit_of_a_few_routes_is_no_default(reviewed):
    text = HEAD + "".join(
        f"@app.get('/{n}')\ndef f{n}() -> None:\n    return None\n" for n in "abc"
    )

    (found,) = reviewed(text, rules=[RULES["RATE001"]]).findings
    assert "4 of 4" in found.what


def test_log_in_routes(reviewed):
    text = f"""{HEAD}
class Login(BaseModel):
    email: str
    password: str


@app.post("/login")
def login(body: Login) -> None:
    return None


@app.post("/sessions")
def sessions(body: Login) -> None:
    raise HTTPException(429)


@app.post("/auth/login")
def locked(body: Login) -> None:
    lock_out(body.email)


def lock_out(email: str) -> None:
    return None


@app.post("/signin")
def by_link(email: str) -> None:
    return None


@app.get("/login")
def page(password: str = "") -> None:
    return None


@app.post("/users")
def register(body: Login) -> None:
    return None
"""
    assert routes(reviewed(text, rules=[RULES["AUTH010"]])) == ["POST /login"]


def test_caches_of_answers(reviewed):
    text = f"""{HEAD}
def cached(response: Response) -> None:
    response.headers["cache-control"] = f"max-age=3, public"


def shared(response: Response) -> None:
    response.headers["Cache-Control"] = "public"


@app.get("/mine")
def mine(response: Response, user: Annotated[Any, Depends(bearer)]) -> None:
    cached(response)
    shared(response)


@app.get("/all")
def every(response: Response) -> None:
    shared(response)


@app.get("/kept")
def kept(response: Response, user: Annotated[Any, Depends(bearer)]) -> None:
    response.headers["Cache-Control"] = str(user)
    response.headers["X-Cache-Control"] = "public"
"""
    assert routes(reviewed(text, rules=[RULES["HTTP006"]])) == ["GET /mine"]


@pytest.mark.parametrize("path", ["/health", "/healthz", "/api/v1/ready", "/ping", "/status/"])
def test_any_health_route_will_do(reviewed, path: str):
    text = f"{HEAD}@app.get('{path}')\ndef health() -> None:\n    return None\n"

    assert reviewed(text, rules=[RULES["OBS001"]]).findings == ()


def test_no_health_route_is_one_finding(reviewed):
    (found,) = reviewed(HEAD, rules=[RULES["OBS001"]]).findings

    assert found.what == "no route says whether the service is alive"
    assert found.file == "main.py"


PYPROJECT = "[project]\nname = 'shop'\ndependencies = [\n  'fastapi',\n  'httpx<1',\n]\n"
POETRY = "[tool.poetry.dependencies]\npython = '^3.12'\nfastapi = '*'\nhttpx = '>=0.2'\n"


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"requirements.txt": "fastapi\n"}, ("requirements.txt", 1)),
        ({"requirements.txt": "# all\nfastapi~=0.1\nhttpx>=1,<2\n"}, None),
        ({"requirements.txt": "fastapi\n", "uv.lock": ""}, None),
        ({"pyproject.toml": PYPROJECT}, ("pyproject.toml", 4)),
        ({"pyproject.toml": PYPROJECT, "poetry.lock": ""}, None),
        ({"pyproject.toml": POETRY}, ("pyproject.toml", 4)),
        ({"pyproject.toml": "[project\n"}, None),
        ({"pyproject.toml": "[tool.x]\n"}, None),
        ({}, None),
    ],
)
def test_versions_that_are_left_open(reviewed, files, place):
    report = reviewed({"main.py": HEAD.lstrip(), **files}, rules=[RULES["DEP001"]])

    assert [(item.file, item.line) for item in report.findings] == ([place] if place else [])


def test_an_asynchronous_engine_needs_greenlet(reviewed):
    text = """
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

app = FastAPI()
engine = create_async_engine("postgresql+asyncpg://localhost/shop")
"""
    report = reviewed(text, rules=[])
    versions = {name: v for name, v in report.facts.versions.items() if name != "greenlet"}
    review = Review(report.project, report.facts, report.source)
    without = Review(
        report.project, report.facts.model_copy(update={"versions": versions}), report.source
    )

    assert list(RULES["DEP001"].find(review)) == []
    (found,) = RULES["DEP001"].find(without)
    assert (found.line, found.certainty) == (5, "proved")


def test_default_limits_hold_before_fastapi_nested_routers(reviewed):
    report = reviewed(RULES["RATE002"].bad, rules=[RULES["RATE002"]])
    older = report.facts.model_copy(update={"versions": {"fastapi": "0.136.2"}})

    assert len(report.findings) == 1
    assert list(RULES["RATE002"].find(Review(report.project, older, report.source))) == []


def test_default_limits_hold_without_included_routers(reviewed):
    text = RULES["RATE002"].bad.replace("app.include_router(router)", "router")

    assert reviewed(text, rules=[RULES["RATE002"]]).findings == ()
