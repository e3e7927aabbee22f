"""A plan refuses the names that the kernel uses: two packages agree without an import."""

import newel.events
import newel.identity
from newel.entity import Entity, Owned, SoftDeleted, Tenanted
from newel.identity import Account
from newel_tools.plan.names import USER_COLUMNS, field_conflict, resource_conflict


def columns(entity: type[Entity]) -> set[str]:
    return {
        name
        for kind in entity.__mro__
        for name in getattr(kind, "__annotations__", {})
        if issubclass(kind, Entity) and name not in {"metadata", "type_annotation_map"}
    }


def test_no_resource_is_called_like_a_table_of_the_kernel():
    tables = {
        value.__tablename__
        for module in (newel.events, newel.identity)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Entity) and "__tablename__" in vars(value)
    }

    assert len(tables) >= 2
    assert [table for table in tables if resource_conflict(table) is None] == []


def test_no_field_is_called_like_a_column_of_every_entity():
    kept = columns(Owned) | columns(SoftDeleted) | columns(Tenanted)

    assert {"id", "version", "owner_id", "deleted_at", "tenant_id"} <= kept
    assert [name for name in kept if field_conflict(name) is None] == []


def test_no_field_hides_what_an_entity_can_do():
    public = {name for name in dir(Entity) if not name.startswith("_")}

    assert [name for name in public if field_conflict(name) is None] == []


def test_no_field_of_users_is_called_like_one_of_their_account():
    own = columns(Account) - columns(Entity)

    assert {"email", "roles"} <= own
    assert own <= USER_COLUMNS
