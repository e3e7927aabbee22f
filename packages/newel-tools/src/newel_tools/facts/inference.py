"""What class a value has, as far as annotations and plain assignments say it.

Nothing is guessed: what is not written down is ``None``, and a rule must not build on it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final

from newel_tools.facts.source import Class, Function, Module, Source

__all__ = ["Inference"]

_DEPTH: Final = 12
_TRANSPARENT: Final = frozenset(
    {"typing.Annotated", "typing.Optional", "typing_extensions.Annotated", "typing.Final"}
    | {"typing.ClassVar", "typing.Required", "typing.NotRequired", "sqlalchemy.orm.Mapped"}
)
_YIELDED: Final = frozenset(
    f"{module}.{name}"
    for module in ("typing", "collections.abc")
    for name in ("AsyncGenerator", "AsyncIterator", "Generator", "Iterator", "AsyncIterable")
)
_PLAIN: Final = ("abc.", "enum.", "typing.", "typing_extensions.")  # bases that do nothing
_ORMS: Final = ("beanie.", "ormar.", "tortoise.")
# What gives a query of these, which asks when it is awaited.
_QUERIES: Final = frozenset(
    {"all", "exclude", "filter", "find", "find_all", "find_many", "find_one", "limit", "order_by"}
    | {"select_for_update", "sort", "using_db"}
)
_DEPENDS: Final = frozenset(
    {
        "fastapi.Depends",
        "fastapi.Security",
        "fastapi.param_functions.Depends",
        "fastapi.params.Depends",
    }
)


class Inference:
    """Answers which class an expression's value is an instance of, by full name."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._locals: dict[Function, Mapping[str, str | None]] = {}
        self._attributes: dict[str, Mapping[str, str | None]] = {}
        self._globals: dict[str, str | None] = {}

    def type_of(
        self, expression: ast.expr, function: Function, *, depth: int = _DEPTH
    ) -> str | None:
        """Return the full name of the class of an expression's value inside a function."""
        found: str | None = None
        match expression if depth > 0 else None:
            case ast.Name(id=name):
                known = self.local_types(function)
                found = known[name] if name in known else self._global(function.module, name, depth)
            case ast.Await(value=inner) | ast.NamedExpr(value=inner):
                found = self.type_of(inner, function, depth=depth - 1)
                if isinstance(expression, ast.Await) and _is_query(found):
                    found = None  # what it answers: a row, or a list of them
            case ast.Call() as call:
                target = self.target_of(call, function)
                found = None if target is None else self._result(target)
            case ast.Attribute(value=value, attr=name) as attribute:
                owner = self.type_of(value, function, depth=depth - 1)
                full = self._source.name_of(function.module, attribute)
                if owner is not None:
                    found = self.attribute_type(owner, name)
                elif full is not None:
                    found = self._global_value(full, depth)
            case _:
                pass
        return found

    def target_of(self, call: ast.Call, function: Function) -> str | None:
        """Return the full name of what a call calls.

        A method is named by the class that it is written in, `sqlalchemy.orm.Session.execute`, also
        of a project's class that inherits it; a class by itself. `None` if it is not written down
        what is called.
        """
        callee = call.func
        if isinstance(callee, ast.Attribute):
            owner = self.type_of(callee.value, function)
            if owner is not None:
                return self._member(owner, callee.attr)
            if _is_super(callee.value) and function.owner is not None:
                return self._inherited(function.owner, callee.attr)
            if _root(callee) in self.local_types(function):
                return None  # a local value of a class that nobody wrote down
        elif isinstance(callee, ast.Name) and callee.id in self.local_types(function):
            return None
        nested = isinstance(callee, ast.Name) and f"{function.full_name}.<locals>.{callee.id}"
        if nested and nested in self._source.functions:
            return nested
        name = self._source.name_of(function.module, callee)
        owner, _, last = (name or "").rpartition(".")
        return self._member(owner, last) if owner in self._source.classes else name

    def _member(self, owner: str, name: str) -> str:
        """Return the full name of a class's method; of a library's if the project inherits it."""
        cls = self._source.classes.get(owner)
        method = self._source.method(cls, name) if cls is not None else None
        if method is not None:
            return method.full_name
        return f"{self._library(cls) if cls is not None else owner}.{name}"

    def _library(self, cls: Class) -> str:
        """Return the nearest base that is a library's; the class itself if there is none."""
        for owner in self._source.bases(cls):
            for node in owner.node.bases:
                inner = node.value if isinstance(node, ast.Subscript) else node
                name = self._source.name_of(owner.module, inner) or ""
                known = name in self._source.classes or name.startswith(_PLAIN)
                if "." in name and not known:
                    return name
        return cls.full_name

    def local_types(self, function: Function) -> Mapping[str, str | None]:
        """Return the classes of a function's parameters and local names; `None`: not known."""
        if function not in self._locals:
            found: dict[str, str | None] = {}
            self._locals[function] = found
            self._parameters(function, found)
            for node in function.nodes:
                self._assignment(node, function, found)
        return self._locals[function]

    def annotated_type(
        self, annotation: ast.expr | None, module: Module, depth: int = _DEPTH
    ) -> str | None:
        """Return the class that an annotation names; of a union, the one that is not None."""
        match annotation if depth > 0 else None:
            case ast.Constant(value=str(text)):
                return self.annotated_type(_parsed(text), module, depth - 1)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                found = [self.annotated_type(side, module, depth - 1) for side in (left, right)]
                return next((name for name in found if name is not None), None)
            case ast.Subscript(value=value, slice=inner):
                return self._subscripted(value, inner, module, depth)
            case ast.Name() | ast.Attribute() as name:
                return self._named(name, module, depth)
            case ast.Call(func=callee):  # `session: SessionLocal`, which is a sessionmaker
                return _made_by(self._source.name_of(module, callee) or "")
            case _:
                return None

    def attribute_type(self, owner: str, name: str) -> str | None:
        """Return the class of an attribute of a project class, from annotations and `__init__`."""
        cls = self._source.classes.get(owner)
        if cls is None:
            return None
        for base in self._source.bases(cls):
            found = self._own_attributes(base)
            if name in found:
                return found[name]
        return None

    def _own_attributes(self, cls: Class) -> Mapping[str, str | None]:
        if cls.full_name not in self._attributes:
            found: dict[str, str | None] = {}
            self._attributes[cls.full_name] = found
            for node in cls.node.body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found[node.target.id] = self.annotated_type(node.annotation, cls.module)
            for method in cls.methods.values():
                for node in method.nodes if method.node.name == "__init__" else ():
                    self._self_assignment(node, method, found)
                if any(
                    ast.unparse(d) in ("property", "cached_property", "functools.cached_property")
                    for d in method.node.decorator_list
                ):
                    found[method.node.name] = self.annotated_type(method.node.returns, cls.module)
        return self._attributes[cls.full_name]

    def _self_assignment(
        self, node: ast.AST, method: Function, found: dict[str, str | None]
    ) -> None:
        match node:
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name)):
                found[name] = self.annotated_type(node.annotation, method.module)
            case ast.Assign(
                targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=value
            ):
                found.setdefault(name, self.type_of(value, method))
            case _:
                pass

    def _parameters(self, function: Function, found: dict[str, str | None]) -> None:
        for number, argument in enumerate(function.arguments):
            default = function.defaults.get(argument.arg)
            name = self.annotated_type(argument.annotation, function.module)
            if name is None and number == 0 and function.owner is not None:
                name = function.owner.full_name
            if name is None and default is not None:
                name = self._provided(default, function.module)
            found[argument.arg] = name
        for argument in (function.node.args.vararg, function.node.args.kwarg):
            if argument is not None:
                found[argument.arg] = None

    def _provided(self, default: ast.expr, module: Module) -> str | None:
        """Return what ``Depends(provider)`` gives, from the provider's return annotation."""
        match default:
            case ast.Call(func=callee, args=[provider, *_]) if (
                self._source.name_of(module, callee) in _DEPENDS
            ):
                name = self._source.name_of(module, provider)
                return None if name is None else self._result(name)
            case _:
                return None

    def _assignment(self, node: ast.AST, function: Function, found: dict[str, str | None]) -> None:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                found[name] = self.annotated_type(annotation, function.module)
            case ast.Assign(targets=targets, value=value):
                self._bind(targets, value, function, found)
            case ast.With(items=items) | ast.AsyncWith(items=items):
                for item in items:
                    if item.optional_vars is not None:
                        self._bind([item.optional_vars], item.context_expr, function, found)
            case (
                ast.For(target=target)
                | ast.AsyncFor(target=target)
                | ast.comprehension(target=target)
            ):
                _forget(target, found)
            case ast.ExceptHandler(name=str(name)):
                found[name] = None
            case _:
                pass

    def _bind(
        self,
        targets: list[ast.expr],
        value: ast.expr,
        function: Function,
        found: dict[str, str | None],
    ) -> None:
        for target in targets:
            if isinstance(target, ast.Name):
                found[target.id] = self.type_of(value, function)
            elif not isinstance(target, ast.Attribute | ast.Subscript):  # those bind no name
                _forget(target, found)

    def _result(self, name: str) -> str | None:
        """Return the class of what calling ``name`` gives."""
        if name in self._source.classes:
            return name
        function = self._source.functions.get(name)
        if function is not None:
            return self._returned(function)
        value = self._global_value(name, _DEPTH - 1)
        if value is not None:
            return _made_by(value)
        owner, _, last = name.rpartition(".")
        if last in _QUERIES and name.startswith(_ORMS):
            return f"{name.partition('.')[0]}.Query"
        if last.startswith("from_"):  # the way classes name their other constructors
            name, last = owner, owner.rpartition(".")[2]
        return name if last[:1].isupper() and not last.isupper() and "." in name else None

    def _returned(self, function: Function) -> str | None:
        annotation = function.node.returns
        if isinstance(annotation, ast.Subscript):
            name = self._source.name_of(function.module, annotation.value)
            if name in _YIELDED:
                inner = annotation.slice
                first = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
                return self.annotated_type(first, function.module)
        if annotation is not None and ast.unparse(annotation).strip("'\"") in (
            "Self",
            "typing.Self",
        ):
            return function.owner.full_name if function.owner else None
        return self.annotated_type(annotation, function.module)

    def _subscripted(
        self, value: ast.expr, inner: ast.expr, module: Module, depth: int
    ) -> str | None:
        name = self._source.name_of(module, value)
        first = inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
        if name in _TRANSPARENT:
            return self.annotated_type(first, module, depth - 1)
        if name == "typing.Union" and isinstance(inner, ast.Tuple):
            found = [self.annotated_type(part, module, depth - 1) for part in inner.elts]
            return next((part for part in found if part is not None), None)
        return self.annotated_type(value, module, depth - 1)

    def _named(self, node: ast.expr, module: Module, depth: int) -> str | None:
        name = self._source.name_of(module, node)
        if name is None or name in ("None", "typing.Any", "Any", "object"):
            return None
        owner, _, last = name.rpartition(".")
        home = self._source.modules.get(owner)
        if home is not None and last in home.values and last not in home.annotations:
            return self.annotated_type(home.values[last], home, depth - 1)  # an alias
        return name

    def _global(self, module: Module, name: str, depth: int) -> str | None:
        full = module.names.get(name)
        return None if full is None else self._global_value(self._source.resolve(full), depth)

    def _global_value(self, full: str, depth: int) -> str | None:
        """Return the class of a module's variable."""
        if full in self._globals:
            return self._globals[full]
        self._globals[full] = None  # a value that is made of itself has no class
        owner, _, name = full.rpartition(".")
        module = self._source.modules.get(owner)
        if module is not None and depth > 0:
            annotation = self.annotated_type(module.annotations.get(name), module)
            value = module.values.get(name)
            self._globals[full] = annotation or self._module_value(value, module, depth)
        return self._globals[full]

    def _module_value(self, value: ast.expr | None, module: Module, depth: int) -> str | None:
        match value:
            case ast.Call(func=callee):
                name = self._source.name_of(module, callee)
                if name is None:
                    return None
                if _makes_sessions(name):
                    return f"{name}()"
                return self._result(name)
            case ast.Name(id=name):
                return self._global(module, name, depth - 1)
            case _:
                return None

    def _inherited(self, cls: Class, name: str) -> str | None:
        for base in list(self._source.bases(cls))[1:]:
            if name in base.methods:
                return base.methods[name].full_name
        return None


_FACTORIES: Final = {
    "sqlalchemy.orm.sessionmaker": "sqlalchemy.orm.Session",
    "sqlalchemy.orm.scoped_session": "sqlalchemy.orm.Session",
    "sqlalchemy.orm.session.sessionmaker": "sqlalchemy.orm.Session",
    "sqlalchemy.ext.asyncio.async_sessionmaker": "sqlalchemy.ext.asyncio.AsyncSession",
}


def _makes_sessions(name: str) -> bool:
    return name in _FACTORIES


def _is_query(name: str | None) -> bool:
    return name in {f"{library}Query" for library in _ORMS}


def _made_by(value: str) -> str | None:
    """Return the class of what calling an instance gives: a session, for a session factory."""
    return _FACTORIES.get(value.removesuffix("()"))


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def _is_super(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript | ast.Await):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _forget(target: ast.AST, found: dict[str, str | None]) -> None:
    for node in ast.walk(target):
        if isinstance(node, ast.Name):
            found[node.id] = None
