"""A plan refuses the names that the kernel uses: two packages agree without an import."""

import newel.app
import newel.files
import newel.identity
import newel.inbox
import newel.mail
import newel.recovery
import newel.webhooks
from newel.entity import Entity, Owned, SoftDeleted, Tenanted
from newel.handlers import Handler
from newel.identity import Account
from newel.jobs import Job
from newel_tools.plan.names import (
    USER_COLUMNS,
    field_conflict,
    job_conflict,
    resource_conflict,
)


def columns(entity: type[Entity]) -> set[str]:
    return {
        name
        for kind in entity.__mro__
        for name in getattr(kind, "__annotations__", {})
        if issubclass(kind, Entity) and name not in {"metadata", "type_annotation_map"}
    }


# Whatever has tables of the kernel's is imported: which there are must not depend on other tests.
assert newel.app
assert newel.inbox
assert newel.recovery
assert newel.webhooks


def test_no_resource_is_called_like_a_table_of_the_kernel():
    tables = {name for name, table in Entity.metadata.tables.items() if table.info.get("kernel")}
    own = {
        value.__tablename__
        for value in vars(newel.identity).values()
        if isinstance(value, type) and issubclass(value, Entity) and "__tablename__" in vars(value)
    }

    assert {"jobs", "job_steps", "job_schedules", "inbox", "outbox"} <= tables
    assert own
    assert [table for table in tables | own if resource_conflict(table) is None] == []


def test_no_job_is_called_like_one_of_the_kernel():
    modules = (newel.files, newel.mail, newel.recovery, newel.webhooks)
    found = [value for module in modules for value in vars(module).values()]
    jobs = {value.name for value in found if isinstance(value, Job)}
    jobs |= {value.job.name for value in found if isinstance(value, Handler)}

    assert {"send_mail", "account_welcome", "deliver_webhook"} <= jobs
    assert [name for name in jobs if job_conflict(name) is None] == []
    assert job_conflict("nightly_report") is None


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
