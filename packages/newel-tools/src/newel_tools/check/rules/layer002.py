"""LAYER002: an import that points up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route
from newel_tools.facts.source import Module

__all__ = ["RULE"]

_LAYERS: Final = {
    "models": 0,
    "entities": 0,
    "orm": 0,
    "repositories": 1,
    "repository": 1,
    "repos": 1,
    "crud": 1,
    "dao": 1,
    "services": 2,
    "service": 2,
    "usecases": 2,
    "use_cases": 2,
}
_MAPPED: Final = re.compile(
    r"__tablename__|table=True|mapped_column|\bColumn\(|models\.Model|\bDocument\b"
)
_DATA: Final = re.compile(r"Enum|TypedDict|Protocol|BaseModel|Exception|Error|NamedTuple")
_NAMES: Final = ("a model", "a repository", "a service", "a router")
_ROUTER: Final = 3


def find(review: Review) -> Iterator[Finding]:
    """Find imports of routers, services and repositories in what lies below them."""
    routing = {
        file
        for route in review.routes
        if (file := review.at(route)[0]) and not _is_made_in_class(review, route)
    }
    for module in review.source.own_modules():
        own = _layer(module, routing)
        for node, target in _imports(review, module) if own is not None else ():
            other = _layer(target, routing)
            if own is not None and other is not None and other > own:
                yield RULE.found(
                    f"{_NAMES[own]} imports {_NAMES[other]}, `{target.name}`",
                    file=module.file,
                    line=node.lineno,
                )


def _is_made_in_class(review: Review, route: Route) -> bool:
    """Tell whether a method makes a route on demand: its module is more than a router."""
    endpoint = review.function(route.endpoint)
    if endpoint is None:
        return False
    first, *rest = endpoint.full_name.removeprefix(f"{endpoint.module.name}.").split(".")
    return len(rest) > 1 and f"{endpoint.module.name}.{first}" in review.source.classes


def _layer(module: Module, routing: set[str]) -> int | None:
    """Return the layer that a module's folder or name says it is in; routers hold routes.

    None where two words disagree (`services/crud/`), beside routes, and in a domain of its own.
    """
    if module.file in routing:
        return _ROUTER
    parts = module.name.split(".")
    named = {_LAYERS[part] for part in parts if part in _LAYERS}
    if 0 in named and _MAPPED.search(module.text) is None:
        return None  # models of an API, of a search engine
    beside = _folder(module.file) in {_folder(file) for file in routing}
    return named.pop() if len(named) == 1 and "domain" not in parts and not beside else None


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _imports(review: Review, module: Module) -> Iterator[tuple[ast.stmt, Module]]:
    """Yield what a module imports when it is loaded; not for the type checker alone."""
    for node in _loaded(module.tree.body):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = module.absolute(node.module, node.level)
            names = [f"{origin}.{alias.name}" for alias in node.names]
            names = [_home(review, name) for name in names]
        for name in dict.fromkeys(names):
            target = review.source.modules.get(name)
            if target is not None and target is not module:
                yield node, target


def _home(review: Review, name: str) -> str:
    """Return the module that an imported name makes one depend on; of data, it is none."""
    if name in review.source.modules:
        return name
    defined = review.source.resolve(name)
    cls = review.source.classes.get(defined)
    is_data = cls is not None and _DATA.search(" ".join(review.source.base_names(cls)))
    known = cls is not None or defined in review.source.functions or name.endswith(".router")
    return defined.rpartition(".")[0] if known and not is_data else ""


def _loaded(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        if isinstance(node, ast.Try):
            yield from _loaded(node.body)


RULE = Rule(
    id="LAYER002",
    title="An import points up",
    severity="change",
    how="source",
    why="What is below cannot be used or tested without what is above, and soon the two import "
    "each other in a circle.",
    fix="move what is shared down, or pass it in as an argument",
    seed="three layers",
    expected="imports for the type checker alone or inside functions, of constants, enums, models "
    "and exceptions, and between modules whose place is not plain from their names; of "
    "classes that make routers.",
    bad="""
# file: main.py
from fastapi import FastAPI

from shop.routers import notes

app = FastAPI()
app.include_router(notes.router)


# file: shop/__init__.py


# file: shop/routers/__init__.py


# file: shop/routers/notes.py
from fastapi import APIRouter

router = APIRouter()


@router.get("/notes")
def listed() -> int:
    return 1


# file: shop/services/__init__.py


# file: shop/services/notes.py
from shop.routers.notes import listed  # finding


# file: shop/repositories/__init__.py


# file: shop/repositories/notes.py
from ..services import notes  # finding
""",
    good="""
# file: main.py
from fastapi import FastAPI

from shop.accounts import Accounts
from shop.routers import notes

app = FastAPI()
app.include_router(notes.router)
app.include_router(Accounts().router())


# file: shop/accounts.py
from fastapi import APIRouter


class Accounts:
    def router(self) -> APIRouter:
        router = APIRouter()

        @router.get("/me")
        def me() -> str:
            return find_account(1)

        return router


def find_account(number: int) -> str:
    return f"account {number}"


# file: shop/__init__.py


# file: shop/routers/__init__.py


# file: shop/routers/notes.py
from fastapi import APIRouter

from shop.services.notes import count

router = APIRouter()


@router.get("/notes")
def notes() -> int:
    return count()


# file: shop/services/__init__.py


# file: shop/services/notes.py
from typing import TYPE_CHECKING

from shop.accounts import find_account
from shop.repositories import notes

if TYPE_CHECKING:
    from shop.routers.notes import router


def count() -> int:
    return notes.LIMIT


# file: shop/repositories/__init__.py


# file: shop/repositories/notes.py
import shop.models

LIMIT = 10


# file: shop/services/crud/__init__.py


# file: shop/services/crud/orders.py
from shop.services.notes import count


# file: shop/models.py
from shop.services.kinds import DEPTH, Kind


# file: shop/services/kinds.py
from enum import Enum

DEPTH = 1


class Kind(Enum):
    LONG = "long"
""",
    find=find,
)
