"""Entities check their columns, keep aware times, count versions and know whose they are."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
from sample_entities import Agent, Invoice, Post, Tag, User
from sqlalchemy import String, delete, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import StatementError

from newel.db import Database
from newel.entity import Entity, Owned, Tenanted, UTCDateTime
from newel.principal import ANYONE, Principal

pytestmark = pytest.mark.anyio


def test_every_entity_has_an_id_times_and_a_version() -> None:
    tag = Tag(label="red")
    assert tag.id.version == 7
    assert tag.created_at.tzinfo is UTC
    assert list(Agent.__table__.columns.keys()) == [
        *("id", "owner_id", "name", "created_at", "updated_at", "version", "deleted_at"),
    ]


def test_ids_sort_by_age() -> None:
    ids = [Tag(label="x").id for _ in range(100)]
    assert ids == sorted(ids)


@pytest.mark.parametrize("unknown", ["id", "created_at", "version", "nmae"])
def test_nobody_sets_what_the_kernel_sets(unknown: str) -> None:
    with pytest.raises(TypeError, match=unknown):
        Tag(**{"label": "red", unknown: None})


@pytest.mark.check
@pytest.mark.timeout(120)
def test_a_misspelt_column_is_a_type_error(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            from newel.entity import Entity
            from sqlalchemy.orm import Mapped

            class Tag(Entity):
                __tablename__ = "typed_tags"
                label: Mapped[str]

            Tag(label="red")
            Tag(lable="red")
            """
        )
    )
    tool = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(program)]
    output = subprocess.run(tool, capture_output=True, text=True, check=False).stdout
    assert "program.py:10" in output
    assert 'No parameter named "lable"' in output
    assert "program.py:9" not in output


async def test_times_are_utc_on_the_way_in_and_out(database: Database) -> None:
    tag = Tag(label="red")
    tag.created_at = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    async with database.write(None) as work:
        work.session.add(tag)
    async with database.read(None) as work:
        found = await work.session.scalar(select(Tag.created_at))
    assert found == tag.created_at
    assert found is not None
    assert found.utcoffset() == timedelta(0)


async def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    tag = Tag(label="red")
    tag.created_at = datetime(2026, 1, 1)  # noqa: DTZ001 - the mistake
    with pytest.raises(StatementError, match="without a zone"):
        async with database.write(None) as work:
            work.session.add(tag)


def test_no_time_stays_no_time() -> None:
    kind = UTCDateTime()
    assert kind.process_bind_param(None, sqlite.dialect()) is None
    assert kind.process_result_value(None, sqlite.dialect()) is None
    assert kind.python_type is datetime


async def test_an_update_counts_the_version_and_moves_the_time(database: Database) -> None:
    tag = Tag(label="red")
    async with database.write(None) as work:
        work.session.add(tag)
    before = tag.updated_at
    async with database.write(None) as work:
        found = await work.session.get_one(Tag, tag.id)
        found.label = "blue"
    assert found.version == 2
    assert found.updated_at > before


async def test_a_users_rows_go_with_the_user(database: Database) -> None:
    user = User(email="ann@example.com")
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add(user)
        await work.flush()
        work.session.add(Agent(name="x", owner_id=user.id))
    async with database.write(None) as work, work.as_system("delete the user"):
        await work.session.execute(delete(User))
        assert (await work.session.scalars(select(Agent))).all() == []


@pytest.mark.parametrize(
    ("caller", "allowed"),
    [
        (Principal(id=uuid4()), False),
        (ANYONE, False),
        (Principal(id=uuid4(), permissions=frozenset({"agents:all"})), True),
        (Principal(id=uuid4(), permissions=frozenset({"*"})), True),
        (Principal(id=uuid4(), permissions=frozenset({"runs:all"})), False),
    ],
)
def test_only_owners_and_administrators_change_a_row(caller: Principal, allowed: bool) -> None:
    agent = Agent(name="x", owner_id=uuid4())
    assert agent.is_changeable_by(caller) is allowed
    if caller.id is not None:
        assert Agent(name="x", owner_id=caller.id).is_changeable_by(caller)
    assert Tag(label="x").is_changeable_by(caller)


def test_a_row_of_a_tenant_is_changed_inside_it_only() -> None:
    tenant = uuid4()
    invoice = Invoice(number=1, tenant_id=tenant)
    everything = frozenset({"*"})
    assert invoice.is_changeable_by(Principal(id=uuid4(), tenant_id=tenant))
    assert not invoice.is_changeable_by(Principal(id=uuid4(), tenant_id=uuid4()))
    assert not invoice.is_changeable_by(Principal(id=uuid4(), permissions=everything))


def test_mix_ins_combine() -> None:
    class Memo(Owned, Tenanted):
        __tablename__ = "memos"

    caller = Principal(id=uuid4(), tenant_id=uuid4())
    predicate = str(Memo.visible_to(caller))
    assert "owner_id" in predicate
    assert "tenant_id" in predicate
    assert "owner_id" in str(Memo.changeable_by(caller))
    assert not Memo(owner_id=uuid4(), tenant_id=caller.tenant_id).is_changeable_by(caller)
    assert Memo(owner_id=caller.id, tenant_id=caller.tenant_id).is_changeable_by(caller)


def test_a_policy_may_show_more_than_may_be_changed() -> None:
    caller = Principal(id=uuid4())
    assert "is_published" in str(Post.visible_to(caller))
    assert "is_published" not in str(Post.changeable_by(caller))
    admin = Principal(id=uuid4(), permissions=frozenset({"posts:all"}))
    assert Post.visible_to(admin) is None


def test_the_name_of_a_resource_is_words() -> None:
    class LineItem(Entity):
        __tablename__ = "line_items"

    assert LineItem.resource_name() == "line item"


def test_strings_are_bounded_unless_they_say_otherwise() -> None:
    kind = Post.__table__.c.title.type
    assert isinstance(kind, String)
    assert kind.length == 255
