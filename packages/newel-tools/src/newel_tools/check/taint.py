"""Where what clients send goes: from a route's parameters through names, texts and calls.

Precision before reach: what is compared with something, or handed to what sounds as if it checked
or cleaned it, counts as clean in that function and in all that it calls with it.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from newel_tools.facts.calls import Call
from newel_tools.facts.routes import Dependency, Route
from newel_tools.facts.shapes import Field, Shape
from newel_tools.facts.source import Function

if TYPE_CHECKING:
    from newel_tools.check.review import Review

__all__ = ["Held", "Kind", "Taint", "free_text", "own_text"]

Held: TypeAlias = frozenset[str]
"""The attributes (or keys) of a value that clients decide; `""` among them: the value itself."""

_CLEAN: Final[Held] = frozenset()
_TEXT: Final[Held] = frozenset({""})
_STEPS: Final = 20_000  # functions looked at, again after what flows into them has grown
_PASSES: Final = 4  # assignments that depend on each other backwards
_KEEPING: Final = re.compile(
    r"^(strip|lstrip|rstrip|lower|upper|title|casefold|format|encode|decode|join|removeprefix|removesuffix"
    r"|model_dump|dict|copy|json|str|list|Path|PurePath|fspath|text|unicode_string|urljoin|urlparse"
    r"|urlsplit|parse_url|URL|HttpUrl|joinpath|with_name|dumps|cast|items|values|deepcopy|splitlines|split|resolve|abspath|normpath|realpath)$"
)
_ATTACK: Final = "http://10.0.0.1/../etc/passwd?a=';--"
_OPEN: Final = re.compile(r"^(\w+://)?\{")  # the host of an address is filled in
_ANYWHERE: Final = "#"  # in a tuple that is answered with; `#0` is its first
_PLACE: Final = tuple(f"#{number}" for number in range(16))
_PLACES: Final = frozenset({_ANYWHERE, *_PLACE})
_CHECKS: Final = re.compile(
    r"(valid|check|verif|ensure|assert|allow|forbid|safe|saniti|clean|escape|secure|guard|is_|in_"
    r"|match|startswith|endswith|isalnum|isalpha|isdigit|isidentifier|relative_to|resolve_host)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is followed. ``held`` says which part of a parameter clients decide.

    ``cleaners``: further names of functions and attributes whose value is clean. ``leading``: a
    text made of parts is only the client's if its beginning is, as with an address. ``naming``: of
    a path only what a name in it begins with is, for `a_../../b` names a folder that nobody has:
    as long as none is created, and the dots are not taken out before the path is opened.
    """

    held: Callable[[Field], Held]
    cleaners: re.Pattern[str]
    leading: bool = False
    naming: bool = False


def own_text(field: Field) -> Held:
    """Return what a client decides of a parameter: the text itself, or fields of a body."""
    return _TEXT if free_text(field.shape) and not field.shape.validated else _CLEAN


def free_text(shape: Shape) -> bool:
    """Tell whether a shape allows any text: no number, choice or pattern."""
    if shape.values is not None or not _lets_through(shape.limits.pattern):
        return False
    types = {name.rpartition(".")[2] for name in shape.types}
    if types & {"str", "Any", "HttpUrl", "AnyUrl", "AnyHttpUrl", "bytes"}:
        return True
    return bool(types & {"dict", "list"}) if shape.item is None else free_text(shape.item)


def _lets_through(pattern: str | None) -> bool:
    """Tell whether a pattern allows what attacks are made of; one that bans NUL alone does."""
    if pattern is None:
        return True
    try:
        return re.search(pattern, _ATTACK) is not None
    except re.error:
        return False  # another language of patterns: it may well bound the text


class Taint:
    """The functions that what clients send comes to, and what each expression there holds of it."""

    def __init__(self, review: Review, kind: Kind) -> None:
        self._review = review
        self._kind = kind
        self._given: dict[Function, dict[str, Held]] = {}
        self._routes: dict[Function, Route] = {}
        self._known: dict[Function, Mapping[str, Held]] = {}
        self._returned: dict[Function, Held] = {}
        self._pending: deque[Function] = deque()
        for route in review.routes:
            self._start(route)
        self._run()

    def calls(self) -> Iterator[tuple[Call, Route]]:
        """Yield each call in a function that client values come to, with a route leading there."""
        for function, route in self._routes.items():
            for call in self._review.calls.of(function):
                yield call, route

    def of(self, expression: ast.expr | None, function: Function) -> Held:
        """Return what clients decide of an expression inside a function."""
        if expression is None:
            return _CLEAN
        return _Reading(self, function, dict(self._known.get(function, {}))).held(expression)

    def decides(self, expression: ast.expr | None, function: Function) -> bool:
        """Tell whether clients decide the text that an expression is."""
        return "" in self.of(expression, function)

    # -- from the routes onwards -----------------------------------------------------------------

    def _start(self, route: Route) -> None:
        for node in route.dependant.walk():
            function = self._review.function(node.call)
            if function is not None:
                for name, held in self._declared(node).items():
                    self._give(function, name, held, route)

    def _declared(self, node: Dependency) -> Mapping[str, Held]:
        """Return what a callable's parameters hold: its own, and classes that collect some."""
        found = {param.name: self._of_field(param) for param in node.params}
        for inner in node.dependencies:
            if inner.name and inner.call is not None and inner.call.kind == "class":
                names = (param.name for param in inner.params if "" in self._of_field(param))
                found[inner.name] = frozenset(names)
        return found

    def _of_field(self, field: Field) -> Held:
        held = self._kind.held(field)
        for name in field.shape.models:
            model = self._review.facts.models.get(name)
            if model is not None and not model.checked_whole:
                held |= {inner.name for inner in model.fields if "" in self._kind.held(inner)}
        return held

    def _give(self, function: Function, name: str, held: Held, route: Route) -> None:
        known = self._given.setdefault(function, {})
        if held - known.get(name, _CLEAN):
            known[name] = known.get(name, _CLEAN) | held
            self._routes.setdefault(function, route)
            self._pending.append(function)

    def _run(self) -> None:
        for _ in range(_STEPS):
            if not self._pending:
                return
            self._look(self._pending.popleft())

    def _look(self, function: Function) -> None:
        reading = _Reading(self, function, dict(self._given[function]))
        reading.run()
        self._known[function] = reading.known
        for call in self._review.calls.of(function):
            if call.function is not None:
                for name, value in call.given():
                    self._give(call.function, name, reading.held(value), self._routes[function])
        self._answer(function, reading)

    def _answer(self, function: Function, reading: _Reading) -> None:
        held = _CLEAN
        for node in function.nodes:
            if isinstance(node, ast.Return) and node.value is not None:
                held |= reading.answered(node.value)
        if held - self._returned.get(function, _CLEAN):
            self._returned[function] = held
            callers = self._review.calls.callers.get(function, ())
            self._pending.extend(call.caller for call in callers if call.caller in self._routes)

    # -- asked by the reading of one function ------------------------------------------------------

    def result(self, call: ast.Call, function: Function) -> Held | None:
        """Return what a function of the project answers; `None` for any other callable."""
        target = self._target(call, function)
        return None if target is None else self._returned.get(target, _CLEAN)

    def checks(self, call: ast.Call, function: Function) -> bool:
        """Tell whether a call looks at what it is given, by its name or by what it does."""
        name = _name(call)
        if _CHECKS.search(name) or self._kind.cleaners.search(name):
            return True
        target = self._target(call, function)
        return target is not None and _looks(target)

    def is_clean(self, name: str) -> bool:
        """Tell whether a function or an attribute of this name gives a clean value."""
        return self._kind.cleaners.search(name) is not None

    @property
    def leading(self) -> bool:
        """Tell whether only the beginning of a text counts."""
        return self._kind.leading

    @property
    def naming(self) -> bool:
        """Tell whether only the beginning of a name in a path counts."""
        return self._kind.naming

    def _target(self, call: ast.Call, function: Function) -> Function | None:
        target = self._review.calls.types.target_of(call, function)
        return self._review.source.functions.get(target or "")


class _Reading:
    """One function: what each of its names holds, given what its parameters do."""

    def __init__(self, taint: Taint, function: Function, known: dict[str, Held]) -> None:
        self._taint = taint
        self._function = function
        self._origins: dict[str, set[str]] = {}
        self.known = known

    def run(self) -> None:
        """Follow the assignments, then take away what the function checks and follow them again."""
        given = dict(self.known)
        self._bind()
        checked = self._checked()
        if checked:
            self.known = {name: held for name, held in given.items() if name not in checked}
            self._bind(without=checked)

    def held(self, expression: ast.expr) -> Held:
        """Return what clients decide of an expression."""
        match expression:
            case ast.Name(id=name):
                return self.known.get(name, _CLEAN)
            case (
                ast.Attribute(value=value, attr=name)
                | ast.Subscript(value=value, slice=ast.Constant(value=str(name)))
                | ast.Call(
                    func=ast.Attribute(value=value, attr="get"),
                    args=[ast.Constant(value=str(name)), *_],
                )
            ):
                return self._part(self.held(value), name)
            case ast.Call():
                return self._call(expression)
            case ast.JoinedStr() | ast.BinOp(op=ast.Add() | ast.Div() | ast.Mod()):
                return self._text(expression)
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return frozenset(n for k, v in pairs if (n := _key(k)) and "" in self.held(v))
            case _:
                return self._any(_inside(expression))

    def answered(self, value: ast.expr) -> Held:
        """Return what a function answers with; of a tuple, also where in it."""
        if not isinstance(value, ast.Tuple) or any(isinstance(e, ast.Starred) for e in value.elts):
            held = self.held(value)
            return held | {_ANYWHERE} if held else held
        pairs = zip(value.elts, _PLACE, strict=False)
        places = frozenset(place for item, place in pairs if self.held(item))
        return self.held(value) | places

    def _part(self, held: Held, name: str) -> Held:
        if name in held:
            return _TEXT
        return _TEXT if "" in held and not self._taint.is_clean(name) else _CLEAN

    def _any(self, values: list[ast.expr]) -> Held:
        return frozenset(name for value in values for name in self.held(value))

    def _call(self, call: ast.Call) -> Held:
        name = _name(call)
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if self._taint.is_clean(name):
            return _CLEAN
        answered = self._taint.result(call, self._function)
        if answered is not None:
            return answered if self._any(given) else _CLEAN
        if name == "get" and isinstance(call.func, ast.Attribute):
            return self.held(call.func.value)  # by whatever key: the value is the mapping's
        if not _KEEPING.match(name) or (given and name in ("items", "values", "resolve")):
            return _CLEAN  # a dictionary's `values()` takes nothing: this is a statement's
        if self._taint.leading and name in ("format", "join", "joinpath", "urljoin"):
            return self._beginning_of(call)
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        return self._any([*([owner] if owner is not None else []), *given])

    def _beginning_of(self, call: ast.Call) -> Held:
        """Follow `template.format(...)` and the like only to what their result begins with."""
        match call.func:
            case ast.Attribute(value=ast.Constant(value=str(template)), attr="format"):
                if not _OPEN.match(template):
                    return _CLEAN
            case _:
                pass
        first = call.args[:1]
        if first and isinstance(first[0], ast.List | ast.Tuple):
            first = first[0].elts[:1]
        return self._any(first)

    def _text(self, expression: ast.JoinedStr | ast.BinOp) -> Held:
        parts = _parts(expression)
        if self._taint.leading:
            parts = _beginning(parts)
        elif self._taint.naming:
            parts = _beginnings_of_names(parts, expression)
        return _TEXT if any("" in self.held(part) for part in parts) else _CLEAN

    def _bind(self, *, without: frozenset[str] = frozenset()) -> None:
        for _ in range(_PASSES):
            before = dict(self.known)
            for node in self._function.nodes:
                for target, value in _bindings(node):
                    self._assign(target, value, without)
            if self.known == before:
                return

    def _assign(self, target: ast.expr, value: ast.expr, without: frozenset[str]) -> None:
        for part, held in self._unpacked(target, value):
            for name in _bound_names(part):
                if held and name not in without:
                    self.known[name] = self.known.get(name, _CLEAN) | held
                    self._origins.setdefault(name, set()).update(_names(value))

    def _unpacked(self, target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, Held]]:
        """Yield what is bound, and what it holds: of a pair that is answered, each its own."""
        held = self.held(value)
        parts = target.elts if isinstance(target, ast.Tuple) else []
        if _PLACES.isdisjoint(held) or any(isinstance(part, ast.Starred) for part in parts):
            yield target, held
            return
        for part, place in zip(parts or [target], _PLACE, strict=False):
            yield part, held - _PLACES if not parts or {place, _ANYWHERE} & held else _CLEAN

    def _checked(self) -> frozenset[str]:
        """Return the names whose value the function looks at, and those that it came from."""
        found = {name for node in self._function.nodes for name in self._looked_at(node)}
        pending = list(found)
        while pending:
            for origin in self._origins.get(pending.pop(), ()):
                if origin in self.known and origin not in found:
                    found.add(origin)
                    pending.append(origin)
        return frozenset(found)

    def _looked_at(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Compare) and not _asks_presence(node):
            sides = [node.left, *node.comparators]
            yield from (name for side in sides for name in self._mentions(side))
        elif isinstance(node, ast.Call) and self._taint.checks(node, self._function):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            if isinstance(node.func, ast.Attribute):
                given.append(node.func.value)
            yield from (name for value in given for name in self._mentions(value))
        elif isinstance(node, ast.Match):
            yield from self._mentions(node.subject)

    def _mentions(self, expression: ast.AST) -> Iterator[str]:
        """Yield names in an expression whose client-decided part it looks at."""
        parents = {
            id(node.value): node.attr
            for node in ast.walk(expression)
            if isinstance(node, ast.Attribute)
        }
        for node in ast.walk(expression):
            if isinstance(node, ast.Name) and node.id in self.known:
                held, attribute = self.known[node.id], parents.get(id(node))
                if attribute is None or attribute in held or "" in held:
                    yield node.id


def _looks(function: Function) -> bool:
    """Tell whether a function compares one of its parameters and refuses with an exception."""
    names = {argument.arg for argument in function.arguments}
    refuses = any(isinstance(node, ast.Raise) for node in function.nodes)
    return refuses and any(
        isinstance(inner, ast.Name) and inner.id in names
        for node in function.nodes
        if isinstance(node, ast.Compare) and not _asks_presence(node)
        for inner in ast.walk(node)
    )


def _asks_presence(node: ast.Compare) -> bool:
    """Tell whether a comparison only asks whether there is a value: `is None`, `== ""`."""
    return any(
        isinstance(side, ast.Constant) and side.value in (None, "", 0)
        for side in (node.left, *node.comparators)
    )


def _bindings(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target, value) for target in targets)
        case (
            ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.NamedExpr(target=target, value=value)
            | ast.For(target=target, iter=value)
            | ast.AsyncFor(target=target, iter=value)
            | ast.comprehension(target=target, iter=value)
        ):
            yield target, value
        case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
            yield target, ast.BinOp(left=target, op=op, right=value)
        case ast.With(items=items) | ast.AsyncWith(items=items):
            for item in items:
                if item.optional_vars is not None:
                    yield item.optional_vars, item.context_expr
        case _:
            pass


def _bound_names(target: ast.AST) -> Iterator[str]:
    """Yield the local names that an assignment binds; attributes and items are not followed."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple | ast.List):
        for item in target.elts:
            yield from _bound_names(item)


def _inside(expression: ast.expr) -> list[ast.expr]:
    """Return the expressions whose value one has, or is made of, unchanged."""
    match expression:
        case (
            ast.Subscript(value=value)
            | ast.Await(value=value)
            | ast.NamedExpr(value=value)
            | ast.FormattedValue(value=value)
            | ast.Starred(value=value)
            | ast.ListComp(elt=value)
            | ast.GeneratorExp(elt=value)
            | ast.SetComp(elt=value)
        ):
            return [value]
        case ast.IfExp(body=first, orelse=second):
            return [first, second]
        case ast.BoolOp(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
            return list(values)
        case _:
            return []


def _key(node: ast.expr | None) -> str | None:
    match node:
        case ast.Constant(value=str(name)):
            return name
        case _:
            return None


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _name(call: ast.Call) -> str:
    """Return the last name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _parts(expression: ast.expr) -> list[ast.expr]:
    """Return the parts of a text or path in order: of `+`, `/`, `%` and an f-string."""
    match expression:
        case ast.JoinedStr(values=values):
            return list(values)
        case ast.BinOp(left=left, op=ast.Add() | ast.Div() | ast.Mod(), right=right):
            after = right.elts if isinstance(right, ast.Tuple) else [right]
            return [*_parts(left), *after]
        case _:
            return [expression]


def _beginnings_of_names(parts: list[ast.expr], whole: ast.expr) -> list[ast.expr]:
    """Return the parts of a path that stand where a name in it begins, or that may do so."""
    if isinstance(whole, ast.BinOp) and not isinstance(whole.op, ast.Add):
        return parts  # `/` begins one with each; what `%` does stands in the text
    before: list[ast.expr | None] = [None, *parts]
    return [part for part, last in zip(parts, before, strict=False) if not _goes_on(last)]


def _goes_on(part: ast.expr | None) -> bool:
    """Tell whether the name in a path that a text ends with goes on after it."""
    text = part.value if isinstance(part, ast.Constant) else None
    return isinstance(text, str) and text != "" and not text.endswith(("/", "\\"))


def _beginning(parts: list[ast.expr]) -> list[ast.expr]:
    """Return the part that an address's host comes from: the first, or the one after `https://`."""
    for part in parts:
        if not isinstance(part, ast.Constant):
            return [part]
        _, found, host = str(part.value).rpartition("://")
        if "/" in host or (not found and host):
            return []
    return []
