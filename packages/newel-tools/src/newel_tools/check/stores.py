"""Which fields of a request end in which columns: `stores`.

`Entity(**body.model_dump())`, `Entity(name=body.name)`, `row.name = body.name`, a loop with
`setattr`, `sqlmodel_update`, `update(Entity).values(...)`, and the same in a generic base class.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from newel_tools.check.decisions import decided_fields
from newel_tools.facts.shapes import Field, Model
from newel_tools.facts.source import Class, Function

if TYPE_CHECKING:
    from newel_tools.check.review import Review
    from newel_tools.check.rows import Rows
    from newel_tools.facts.entities import Column, Entity
    from newel_tools.facts.routes import Route

__all__ = ["Store", "stores"]

# `changes` is what newel's own models call `model_dump(exclude_unset=True)`.
_DUMPS: Final = frozenset({"model_dump", "dict", "jsonable_encoder", "changes"})
_VALIDATES: Final = frozenset({"model_validate", "from_orm", "parse_obj"})
_TAKES_DICTIONARY: Final = frozenset({"sqlmodel_update", "update_from_dict", "update"})


@dataclass(frozen=True, slots=True)
class Store:
    """A place where values of ``model`` are written to ``entity``; ``pairs`` says which to which.

    ``routes`` lead there and take the model. ``updates``: a row that exists is changed.
    ``skips_null``: null is not written, or may not be.
    """

    model: Model
    entity: Entity
    function: Function
    line: int
    pairs: tuple[tuple[Field, Column], ...]
    updates: bool = False
    skips_null: bool = False
    routes: tuple[Route, ...] = ()

    @property
    def labels(self) -> list[str]:
        """The labels of the routes."""
        return [route.label for route in self.routes]


@dataclass(frozen=True, slots=True)
class _Dump:
    """The values of a model as a dictionary, without the fields that were left out."""

    model: Model
    skips_null: bool = False
    without: frozenset[str] = frozenset()
    only: frozenset[str] | None = None

    def fields(self) -> Iterator[Field]:
        for field in self.model.fields:
            left_out = field.name in self.without or field.exclude
            if not left_out and (self.only is None or field.name in self.only):
                yield field


def stores(review: Review) -> Iterator[Store]:
    """Yield what requests write: only models that a route which leads there takes as a body."""
    rows = review.rows
    generics = _generics(review, rows)
    handled = decided_fields(review)
    for function, reach in review.reached.items():
        takers: dict[str, dict[str, Route]] = {}
        for route in reach.routes:
            for model in review.bodies(route):
                takers.setdefault(model.full_name, {})[route.label] = route
        for bound in generics.get(function, [{}]) if takers else ():
            for store in _Writes(review, rows, function, bound).found():
                routes = takers.get(store.model.full_name)
                done = handled.get(store.model.full_name, set())
                pairs = tuple(pair for pair in store.pairs if pair[0].name not in done)
                if routes and pairs:
                    yield replace(store, pairs=pairs, routes=tuple(routes.values()))


def _generics(review: Review, rows: Rows) -> dict[Function, list[Mapping[str, str]]]:
    """Return what the type variables of generic base classes stand for, for each of their methods.

    `class Users(Crud[User, UserCreate])` binds both, and `""` to the entity among them.
    """
    found: dict[Function, list[Mapping[str, str]]] = {}
    for cls in review.source.classes.values():
        for node in cls.node.bases:
            base = review.source.classes.get(
                review.source.name_of(cls.module, getattr(node, "value", node)) or ""
            )
            if isinstance(node, ast.Subscript) and base is not None:
                bound = _bindings(review, rows, cls, base, node.slice)
                for method in base.methods.values() if "" in bound else ():
                    found.setdefault(method, []).append(bound)
    return found


def _bindings(
    review: Review, rows: Rows, cls: Class, base: Class, arguments: ast.expr
) -> Mapping[str, str]:
    given = arguments.elts if isinstance(arguments, ast.Tuple) else [arguments]
    bound: dict[str, str] = {}
    for variable, argument in zip(_variables(base), given, strict=False):
        name = review.source.name_of(cls.module, argument)
        entity = rows.entity(argument, cls.module)
        bound[variable] = name or ""
        if entity is not None:
            bound[""] = entity.full_name
    return bound


def _variables(cls: Class) -> list[str]:
    """Return the names of a generic class's type variables."""
    parameters: list[ast.AST] = list(getattr(cls.node, "type_params", ()))
    if parameters:
        return [str(getattr(parameter, "name", "")) for parameter in parameters]
    for node in cls.node.bases:
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Generic"):
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return [ast.unparse(part) for part in inner]
    return []


class _Writes:
    """Finds the writes in one function, under one binding of the type variables around it."""

    def __init__(
        self, review: Review, rows: Rows, function: Function, bound: Mapping[str, str]
    ) -> None:
        self._review = review
        self._rows = rows
        self._function = function
        self._bound = bound
        self._models = {model.full_name: model for model in review.facts.models.values()}
        self._entities = {entity.full_name: entity for entity in review.facts.entities}

    def found(self) -> Iterator[Store]:
        for node in self._function.nodes:
            if isinstance(node, ast.Call):
                yield from self._call(node)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                yield from self._assignment(node.targets[0], node.value)
            elif isinstance(node, ast.For):
                yield from self._loop(node)

    # -- the writes ------------------------------------------------------------------------------

    def _call(self, call: ast.Call) -> Iterator[Store]:
        made = self._made(call)
        if made is not None:
            yield from self._construction(call, made)
            return
        method = call.func if isinstance(call.func, ast.Attribute) else None
        if method is None:
            return
        if method.attr in _VALIDATES:
            yield from self._validation(call, method.value)
        elif method.attr in _TAKES_DICTIONARY and call.args:
            yield from self._dictionary(call, method)
        elif method.attr == "values":
            yield from self._values(call, method)

    def _made(self, call: ast.Call) -> Entity | None:
        """Return the entity that a call makes a row of: `User(...)`, `self.model(...)`."""
        entity = self._rows.entity(call.func, self._function.module)
        generic = ast.unparse(call.func) in ("self.model", "self._model", "self.model_class")
        return entity or (self._entities.get(self._bound.get("", "")) if generic else None)

    def _construction(self, call: ast.Call, entity: Entity) -> Iterator[Store]:
        given = frozenset(keyword.arg for keyword in call.keywords if keyword.arg)
        for keyword in call.keywords:
            if keyword.arg is None:
                dump = self._dump(keyword.value)
                if dump is not None:
                    yield self._whole(replace(dump, without=dump.without | given), entity, call)
            else:
                yield from self._single(keyword.value, entity, keyword.arg)

    def _validation(self, call: ast.Call, owner: ast.expr) -> Iterator[Store]:
        entity = self._rows.entity(owner, self._function.module)
        dump = self._dump(call.args[0]) or self._plain(call.args[0]) if call.args else None
        given = next((item.value for item in call.keywords if item.arg == "update"), None)
        if entity is not None and dump is not None:
            yield self._whole(replace(dump, without=dump.without | _keys(given)), entity, call)

    def _dictionary(self, call: ast.Call, method: ast.Attribute) -> Iterator[Store]:
        """Find `row.sqlmodel_update(data)` and `query(Entity).update(data)`.

        And `rows.update(row, data)` where a library's class keeps the rows of an entity.
        """
        row = self._rows.of(method.value, self._function)
        if row is not None:
            dump = self._dump(call.args[0])
            if dump is not None:
                yield self._whole(dump, row.entity, call, row=method.value, updates=True)
            return
        entity = self._kept_by(method.value) if len(call.args) > 1 else None
        for dump in self._dumps_of(call.args[-1]) if entity is not None else ():
            if entity is not None:
                yield self._whole(dump, entity, call, updates=True)

    def _kept_by(self, receiver: ast.expr) -> Entity | None:
        """Return the entity that a repository is for: `class Notes(Repository[Note])`."""
        types = self._review.calls.types
        cls = self._review.source.classes.get(types.type_of(receiver, self._function) or "")
        for base in cls.node.bases if cls is not None else ():
            if cls is not None and isinstance(base, ast.Subscript):
                inner = base.slice.elts if isinstance(base.slice, ast.Tuple) else [base.slice]
                found = (self._rows.entity(part, cls.module) for part in inner)
                return next((entity for entity in found if entity is not None), None)
        return None

    def _dumps_of(self, expression: ast.expr) -> Iterator[_Dump]:
        """Yield what a dictionary may hold; of a parameter, what each caller gives it."""
        dump = self._dump(expression)
        if dump is not None:
            yield dump
        if not isinstance(expression, ast.Name):
            return
        for call in self._review.calls.callers.get(self._function, ()):
            for name, value in call.given():
                given = _Writes(self._review, self._rows, call.caller, {})
                dump = given._dump(value) if name == expression.id else None
                if dump is not None:
                    yield dump

    def _values(self, call: ast.Call, method: ast.Attribute) -> Iterator[Store]:
        """Find `update(Entity).where(...).values(**data)` and the same with `insert`."""
        root: ast.expr = method
        while isinstance(root, ast.Attribute) or (
            isinstance(root, ast.Call) and isinstance(root.func, ast.Attribute)
        ):
            root = root.value if isinstance(root, ast.Attribute) else root.func
        if not isinstance(root, ast.Call) or not root.args:
            return
        entity = self._rows.entity(root.args[0], self._function.module)
        given = [*(item.value for item in call.keywords if item.arg is None), *call.args]
        for value in given if entity is not None else ():
            dump = self._dump(value)
            if dump is not None and entity is not None:
                updates = getattr(root.func, "id", "") == "update"
                yield self._whole(dump, entity, call, updates=updates)

    def _loop(self, loop: ast.For) -> Iterator[Store]:
        """Find `for name, value in data.items(): setattr(row, name, value)`."""
        source = loop.iter
        if isinstance(source, ast.Call) and isinstance(source.func, ast.Attribute):
            is_items = source.func.attr in ("items", "keys")
            source = source.func.value if is_items else source
        for node in ast.walk(loop):
            match node:
                case ast.Call(func=ast.Name(id="setattr"), args=[target, _, value]):
                    row = self._rows.of(target, self._function)
                    entity = row.entity if row else self._entities.get(self._bound.get("", ""))
                    dump = self._dump(source)
                    if dump is None and isinstance(value, ast.Subscript):
                        dump = self._dump(value.value)
                    if entity is not None and dump is not None:
                        skips = dump.skips_null or _tests_null(loop)
                        yield self._whole(
                            replace(dump, skips_null=skips), entity, node, row=target, updates=True
                        )
                case _:
                    pass

    def _assignment(self, target: ast.Attribute, value: ast.expr) -> Iterator[Store]:
        row = self._rows.of(target.value, self._function)
        if row is not None and not row.many:
            yield from self._single(value, row.entity, target.attr, updates=True)

    def _single(
        self, value: ast.expr, entity: Entity, name: str, *, updates: bool = False
    ) -> Iterator[Store]:
        """Find one field that is written to one column, unchanged."""
        if not isinstance(value, ast.Attribute):
            return
        model = self._model(value.value)
        field = model.field(value.attr) if model is not None else None
        column = entity.column(name)
        if model is not None and field is not None and column is not None:
            yield Store(
                model,
                entity,
                self._function,
                value.lineno,
                ((field, column),),
                updates=updates,
                skips_null=field.name in self._tested,
            )

    def _whole(
        self,
        dump: _Dump,
        entity: Entity,
        node: ast.expr,
        *,
        row: ast.expr | None = None,
        updates: bool = False,
    ) -> Store:
        done = self._tested
        if row is not None:
            done |= self._set_after(row, node.lineno)
        columns = {column.attribute: column for column in entity.columns}
        pairs = tuple(
            (field, columns[field.name]) for field in dump.fields() if field.name in columns
        )
        kept = tuple(pair for pair in pairs if pair[0].name not in done)
        return Store(
            dump.model,
            entity,
            self._function,
            node.lineno,
            kept,
            updates=updates,
            skips_null=dump.skips_null,
        )

    def _set_after(self, row: ast.expr, line: int) -> frozenset[str]:
        """Return the attributes of a row that are set again further down, whatever comes."""
        found: set[str] = set()
        for statement in _always(self._function.node.body):
            match statement:
                case ast.Assign(targets=[ast.Attribute(value=owner, attr=name)]) | ast.Expr(
                    ast.Call(
                        func=ast.Name(id="setattr"),
                        args=[owner, ast.Constant(value=str(name)), _],
                    )
                ) if statement.lineno > line and ast.unparse(owner) == ast.unparse(row):
                    found.add(name)
                case _:
                    pass
        return frozenset(found)

    # -- the values ------------------------------------------------------------------------------

    @cached_property
    def _tested(self) -> frozenset[str]:
        """The names that conditions, removals and assignments by key in the function mention."""
        found: set[str] = set()
        for node in self._function.nodes:
            match node:
                case (
                    ast.If(test=test)
                    | ast.IfExp(test=test)
                    | ast.comprehension(ifs=[test, *_])
                    | ast.Assert(test=test)
                ):
                    found.update(_mentioned(test))
                case ast.Call(func=ast.Attribute(attr="pop" | "setdefault")):
                    found.update(_mentioned(node))
                case ast.Subscript(slice=ast.Constant(value=str(key)), ctx=ast.Store() | ast.Del()):
                    found.add(key)
                case ast.BoolOp():
                    found.update(_mentioned(node))
                case _:
                    pass
        return frozenset(found)

    def _model(self, expression: ast.expr) -> Model | None:
        """Return the model that an expression is an instance of."""
        types = self._review.calls.types
        if isinstance(expression, ast.Name) and self._bound:
            for argument in self._function.arguments:
                if argument.arg == expression.id and argument.annotation is not None:
                    names = _mentioned(argument.annotation)
                    bound = (self._bound.get(name, "") for name in names)
                    return next(
                        (self._models[name] for name in bound if name in self._models), None
                    )
        return self._models.get(types.type_of(expression, self._function) or "")

    def _plain(self, expression: ast.expr) -> _Dump | None:
        model = self._model(expression)
        return None if model is None else _Dump(model)

    def _dump(self, expression: ast.expr, *, depth: int = 4) -> _Dump | None:
        """Return what a dictionary holds: a model's values, as far as it is one."""
        match expression if depth else None:
            case ast.Name(id=name):
                values = [_value(node, name) for node in self._function.nodes]
                dumps = (self._dump(value, depth=depth - 1) for value in values if value)
                return next((dump for dump in dumps if dump is not None), None)
            case ast.Call() as call:
                return self._dumped(call)
            case ast.DictComp(
                generators=[
                    ast.comprehension(
                        iter=ast.Call(func=ast.Attribute(value=inner, attr="items")), ifs=tests
                    )
                ]
            ):
                dump = self._dump(inner, depth=depth - 1)
                return dump and replace(dump, skips_null=dump.skips_null or bool(tests))
            case ast.Dict(keys=keys, values=values):
                spread = [value for key, value in zip(keys, values, strict=True) if key is None]
                dump = self._dump(spread[0], depth=depth - 1) if spread else None
                return dump and replace(dump, without=dump.without | _keys(expression))
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                dump = self._dump(left, depth=depth - 1)
                return dump and replace(dump, without=dump.without | _keys(right))
            case _:
                return None

    def _dumped(self, call: ast.Call) -> _Dump | None:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        name = name or getattr(call.func, "id", "")
        if name not in _DUMPS:
            return None
        taken = call.args[0] if name == "jsonable_encoder" and call.args else None
        owner = call.func.value if isinstance(call.func, ast.Attribute) else taken
        model = self._model(owner) if owner is not None else None
        if model is None:
            return None
        options = {item.arg: item.value for item in call.keywords if item.arg}
        only = options.get("include")
        return _Dump(
            model,
            skips_null="exclude_none" in options,
            without=_keys(options.get("exclude")),
            only=None if only is None else _keys(only),
        )


def _tests_null(loop: ast.For) -> bool:
    """Tell whether a condition in a loop looks at the value, rather than only at its name."""
    for node in ast.walk(loop):
        test = node.test if isinstance(node, ast.If | ast.IfExp) else None
        for part in ast.walk(test) if test is not None else ():
            if isinstance(part, ast.Constant) and part.value is None:
                return True
        parts = test.values if isinstance(test, ast.BoolOp) else [test]
        if any(isinstance(part, ast.Name | ast.Subscript) for part in parts):
            return True
    return False


def _always(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run whenever a body does."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.With | ast.AsyncWith | ast.Try):
            yield from _always(statement.body)


def _value(node: ast.AST, name: str) -> ast.expr | None:
    match node:
        case (
            ast.Assign(targets=[ast.Name(id=bound)], value=value)
            | ast.AnnAssign(target=ast.Name(id=bound), value=ast.expr() as value)
        ) if bound == name:
            return value
        case _:
            return None


def _keys(expression: ast.expr | None) -> frozenset[str]:
    """Return the texts in a set, a list or a dictionary's keys."""
    items: Iterable[ast.expr | None] = ()
    if isinstance(expression, ast.Set | ast.List | ast.Tuple):
        items = expression.elts
    elif isinstance(expression, ast.Dict):
        items = expression.keys
    return frozenset(
        item.value
        for item in items
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    )


def _mentioned(node: ast.AST) -> set[str]:
    found: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.Constant(value=str(name)):
                found.add(name)
            case _:
                pass
    return found
