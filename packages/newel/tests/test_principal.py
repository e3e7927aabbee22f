"""Who is calling, and what they may do."""

from __future__ import annotations

from uuid import uuid4

import pytest

from newel.principal import ANYONE, Principal, dump_principal, grants, load_principal


@pytest.mark.parametrize(
    ("held", "wanted", "granted"),
    [
        ({"agents:read"}, "agents:read", True),
        ({"agents:read"}, "agents:write", False),
        ({"agents:*"}, "agents:write", True),
        ({"agents:*"}, "agents_archive:write", False),
        ({"agent:*"}, "agents:write", False),
        ({"*"}, "users:delete", True),
        ({"*:read"}, "agents:read", False),
        ({"agents:*"}, "agents", False),
        (set(), "agents:read", False),
        ({"AGENTS:READ"}, "agents:read", False),
    ],
)
def test_a_permission_is_granted_by_name_resource_or_star(
    held: set[str], wanted: str, granted: bool
) -> None:
    assert grants(frozenset(held), wanted) is granted
    assert Principal(id=uuid4(), permissions=frozenset(held)).can(wanted) is granted


def test_anyone_is_nobody() -> None:
    assert not ANYONE.is_authenticated
    assert not ANYONE.can("agents:read")
    with pytest.raises(RuntimeError, match="requires"):
        _ = ANYONE.user_id


def test_a_principal_is_a_value() -> None:
    identity = uuid4()
    assert Principal(id=identity) == Principal(id=identity)
    assert len({Principal(id=identity), Principal(id=identity)}) == 1
    assert Principal(id=identity).user_id == identity


def test_a_principal_survives_being_written_down() -> None:
    ann = Principal(
        id=uuid4(),
        roles=frozenset({"user"}),
        permissions=frozenset({"agents:*", "runs:read"}),
        tenant_id=uuid4(),
        session_id=uuid4(),
    )
    assert load_principal(dump_principal(ann)) == ann
    assert load_principal(dump_principal(ANYONE)) == ANYONE
