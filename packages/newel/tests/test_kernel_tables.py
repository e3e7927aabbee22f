"""Kernel tables are created by name, as their entities describe them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from sample_schema import fill, schema
from sqlalchemy import create_mock_engine

import newel.files
import newel.inbox
import newel.recovery
import newel.webhooks
from newel.app import create_app
from newel.entity import Entity
from newel.errors import ConfigurationError
from newel.migrations import Migrations
from newel.testing import Databases

pytestmark = pytest.mark.anyio

# Whatever has tables of the kernel's is imported: which there are must not depend on other tests.
assert newel.files
assert newel.inbox
assert newel.recovery
assert newel.webhooks
KERNEL = sorted(name for name, table in Entity.metadata.tables.items() if table.info.get("kernel"))

SHAPES = {
    "account_tokens": "52ffa5952a9dfad8",
    "files": "f48fe86e402e6438",
    "idempotency_keys": "f590b578c12be0cc",
    "inbox": "87bcd097729fbd07",
    "job_schedules": "056937f9f717af97",
    "job_steps": "9177d79640bd53e5",
    "jobs": "14eb535a1cd22f86",
    "outbox": "95ecea179d24b6b9",
    "outbox_holds": "562e80da14f31cb7",
    "webhook_deliveries": "ee884a76ed1bbefe",
    "webhook_endpoints": "1e93bc337ae6042e",
}


def shape(name: str) -> str:
    """Digest what a table is on both databases."""
    said: list[str] = []
    for url in ("sqlite://", "postgresql://"):
        said += [str(statement.compile(dialect=dialect)) for dialect, statement in ddl(name, url)]
    return hashlib.sha256("\n".join(sorted(said)).encode()).hexdigest()[:16]


def ddl(name: str, url: str) -> list[tuple[Any, Any]]:
    statements: list[Any] = []
    engine = create_mock_engine(url, lambda statement, *_, **__: statements.append(statement))
    Entity.metadata.tables[name].create(engine, checkfirst=False)
    return [(engine.dialect, statement) for statement in statements]


@pytest.mark.parametrize("name", KERNEL)
def test_the_shape_of_a_kernel_table_is_the_one_that_migrations_know(name: str) -> None:
    """Decision 15: after a release, a changed shape needs the old one kept beside it."""
    assert SHAPES.get(name, "not noted here") == shape(name)


@pytest.mark.parametrize("name", KERNEL)
def test_a_kernel_table_refers_to_no_table_of_the_service_but_the_users(name: str) -> None:
    """They are created after the service's tables, of which only the users are known by name."""
    referred = {key.column.table.name for key in Entity.metadata.tables[name].foreign_keys}
    assert referred <= {*KERNEL, "users"}


async def test_a_migration_creates_them_by_name(databases: Databases, tmp_path: Path) -> None:
    url = databases.create()
    migrations = Migrations(url, directory=tmp_path, metadata=Entity.metadata)
    path = await migrations.new("initial")
    assert path is not None
    text = path.read_text()
    for done in ("create", "drop"):
        named = text.partition(f"kernel_tables.{done}(")[2].partition(")")[0]
        assert re.findall(r"\w+", named) == KERNEL
    assert "position" not in text
    assert 'op.create_table(\n        "tags"' in text or "op.create_table('tags'" in text

    await migrations.up()
    assert await migrations.check() == []
    before = await schema(url)
    assert before.keys() >= {*KERNEL, "tags"}
    kernel = [one for one in Entity.metadata.sorted_tables if one.name in {*KERNEL, "users"}]
    await fill(url, kernel)  # with rows that refer to each other
    await migrations.down("base")
    assert await schema(url) == {}
    await migrations.up()  # nothing was left behind, a sequence for example
    assert await schema(url) == before
    assert await migrations.check() == []
    databases.drop(url)


async def test_an_unknown_table_is_named(databases: Databases, tmp_path: Path) -> None:
    (tmp_path / "0001_later.py").write_text(
        "from newel import kernel_tables\n"
        'revision = "0001"\ndown_revision = None\n\n'
        'def upgrade():\n    kernel_tables.create("outbox", "teleports")\n'
    )
    url = databases.create()
    migrations = Migrations(url, directory=tmp_path, metadata=Entity.metadata)
    with pytest.raises(ConfigurationError, match="teleports"):
        await migrations.up()
    assert "outbox" not in await schema(url)
    databases.drop(url)


def test_an_application_knows_them_all() -> None:
    assert create_app.__module__ == "newel.app"  # imported above: what it needs is in the metadata
    assert set(SHAPES) <= set(KERNEL)
