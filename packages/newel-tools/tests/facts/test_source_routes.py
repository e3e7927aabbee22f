"""Routes as the source declares them."""

import pytest

from newel_tools.facts.files import python_files
from newel_tools.facts.source import read_source
from newel_tools.facts.source_routes import source_routes

FILES = {
    "app/__init__.py": "",
    "app/main.py": """
from fastapi import FastAPI
from app.items import router as items
from app import users

app = FastAPI()
api = APIRouter(prefix="/v1")
api.include_router(items, prefix="/shop")
app.include_router(api, prefix="/api")
app.include_router(users.router)

@app.websocket("/live")
async def live(socket): ...

@app.get(computed())
def unseen(): ...

@cache.get("/not-a-route")
def cached(): ...
""",
    "app/deps.py": """
from typing import Annotated
from fastapi import Depends

def current_user(): ...
User = Annotated[str, Depends(current_user)]
""",
    "app/items.py": """
from fastapi import APIRouter, Depends
from app.deps import User, current_user

router = APIRouter(prefix="/items")

@router.get("/{item_id}")
@router.head("/{item_id}")
async def read(item_id: int, user: User): ...

@router.api_route("", methods=["GET", "POST"], dependencies=[Depends(current_user)])
def both(): ...
""",
    "app/users.py": """
from fastapi import APIRouter
router = APIRouter()
@router.post('/users')
def create(): ...
""",
    "tests/test_app.py": "@app.get('/test')\ndef test(): ...\n",
}


LEFT = (
    "from fastapi import APIRouter\nrouter = APIRouter()\n@router.get('/left')\ndef left(): ...\n"
)
BY_NAME = "from app.main import app\nfrom app import left\n"


def routes(write, **more: str):
    root = write({**FILES, **{f"app/{name}.py": text for name, text in more.items()}})
    found = source_routes(read_source(root, python_files(root), [root]))
    return {route.label: route for route in found}


def test_prefixes_are_followed(write):
    assert set(routes(write)) == {
        "GET /api/v1/shop/items/{item_id}",
        "HEAD /api/v1/shop/items/{item_id}",
        "GET,POST /api/v1/shop/items",
        "POST /users",
        "WS /live",
    }


@pytest.mark.parametrize("include", ["", "from app.gone import router as gone"])
def test_a_router_that_nobody_includes_has_no_routes(write, include: str):
    old = f"{include}\napp.include_router(gone)\n" if include else ""

    assert "GET /left" not in routes(write, left=LEFT, old=old)


@pytest.mark.parametrize(
    "text",
    [
        "app.include_router(left.router)\n",
        "def mount(other):\n    other.include_router(left.router)\n",
        "for module in (left,):\n    app.include_router(module.router)\n",
        "app.include_router(getattr(left, 'router'))\n",
    ],
)
def test_a_router_that_somebody_may_include_has_them(write, text: str):
    assert "GET /left" in routes(write, left=LEFT, mounts=BY_NAME + text)


def test_dependencies_are_read(write):
    found = routes(write)

    for label in ("GET /api/v1/shop/items/{item_id}", "GET,POST /api/v1/shop/items"):
        assert [node.call.full_name for node in found[label].dependencies] == [
            "app.deps.current_user"
        ]
    assert found["POST /users"].dependencies == ()


def test_an_endpoint_has_its_place(write):
    place = routes(write)["POST /users"].endpoint

    assert (place.file, place.line, place.kind) == ("app/users.py", 5, "function")


MADE = """
from fastapi import APIRouter, FastAPI

def make_notes() -> APIRouter:
    notes = APIRouter(prefix="/notes")

    @notes.get("/{note_id}")
    def read_note(note_id: int): ...

    return notes

def make_left() -> APIRouter:
    left = APIRouter()

    @left.get("/left")
    def left_out(): ...

    return left

def create() -> FastAPI:
    application = FastAPI()
    root = APIRouter(prefix="/v1")
    root.include_router(make_notes())
    application.include_router(root, prefix="/api")

    @application.get("/health")
    def health(): ...

    return application
"""


def test_routers_that_functions_make_are_followed(write):
    root = write({"main.py": MADE})

    found = source_routes(read_source(root, python_files(root), [root]))

    assert {route.label for route in found} == {"GET /api/v1/notes/{note_id}", "GET /health"}


def test_a_decorator_of_the_projects_own_takes_the_routers_method(write):
    text = (
        "from app.guard import guarded\nfrom app.main import api\n"
        "@guarded(api.post, '/notes', ['write'])\ndef add(): ...\n"
        "@guarded(cache.get, '/not-a-route')\ndef cached(): ...\n"
    )

    found = routes(write, guard="def guarded(method, path, scopes): ...\n", notes=text)

    assert {"POST /api/v1/notes"} == {label for label in found if "not" in label}
