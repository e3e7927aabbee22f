"""Which member of an old union became which of the new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from newel_tools.contract.finding import Finding
from newel_tools.openapi.shape import Shape

__all__ = ["pair_alternatives"]

_SHARED: Final = 0.5  # of the property names, from which two nameless objects are the same one


def pair_alternatives(
    olds: Sequence[Shape],
    news: Sequence[Shape],
    differ: Callable[[Shape, Shape], Sequence[Finding]],
) -> tuple[list[tuple[Shape, Shape]], list[Shape], list[Shape]]:
    """Return the pairs, the old ones without a partner, and the new ones without.

    The order of a union means nothing. Partners are, in this order: of the same name, without a
    difference, of the same simple type, objects with half of their properties in common.
    """
    tests: list[Callable[[Shape, Shape], bool]] = [
        lambda one, other: one.component is not None and one.component == other.component,
        lambda one, other: not differ(one, other),
        _same_simple_type,
        _similar_objects,
    ]
    pairs: list[tuple[Shape, Shape]] = []
    gone, added = list(olds), list(news)
    for test in tests:
        for one in list(gone):
            partner = next((other for other in added if test(one, other)), None)
            if partner is not None:
                pairs.append((one, partner))
                gone.remove(one)
                added.remove(partner)
    return pairs, gone, added


def _same_simple_type(one: Shape, other: Shape) -> bool:
    return one.types == other.types and bool(one.types) and not one.types & {"object"}


def _similar_objects(one: Shape, other: Shape) -> bool:
    if "object" not in one.types or "object" not in other.types:
        return False
    mine, its = set(one.properties), set(other.properties)
    return bool(mine | its) and len(mine & its) >= _SHARED * len(mine | its)
