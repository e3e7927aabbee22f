"""Transitions as endpoints: their verbs, who may, and the way to where they are allowed."""

from __future__ import annotations

from newel_tools.generator.moves import MoveView, view_moves
from newel_tools.plan.fields import read_line
from newel_tools.plan.plan import Resource, States

ORDERS = "state[pending -> paid|cancelled by orders:process, paid -> shipped by orders:process]"


def moves(line: str, *, owned: bool = True, taken: tuple[str, ...] = ()) -> dict[str, MoveView]:
    states = read_line("status", line)
    assert isinstance(states, States)
    owner = "users" if owned else None
    resource = Resource(name="orders", singular="order", states=states, owner=owner)
    return {move.verb: move for move in view_moves(states, resource, taken=set(taken))}


def test_a_move_is_called_after_the_state_it_leads_to() -> None:
    assert list(moves(ORDERS)) == ["pay", "cancel", "ship"]


def test_all_ways_to_a_state_are_one_move() -> None:
    found = moves("state[draft -> closed|open, open -> closed]")
    assert found["close"].before == ("draft", "open")


def test_a_state_without_a_verb_is_marked() -> None:
    assert "mark_on_hold" in moves("state[draft -> on_hold]")


def test_a_permission_is_a_verb_where_the_state_has_none() -> None:
    assert "reopen" in moves("state[todo -> done, done -> todo by orders:reopen]")


def test_a_verb_that_is_taken_is_not_used_again() -> None:
    assert "mark_closed" in moves("state[open -> closed]", taken=("close",))
    assert "mark_listed" in moves("state[draft -> listed]")  # `list` lists the rows


def test_a_state_that_two_permissions_lead_to_has_two_moves() -> None:
    found = moves("state[a -> closed by orders:manage, b -> closed by orders:force, a -> b]")
    assert [m.permission for m in found.values() if m.after == "closed"] == [
        "orders:manage",
        "orders:force",
    ]


def test_there_is_a_verb_however_many_are_taken() -> None:
    taken = ("close", "mark_closed")
    assert "force_closed" in moves("state[open -> closed|void by orders:force]", taken=taken)
    assert "mark_closed_2" in moves("state[open -> closed]", taken=taken)


def test_a_permission_of_its_own_moves_the_rows_of_others() -> None:
    assert moves(ORDERS)["pay"].elevated
    assert not moves("state[todo -> done]")["finish"].elevated
    assert not moves("state[todo -> done by orders:write]")["finish"].elevated
    assert not moves(ORDERS, owned=False)["pay"].elevated  # nobody owns them


def test_the_way_to_a_move_is_the_shortest() -> None:
    found = moves(ORDERS)
    assert (found["pay"].way, found["ship"].way) == ((), ("pay",))


def test_a_move_is_refused_where_it_is_not_allowed() -> None:
    found = moves(ORDERS)
    assert (found["ship"].no_way, found["pay"].no_way) == ((), ("pay",))


def test_a_state_that_nothing_leads_to_has_no_way() -> None:
    found = moves("state[draft -> sent, lost -> returned]")
    assert found["give_back"].way is None


def test_a_move_that_is_always_allowed_is_never_refused() -> None:
    assert moves("state[on -> off, off -> off]")["mark_off"].no_way is None


def test_words_are_for_people() -> None:
    move = moves("state[draft -> on_hold]")["mark_on_hold"]
    assert (move.words, move.after_words) == ("mark on hold", "on hold")
