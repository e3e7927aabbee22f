"""The project's own tests, as they are written: what they request, and which refusals they expect.

Read, not run. In doubt a route counts as requested: paths that are put together are matched as far
as they can be read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from newel_tools.check.review import Review
from newel_tools.facts.routes import Route
from newel_tools.facts.source import Module

__all__ = ["Suite"]

_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete", "head", "options"})
_ANYTHING: Final = "\0"  # stands for what a formatted value may hold
# What goes over all routes without naming one: a fuzzer, a loop over the application's own list.
_WHOLE: Final = re.compile(
    r"schemathesis|\bopenapi\(\)|openapi\.json|\b(app|router)\.routes\b|hypothesis_auto"
)
_NAMED: Final = re.compile(r"[\"']([^\"'\n]{1,100})(?=[\"'])|\b(\w+)\(")
_REFUSED: Final = re.compile(
    r"\b40[13]\b|HTTP_40[13]|UNAUTHORIZED|FORBIDDEN|WWW-Authenticate", re.IGNORECASE
)
_FAILED: Final = re.compile(
    r"\b4[0-2]\d\b|HTTP_4\d\d|\b50[0-4]\b|HTTPStatus\.|pytest\.raises|assertRaises"
)


@dataclass(frozen=True, slots=True)
class _Request:
    """A path in a test file, in parts, and the methods that may be meant; none: any of the file."""

    file: str
    parts: tuple[str, ...]
    methods: frozenset[str]


class Suite:
    """Answers what a project's tests request and expect; built once for a review."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._found: dict[tuple[object, ...], frozenset[str]] = {}
        self._modules = [module for module in review.source.files.values() if module.is_test]

    @property
    def exists(self) -> bool:
        """Tell whether there is a test at all."""
        return any("def test_" in module.text for module in self._modules)

    @cached_property
    def is_whole(self) -> bool:
        """Tell whether some test goes over every route, whatever they are."""
        return any(_WHOLE.search(module.text) for module in self._modules)

    @cached_property
    def expects_refusals(self) -> bool:
        """Tell whether any test expects that a caller is refused: 401 or 403."""
        return any(_REFUSED.search(module.text) for module in self._modules)

    @cached_property
    def expects_failures(self) -> bool:
        """Tell whether any test expects that something goes wrong."""
        return any(_FAILED.search(module.text) for module in self._modules)

    def requests(self, route: Route) -> bool:
        """Tell whether some test may request a route."""
        return bool(self._files(route))

    def refuses(self, route: Route) -> bool:
        """Tell whether a file that requests a route expects a refusal somewhere."""
        return not self._refusing.isdisjoint(self._files(route))

    def _files(self, route: Route) -> frozenset[str]:
        asked = (route.path, route.name, route.methods)
        if asked not in self._found:
            self._found[asked] = frozenset(self._requesting(route))
        return self._found[asked]

    def _requesting(self, route: Route) -> set[str]:
        wanted = tuple(part for part in route.path.split("/") if part)
        found: set[str] = set()
        for request in self._requests:
            if request.file in found or not _ends_alike(wanted, request.parts):
                continue
            meant = request.methods or self._methods[request.file]
            if {method.lower() for method in route.methods} & meant:
                found.add(request.file)
        return found | self._naming.get(route.name or "", set())

    @cached_property
    def _naming(self) -> dict[str, set[str]]:
        """The files that name something, as a text or as what they call."""
        found: dict[str, set[str]] = {}
        for file, text in self._texts.items():
            for pair in _NAMED.findall(text):
                for name in filter(None, pair):
                    found.setdefault(name, set()).add(file)
        return found

    @cached_property
    def _refusing(self) -> frozenset[str]:
        return frozenset(file for file, text in self._texts.items() if _REFUSED.search(text))

    @cached_property
    def _texts(self) -> dict[str, str]:
        return {module.file: module.text for module in self._modules}

    @cached_property
    def _requests(self) -> tuple[_Request, ...]:
        return tuple(request for module in self._modules for request in _requests_of(module))

    @cached_property
    def _methods(self) -> dict[str, set[str]]:
        """The methods that a file's calls or texts name anywhere."""
        words = re.compile(
            rf"\.({'|'.join(_METHODS)})\(|[\"']({'|'.join(_METHODS)})[\"']", re.IGNORECASE
        )
        return {
            file: {(one or other).lower() for one, other in words.findall(text)}
            for file, text in self._texts.items()
        }


def _requests_of(module: Module) -> Iterator[_Request]:
    direct: dict[int, frozenset[str]] = {}
    inside: set[int] = set()
    for node in module.nodes:
        if isinstance(node, ast.Call):
            direct |= {id(path): methods for path, methods in _called(node)}
        elif isinstance(node, ast.JoinedStr | ast.BinOp):
            inside |= {id(part) for part in ast.iter_child_nodes(node)}
        text = _path(node) if id(node) not in inside else None
        if text is not None:
            parts = tuple(part for part in text.split("/") if part)
            if not parts or any(part.strip(_ANYTHING) for part in parts):
                yield _Request(module.file, parts, direct.get(id(node), frozenset()))


def _called(call: ast.Call) -> Iterator[tuple[ast.expr, frozenset[str]]]:
    """Yield the path of `client.get(path)` and `client.request("GET", path)` with its method."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in _METHODS and call.args:
        yield call.args[0], frozenset({name})
    elif name in ("request", "build_request", "stream"):
        for first, path in pairwise(call.args[:2]):
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield path, frozenset({first.value.lower()})


def _path(node: ast.AST) -> str | None:
    """Return a text that may be a path, with a mark for each value that is put into it."""
    match node:
        case ast.Constant(value=str(text)):
            found = text
        case ast.JoinedStr(values=values):
            found = "".join(
                str(part.value) if isinstance(part, ast.Constant) else _ANYTHING for part in values
            )
        case ast.BinOp(
            left=ast.Name() | ast.Attribute(), op=ast.Add(), right=ast.Constant(value=str(text))
        ):
            found = _ANYTHING + text
        case _:
            return None
    found = re.sub(r"^https?://[^/]*", "", found).partition("?")[0]
    return found if "/" in found and not re.search(r"\s", found) else None


def _ends_alike(route: tuple[str, ...], text: tuple[str, ...]) -> bool:
    """Tell whether a text may be a route's path, or its end: the client may know the beginning."""
    return _matches(route, text, met=False) if route else not text


def _matches(route: tuple[str, ...], text: tuple[str, ...], *, met: bool) -> bool:
    """Match from the end; a value alone covers one part or more, at the beginning perhaps none.

    ``met``: a word of the route was met already. What is left of the text then is where the
    application is mounted; of the route, what the client begins every request with.
    """
    if text == (_ANYTHING,):
        return True
    if not text or not route:
        return met or not (text or route)
    if text[-1] == _ANYTHING:
        return any(_matches(route[:kept], text[:-1], met=met) for kept in range(len(route)))
    if route[-1].startswith("{"):
        return _matches(route[:-1], text[:-1], met=met)
    return _fits(text[-1], route[-1]) and _matches(route[:-1], text[:-1], met=True)


def _fits(said: str, part: str) -> bool:
    pattern = ".*".join(re.escape(piece) for piece in said.split(_ANYTHING))
    return re.fullmatch(pattern, part) is not None
