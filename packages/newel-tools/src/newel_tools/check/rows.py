"""Which entity's rows an expression gives, as far as the source says it: `Rows`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from newel_tools.facts.source import Function, Module

if TYPE_CHECKING:
    from newel_tools.check.review import Review
    from newel_tools.facts.entities import Entity

__all__ = ["Row", "Rows"]

_DEPTH: Final = 8
_ONE: Final = frozenset(
    {"first", "one", "one_or_none", "scalar", "scalar_one", "scalar_one_or_none", "get_or_none"}
)
_MANY: Final = frozenset({"all", "fetchall", "scalars", "partitions", "yield_per", "to_list"})
_SENT: Final = frozenset({"execute", "exec", "scalars", "scalar", "stream", "stream_scalars"})
_STATEMENTS: Final = frozenset({"select", "query"})
_LISTS: Final = frozenset(
    {"list", "set", "tuple", "typing.List", "typing.Sequence", "typing.Iterable"}
    | {"collections.abc.Sequence", "collections.abc.Iterable", "typing.Iterator"}
)


@dataclass(frozen=True, slots=True)
class Row:
    """What an expression holds: a row of ``entity``, or ``many``."""

    entity: Entity
    many: bool = False


class Rows:
    """Answers which entity an expression's value is of; what is not written down is ``None``."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._types = review.calls.types
        self._entities = {entity.full_name: entity for entity in review.facts.entities}
        self._locals: dict[Function, dict[str, Row | None]] = {}

    def entity(self, expression: ast.expr | None, module: Module) -> Entity | None:
        """Return the entity that an expression names: the class itself, not a row of it."""
        name = None if expression is None else self._review.source.name_of(module, expression)
        return self._entities.get(name or "")

    def of(self, expression: ast.expr, function: Function, *, depth: int = _DEPTH) -> Row | None:
        """Return what an expression inside a function holds."""
        known = self._entities.get(self._types.type_of(expression, function) or "")
        if known is not None:
            return Row(known)
        match expression if depth > 0 else None:
            case ast.Await(value=inner) | ast.NamedExpr(value=inner):
                return self.of(inner, function, depth=depth - 1)
            case ast.Name(id=name):
                return self._local(name, function, depth)
            case ast.Call() as call:
                return self._called(call, function, depth)
            case ast.BoolOp(op=ast.Or(), values=[first, *_]):
                return self.of(first, function, depth=depth - 1)
            case _:
                return None

    def annotated(self, annotation: ast.expr | None, module: Module) -> Row | None:
        """Return what an annotation says: `User | None`, `list[User]`."""
        match annotation:
            case ast.Subscript(value=value, slice=inner) if (
                self._review.source.name_of(module, value) in _LISTS
            ):
                first = inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
                row = self.annotated(first, module)
                return None if row is None else replace(row, many=True)
            case ast.BinOp(left=left, right=right):
                return self.annotated(left, module) or self.annotated(right, module)
            case _:
                entity = self._entities.get(self._types.annotated_type(annotation, module) or "")
                return None if entity is None else Row(entity)

    def _called(self, call: ast.Call, function: Function, depth: int) -> Row | None:
        module = function.module
        name = _name(call)
        if name in _STATEMENTS and len(call.args) == 1:
            entity = self.entity(call.args[0], module)
            return None if entity is None else Row(entity, many=True)
        if name in ("get", "get_one") and call.args:
            entity = self.entity(call.args[0], module)
            if entity is not None:
                return Row(entity)
        target = self._review.source.functions.get(self._types.target_of(call, function) or "")
        if target is not None:
            return self._returned(target, depth)
        row = self._sent(call, function, depth)
        if row is not None and name in _ONE:
            return replace(row, many=False)
        return replace(row, many=True) if row is not None and name in _MANY else row

    def _sent(self, call: ast.Call, function: Function, depth: int) -> Row | None:
        """Follow `session.scalars(statement)`, `list(rows)`, `statement.where(...)`."""
        name = _name(call)
        if name in (*_SENT, "list", "sorted", "cast") and call.args:
            row = self.of(call.args[-1 if name == "cast" else 0], function, depth=depth - 1)
            if row is not None:
                return row
        if isinstance(call.func, ast.Attribute):
            return self._query(call.func.value, function, depth)
        return None

    def _query(self, value: ast.expr, function: Function, depth: int) -> Row | None:
        entity = self.entity(value, function.module)
        if entity is not None and entity.orm == "tortoise":
            return Row(entity, many=True)
        return self.of(value, function, depth=depth - 1)

    def _returned(self, function: Function, depth: int) -> Row | None:
        if function.node.returns is not None:
            return self.annotated(function.node.returns, function.module)
        values = [node.value for node in function.nodes if isinstance(node, ast.Return)]
        found = [self.of(value, function, depth=depth - 2) for value in values if value is not None]
        return next((row for row in found if row is not None), None)

    def _local(self, name: str, function: Function, depth: int) -> Row | None:
        known = self._locals.setdefault(function, {})
        if name not in known:
            known[name] = None  # a value that is made of itself holds nothing that is known
            row = next(iter(self._bound(name, function, depth)), None)
            if row is None and depth < _DEPTH:
                del known[name]  # it was perhaps only too far away: the next one may be nearer
                return None
            known[name] = row
        return known[name]

    def _bound(self, name: str, function: Function, depth: int) -> Iterator[Row]:
        """Yield what is bound to a local name: a parameter, an assignment, a loop's variable."""
        for argument in function.arguments:
            if argument.arg == name:
                row = self.annotated(argument.annotation, function.module)
                if row is not None:
                    yield row
        for node in function.nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                    row = self.of(value, function, depth=depth - 1)
                case ast.AnnAssign(target=ast.Name(id=bound)) if bound == name:
                    row = self.annotated(node.annotation, function.module)
                case ast.NamedExpr(target=ast.Name(id=bound), value=value) if bound == name:
                    row = self.of(value, function, depth=depth - 1)
                case (
                    ast.For(target=ast.Name(id=bound), iter=value)
                    | ast.AsyncFor(target=ast.Name(id=bound), iter=value)
                    | ast.comprehension(target=ast.Name(id=bound), iter=value)
                ) if bound == name:
                    row = self.of(value, function, depth=depth - 1)
                    row = None if row is None or not row.many else Row(row.entity)
                case _:
                    row = None
            if row is not None:
                yield row


def _name(call: ast.Call) -> str:
    """Return the last name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
