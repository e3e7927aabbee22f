"""A statement is built once for a shape, and never with another caller's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from sample_entities import Agent, Tag
from sqlalchemy import ColumnElement, Select, select

from newel.principal import ANYONE, Principal
from newel.scope import SystemScope, UnscopedQuery
from newel.statements import Statements

ANN, BOB = Principal(id=uuid4()), Principal(id=uuid4())


class Builds:
    """Counts how often a statement is built."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, predicates: Sequence[ColumnElement[bool]]) -> Select[Any]:
        self.count += 1
        return select(Agent.name).where(*predicates)


def test_two_callers_share_a_statement_and_not_their_values() -> None:
    statements, build = Statements(), Builds()
    first, of_ann = statements.scoped(Agent, ANN, "list", build)
    second, of_bob = statements.scoped(Agent, BOB, "list", build)
    assert first is second
    assert build.count == 1
    assert (list(of_ann.values()), list(of_bob.values())) == ([ANN.id], [BOB.id])
    assert of_ann.keys() == of_bob.keys()


@pytest.mark.parametrize(
    "scope",
    [
        ANYONE,
        SystemScope(reason="look"),
        Principal(id=uuid4(), permissions=frozenset({"agents:all"})),
    ],
    ids=["anyone", "system", "administrator"],
)
def test_who_sees_something_else_gets_another_statement(scope: Principal | SystemScope) -> None:
    statements, build = Statements(), Builds()
    own, _ = statements.scoped(Agent, ANN, "list", build)
    other, _ = statements.scoped(Agent, scope, "list", build)
    assert str(own) != str(other)
    assert build.count == 2


def test_every_shape_has_its_own() -> None:
    statements, build = Statements(), Builds()
    first, _ = statements.scoped(Agent, ANN, "list", build)
    second, _ = statements.scoped(Agent, ANN, "find", build)
    assert first is not second


def test_without_a_caller_only_what_is_not_guarded_has_a_statement() -> None:
    statements = Statements()
    statements.scoped(Tag, None, "list", Builds())
    with pytest.raises(UnscopedQuery):
        statements.scoped(Agent, None, "list", Builds())


def test_what_is_remembered_is_bounded() -> None:
    statements, build = Statements(), Builds()
    for number in range(10_500):
        statements.scoped(Agent, ANN, number, build)
    assert statements.count <= 10_000
