"""Owners: which tables belong to users row by row, and which code looks at whose row it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from newel_tools.check.review import Review
from newel_tools.check.rows import Rows
from newel_tools.facts.calls import Call
from newel_tools.facts.entities import Column, Entity
from newel_tools.facts.source import Function

__all__ = ["Owned", "Owners", "is_user"]

_USERS: Final = re.compile(
    r"(User|Account|Member|Customer|Person)(Model|Entity|Table|DB|ORM|Tortoise|Document)?$"
)
_LOG_IN: Final = re.compile(r"password|passwd|hash|email|username", re.IGNORECASE)
_OWNERS: Final = re.compile(
    r"^(user|owner|account|customer|member|author|creator|created_by|client|holder)(_id|_uuid|_by_id)?$",
    re.IGNORECASE,
)
_READS: Final = frozenset({"get", "get_one", "select", "query", "get_or_none", "get_or_404"})


def is_user(entity: Entity) -> bool:
    """Tell whether an entity's rows are people who log in."""
    named = _USERS.search(entity.name.rpartition(".")[2]) is not None
    return named and any(_LOG_IN.search(column.attribute) for column in entity.columns)


@dataclass(frozen=True, slots=True)
class Owned:
    """An entity whose rows belong to users, and the column that says to whom."""

    entity: Entity
    column: Column


class Owners:
    """Answers which entities are owned, and what the code does about it."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._rows = Rows(review)

    @cached_property
    def owned(self) -> tuple[Owned, ...]:
        """The entities with one foreign key to users that is named as an owner's."""
        users = {entity.table for entity in self._review.facts.entities if is_user(entity)}
        found: list[Owned] = []
        for entity in self._review.facts.entities:
            columns = [
                column
                for column in entity.columns
                if _OWNERS.match(column.attribute)
                and not column.primary_key
                and any(
                    reference.table.rpartition(".")[2] in users for reference in column.references
                )
            ]
            if len(columns) == 1:
                found.append(Owned(entity, columns[0]))
        return tuple(found)

    def compared_in(self, function: Function, owned: Owned) -> bool:
        """Tell whether a function compares the owner of such a row, or filters by it."""
        name = owned.column.attribute
        for node in function.nodes:
            match node:
                case ast.Compare(left=left, comparators=others):
                    sides = [left, *others]
                    if any(self._is_owner(side, function, owned) for side in sides):
                        return True
                case ast.Call(func=ast.Attribute(attr="filter_by" | "filter" | "get_or_none")):
                    if any(
                        keyword.arg in (name, name.removesuffix("_id")) for keyword in node.keywords
                    ):
                        return True
                case _:
                    pass
        return False

    def mentioned_in(self, function: Function, owned: Owned) -> bool:
        """Tell whether a function says the owner's name at all."""
        column = owned.column.attribute
        names = {column, column.removesuffix("_id")}
        for node in function.nodes:
            match node:
                case (
                    ast.Attribute(attr=name, ctx=ast.Load())
                    | ast.keyword(arg=str(name))
                    | ast.Constant(value=str(name))
                ) if name in names:
                    return True
                case ast.Name(id=name) | ast.Attribute(attr=name) if name == column:
                    return True
                case _:
                    pass
        return False

    def reads(self, function: Function) -> Iterator[tuple[Call, Entity]]:
        """Yield the calls in a function that fetch rows of an entity."""
        for call in self._review.calls.of(function):
            name = getattr(call.node.func, "attr", None) or getattr(call.node.func, "id", "")
            asked = [*call.node.args[:1], *_class_asked(call.node)] if name in _READS else []
            found = (self._rows.entity(part, function.module) for part in asked)
            entity = next((entity for entity in found if entity is not None), None)
            if entity is not None:
                yield call, entity

    def makes(self, function: Function, entity: Entity) -> bool:
        """Tell whether a function makes a row of an entity: `User(...)`, `User.create(...)`."""
        for call in self._review.calls.of(function):
            parts = [call.node.func]
            if getattr(call.node.func, "attr", "") == "create":
                parts += _class_asked(call.node)
            if any(self._rows.entity(part, function.module) == entity for part in parts):
                return True
        return False

    def _is_owner(self, side: ast.expr, function: Function, owned: Owned) -> bool:
        if not isinstance(side, ast.Attribute) or side.attr != owned.column.attribute:
            return False
        named = self._rows.entity(side.value, function.module)
        row = self._rows.of(side.value, function)
        return owned.entity in (named, row.entity if row is not None else None)


def _class_asked(call: ast.Call) -> list[ast.expr]:
    """Return what a method is called on: the class of the rows, in Tortoise."""
    return [call.func.value] if isinstance(call.func, ast.Attribute) else []
