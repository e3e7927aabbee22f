"""The tables that only the kernel uses, created by name in a service's migrations.

    def upgrade() -> None:
        kernel_tables.create("jobs", "outbox")

``newel migrate new`` writes these lines instead of the columns: the team does not own them, and
forty of them in its first migration would hide the tables that it does own.
"""

from __future__ import annotations

from alembic import op
from alembic.operations.ops import CreateTableOp, DowngradeOps, MigrationScript, UpgradeOps
from sqlalchemy import MetaData, Table

from newel.entity import Entity
from newel.errors import ConfigurationError

__all__ = ["create", "drop", "take_out"]


def create(*names: str) -> None:
    """Create the kernel's tables ``names`` with all that belongs to them, in a migration."""
    Entity.metadata.create_all(op.get_bind(), tables=_tables(names), checkfirst=False)


def drop(*names: str) -> None:
    """Drop what ``create`` made; the rows are lost."""
    Entity.metadata.drop_all(op.get_bind(), tables=_tables(names), checkfirst=False)


def take_out(script: MigrationScript, metadata: MetaData) -> tuple[str, ...]:
    """Remove the creation of kernel tables from a generated migration; return their names."""
    ups, downs = script.upgrade_ops, script.downgrade_ops
    assert ups is not None and downs is not None  # noqa: PT018, S101 - produce_migrations sets both
    names = {
        operation.table_name
        for operation in ups.ops
        if isinstance(operation, CreateTableOp)
        and metadata.tables[operation.table_name].info.get("kernel")
    }
    for operations in (ups, downs):
        _keep_others(operations, names)
    return tuple(sorted(names))


def _keep_others(operations: UpgradeOps | DowngradeOps, names: set[str]) -> None:
    operations.ops = [
        one for one in operations.ops if getattr(one, "table_name", None) not in names
    ]


def _tables(names: tuple[str, ...]) -> list[Table]:
    known = Entity.metadata.tables
    if unknown := sorted(set(names) - known.keys()):
        raise ConfigurationError(
            f"A migration wants the kernel's table {unknown[0]}, which this newel does not have",
            fix="install the release of newel that the migration was written with, or a later one",
        )
    return [known[name] for name in names]
